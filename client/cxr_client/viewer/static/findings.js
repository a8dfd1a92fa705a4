// @ts-check
/** Findings: an answer -> warnings, bars around the decision boundary, the chosen finding, facts. */

/**
 * @typedef {import("./api.js").Result} Result
 * @typedef {import("./api.js").Explanation} Explanation
 * @typedef {import("./api.js").Finding} Finding
 * @typedef {import("./api.js").FindingDescription} FindingDescription
 * @typedef {import("./api.js").ModelDescription} ModelDescription
 */

/** The score at which a finding's probability equals its threshold. */
const BOUNDARY = 0.5;

/** @param {number} value A score, probability or threshold: small values keep their first digits. */
export const three = (value) => (value > 0 && value < 0.0005 ? "<0.001" : value.toFixed(3));

/** @param {string} label torchxrayvision writes some labels with an underscore. */
export const spoken = (label) => label.replaceAll("_", " ");

/**
 * Where a map is highest, in words: thirds of what the network saw.
 * @param {Result} result
 * @param {Explanation} explanation
 */
export function placeOf({ image_info: info }, { peak, no_positive_evidence: none }) {
  if (none)
    return "No part of the image supports this finding: its evidence stays below 1 logit everywhere, and its map is empty.";
  if (!peak) return "The map is the same everywhere.";
  const box = info.crop_box;
  const third = (/** @type {number} */ at) => Math.min(2, Math.max(0, Math.floor(3 * at)));
  const row = ["upper", "middle", "lower"][third((peak.y_px - box.y_px) / box.height_px)];
  const column = ["left", "middle", "right"][third((peak.x_px - box.x_px) / box.width_px)];
  const where = row === "middle" && column === "middle" ? "in the middle" : `${row} ${column}`;
  return `The map is highest ${where === "in the middle" ? where : `at the ${where}`} of the picture, at x ${Math.round(peak.x_px)}, y ${Math.round(peak.y_px)} px.`;
}

/**
 * What a canvas shows, as a sentence.
 * @param {string} name
 * @param {Result} result
 * @param {Explanation} explanation
 */
export function sentenceOf(name, result, explanation) {
  const { finding } = explanation;
  const side = finding.above_threshold ? "above" : "below";
  return `Radiograph ${name} with the map of ${spoken(finding.label)}: score ${three(finding.score)}, ${side} the decision boundary of 0.5. ${placeOf(result, explanation)}`;
}

/** The panel that says what was found, with a radio button for each finding. */
export class FindingsPanel {
  #root;
  #onChoose;
  #list;
  /** @type {HTMLElement[]} */
  #rows = [];
  /** @type {Result | null} */
  #result = null;
  /** @type {Map<string, FindingDescription>} */
  #described = new Map();

  /**
   * @param {HTMLElement} root
   * @param {(label: string) => void} onChoose
   */
  constructor(root, onChoose) {
    this.#root = root;
    this.#onChoose = onChoose;
    this.#list = part(root, "#findings");
    this.#list.addEventListener("keydown", (event) => this.#move(event));
  }

  /** @param {ModelDescription | null} model What is known of it before any film is open. */
  describe(model) {
    this.#described = new Map(model?.findings.map((each) => [each.label, each]));
    fillFacts(part(this.#root, "[data-facts=model]"), model ? modelFacts(model) : []);
    const notices = model?.notices ?? [];
    part(this.#root, "[data-facts=notices]").replaceChildren(
      ...notices.map((text) => element("li", text)),
    );
    if (!this.#result) this.#placeholders();
  }

  /** @param {string} text */
  empty(text) {
    this.#result = null;
    this.#root.dataset.state = "empty";
    this.#head("Findings", text);
    this.#placeholders();
  }

  /** @param {string} name */
  loading(name) {
    this.#result = null;
    this.#root.dataset.state = "loading";
    this.#head(name, "Reading the film");
    this.#placeholders();
  }

  /**
   * @param {string} name
   * @param {Result} result
   * @param {string} label The chosen finding.
   */
  show(name, result, label) {
    if (this.#result !== result) {
      this.#result = result;
      this.#root.dataset.state = "answered";
      this.#head(name, summaryOf(result));
      const warnings = result.warnings.map(({ code, message }) => {
        const item = element("li", message);
        item.dataset.code = code;
        return item;
      });
      part(this.#root, "#warnings").replaceChildren(...warnings);
      this.#rows = result.findings.map((finding) => this.#row(finding));
      this.#list.replaceChildren(...this.#rows);
      fillFacts(part(this.#root, "[data-facts=image]"), imageFacts(result));
      fillFacts(part(this.#root, "[data-facts=timing]"), timingFacts(result));
    }
    this.#choose(label);
  }

  /** @param {number} step Choose the finding that many rows below. */
  step(step) {
    const count = this.#rows.length;
    const chosen = this.#rows.findIndex((row) => row.tabIndex === 0);
    if (this.#result && count) this.#pick((chosen + step + count) % count);
  }

  /** @param {string} name @param {string} summary */
  #head(name, summary) {
    fill(part(this.#root, "header"), { name, summary });
  }

  #placeholders() {
    part(this.#root, "#warnings").replaceChildren();
    this.#rows = [];
    const count = this.#described.size || 6;
    const rows = Array.from({ length: count }, () => {
      const row = element("div", "");
      row.className = "finding placeholder";
      row.append(element("span", ""), element("span", ""));
      return row;
    });
    this.#list.replaceChildren(...rows);
    fill(part(this.#root, "#chosen"), {
      label: "",
      score: "",
      probability: "",
      threshold: "",
      logit: "",
      place: "",
      reliability: "",
    });
    for (const facts of ["image", "timing"])
      fillFacts(part(this.#root, `[data-facts=${facts}]`), []);
  }

  /** @param {Finding} finding */
  #row(finding) {
    const template = /** @type {HTMLTemplateElement} */ (
      document.querySelector("#finding-template")
    );
    const row = part(
      /** @type {DocumentFragment} */ (template.content.cloneNode(true)),
      ".finding",
    );
    const weak = this.#described.get(finding.label)?.reliability === "WEAK";
    row.classList.toggle("above", finding.above_threshold);
    row.classList.toggle("weak", weak);
    row.dataset.label = finding.label;
    fill(row, {
      label: spoken(finding.label),
      tag: weak ? "weak" : "",
      score: three(finding.score),
      side: finding.above_threshold
        ? ", above the decision boundary"
        : ", below the decision boundary",
      probability: three(finding.probability),
      threshold: three(finding.threshold),
    });
    const [low, high] = [finding.score, BOUNDARY].sort((a, b) => a - b);
    const bar = part(row, ".bar i");
    bar.style.setProperty("--from", String(low));
    bar.style.setProperty("--size", String(high - low));
    row.addEventListener("click", () => this.#pick(this.#rows.indexOf(row)));
    return row;
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const last = this.#rows.length - 1;
    const at = this.#rows.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (at < 0) return;
    const to = {
      ArrowDown: at + 1,
      ArrowRight: at + 1,
      ArrowUp: at - 1,
      ArrowLeft: at - 1,
      Home: 0,
      End: last,
      " ": at,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#pick((to + last + 1) % (last + 1));
  }

  /** @param {number} index */
  #pick(index) {
    this.#rows[index].focus();
    this.#onChoose(this.#rows[index].dataset.label ?? "");
  }

  /** @param {string} label */
  #choose(label) {
    for (const row of this.#rows) {
      const chosen = row.dataset.label === label;
      row.setAttribute("aria-checked", String(chosen));
      row.tabIndex = chosen ? 0 : -1;
    }
    const explanation = this.#result?.explanations.find((each) => each.finding.label === label);
    if (!this.#result || !explanation) return;
    const { finding, logit } = explanation;
    fill(part(this.#root, "#chosen"), {
      label: spoken(label),
      score: `${three(finding.score)}, ${finding.above_threshold ? "above" : "below"} 0.5`,
      probability: three(finding.probability),
      threshold: three(finding.threshold),
      logit: logit.toFixed(2),
      place: placeOf(this.#result, explanation),
      reliability: reliabilityOf(this.#described.get(label)),
    });
  }
}

/** @param {Result} result */
function summaryOf({ findings }) {
  const above = findings.filter((finding) => finding.above_threshold).length;
  const [top] = findings;
  return `${above} of ${findings.length} findings above the decision boundary; highest: ${spoken(top.label)}, ${three(top.score)}`;
}

/** @param {FindingDescription | undefined} described */
function reliabilityOf(described) {
  if (!described || described.reliability === "UNSPECIFIED")
    return "Reliability: nothing is known.";
  const words = {
    CONSISTENT: "consistent",
    UNEVEN: "uneven across test sets",
    WEAK: "weak; the model's authors hide it or advise against it",
  };
  return `Reliability: ${words[/** @type {"WEAK"} */ (described.reliability)] ?? ""}. ${described.reliability_note}`;
}

/** @param {Result} result @returns {[string, string][]} */
function imageFacts({ image_info: info, typicality, request_id: request }) {
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
function timingFacts({ timing }) {
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

/** @param {ModelDescription} description @returns {[string, string][]} */
function modelFacts({ model, ...rest }) {
  const files = Object.entries(rest.file_sha256).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    ["Name", `${model.name} ${model.version}`],
    ["Intended use", model.intended_use],
    ["Architecture", `${rest.architecture}, ${rest.precision}`],
    ["Input", `${rest.input_side_px} x ${rest.input_side_px} px, ${rest.preprocessing_id}`],
    ["Evidence grid", `${rest.evidence_side} x ${rest.evidence_side} cells`],
    ["Created", rest.create_time ?? "unknown"],
    ["Licence", rest.license],
    ["Weights, SHA-256", model.weights_sha256],
    ...(rest.upstream_sha256
      ? [/** @type {[string, string]} */ (["Converted from, SHA-256", rest.upstream_sha256])]
      : []),
    ...files.map(([path, hash]) => /** @type {[string, string]} */ ([`${path}, SHA-256`, hash])),
  ];
}

/** @param {HTMLElement} list @param {[string, string][]} facts */
function fillFacts(list, facts) {
  const rows = facts.map(([term, text]) => {
    const row = element("div", "");
    row.append(element("dt", term), element("dd", text));
    row.classList.toggle("hash", term.endsWith("SHA-256"));
    return row;
  });
  list.replaceChildren(...rows);
}

/** @param {ParentNode} root @param {string} selector @returns {HTMLElement} */
function part(root, selector) {
  return /** @type {HTMLElement} */ (root.querySelector(selector));
}

/** @param {string} tag @param {string} text */
function element(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}

/** @param {ParentNode} root @param {Record<string, string>} texts By `data-field`. */
function fill(root, texts) {
  for (const [field, text] of Object.entries(texts))
    part(root, `[data-field=${field}]`).textContent = text;
}
