// @ts-check
/**
 * Drawing: a picture -> a canvas, as the server draws it. What was drawn is kept in layers, so that
 * another finding redraws its heat alone.
 */

import { contourLine, contours } from "./contours.js";
import { EDGE_GREY, edgeOf, HATCH_OPACITY, hasUnseen, hatching } from "./frame.js";
import { colorize, levelsOf } from "./heat.js";
import { canvasOf, contextOf, Layers, layerOf } from "./layers.js";
import { isFull, windowed } from "./window.js";

/** @typedef {import("./camera.js").Placement} Placement */
/** @typedef {import("./camera.js").Size} Size */
/** @typedef {import("./heat.js").HeatMap} HeatMap */
/** @typedef {import("./picture.js").Picture} Picture */
/** @typedef {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D} Context */

/** Maps whose levels are kept: most of the time of a switch, and 1 MiB each on 1024 x 1024. */
const KEPT_LEVELS = 24;

export class Drawing {
  #layers = new Layers();

  /** Draw all layers anew. */
  forget() {
    this.#layers.forget();
  }

  /**
   * Draw a picture in its own size.
   * @param {Context} context
   * @param {Picture} picture
   */
  draw(context, picture) {
    this.#drawGround(context, picture);
    this.#drawHeat(context, picture);
  }

  /**
   * Draw a picture somewhere on a canvas.
   * @param {Context} context
   * @param {Picture} picture
   * @param {Placement} placement
   * @param {Size} canvas
   */
  drawAt(context, picture, { scale, left, top }, { width, height }) {
    const place = [scale, left, top, width, height];
    const ground = this.#layers.keep("ground", [...groundInputs(picture), ...place], (before) => {
      const canvas = canvasOf(width, height, before);
      const under = contextOf(canvas);
      under.setTransform(1, 0, 0, 1, 0, 0);
      under.clearRect(0, 0, width, height);
      under.setTransform(scale, 0, 0, scale, left, top);
      this.#drawGround(under, picture);
      return canvas;
    });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(ground, 0, 0);
    context.setTransform(scale, 0, 0, scale, left, top);
    this.#drawHeat(context, picture);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /**
   * Draw the contours on a picture in its own size, as the server does.
   * @param {Context} context
   * @param {Picture} picture
   */
  drawContours(context, { frame, heat }) {
    const { x_px, y_px, width_px, height_px } = frame.seen;
    const line = contourLine(frame.width, frame.height);
    const pixels = heat && contours(heat, width_px, height_px, line);
    if (pixels) context.drawImage(layerOf(pixels, width_px, height_px), x_px, y_px);
  }

  /**
   * Return the grey level of the radiograph at a point of the original image, in pixels.
   * @param {Picture} picture
   * @param {import("./camera.js").Point} at
   */
  greyAt({ source: { bitmap, part } }, { x, y }) {
    const column = Math.floor(((x - part.x_px) / part.width_px) * bitmap.width);
    const row = Math.floor(((y - part.y_px) / part.height_px) * bitmap.height);
    return this.#greysOf(bitmap)[row * bitmap.width + column];
  }

  /** @param {ImageBitmap} bitmap */
  #greysOf(bitmap) {
    return this.#layers.keep("greys", [bitmap], () => {
      // In main memory: reading pixels back from a graphics processor would stall it.
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const context = contextOf(canvas, { willReadFrequently: true });
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
      return Uint8Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]);
    });
  }

  /**
   * Draw what lies under the heat: the radiograph, or black for heat alone, and the hatching of
   * what the network did not see.
   * @param {Context} context
   * @param {Picture} picture
   */
  #drawGround(context, picture) {
    const { frame } = picture;
    if (isHeatAlone(picture)) {
      context.fillStyle = "black";
      context.fillRect(0, 0, frame.width, frame.height);
    } else {
      this.#drawRadiograph(context, picture);
    }
    const strength = strengthOf(picture);
    if (strength === 0 || !hasUnseen(frame)) return;
    const { width, height } = frame;
    const hatch = this.#layers.keep("hatch", [width, height, picture.film.info], () =>
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
   * @param {Context} context
   * @param {Picture} picture
   */
  #drawRadiograph(context, { frame, source: { bitmap, shown }, window }) {
    const radiograph = isFull(window)
      ? bitmap
      : this.#layers.keep("window", [bitmap, window.level, window.width], (before) =>
          layerOf(windowed(this.#greysOf(bitmap), window), bitmap.width, bitmap.height, before),
        );
    const { x_px, y_px, width_px, height_px } = shown;
    const { width, height } = frame;
    context.imageSmoothingQuality = "high";
    context.drawImage(radiograph, x_px, y_px, width_px, height_px, 0, 0, width, height);
  }

  /**
   * @param {Context} context
   * @param {Picture} picture
   */
  #drawHeat(context, picture) {
    const { frame, heat, options } = picture;
    const strength = strengthOf(picture);
    if (heat === null || strength === 0) return;
    const { x_px, y_px, width_px, height_px } = frame.seen;
    const { kind, colorMap, negative } = options;
    const levels = this.#layers.keep(
      "levels",
      [heat, width_px, height_px],
      () => levelsOf(heat, width_px, height_px),
      KEPT_LEVELS,
    );
    const layer = this.#layers.keep("heat", [levels, kind, colorMap, negative], (before) =>
      layerOf(colorize(levels, kind, colorMap, negative), width_px, height_px, before),
    );
    // Heat has no detail that a better filter could keep, and the best takes four times as long.
    context.imageSmoothingQuality = "low";
    context.globalAlpha = strength;
    context.drawImage(layer, x_px, y_px);
    context.globalAlpha = 1;
  }
}

/** @param {Picture} picture */
function isHeatAlone({ heat, options }) {
  return options.heatOn && heat !== null && options.kind === "HEATMAP";
}

/** Return the opacity of full heat; 0 where no heat is drawn. @param {Picture} picture */
function strengthOf(picture) {
  if (!picture.options.heatOn || picture.heat === null) return 0;
  return isHeatAlone(picture) ? 1 : picture.options.opacity;
}

/** Return what the ground depends on. @param {Picture} picture */
function groundInputs(picture) {
  const { film, frame, options, source, window } = picture;
  const strength = hasUnseen(frame) ? strengthOf(picture) : 0;
  const { level, width } = window;
  return [source.bitmap, film.info, options.frame, isHeatAlone(picture), strength, level, width];
}
