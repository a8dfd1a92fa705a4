// @ts-check
/**
 * Picture: radiograph and heat of one finding, drawn as the server draws them, in layers that are
 * kept as long as what they show is the same. Places are in pixels of the picture.
 */

import { EDGE_GREY, edgeOf, frameOf, HATCH_OPACITY, hasUnseen, hatching } from "./frame.js";
import { cellAt, colorize, heatMap, levelsOf } from "./heat.js";
import { contourLine, contours } from "./regions.js";

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
 * @property {boolean} contours
 */

/** @typedef {import("./heat.js").HeatOptions & import("./heat.js").ColorOptions} HeatChoice */
/** @typedef {PictureOptions & HeatChoice} Options */

/** Grey levels that become black to white, as a DICOM window: `level` is in the middle. */
/** @typedef {{level: number, width: number}} Window */

/** The window that shows each grey level as it is. */
export const FULL_WINDOW = Object.freeze({ level: 128, width: 256 });

const DEFAULT_INPUT_SIDE_PX = 224;

/** Heat maps that are kept of one finding: a slider can ask for any scale. */
const MOST_HEAT_MAPS = 4;
/** Heat maps by the evidence that they show, then by their options. */
const heatMaps = /** @type {WeakMap<object, Map<string, HeatMap>>} */ (new WeakMap());

export class Picture {
  /** @type {Map<string, {inputs: unknown[], layer: unknown}>} */
  #kept = new Map();
  /** @type {Film} */
  film;
  /** @type {Options} */
  options;
  /** @type {Window} */
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
      this.#kept = before.#kept;
      this.window = before.window;
    }
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

  /**
   * Return a box of the original image in this picture.
   * @param {Box} box
   * @returns {Box}
   */
  toPicture(box) {
    const { x_px, y_px, width_px, height_px } = this.#shown;
    const { width, height } = this.frame;
    return {
      x_px: ((box.x_px - x_px) * width) / width_px,
      y_px: ((box.y_px - y_px) * height) / height_px,
      width_px: (box.width_px * width) / width_px,
      height_px: (box.height_px * height) / height_px,
    };
  }

  /**
   * Return what is at a point of the picture, given as shares of its sides; null outside.
   * @param {Point} at
   */
  read(at) {
    if (!(at.x >= 0 && at.x < 1 && at.y >= 0 && at.y < 1)) return null;
    const { info, explanation } = this.film;
    const shown = this.#shown;
    const x_px = shown.x_px + at.x * shown.width_px;
    const y_px = shown.y_px + at.y * shown.height_px;
    const crop = info.crop_box;
    const [x, y] = [(x_px - crop.x_px) / crop.width_px, (y_px - crop.y_px) / crop.height_px];
    const cell = explanation && cellAt(explanation.evidence, x, y);
    const source = this.#source;
    const column = Math.floor((x_px / info.width_px) * source.bitmap.width);
    const row = Math.floor((y_px / info.height_px) * source.bitmap.height);
    const inSource = source.isWhole
      ? row * source.bitmap.width + column
      : Math.floor(at.y * source.bitmap.height) * source.bitmap.width +
        Math.floor(at.x * source.bitmap.width);
    return {
      x_px: Math.floor(x_px),
      y_px: Math.floor(y_px),
      grey: this.#greys[inSource],
      logits: cell ? cell.logits : null,
      row: cell ? cell.row : null,
      column: cell ? cell.column : null,
    };
  }

  /**
   * Return the middle of a cell beside that of a reading, as shares of the picture's sides; without
   * a reading, the middle of the cell with the most evidence. Null where there is no such cell.
   * @param {{row: number | null, column: number | null} | null} reading
   * @param {number} columns
   * @param {number} rows
   * @returns {Point | null}
   */
  neighbour(reading, columns, rows) {
    const grid = this.film.explanation?.evidence;
    if (!grid) return null;
    let column = (reading?.column ?? 0) + columns;
    let row = (reading?.row ?? 0) + rows;
    if (reading === null || reading.row === null) {
      const values = Array.from(grid.values);
      const highest = values.indexOf(Math.max(...values));
      row = Math.floor(highest / grid.columns);
      column = highest % grid.columns;
    }
    if (row < 0 || row >= grid.rows || column < 0 || column >= grid.columns) return null;
    const crop = this.toPicture(this.film.info.crop_box);
    const { width, height } = this.frame;
    return {
      x: (crop.x_px + ((column + 0.5) * crop.width_px) / grid.columns) / width,
      y: (crop.y_px + ((row + 0.5) * crop.height_px) / grid.rows) / height,
    };
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
    if (!this.options.contours) return;
    const outlines = this.#contourLayer(heat, frame);
    if (outlines) context.drawImage(outlines, x_px, y_px);
  }

  /** The part of the original image that is shown. @returns {Box} */
  get #shown() {
    const { info } = this.film;
    if (this.options.frame === "MODEL_INPUT") return info.crop_box;
    return { x_px: 0, y_px: 0, width_px: info.width_px, height_px: info.height_px };
  }

  /** The radiograph to draw, and whether it is the whole image. */
  get #source() {
    const { radiograph, modelInput } = this.film;
    if (this.options.frame === "MODEL_INPUT" && modelInput) {
      return { bitmap: modelInput, isWhole: false };
    }
    return { bitmap: radiograph, isWhole: true };
  }

  /** The grey levels of the radiograph. @returns {Uint8Array} */
  get #greys() {
    const { bitmap } = this.#source;
    return this.#keep("greys", [bitmap], () => {
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
    const { bitmap, isWhole } = this.#source;
    const { level, width } = this.window;
    const isFull = level === FULL_WINDOW.level && width === FULL_WINDOW.width;
    const source = isFull
      ? bitmap
      : this.#keep("window", [bitmap, level, width], () =>
          layerOf(windowed(this.#greys, this.window), bitmap.width, bitmap.height),
        );
    const { radiograph, info } = this.film;
    const part =
      isWhole && this.options.frame === "MODEL_INPUT"
        ? frameOf(radiograph.width, radiograph.height, info).seen
        : { x_px: 0, y_px: 0, width_px: bitmap.width, height_px: bitmap.height };
    const { x_px, y_px, width_px, height_px } = part;
    context.drawImage(source, x_px, y_px, width_px, height_px, 0, 0, frame.width, frame.height);
  }

  /**
   * @param {Context} context
   * @param {Frame} frame
   * @param {number} strength
   */
  #drawUnseen(context, frame, strength) {
    const { width, height } = frame;
    const hatch = this.#keep("hatch", [width, height, this.film.info], () =>
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
    const levels = this.#keep("levels", [heat, width, height], () => levelsOf(heat, width, height));
    return this.#keep("heat", [levels, kind, colorMap, negative], () =>
      layerOf(colorize(levels, kind, colorMap, negative), width, height),
    );
  }

  /**
   * @param {HeatMap} heat
   * @param {Frame} frame
   */
  #contourLayer(heat, { width, height, seen }) {
    return this.#keep("contours", [heat, width, height, seen.width_px, seen.height_px], () => {
      const line = contourLine(width, height);
      const pixels = contours(heat, seen.width_px, seen.height_px, line);
      return pixels && layerOf(pixels, seen.width_px, seen.height_px);
    });
  }

  /**
   * Return what `make` returned the last time, if it was for the same inputs.
   * @template T
   * @param {string} name
   * @param {unknown[]} inputs
   * @param {() => T} make
   * @returns {T}
   */
  #keep(name, inputs, make) {
    const kept = this.#kept.get(name);
    if (kept?.inputs.every((input, at) => Object.is(input, inputs[at]))) {
      return /** @type {T} */ (kept.layer);
    }
    const layer = make();
    this.#kept.set(name, { inputs, layer });
    return layer;
  }
}

/**
 * Return grey levels in a window as RGBA, by the linear function of DICOM (PS3.3, C.11.2.1.2).
 * @param {Uint8Array} greys
 * @param {Window} window
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export function windowed(greys, { level, width }) {
  const shown = Uint8ClampedArray.from({ length: 256 }, (_, grey) =>
    width > 1
      ? ((grey - (level - 0.5)) / (width - 1) + 0.5) * 255
      : 255 * Number(grey > level - 0.5),
  );
  const pixels = new Uint8ClampedArray(4 * greys.length);
  for (let at = 0; at < greys.length; at++) {
    pixels[4 * at] = pixels[4 * at + 1] = pixels[4 * at + 2] = shown[greys[at]];
    pixels[4 * at + 3] = 255;
  }
  return pixels;
}

/**
 * @param {OffscreenCanvas} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
function contextOf(canvas, settings) {
  const context = canvas.getContext("2d", settings);
  if (context === null) throw new Error("the browser offers no 2D canvas");
  return context;
}

/**
 * @param {Uint8ClampedArray<ArrayBuffer>} pixels RGBA
 * @param {number} width
 * @param {number} height
 */
function layerOf(pixels, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  contextOf(canvas).putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}
