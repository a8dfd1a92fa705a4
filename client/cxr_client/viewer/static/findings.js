// @ts-check
/** Findings: an answer -> warnings, bars around the decision boundary, the chosen finding, facts. */

import {
  fittedOf,
  imageFacts,
  modelFacts,
  placeOf,
  reliabilityOf,
  signed,
  spoken,
  summaryOf,
  three,
  timingFacts,
} from "./words.js";

/**
 * @typedef {import("./api.js").Result} Result
 * @typedef {import("./api.js").Explanation} Explanation
 * @typedef {import("./api.js").Finding} Finding
 * @typedef {import("./api.js").FindingDescription} FindingDescription
 * @typedef {import("./api.js").ModelDescription} ModelDescription
 */

/** The score at which a finding's probability equals its threshold. */
const BOUNDARY = 0.5;

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
  #isNegative = false;

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

  /** @param {ModelDescription} model */
  describe(model) {
    this.#described = new Map(model.findings.map((each) => [each.label, each]));
    fillFacts(part(this.#root, "[data-facts=model]"), modelFacts(model));
    const notices = model.notices.map((text) => element("li", text));
    part(this.#root, "[data-facts=notices]").replaceChildren(...notices);
    if (this.#result) this.#fillRows(this.#result, this.#chosen);
    else this.#placeholders();
  }

  /** The label of the chosen finding; empty without an answer. */
  get #chosen() {
    return this.#rows.find((row) => row.tabIndex === 0)?.dataset.label ?? "";
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
      if (!warnings.length) {
        warnings.push(Object.assign(element("li", "No warnings."), { className: "none" }));
      }
      part(this.#root, "#warnings").replaceChildren(...warnings);
      fillFacts(part(this.#root, "[data-facts=image]"), imageFacts(result));
      fillFacts(part(this.#root, "[data-facts=timing]"), timingFacts(result));
      this.#fillRows(result, label);
    } else this.#choose(label);
  }

  /** @param {Result} result @param {string} label */
  #fillRows(result, label) {
    this.#rows = result.findings.map((finding) => this.#row(finding));
    this.#list.replaceChildren(...this.#rows);
    this.#choose(label);
  }

  /** @param {boolean} negative Whether the evidence against a finding is shown. */
  setNegative(negative) {
    this.#isNegative = negative;
    this.#choose(this.#chosen);
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
      side: "",
      score: "",
      probability: "",
      threshold: "",
      logit: "",
      place: "",
      calibrated: "",
      fitted: "",
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
    row.title = weak ? reliabilityOf(this.#described.get(finding.label)) : "";
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
    const { calibrated_probability: calibrated } = finding;
    part(this.#root, "#calibrated").hidden = calibrated === null;
    fill(part(this.#root, "#chosen"), {
      label: spoken(label),
      side: finding.above_threshold ? "above the decision boundary" : "below the decision boundary",
      score: three(finding.score),
      probability: three(finding.probability),
      threshold: three(finding.threshold),
      logit: signed(logit),
      place: placeOf(this.#result, explanation, this.#isNegative),
      calibrated: calibrated === null ? "" : three(calibrated),
      fitted: fittedOf(this.#described.get(label)),
      reliability: reliabilityOf(this.#described.get(label)),
    });
  }
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
