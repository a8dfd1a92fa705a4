// @ts-check
/** Status: the state of the server in the header, and what to do about a problem. */

import { getState, ViewerError } from "./api.js";

/**
 * @typedef {import("./api.js").Server} Server
 * @typedef {import("./api.js").State} State
 */

const STATES = {
  serving: "Serving",
  loading: "Loading the model",
  draining: "Shutting down",
  failed: "Failed",
  unreachable: "No server",
};
const TITLES = {
  IMAGE_EMPTY: "The file is empty",
  IMAGE_UNREADABLE: "The file can't be read",
  IMAGE_DECODER_FAILED: "The file can't be decoded",
  IMAGE_FORMAT_UNSUPPORTED: "This format is not supported",
  IMAGE_TOO_SMALL: "The picture is too small",
  IMAGE_TOO_MANY_PIXELS: "The picture is too large",
  IMAGE_IS_HEATMAP: "This is a picture with a heat map",
  IMAGE_REFUSED: "The picture was refused",
  REQUEST_TOO_LARGE: "The file is too large",
  FILE_UNREADABLE: "The file can't be read",
  FILM_UNKNOWN: "The film is gone",
  QUEUE_FULL: "The server is busy",
  MEMORY_FULL: "The server is busy",
  OVERLOADED: "The server is busy",
  MODEL_LOADING: "The server is loading its model",
  DECODER_UNAVAILABLE: "The server is short of resources",
  DRAINING: "The server is shutting down",
  UNREACHABLE: "The server does not answer",
  UNAUTHENTICATED: "The server wants a token",
  VIEWER_UNREACHABLE: "This page has lost its web server",
};
/** Reasons that may pass by themselves: the page asks again. */
const PASSING = new Set([
  "QUEUE_FULL",
  "MEMORY_FULL",
  "OVERLOADED",
  "MODEL_LOADING",
  "DECODER_UNAVAILABLE",
  "DRAINING",
]);
/** Reasons that end when a server answers. */
const OUTAGES = new Set([
  "UNREACHABLE",
  "VIEWER_UNREACHABLE",
  "MODEL_LOADING",
  "DRAINING",
  "SERVER",
]);
const DEFAULT_ADDRESS = "127.0.0.1:50051";
const RETRY_AFTER_S = 2;
const MOST_RETRIES = 5;

/** How long after an answer the state is asked for again, while the server serves and otherwise. */
const ASK_AFTER_MS = { serving: 10_000, otherwise: 2_000 };

/** Asks for the state again and again, while the page is in sight. */
export class Watch {
  #onState;
  #onLost;
  #timer = 0;

  /**
   * @param {(state: State) => boolean} onState Returns whether all is well.
   * @param {(error: ViewerError) => void} onLost The web server does not answer.
   */
  constructor(onState, onLost) {
    this.#onState = onState;
    this.#onLost = onLost;
    document.addEventListener("visibilitychange", () => document.hidden || this.ask());
  }

  async ask() {
    clearTimeout(this.#timer);
    let isWell = false;
    try {
      isWell = this.#onState(await getState());
    } catch (error) {
      if (!(error instanceof ViewerError)) throw error;
      this.#onLost(error);
    }
    clearTimeout(this.#timer);
    const { serving, otherwise } = ASK_AFTER_MS;
    if (!document.hidden) this.#timer = setTimeout(() => this.ask(), isWell ? serving : otherwise);
  }
}

/** The state of the server with its model, and the notice. */
export class ServerLine {
  #root;
  #notice;

  /** @param {HTMLElement} root @param {HTMLElement} notice */
  constructor(root, notice) {
    this.#root = root;
    this.#notice = notice;
  }

  /** @param {import("./api.js").State} state */
  show({ server, model, notice }) {
    this.#fill(server.state, {
      state: STATES[/** @type {"serving"} */ (server.state)] ?? server.state,
      model: model ? `${model.model.name} ${model.model.version}` : "",
      engine: [server.engine, server.device, server.precision].filter(Boolean).join(", "),
      address: server.address,
    });
    if (model && notice) this.showNotice(notice);
  }

  /** The web server of this page does not answer. */
  lost() {
    this.#fill("unreachable", { state: "Disconnected", model: "", engine: "", address: "" });
  }

  /** @param {string} notice */
  showNotice(notice) {
    if (this.#notice.textContent !== notice) this.#notice.textContent = notice;
  }

  /** @param {string} state @param {Record<string, string>} texts */
  #fill(state, texts) {
    this.#root.dataset.state = state;
    for (const [field, text] of Object.entries(texts)) {
      const part = this.#root.querySelector(`[data-field=${field}]`);
      // A live region speaks whatever is set, even if it is the same.
      if (part && part.textContent !== text) part.textContent = text;
    }
  }
}

/** A card over the film: what went wrong, why, and what to do. */
export class Problem {
  #root;
  /** @type {(() => void) | null} */
  #again = null;
  /** @type {() => void} */
  #closed = () => {};
  /** What it is about, such as a pane. @type {unknown} */
  #about = null;
  #reason = "";
  #timer = 0;
  #retries = 0;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    this.#part("#retry").addEventListener("click", () => this.#retry());
    this.#part("#dismiss").addEventListener("click", () => {
      this.hide();
      this.#closed();
    });
  }

  get shown() {
    return !this.#root.hidden;
  }

  /** The command that mends the problem, if one does. */
  get command() {
    return this.#part("pre").textContent ?? "";
  }

  /** @param {() => void} closed */
  onClose(closed) {
    this.#closed = closed;
  }

  /**
   * @param {ViewerError} error
   * @param {{about: unknown, film: import("./api.js").Film | null, server: Server | null,
   *   again: () => void}} of
   */
  show(error, { about, film, server, again }) {
    if (error.reason !== this.#reason) this.#retries = 0;
    this.#about = about;
    this.#again = again;
    this.#open(
      error.reason,
      {
        film: film?.name ?? "",
        title: TITLES[/** @type {"DRAINING"} */ (error.reason)] ?? "No answer",
        message: error.message,
        hint: error.hint,
        request: error.requestId && `Request ${error.requestId}`,
      },
      server,
    );
    if (PASSING.has(error.reason) && this.#retries < MOST_RETRIES)
      this.#countDown(Math.ceil(error.retryAfterS ?? RETRY_AFTER_S));
  }

  /** @param {Server} server Tell that it does not serve, while no film is open. */
  showServer(server) {
    this.#about = null;
    this.#again = null;
    const reason = server.state === "unreachable" ? "UNREACHABLE" : "SERVER";
    this.#open(
      reason,
      {
        film: "",
        title:
          server.state === "unreachable"
            ? `No server at ${server.address}`
            : STATES[/** @type {"failed"} */ (server.state)],
        message: server.message,
        hint: server.hint,
        request: "This page connects by itself as soon as the server answers.",
      },
      server,
    );
  }

  /** The server serves: what failed for want of it is tried again. */
  recover() {
    if (!this.shown || !OUTAGES.has(this.#reason)) return;
    const again = this.#again;
    this.hide();
    again?.();
  }

  /** @param {unknown} [about] Only if it is about that. */
  hide(about = this.#about) {
    if (about !== this.#about) return;
    this.#retries = 0;
    this.#close();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#root.hidden = true;
  }

  /**
   * @param {string} reason
   * @param {{film: string, title: string, message: string, hint: string, request: string}} texts
   * @param {Server | null} server
   */
  #open(reason, texts, server) {
    clearTimeout(this.#timer);
    const command = commandFor(reason, server?.address ?? "");
    if (
      this.shown &&
      this.#reason === reason &&
      this.#part("[data-field=film]").textContent === texts.film &&
      this.#part("[data-field=message]").textContent === texts.message
    )
      return;
    this.#reason = reason;
    for (const [field, text] of Object.entries({ ...texts, command })) {
      const part = this.#part(`[data-field=${field}]`);
      part.textContent = text;
      part.hidden = !text;
    }
    this.#part("#copy-command").hidden = !command;
    this.#part("#retry").hidden = !this.#again || reason.startsWith("IMAGE_");
    this.#part("#retry").textContent = "Try again";
    this.#part("#dismiss").hidden = !this.#again || OUTAGES.has(reason);
    this.#root.hidden = false;
  }

  /** @param {number} seconds */
  #countDown(seconds) {
    this.#part("#retry").textContent = `Try again (in ${seconds} s)`;
    this.#timer = setTimeout(
      () => (seconds > 1 ? this.#countDown(seconds - 1) : this.#retry()),
      1000,
    );
  }

  #retry() {
    const again = this.#again;
    this.#retries += 1;
    this.#close();
    again?.();
  }

  /** @param {string} selector @returns {HTMLElement} */
  #part(selector) {
    return /** @type {HTMLElement} */ (this.#root.querySelector(selector));
  }
}

/**
 * @param {string} reason
 * @param {string} address Of the server.
 * @returns {string} The command that mends the problem; empty if none on this machine does.
 */
function commandFor(reason, address) {
  if (reason === "VIEWER_UNREACHABLE") return "cxr view";
  if (reason !== "UNREACHABLE" || !address.startsWith("127.")) return "";
  const listen = address === DEFAULT_ADDRESS ? "" : ` --listen ${address}`;
  return `cxr-server serve --model phantom${listen}`;
}
