// @ts-check
/**
 * Picture: a film and options -> frame, heat map and radiograph of the picture that shows them, and
 * where things are in it, in its pixels. Draws nothing. Pure.
 */

import { frameOf } from "./frame.js";
import { heatMap } from "./heat.js";
import { FULL_WINDOW } from "./window.js";

/** @typedef {import("./frame.js").Box} Box */
/** @typedef {import("./frame.js").Frame} Frame */
/** @typedef {import("./heat.js").HeatMap} HeatMap */

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
  /** @type {Film} */
  film;
  /** @type {Options} */
  options;
  /** Display only. @type {import("./window.js").Window} */
  window = FULL_WINDOW;

  /**
   * @param {Film} film
   * @param {Options} options
   */
  constructor(film, options) {
    this.film = film;
    this.options = options;
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
   * The bitmap that has the radiograph, its part `shown` in pixels, and the part of the original
   * image that all of it is.
   */
  get source() {
    const { radiograph, modelInput, info } = this.film;
    if (this.options.frame === "MODEL_INPUT" && modelInput) {
      const { width, height } = modelInput;
      const shown = { x_px: 0, y_px: 0, width_px: width, height_px: height };
      return { bitmap: modelInput, shown, part: info.crop_box };
    }
    const { width, height } = radiograph;
    const { seen } = frameOf(width, height, info);
    const whole = { x_px: 0, y_px: 0, width_px: width, height_px: height };
    return {
      bitmap: radiograph,
      shown: this.options.frame === "MODEL_INPUT" ? seen : whole,
      part: { x_px: 0, y_px: 0, width_px: info.width_px, height_px: info.height_px },
    };
  }
}
