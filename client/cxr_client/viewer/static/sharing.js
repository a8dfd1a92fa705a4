// @ts-check
/**
 * Sharing: saves what is shown as a file, a picture with a strip that says what it is, and copies a
 * call that repeats it.
 */

import { csv, fileName, grpcurl, json, marked, markOf, python } from "./exports.js";
import { spoken, three } from "./words.js";

/**
 * @typedef {import("./panes.js").Pane} Pane
 * @typedef {OffscreenCanvasRenderingContext2D} Context
 * @typedef {import("./exports.js").Drawn} Drawn
 */

const GROUND = "#101010";
const TEXT = "#ebebeb";
const FAINT = "#aaaaaa";
const GAP_PX = 2;
const FONT = "system-ui, sans-serif";
const SHOWN_MS = 4000;
/** A browser may still be reading a file for a while after the click. */
const FILE_KEPT_MS = 60_000;

/**
 * What is shown: the pane whose answer is saved, those in a picture, and how they came about.
 * @typedef {{active: Pane, shown: Pane[], drawn: Drawn,
 *   server: import("./api.js").Server | undefined}} Shown
 */

/** The buttons `data-save` and `data-copy` of the page. */
export class Sharing {
  #toast;
  #shown;
  #timer = 0;

  /**
   * @param {HTMLElement} toast Where it says what it did.
   * @param {() => Shown} shown
   */
  constructor(toast, shown) {
    this.#toast = toast;
    this.#shown = shown;
    const buttons = /** @type {NodeListOf<HTMLElement>} */ (
      document.querySelectorAll("[data-save], [data-copy]")
    );
    for (const button of buttons) {
      const { save, copy } = button.dataset;
      button.addEventListener("click", () =>
        save ? this.#save(save) : this.#copyCall(copy ?? "", shown()),
      );
    }
  }

  /** @param {string} kind */
  async #save(kind) {
    if (kind === "png" && !(await this.#isComplete())) {
      this.#say("Not saved: another picture was opened before this one was complete.");
      return;
    }
    const {
      active: { film, answer, label },
      shown,
      drawn,
    } = this.#shown();
    if (!film || !answer) return;
    const contents = {
      png: async () => captioned(shown, drawn),
      json: () => json(film.name, answer.result),
      csv: () => csv(film.name, answer.result),
    };
    const content = await contents[/** @type {"png"} */ (kind)]();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content]));
    link.download = fileName(film.name, kind === "png" ? label : "", kind);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), FILE_KEPT_MS);
    this.#say(`Saved ${link.download}`);
  }

  /** Wait for the picture that the settings ask for; false if another one is shown by then. */
  async #isComplete() {
    const { shown } = this.#shown();
    const asked = shown.map(({ answer, label }) => ({ answer, label }));
    await Promise.allSettled(shown.map((pane) => pane.settled));
    return shown.every(
      ({ answer, label }, index) => answer === asked[index].answer && label === asked[index].label,
    );
  }

  /** @param {string} language @param {Shown} shown */
  async #copyCall(language, { active: { film, label, presentation }, server, drawn }) {
    if (!film || !server) return;
    const { address, tls } = server;
    const text = { grpcurl, python }[/** @type {"python"} */ (language)];
    await this.copy(text({ address, tls, name: film.name, label, presentation, drawn }));
  }

  /** @param {string} text */
  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      this.#say("Copied");
    } catch {
      this.#say("The browser does not let this page copy: it needs HTTPS or localhost.");
    }
  }

  /** @param {string} text */
  #say(text) {
    this.#toast.textContent = text;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#toast.textContent = "";
    }, SHOWN_MS);
  }
}

/**
 * What is saved of a pane. It is taken at once: the pane may show another film before the picture
 * is a file.
 * @typedef {ReturnType<typeof taken>} Taken
 */

/** @param {Pane} pane */
function taken({ answer, explanation, view }) {
  return { answer, explanation, legend: view.legend, picture: view.snapshot() };
}

/**
 * The panes as one PNG file, side by side, each with its caption.
 * @param {Pane[]} panes With answers.
 * @param {{scale: string, negative: boolean}} settings
 */
async function captioned(panes, settings) {
  const parts = panes.map(taken);
  const pictures = await Promise.all(
    parts.map(async ({ picture }) => createImageBitmap(await picture)),
  );
  const width = Math.max(...pictures.map((picture) => picture.width));
  const height = Math.max(...pictures.map((picture) => picture.height));
  const text = Math.max(13, Math.round(width / 64));
  const canvas = new OffscreenCanvas((width + GAP_PX) * parts.length - GAP_PX, height + 10 * text);
  const context = /** @type {Context} */ (canvas.getContext("2d"));
  context.fillStyle = GROUND;
  context.fillRect(0, 0, canvas.width, canvas.height);
  let lowest = height;
  parts.forEach((part, index) => {
    // A line of the ground between the pictures, so that they are told apart.
    context.drawImage(pictures[index], index * (width + GAP_PX), 0);
    lowest = Math.max(
      lowest,
      drawCaption(context, part, {
        left: index * (width + GAP_PX) + text,
        top: height + text,
        room: width - 2 * text,
        text,
        settings,
      }),
    );
  });
  const cut = new OffscreenCanvas(canvas.width, lowest);
  cut.getContext("2d")?.drawImage(canvas, 0, 0);
  const png = new Uint8Array(await (await cut.convertToBlob()).arrayBuffer());
  return marked(
    png,
    parts.flatMap((part) => marksOf(part, settings.scale)),
  );
}

/** @param {Taken} part @param {string} scale */
function marksOf({ answer, explanation, legend }, scale) {
  return answer && explanation
    ? [markOf(answer.result, explanation, scale, legend ?? { low: 0, high: 0 })]
    : [];
}

/**
 * @param {Context} context
 * @param {Taken} part
 * @param {{left: number, top: number, room: number, text: number,
 *   settings: {scale: string, negative: boolean}}} place
 * @returns {number} Where the caption ends.
 */
function drawCaption(context, { answer, explanation, legend }, place) {
  const { left, top, room, text, settings } = place;
  if (!answer || !explanation) return top;
  const { finding, method } = explanation;
  const { model, notice } = answer.result;
  const line = Math.round(1.45 * text);
  context.textBaseline = "top";
  context.fillStyle = TEXT;
  context.font = `600 ${Math.round(1.25 * text)}px ${FONT}`;
  const against = settings.negative ? "Evidence against " : "";
  context.fillText(`${against}${spoken(finding.label)}  ${three(finding.score)}`, left, top);
  if (legend) drawLegend(context, legend, { left: left + room, top, text });
  context.font = `${text}px ${FONT}`;
  context.fillStyle = FAINT;
  const facts = [
    `score; 0.5 is the decision boundary (threshold ${three(finding.threshold)})`,
    [
      `${model.name} ${model.version}`,
      `weights ${model.weights_sha256.slice(0, 12)}`,
      model.precision,
      method,
      settings.scale === "FIXED" ? "fixed scale" : "scale of this map",
    ]
      .filter(Boolean)
      .join(", "),
  ];
  let at = top + 1.4 * line;
  for (const fact of facts) {
    for (const words of wrapped(context, fact, room)) at = write(context, words, left, at, line);
  }
  context.fillStyle = TEXT;
  for (const words of wrapped(context, notice, room)) at = write(context, words, left, at, line);
  return Math.ceil(at + text / 2);
}

/**
 * @param {Context} context @param {string} words
 * @param {number} left @param {number} top @param {number} line
 */
function write(context, words, left, top, line) {
  context.fillText(words, left, top);
  return top + line;
}

/**
 * The colours with their limits, aligned to the right.
 * @param {Context} context
 * @param {import("./heat.js").Legend} legend
 * @param {{left: number, top: number, text: number}} place
 */
function drawLegend(context, { colors, limits, unit }, { left: right, top, text }) {
  context.font = `${text}px ${FONT}`;
  context.textAlign = "right";
  const least = limits[0];
  const most = `${limits[2]}  ${unit}`;
  context.fillStyle = TEXT;
  context.fillText(most, right, top);
  const bar = 9 * text;
  const from = right - context.measureText(most).width - text / 2 - bar;
  colors.forEach((color, level) => {
    context.fillStyle = color;
    context.fillRect(from + (level * bar) / 256, top, bar / 256 + 1, text);
  });
  context.fillStyle = TEXT;
  context.fillText(least, from - text / 2, top);
  context.textAlign = "left";
}

/** @param {Context} context @param {string} sentence @param {number} room */
function wrapped(context, sentence, room) {
  /** @type {string[]} */
  const lines = [];
  for (const word of sentence.split(" ")) {
    const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= room) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
