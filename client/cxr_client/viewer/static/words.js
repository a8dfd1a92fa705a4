// @ts-check
/** Words: an answer -> numbers, sentences and facts, as people read them. Pure. */

import { MIN_EVIDENCE_LOGITS } from "./heat.js";

/**
 * @typedef {import("./api.js").Result} Result
 * @typedef {import("./api.js").Explanation} Explanation
 * @typedef {import("./api.js").FindingDescription} FindingDescription
 * @typedef {import("./api.js").ModelDescription} ModelDescription
 */

/** @param {number} value A score, probability or threshold: small values keep their first digits. */
export const three = (value) => (value > 0 && value < 0.0005 ? "<0.001" : value.toFixed(3));

/** @param {string} label torchxrayvision writes some labels with an underscore. */
export const spoken = (label) => label.replaceAll("_", " ");

/** @param {number} value */
export const signed = (value) => value.toFixed(2).replace("-", "\u2212");

/**
 * Where a map is highest, in words: thirds of what the network saw.
 * @param {Result} result
 * @param {Explanation} explanation
 * @param {boolean} negative Of the evidence against the finding.
 */
export function placeOf({ image_info: { crop_box: box } }, explanation, negative) {
  const { peak, no_positive_evidence: none } = explanation;
  const highest = negative ? lowestCell(box, explanation.evidence) : peak;
  const speaks = negative ? "counts against" : "supports";
  if (negative ? !highest : none) {
    return `No part of the image ${speaks} this finding: that evidence stays below 1 logit everywhere, and its map is empty.`;
  }
  if (!highest) return "The map is the same everywhere.";
  const third = (/** @type {number} */ at) => Math.min(2, Math.max(0, Math.floor(3 * at)));
  const row = ["upper", "middle", "lower"][third((highest.y_px - box.y_px) / box.height_px)];
  const column = ["left", "middle", "right"][third((highest.x_px - box.x_px) / box.width_px)];
  const where = row === column ? "in the middle" : `at the ${row} ${column}`;
  const map = negative ? "The evidence against it" : "The map";
  return `${map} is highest ${where} of the picture, at x ${Math.round(highest.x_px)}, y ${Math.round(highest.y_px)} px.`;
}

/**
 * The middle of the cell with the most evidence against a finding; null if no cell has 1 logit.
 * @param {import("./api.js").Box} box
 * @param {import("./api.js").EvidenceGrid} grid
 */
function lowestCell(box, { rows, columns, values }) {
  const lowest = Math.min(...values);
  if (lowest > -MIN_EVIDENCE_LOGITS) return null;
  const at = values.indexOf(lowest);
  return {
    x_px: box.x_px + (((at % columns) + 0.5) * box.width_px) / columns,
    y_px: box.y_px + ((Math.floor(at / columns) + 0.5) * box.height_px) / rows,
  };
}

/**
 * What a canvas shows, as a sentence.
 * @param {string} name
 * @param {Result} result
 * @param {Explanation} explanation
 * @param {{heatOn: boolean, negative: boolean}} settings
 */
export function sentenceOf(name, result, explanation, { heatOn, negative }) {
  const { finding } = explanation;
  const side = finding.above_threshold ? "above" : "below";
  const map = negative ? "the evidence against" : "the map of";
  const score = `${spoken(finding.label)}: score ${three(finding.score)}, ${side} the decision boundary of 0.5.`;
  if (!heatOn) return `Radiograph ${name} without a map. ${score}`;
  return `Radiograph ${name} with ${map} ${score} ${placeOf(result, explanation, negative)}`;
}

/** @param {Result} result */
export function summaryOf({ findings }) {
  const above = findings.filter((finding) => finding.above_threshold).length;
  const summary = `${above} of ${findings.length} findings above the decision boundary`;
  return above ? summary : `${summary}. Low scores do not rule out disease.`;
}

/** @param {FindingDescription | undefined} described */
export function reliabilityOf(described) {
  if (!described || described.reliability === "UNSPECIFIED")
    return "Reliability: nothing is known.";
  const words = {
    CONSISTENT: "consistent",
    UNEVEN: "uneven across test sets",
    WEAK: "weak; the model's authors hide it or advise against it",
  };
  return `Reliability: ${words[/** @type {"WEAK"} */ (described.reliability)] ?? ""}. ${described.reliability_note}`;
}

/**
 * What an operating point was fitted for; empty for that of the model's authors.
 * @param {FindingDescription | undefined} described
 */
export function fittedOf(described) {
  const refit = described?.refit;
  if (!refit) return "";
  const { sensitivity, specificity } = refit;
  if (!sensitivity || !specificity) return `Threshold of the parent model: ${refit.kept_reason}.`;
  const rate = (/** @type {import("./api.js").Estimate} */ { value, low, high }) =>
    `${value.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
  return `Threshold fitted for ${refit.criterion}: sensitivity ${rate(sensitivity)}, specificity ${rate(specificity)}.`;
}

/** @param {Result} result @returns {[string, string][]} */
export function imageFacts({ image_info: info, typicality, request_id: request }) {
  const box = info.crop_box;
  /** @type {[string, string][]} */
  const facts = [
    ["Format", `${info.format}, ${info.bit_depth} bits`],
    ["Size", `${info.width_px} x ${info.height_px} px`],
    ["Network saw", `${box.width_px} x ${box.height_px} px from x ${box.x_px}, y ${box.y_px}`],
  ];
  if (info.presentation !== "UNSPECIFIED")
    facts.push(["Presentation", info.presentation === "STORED" ? "stored values" : "as shown"]);
  if (typicality !== null)
    facts.push([
      "Typicality",
      `${typicality.toFixed(2)}: the share of the model's reference films that are less typical`,
    ]);
  return [...facts, ["Request", request]];
}

/** @param {Result} result @returns {[string, string][]} */
export function timingFacts({ timing }) {
  const ms = (/** @type {number | null} */ value) =>
    value === null ? "did not run" : `${value.toFixed(1)} ms`;
  return [
    ["Decoding", ms(timing.decode_ms)],
    ["Waiting", ms(timing.queue_ms)],
    [
      "Inference",
      timing.evidence_cached ? "none: the evidence came from the cache" : ms(timing.inference_ms),
    ],
    ["Drawing", ms(timing.render_ms)],
  ];
}

/** @param {import("./api.js").Refit | null} refit @returns {[string, string][]} */
function refitFacts(refit) {
  if (!refit) return [];
  const patients = refit.patient_count === null ? "" : ` of ${refit.patient_count} patients`;
  /** @type {[string, string][]} */
  const facts = [
    ["Refitted from", `${refit.parent_name} ${refit.parent_version}`],
    ["Fitted to", `${refit.image_count} images${patients}, ${refit.labels_title}`],
    ["Label file, SHA-256", refit.labels_sha256 || "none: a folder"],
    ["Split", refit.split],
  ];
  if (refit.calibration_method)
    facts.push(["Calibration", `${refit.calibration_method}, for films like these only`]);
  return facts;
}

/** @param {import("./api.js").Quantization | null} made @returns {[string, string][]} */
function quantizationFacts(made) {
  if (!made) return [];
  const { planted } = made;
  /** @type {[string, string][]} */
  const facts = [
    ["Quantised from", `${made.parent_name} ${made.parent_version}, by ${made.tool}`],
    ["Calibrated with", `${made.calibration_count} films (${made.films})`],
    ["Measured on", `${made.film_count} other films, against float32`],
    [
      "Probability",
      `differs by ${made.max_probability_difference.toFixed(4)} at most, ${made.mean_probability_difference.toFixed(5)} in the mean`,
    ],
    [
      "Score",
      `differs by ${made.max_score_difference.toFixed(4)} at most, ${made.mean_score_difference.toFixed(5)} in the mean`,
    ],
    [
      "Changed side",
      `${made.changed_side_count} findings, ${made.far_changed_side_count} of them further than ${made.tolerance} from their operating point`,
    ],
    ["Evidence", `correlation ${made.evidence_correlation.toFixed(4)} in the mean`],
  ];
  if (planted)
    facts.push([
      "Phantoms",
      `AUC ${planted.auc_float32.toFixed(4)} before, ${planted.auc_int8.toFixed(4)} after; pointing ${planted.pointing_float32.toFixed(3)} before, ${planted.pointing_int8.toFixed(3)} after`,
    ]);
  if (made.max_probability_difference > made.tolerance || made.far_changed_side_count > 0)
    facts.push(["Tolerance", `EXCEEDED, accepted by the operator (${made.tolerance})`]);
  return facts;
}

/** @param {ModelDescription} description @returns {[string, string][]} */
export function modelFacts({ model, ...rest }) {
  const files = Object.entries(rest.file_sha256).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    ["Name", `${model.name} ${model.version}`],
    ["Intended use", model.intended_use],
    ["Architecture", `${rest.architecture}, ${rest.precision}`],
    ["Input", `${rest.input_side_px} x ${rest.input_side_px} px, ${rest.preprocessing_id}`],
    ["Evidence grid", `${rest.evidence_side} x ${rest.evidence_side} cells`],
    ["Created", rest.create_time ?? "unknown"],
    ["Licence", rest.license],
    ...refitFacts(rest.refit),
    ...quantizationFacts(rest.quantization),
    ["Weights, SHA-256", model.weights_sha256],
    ...(rest.upstream_sha256
      ? [/** @type {[string, string]} */ (["Converted from, SHA-256", rest.upstream_sha256])]
      : []),
    ...files.map(([path, hash]) => /** @type {[string, string]} */ ([`${path}, SHA-256`, hash])),
  ];
}
