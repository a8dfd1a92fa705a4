// @ts-check
/**
 * Picture: radiograph and heat of one finding, drawn as the server draws them, in layers that are
 * kept as long as what they show is the same. Places are in pixels of the picture.
 */

import { contourLine, contourSegments, contours } from "./contours.js";
import { EDGE_GREY, edgeOf, frameOf, HATCH_OPACITY, hasUnseen, hatching } from "./frame.js";
import { colorize, heatMap, levelsOf } from "./heat.js";
import { contextOf, Layers, layerOf } from "./layers.js";
import { FULL_WINDOW, isFull, windowed } from "./window.js";

/** @typedef {import("./camera.js").Point} Point */
/** @typedef {import("./frame.js").Box} Box */
/** @typedef {import("./frame.js").Frame} Frame */
/** @typedef {import("./heat.js").HeatMap} HeatMap */
/** @typedef {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D} Context */

/**
 * What is shown. `radiograph` is the whole image in grey, `modelInput` the square that the network
 * saw in its resolution; without it the frame MODEL_INPUT shows that part of the radiograph.
 * @typedef {object} Film
 * @property {ImageBitmap} radiograph
 * @property {ImageBitmap} [modelInput]
 * @property {import("./frame.js").ImageInfo} info
 * @property {{evidence: import("./heat.js").EvidenceGrid} | null} explanation
 * @property {number} [inputSidePx] side of the network's input
 */

/**
 * How it is drawn.
 * @typedef {object} PictureOptions
 * @property {"ORIGINAL" | "MODEL_INPUT"} frame
 * @property {boolean} heatOn
 */

/** @typedef {import("./heat.js").HeatOptions & import("./heat.js").ColorOptions} HeatChoice */
/** @typedef {PictureOptions & HeatChoice} Options */

const DEFAULT_INPUT_SIDE_PX = 224;

/** Heat maps that are kept of one finding: a slider can ask for any scale. */
const MOST_HEAT_MAPS = 4;
/** Heat maps by the evidence that they show, then by their options. */
const heatMaps = /** @type {WeakMap<object, Map<string, HeatMap>>} */ (new WeakMap());

export class Picture {
  #layers = new Layers();
  /** @type {Film} */
  film;
  /** @type {Options} */
  options;
  /** Display only. @type {import("./window.js").Window} */
  window = FULL_WINDOW;

  /**
   * @param {Film} film
   * @param {Options} options
   * @param {Picture | null} before picture whose layers and window stay, if of the same radiograph
   */
  constructor(film, options, before) {
    this.film = film;
    this.options = options;
    if (before?.film.radiograph === film.radiograph) {
      this.#layers = before.#layers;
      this.window = before.window;
    }
  }

  /** Make all layers anew when they are drawn next. */
  forget() {
    this.#layers.forget();
  }

  /** @returns {Frame} */
  get frame() {
    const { radiograph, modelInput, info } = this.film;
    const whole = frameOf(radiograph.width, radiograph.height, info);
    if (this.options.frame === "ORIGINAL") return whole;
    const width = modelInput?.width ?? whole.seen.width_px;
    const height = modelInput?.height ?? whole.seen.height_px;
    return { width, height, seen: { x_px: 0, y_px: 0, width_px: width, height_px: height } };
  }

  /** The heat map of the finding; null without an explanation. @returns {HeatMap | null} */
  get heat() {
    const { explanation, inputSidePx = DEFAULT_INPUT_SIDE_PX } = this.film;
    if (explanation === null) return null;
    const { scale, fixedScaleLogits, negative } = this.options;
    const key = [inputSidePx, negative, scale === "FIXED" ? fixedScaleLogits : scale].join();
    const maps = heatMaps.get(explanation.evidence) ?? new Map();
    heatMaps.set(explanation.evidence, maps);
    const heat = maps.get(key) ?? heatMap(explanation.evidence, inputSidePx, this.options);
    maps.set(key, heat);
    if (maps.size > MOST_HEAT_MAPS) maps.delete(maps.keys().next().value);
    return heat;
  }

  /** The part of the original image that is shown. @returns {Box} */
  get shown() {
    const { info } = this.film;
    if (this.options.frame === "MODEL_INPUT") return info.crop_box;
    return { x_px: 0, y_px: 0, width_px: info.width_px, height_px: info.height_px };
  }

  /**
   * Return a box of the original image in this picture.
   * @param {Box} box
   * @returns {Box}
   */
  toPicture(box) {
    const { x_px, y_px, width_px, height_px } = this.shown;
    const { width, height } = this.frame;
    return {
      x_px: ((box.x_px - x_px) * width) / width_px,
      y_px: ((box.y_px - y_px) * height) / height_px,
      width_px: (box.width_px * width) / width_px,
      height_px: (box.height_px * height) / height_px,
    };
  }

  /**
   * Return the grey level at a point of the original image, in pixels.
   * @param {Point} at
   */
  greyAt({ x, y }) {
    const { bitmap, part } = this.#source;
    const column = Math.floor(((x - part.x_px) / part.width_px) * bitmap.width);
    const row = Math.floor(((y - part.y_px) / part.height_px) * bitmap.height);
    return this.#greys[row * bitmap.width + column];
  }

  /**
   * Draw the picture.
   * @param {Context} context
   */
  draw(context) {
    const { frame, heat } = this;
    const { heatOn, kind, opacity } = this.options;
    context.imageSmoothingQuality = "high";
    const isHeatAlone = heatOn && heat !== null && kind === "HEATMAP";
    if (isHeatAlone) {
      context.fillStyle = "black";
      context.fillRect(0, 0, frame.width, frame.height);
    } else {
      this.#drawRadiograph(context, frame);
    }
    if (!heatOn || heat === null) return;
    const strength = isHeatAlone ? 1 : opacity;
    if (hasUnseen(frame) && strength > 0) this.#drawUnseen(context, frame, strength);
    const { x_px, y_px, width_px, height_px } = frame.seen;
    context.globalAlpha = strength;
    context.drawImage(this.#heatLayer(heat, width_px, height_px), x_px, y_px);
    context.globalAlpha = 1;
  }

  /**
   * Draw the contours as the server does.
   * @param {Context} context
   */
  drawContours(context) {
    const { frame, heat } = this;
    const outlines = heat && this.#contourLayer(heat, frame);
    if (outlines) context.drawImage(outlines, frame.seen.x_px, frame.seen.y_px);
  }

  /** The contours as a path in shares of the square that the network saw. @returns {Path2D} */
  get contourPath() {
    const { heat } = this;
    return this.#layers.keep("contour path", [heat], () => {
      const path = new Path2D();
      for (const [from, to] of heat ? contourSegments(heat) : []) {
        path.moveTo(...from);
        path.lineTo(...to);
      }
      return path;
    });
  }

  /** The radiograph to draw, and which part of the original image it is. */
  get #source() {
    const { radiograph, modelInput, info } = this.film;
    if (this.options.frame === "MODEL_INPUT" && modelInput) {
      return { bitmap: modelInput, part: info.crop_box };
    }
    const part = { x_px: 0, y_px: 0, width_px: info.width_px, height_px: info.height_px };
    return { bitmap: radiograph, part };
  }

  /** The grey levels of the radiograph to draw. @returns {Uint8Array} */
  get #greys() {
    const { bitmap } = this.#source;
    return this.#layers.keep("greys", [bitmap], () => {
      // In main memory: reading pixels back from a GPU would stall it.
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const context = contextOf(canvas, { willReadFrequently: true });
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
      return Uint8Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]);
    });
  }

  /**
   * @param {Context} context
   * @param {Frame} frame
   */
  #drawRadiograph(context, frame) {
    const { bitmap } = this.#source;
    const { level, width } = this.window;
    const source = isFull(this.window)
      ? bitmap
      : this.#layers.keep("window", [bitmap, level, width], () =>
          layerOf(windowed(this.#greys, this.window), bitmap.width, bitmap.height),
        );
    const { radiograph, info } = this.film;
    const isPart = this.options.frame === "MODEL_INPUT" && bitmap === radiograph;
    const { seen } = frameOf(bitmap.width, bitmap.height, info);
    const [x, y] = isPart ? [seen.x_px, seen.y_px] : [0, 0];
    context.drawImage(source, x, y, frame.width, frame.height, 0, 0, frame.width, frame.height);
  }

  /**
   * @param {Context} context
   * @param {Frame} frame
   * @param {number} strength
   */
  #drawUnseen(context, frame, strength) {
    const { width, height } = frame;
    const hatch = this.#layers.keep("hatch", [width, height, this.film.info], () =>
      layerOf(hatching(frame), width, height),
    );
    context.globalAlpha = strength * HATCH_OPACITY;
    context.drawImage(hatch, 0, 0);
    context.globalAlpha = 1;
    context.fillStyle = `rgb(${EDGE_GREY} ${EDGE_GREY} ${EDGE_GREY})`;
    for (const { x_px, y_px, width_px, height_px } of edgeOf(frame)) {
      context.fillRect(x_px, y_px, width_px, height_px);
    }
  }

  /**
   * @param {HeatMap} heat
   * @param {number} width
   * @param {number} height
   */
  #heatLayer(heat, width, height) {
    const { kind, colorMap, negative } = this.options;
    const levels = this.#layers.keep("levels", [heat, width, height], () =>
      levelsOf(heat, width, height),
    );
    return this.#layers.keep("heat", [levels, kind, colorMap, negative], () =>
      layerOf(colorize(levels, kind, colorMap, negative), width, height),
    );
  }

  /**
   * @param {HeatMap} heat
   * @param {Frame} frame
   */
  #contourLayer(heat, { width, height, seen }) {
    return this.#layers.keep(
      "contours",
      [heat, width, height, seen.width_px, seen.height_px],
      () => {
        const line = contourLine(width, height);
        const pixels = contours(heat, seen.width_px, seen.height_px, line);
        return pixels && layerOf(pixels, seen.width_px, seen.height_px);
      },
    );
  }
}
