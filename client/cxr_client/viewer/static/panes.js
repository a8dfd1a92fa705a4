// @ts-check
/**
 * Panes: one picture, or the two of a comparison, which share zoom, pan and grey window. A picture
 * has a title, a legend and what lies under the pointer.
 */

import { View } from "./view.js";
import { sentenceOf, signed, spoken, three } from "./words.js";

/**
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {import("./api.js").Film} Film
 * @typedef {import("./view.js").Display} Display
 */

/** A film with the map of one finding. */
export class Pane {
  /** @type {Film | null} */
  film = null;
  /** @type {Answer | null} */
  answer = null;
  label = "";
  /** How its DICOM film is read. @type {import("./api.js").Presentation} */
  presentation = "as-shown";
  #expecting = new AbortController();
  /** Settles once the picture is the one that the settings ask for. @type {Promise<void>} */
  settled = Promise.resolve();
  #settings = { heatOn: true, negative: false };
  #root;
  #canvas;

  /**
   * @param {HTMLElement} root
   * @param {string} letter
   * @param {(display: Display) => void} onDisplay
   */
  constructor(root, letter, onDisplay) {
    this.#root = root;
    root.setAttribute("aria-label", `Picture ${letter}`);
    root.querySelectorAll(".pick b").forEach((mark) => {
      mark.textContent = letter;
    });
    this.#canvas = /** @type {HTMLCanvasElement} */ (root.querySelector(".stage canvas"));
    this.view = new View(this.#canvas, {
      onPointer: (reading) => this.#text("readout", reading ? readingText(reading) : ""),
      onDisplay,
    });
  }

  /** The explanation that is shown. */
  get explanation() {
    return (
      this.answer?.result.explanations.find((each) => each.finding.label === this.label) ?? null
    );
  }

  /** @param {boolean} active Whether the strip and the findings act on this pane. */
  setActive(active) {
    this.#root.classList.toggle("active", active);
    this.#root.querySelector(".pick")?.setAttribute("aria-pressed", String(active));
  }

  /** @param {() => void} onPick */
  onPick(onPick) {
    this.#root.addEventListener("pointerdown", onPick, { capture: true });
    this.#root.querySelector(".pick")?.addEventListener("click", onPick);
  }

  /** Whether its film has no answer, nor will have. */
  get failed() {
    return this.#root.dataset.state === "failed";
  }

  /** There is no answer for the film. */
  fail() {
    this.#root.dataset.state = "failed";
    this.#canvas.setAttribute("aria-label", `${this.film?.name} was not scored`);
  }

  /**
   * @param {Film | null} film A film whose answer is to come; null empties the pane.
   * @param {string} [thumbnail] Shown meanwhile.
   * @returns {AbortSignal} Aborts when another one is expected.
   */
  expect(film, thumbnail = "") {
    this.#expecting.abort();
    this.#expecting = new AbortController();
    this.film = film;
    this.answer = null;
    this.#root.dataset.state = film ? "loading" : "empty";
    const preview = /** @type {HTMLImageElement} */ (this.#root.querySelector(".preview"));
    preview.hidden = !thumbnail;
    if (thumbnail) preview.src = thumbnail;
    this.#text("film", film?.name ?? "No film");
    // A narrow pane cuts its name off.
    /** @type {HTMLElement} */ (this.#root.querySelector(".pick")).title = film?.name ?? "";
    for (const field of ["finding", "score", "low", "high", "unit", "readout"])
      this.#text(field, "");
    this.#canvas.setAttribute("aria-label", film ? `Reading ${film.name}` : "No film is open");
    return this.signal;
  }

  /** Aborts when another film is expected. */
  get signal() {
    return this.#expecting.signal;
  }

  /**
   * @param {Answer} answer Of the expected film.
   * @param {string} label
   * @param {number} [inputSidePx] Side of the network's input.
   * @param {ImageBitmap} [modelInput] The radiograph as the network saw it.
   */
  show(answer, label, inputSidePx, modelInput) {
    if (!this.film) return;
    this.answer = answer;
    this.label = label;
    const { explanation } = this;
    if (!explanation) return;
    const { result, radiograph } = answer;
    const info = result.image_info;
    this.view.show({ radiograph, modelInput, info, explanation, inputSidePx });
    this.#root.dataset.state = "shown";
    this.#text("score", three(explanation.finding.score));
    this.#root.classList.toggle("above", explanation.finding.above_threshold);
    this.#describe();
  }

  /** @param {any} settings */
  set(settings) {
    this.#settings = settings;
    this.view.set(settings);
    this.#describe();
  }

  #describe() {
    const { film, answer, explanation } = this;
    this.#legend();
    if (!film || !answer || !explanation) return;
    const { heatOn, negative } = this.#settings;
    const finding = spoken(this.label);
    this.#text("finding", heatOn && negative ? `Against ${finding}` : finding);
    const sentence = sentenceOf(film.name, answer.result, explanation, this.#settings);
    this.#canvas.setAttribute("aria-label", sentence);
  }

  #legend() {
    const { legend } = this.view;
    this.#root.classList.toggle("no-heat", !legend);
    if (!legend) return;
    this.#text("low", legend.limits[0]);
    this.#text("high", legend.limits[2]);
    this.#text("unit", legend.hasEvidence ? "logits" : "logits, no evidence");
    const canvas = /** @type {HTMLCanvasElement} */ (this.#root.querySelector(".legend canvas"));
    const context = canvas.getContext("2d");
    legend.colors.forEach((color, level) => {
      if (context) context.fillStyle = color;
      context?.fillRect(level, 0, 1, 1);
    });
  }

  /** @param {string} field @param {string} text */
  #text(field, text) {
    const part = this.#root.querySelector(`[data-field=${field}]`);
    if (part) part.textContent = text;
  }
}

/** The panes: one, and the second of a comparison. */
export class Panes {
  /** @type {Pane[]} */
  all;
  comparing = false;
  #active = 0;
  #second;
  #onActivate;

  /**
   * @param {HTMLElement} first The second is a copy of it.
   * @param {{onActivate: () => void, onDisplay: (display: Display) => void}} listeners
   */
  constructor(first, { onActivate, onDisplay }) {
    this.#onActivate = onActivate;
    this.#second = /** @type {HTMLElement} */ (first.cloneNode(true));
    this.#second.hidden = true;
    first.after(this.#second);
    this.all = [first, this.#second].map(
      (root, index) =>
        new Pane(root, "AB"[index], (display) => {
          if (index !== this.#active) return;
          onDisplay(display);
          if (this.comparing) this.other.view.window(display.level, display.width);
        }),
    );
    this.all[1].view.link(this.all[0].view);
    for (const [index, pane] of this.all.entries()) pane.onPick(() => this.#activate(index));
  }

  /** The pane that films and findings are opened in. */
  get active() {
    return this.all[this.#active];
  }

  get other() {
    return this.all[1 - this.#active];
  }

  /** Those in sight that have a picture. */
  get shown() {
    return this.all.filter((pane) => pane.answer && (this.comparing || pane === this.active));
  }

  get empty() {
    return this.all.every(({ film }) => !film);
  }

  /** @param {number} [level] @param {number} [width] Grey levels; all of them without arguments. */
  setWindow(level, width) {
    for (const { view } of this.all) view.window(level, width);
  }

  /** @param {boolean} comparing Whether there are two; the second one is then the active one. */
  compare(comparing) {
    this.comparing = comparing;
    this.#second.hidden = !comparing;
    document.body.classList.toggle("comparing", comparing);
    this.#activate(comparing ? 1 : 0);
  }

  /** @param {number} index */
  #activate(index) {
    if (this.#active === index) return;
    this.#active = index;
    for (const pane of this.all) pane.setActive(pane === this.active);
    this.#onActivate();
  }
}

/** @param {import("./view.js").Reading} reading */
function readingText({ x_px, y_px, grey, logits, row, column }) {
  const place = `x ${x_px}  y ${y_px}  grey ${grey}`;
  if (logits === null) return `not seen by the network  ${place}`;
  return `${signed(logits)} logits  ${place}  row ${Number(row) + 1}  column ${Number(column) + 1}`;
}
