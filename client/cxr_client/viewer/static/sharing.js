// @ts-check
/** Sharing: saves what is shown as a file, and copies a call that repeats it. */

import { captioned } from "./caption.js";
import { csv, fileName, grpcurl, json, python } from "./exports.js";

/**
 * @typedef {import("./pane.js").Pane} Pane
 * @typedef {import("./exports.js").Drawn} Drawn
 */

const SHOWN_MS = 4000;
/** A browser may still be reading a file for a while after the click. */
const FILE_KEPT_MS = 60_000;

export class Sharing {
  #toast;
  #timer = 0;

  /** @param {HTMLElement} toast Where it says what it did. */
  constructor(toast) {
    this.#toast = toast;
  }

  /**
   * @param {"png" | "json" | "csv"} kind
   * @param {Pane} pane Whose answer is saved.
   * @param {Pane[]} shown Those in the picture.
   * @param {Drawn} drawn
   */
  async save(kind, { film, answer, label }, shown, drawn) {
    if (!film || !answer) return;
    const contents = {
      png: async () => captioned(shown, drawn),
      json: () => json(film.name, answer.result),
      csv: () => csv(film.name, answer.result),
    };
    const content = await contents[kind]();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content]));
    link.download = fileName(film.name, kind === "png" ? label : "", kind);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), FILE_KEPT_MS);
    this.#say(`Saved ${link.download}`);
  }

  /**
   * @param {"grpcurl" | "python"} language
   * @param {Pane} pane
   * @param {{server: import("./api.js").Server, presentation: string, drawn: Drawn}} call
   */
  async copyCall(language, { film, label }, { server, presentation, drawn }) {
    if (!film) return;
    const { address, tls } = server;
    const text = { grpcurl, python }[language];
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
