// @ts-check
/**
 * View: a picture on a canvas that people zoom, pan, window and point at.
 *
 * The style sheet gives the canvas its size, the view gives it as many pixels as the screen has
 * there. `touch-action` is the view's: at fit, one finger scrolls the page.
 */

import { Camera } from "./camera.js";
import { Drawing } from "./drawing.js";
import { listen } from "./gestures.js";
import { legend } from "./heat.js";
import { drawMarks } from "./marks.js";
import { changed, DEFAULTS } from "./options.js";
import { Picture } from "./picture.js";
import { besideReading, readingAt } from "./reading.js";
import { snapshotOf } from "./snapshot.js";
import { bounded, FULL_WINDOW } from "./window.js";

/** @typedef {import("./camera.js").Point} Point */
/** @typedef {import("./picture.js").Film} Film */
/** @typedef {import("./options.js").ViewOptions} ViewOptions */
/** @typedef {import("./reading.js").Reading} Reading */

/** How a film is displayed: `zoom` of 1 fits. @typedef {{zoom: number, level: number, width: number}} Display */

/** Share of the canvas by which an arrow key pans, and the zoom of a double click. */
const [PAN_SHARE, CLICK_ZOOM] = [0.1, 2.5];

export class View {
  #canvas;
  #context;
  #onPointer;
  #onDisplay;
  /** @type {ViewOptions} */
  #options = DEFAULTS;
  #drawing = new Drawing();
  #camera = new Camera();
  #listening = new AbortController();
  #isScheduled = false;
  /** Pixels of the screen for a CSS pixel. */
  #density = 1;
  /** @type {Picture | null} */
  #picture = null;
  /** @type {string | undefined} */
  #reported;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{onPointer?: (reading: Reading | null) => void, onDisplay?: (display: Display) => void}} [listeners]
   */
  constructor(canvas, { onPointer = () => {}, onDisplay = () => {} } = {}) {
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("the browser offers no 2D canvas");
    this.#canvas = canvas;
    this.#context = context;
    this.#onPointer = onPointer;
    this.#onDisplay = onDisplay;
    this.#camera.listeners.add(this.#changed);
    const { signal } = this.#listening;
    const actions = {
      zoom: this.zoom,
      fit: this.fit,
      inOrOut: this.#inOrOut,
      pan: this.#pan,
      window: this.#windowBy,
      point: this.#point,
      step: this.#step,
    };
    listen(canvas, actions, signal);
    const observer = new ResizeObserver(([entry]) => this.#resize(entry));
    try {
      observer.observe(canvas, { box: "device-pixel-content-box" });
    } catch {
      observer.observe(canvas); // Safari
    }
    signal.addEventListener("abort", () => observer.disconnect());
    canvas.addEventListener("contextrestored", this.#restore, { signal });
  }

  /**
   * Show a film. A radiograph that neither this view nor a linked one shows is shown whole and with
   * all its grey levels; else zoom and window stay as they are.
   * @param {Film | null} film
   */
  show(film) {
    const { shown } = this.#camera;
    const before = [...shown.values()].find((each) => each.film.radiograph === film?.radiograph);
    shown.delete(this);
    this.#picture = film && new Picture(film, this.#options);
    if (this.#picture) {
      if (before) this.#picture.window = before.window;
      else this.#camera.fit();
      shown.set(this, this.#picture);
    } else {
      this.#drawing.forget();
    }
    this.#changed();
  }

  /**
   * Change how it is drawn; what is not named stays.
   * @param {Partial<ViewOptions>} options
   * @throws {RangeError} the colour map is GRAY over the radiograph
   */
  set(options) {
    this.#options = changed(this.#options, options);
    if (this.#picture) this.#picture.options = this.#options;
    this.#changed();
  }

  /** The legend of what is shown; null without a heat map. */
  get legend() {
    const heat = this.#picture?.heat;
    return heat && this.#options.heatOn ? legend(heat, this.#options) : null;
  }

  /**
   * Zoom by a factor about a point of the canvas, in CSS pixels; unset: its middle.
   * @param {number} factor
   * @param {Point} [at]
   */
  zoom = (factor, at) => {
    if (!this.#picture || !this.#placement) return;
    const { width, height } = this.#canvas;
    const pixel = at ? this.#pixelAt(at) : { x: width / 2, y: height / 2 };
    this.#camera.zoomAt(factor, pixel, this.#picture.frame, this.#canvas);
  };

  /** @param {Point} at */
  #inOrOut = (at) => (this.#camera.zoom > 1 ? this.fit() : this.zoom(CLICK_ZOOM, at));

  /** Show the whole picture. */
  fit = () => this.#camera.fit();

  /**
   * Show grey levels around `level` as black to white, `width` of them. Display only; without
   * arguments, all levels are shown as they are.
   * @param {number} [level]
   * @param {number} [width]
   */
  window(level = FULL_WINDOW.level, width = FULL_WINDOW.width) {
    if (!this.#picture) return;
    this.#picture.window = bounded({ level, width });
    this.#changed();
  }

  /**
   * Share zoom, pan and pointer with another view from now on; null: with none.
   * @param {View | null} other
   */
  link(other) {
    this.#leave();
    this.#camera = other ? other.#camera : new Camera();
    this.#camera.listeners.add(this.#changed);
    if (this.#picture) this.#camera.shown.set(this, this.#picture);
    this.#changed();
  }

  /**
   * Return the whole picture as a PNG file, in the size that the server draws and as it is
   * displayed now but for zoom and pan.
   * @returns {Promise<Blob>}
   */
  snapshot() {
    if (!this.#picture) throw new Error("there is no picture");
    return snapshotOf(this.#drawing, this.#picture, this.#options);
  }

  /** Stop listening and drawing. */
  dispose() {
    this.#listening.abort();
    this.#leave();
    this.#picture = null;
    this.#drawing.forget();
  }

  #leave() {
    this.#camera.listeners.delete(this.#changed);
    this.#camera.shown.delete(this);
  }

  /** @param {ResizeObserverEntry} entry */
  #resize(entry) {
    const box = entry.devicePixelContentBoxSize?.[0];
    const { width, height } = entry.contentRect;
    this.#density = width > 0 && box ? box.inlineSize / width : window.devicePixelRatio;
    this.#canvas.width = box?.inlineSize ?? Math.round(width * this.#density);
    this.#canvas.height = box?.blockSize ?? Math.round(height * this.#density);
    this.#draw(); // a new size has emptied the canvas
    this.#report();
  }

  /** The graphics processor has lost what was drawn, layers included. */
  #restore = () => {
    this.#drawing.forget();
    this.#changed();
  };

  #changed = () => {
    this.#report();
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#draw();
    });
  };

  #draw() {
    const context = this.#context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    const placement = this.#placement;
    if (!this.#picture || !placement) return;
    this.#drawing.drawAt(context, this.#picture, placement, this.#canvas);
    const marks = { ...this.#options, reading: this.#reading };
    drawMarks(context, this.#picture, placement, marks, this.#density);
  }

  /** Where the picture is on the canvas; null while there is none or the canvas has no size. */
  get #placement() {
    const { width, height } = this.#canvas;
    if (!this.#picture || !width || !height) return null;
    return this.#camera.placement(this.#picture.frame, { width, height });
  }

  /** What is under the pointer. @returns {Reading | null} */
  get #reading() {
    const { pointer } = this.#camera;
    const picture = this.#picture;
    if (!pointer || !picture) return null;
    return readingAt(picture, pointer, (at) => this.#drawing.greyAt(picture, at));
  }

  /** Tell the listeners what has changed for them. */
  #report() {
    this.#canvas.style.touchAction = this.#camera.zoom > 1 ? "none" : "pan-y";
    const reading = this.#reading;
    const display = { zoom: this.#camera.zoom, ...(this.#picture?.window ?? FULL_WINDOW) };
    const state = JSON.stringify([reading, display]);
    if (state === this.#reported) return;
    this.#reported = state;
    this.#onPointer(reading);
    this.#onDisplay(display);
  }

  /** Return a point of the canvas in its own pixels. @param {Point} at in CSS pixels */
  #pixelAt(at) {
    return { x: at.x * this.#density, y: at.y * this.#density };
  }

  /** Return a point of the canvas as shares of the picture's sides. @param {Point} at in CSS pixels */
  #pointAt(at) {
    const placement = this.#placement;
    if (!placement || !this.#picture) return null;
    const { width, height } = this.#picture.frame;
    const { x, y } = this.#pixelAt(at);
    return {
      x: (x - placement.left) / placement.scale / width,
      y: (y - placement.top) / placement.scale / height,
    };
  }

  /** @param {Point | null} at @param {boolean} [hovers] Whether the pointer stays there. */
  #point = (at, hovers = false) => {
    if (at && hovers) this.#camera.follow(() => this.#pointAt(at));
    else this.#camera.pointAt(at && this.#pointAt(at));
  };

  /** @param {number} x @param {number} y */
  #pan = (x, y) => {
    if (!this.#picture || !this.#placement) return;
    const moved = this.#pixelAt({ x, y });
    this.#camera.panBy(moved.x, moved.y, this.#picture.frame, this.#canvas);
  };

  /** @param {number} level @param {number} width */
  #windowBy = (level, width) => {
    const now = this.#picture?.window ?? FULL_WINDOW;
    this.window(now.level + level, now.width + width);
  };

  /** Read the next cell; beyond the grid, pan. @param {number} columns @param {number} rows */
  #step = (columns, rows) => {
    const placement = this.#placement;
    if (!this.#picture || !placement) return;
    const next = besideReading(this.#picture, this.#reading, columns, rows);
    const { width, height } = this.#canvas;
    const { frame } = this.#picture;
    if (!next) {
      const step = { x: -columns * PAN_SHARE * width, y: -rows * PAN_SHARE * height };
      return this.#camera.panBy(step.x, step.y, frame, this.#canvas);
    }
    const x = placement.left + next.x * frame.width * placement.scale;
    const y = placement.top + next.y * frame.height * placement.scale;
    if (x < 0 || y < 0 || x >= width || y >= height) {
      this.#camera.panBy(width / 2 - x, height / 2 - y, frame, this.#canvas);
    }
    this.#camera.pointAt(next);
  };
}
