import assert from "node:assert/strict";
import { test } from "node:test";
import {
  fittedOf,
  imageFacts,
  modelFacts,
  placeOf,
  reliabilityOf,
  sentenceOf,
  signed,
  spoken,
  summaryOf,
  three,
  timingFacts,
} from "../../../client/cxr_client/viewer/static/words.js";

const values = Array(49).fill(0);
values[8] = -3; // row 1, column 1
values[40] = 5; // row 5, column 5
const finding = {
  label: "Pleural_Thickening",
  class_index: 0,
  score: 0.61,
  probability: 0.31,
  threshold: 0.27,
  above_threshold: true,
  calibrated_probability: null,
};
const explanation = {
  finding,
  evidence: { rows: 7, columns: 7, values },
  logit: -0.8,
  peak: { x_px: 250, y_px: 165, value: 1 },
  regions: [],
  no_positive_evidence: false,
  method: "GRAD_CAM",
};
const result = /** @type {any} */ ({
  explanations: [explanation],
  findings: [finding, { ...finding, above_threshold: false }],
  image_info: {
    format: "DICOM",
    width_px: 300,
    height_px: 210,
    bit_depth: 12,
    crop_box: { x_px: 90, y_px: 0, width_px: 210, height_px: 210 },
    presentation: "STORED",
  },
  typicality: 0.5,
  request_id: "abc",
  timing: {
    decode_ms: 1.25,
    queue_ms: 0,
    inference_ms: null,
    render_ms: null,
    evidence_cached: true,
  },
});

test("scores have three places, and one that is not zero never reads as zero", () => {
  assert.deepEqual([0, 0.0004, 0.0006, 0.5, 0.9996].map(three), [
    "0.000",
    "<0.001",
    "0.001",
    "0.500",
    "1.000",
  ]);
});

test("a negative number has a minus sign and a label no underscore", () => {
  assert.equal(signed(-1.234), "\u22121.23");
  assert.equal(spoken("Pleural_Thickening"), "Pleural Thickening");
});

test("the place of the peak is told within what the network saw", () => {
  const place = placeOf(result, explanation, false);
  assert.equal(place, "The map is highest at the lower right of the picture, at x 250, y 165 px.");
});

test("of evidence against a finding the place is that of its cell", () => {
  const place = placeOf(result, explanation, true);
  assert.equal(
    place,
    "The evidence against it is highest at the upper left of the picture, at x 135, y 45 px.",
  );
});

test("a map without evidence is said to be empty, for and against", () => {
  const none = { ...explanation, peak: null, no_positive_evidence: true };
  assert.match(placeOf(result, none, false), /^No part of the image supports .* empty\.$/);
  const positive = { ...explanation.evidence, values: values.map((value) => Math.abs(value)) };
  const onlyFor = { ...explanation, evidence: positive };
  assert.match(placeOf(result, onlyFor, true), /^No part of the image counts against .* empty\.$/);
});

test("the sentence of a picture names film, finding, score, side and place", () => {
  const shown = { heatOn: true, negative: false };
  assert.equal(
    sentenceOf("film.dcm", result, explanation, shown),
    "Radiograph film.dcm with the map of Pleural Thickening: score 0.610, above the decision" +
      " boundary of 0.5. The map is highest at the lower right of the picture, at x 250, y 165 px.",
  );
  const against = sentenceOf("film.dcm", result, explanation, { ...shown, negative: true });
  assert.match(against, /with the evidence against Pleural Thickening/);
  const hidden = sentenceOf("film.dcm", result, explanation, { ...shown, heatOn: false });
  assert.match(hidden, /without a map\. Pleural Thickening: score 0\.610/);
  assert.doesNotMatch(hidden, /highest/);
});

test("the summary counts the findings above the boundary", () => {
  assert.equal(summaryOf(result), "1 of 2 findings above the decision boundary");
  const none = { ...result, findings: [{ ...finding, above_threshold: false }] };
  assert.match(summaryOf(none), /^0 of 1 findings .* Low scores do not rule out disease\.$/);
});

test("the reliability of a finding is told with its reason", () => {
  const described = {
    label: "Nodule",
    reliability: "WEAK",
    reliability_note: "Often missed.",
    refit: null,
  };
  assert.match(reliabilityOf(described), /^Reliability: weak; .* Often missed\.$/);
  assert.equal(reliabilityOf(undefined), "Reliability: nothing is known.");
});

test("the facts of image and timing are those of the answer", () => {
  const image = Object.fromEntries(imageFacts(result));
  assert.equal(image.Format, "DICOM, 12 bits");
  assert.equal(image["Network saw"], "210 x 210 px from x 90, y 0");
  assert.equal(image.Presentation, "stored values");
  assert.match(image.Typicality, /^0\.50/);
  const timing = Object.fromEntries(timingFacts(result));
  assert.deepEqual(timing, {
    Decoding: "1.3 ms",
    Waiting: "0.0 ms",
    Inference: "none: the evidence came from the cache",
    Drawing: "did not run",
  });
});

test("what a threshold was fitted for is told with its intervals, or why it was kept", () => {
  const estimate = (/** @type {number} */ value) => ({ value, low: value - 0.05, high: value });
  const fitted = {
    criterion: "sensitivity=0.95",
    sensitivity: estimate(0.95),
    specificity: estimate(0.6),
    kept_reason: "",
  };
  const described = /** @type {any} */ ({ label: "Mass", refit: fitted });
  assert.equal(
    fittedOf(described),
    "Threshold fitted for sensitivity=0.95: sensitivity 0.95 (0.90 to 0.95), specificity 0.60 (0.55 to 0.60).",
  );
  const kept = { ...fitted, sensitivity: null, specificity: null, kept_reason: "too few" };
  assert.equal(fittedOf({ ...described, refit: kept }), "Threshold of the parent model: too few.");
  assert.equal(fittedOf({ ...described, refit: null }), "");
  assert.equal(fittedOf(undefined), "");
});

test("the facts of a refitted model say what it was fitted to", () => {
  const refit = {
    parent_name: "m",
    parent_version: "1",
    labels_title: "NIH",
    labels_sha256: "",
    image_count: 20,
    patient_count: 10,
    split: "Cross-fitted.",
    calibration_method: "platt",
  };
  const description = /** @type {any} */ ({ model: {}, file_sha256: {}, refit });
  const facts = Object.fromEntries(modelFacts(description));
  assert.equal(facts["Refitted from"], "m 1");
  assert.equal(facts["Fitted to"], "20 images of 10 patients, NIH");
  assert.equal(facts["Label file, SHA-256"], "none: a folder");
  assert.equal(facts.Calibration, "platt, for films like these only");
  assert.equal("Split" in Object.fromEntries(modelFacts({ ...description, refit: null })), false);
});

test("the facts of a model in int8 say how its answers differ, and whether that was accepted", () => {
  const quantization = {
    parent_name: "m",
    parent_version: "1",
    tool: "NNCF 3",
    films: "phantoms",
    calibration_count: 96,
    film_count: 192,
    max_probability_difference: 0.02,
    mean_probability_difference: 0.0003,
    max_score_difference: 0.04,
    mean_score_difference: 0.0006,
    changed_side_count: 3,
    far_changed_side_count: 0,
    evidence_correlation: 0.9994,
    tolerance: 0.02,
    planted: { auc_float32: 1, auc_int8: 0.9999, pointing_float32: 1, pointing_int8: 0.995 },
  };
  const factsOf = (/** @type {object | null} */ made) =>
    Object.fromEntries(
      modelFacts(/** @type {any} */ ({ model: {}, file_sha256: {}, quantization: made })),
    );
  const facts = factsOf(quantization);
  assert.equal(facts["Quantised from"], "m 1, by NNCF 3");
  assert.equal(facts.Probability, "differs by 0.0200 at most, 0.00030 in the mean");
  assert.ok(facts.Phantoms.includes("pointing 1.000 before, 0.995 after"));
  assert.equal("Tolerance" in facts, false);
  const exceeded = factsOf({ ...quantization, far_changed_side_count: 1 });
  assert.equal(exceeded.Tolerance, "EXCEEDED, accepted by the operator (0.02)");
  assert.equal("Phantoms" in factsOf({ ...quantization, planted: null }), false);
  assert.equal("Quantised from" in factsOf(null), false);
});

test("the facts of a model have the hash of each file", () => {
  const model = { name: "m", version: "1", weights_sha256: "aa", intended_use: "Research." };
  const facts = Object.fromEntries(
    modelFacts(
      /** @type {any} */ ({
        model,
        file_sha256: { "b.bin": "bb", "a.xml": "cc" },
        create_time: null,
      }),
    ),
  );
  assert.equal(facts["Weights, SHA-256"], "aa");
  assert.equal(facts["a.xml, SHA-256"], "cc");
  assert.equal(facts["b.bin, SHA-256"], "bb");
});
