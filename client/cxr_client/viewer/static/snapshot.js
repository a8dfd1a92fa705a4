// @ts-check
/** Snapshot: a picture -> a PNG file in the size that the server draws, with its marks. */

import { contextOf } from "./layers.js";
import { drawMarks } from "./marks.js";

/** Length of a picture's longer side for which lines are as wide as on the screen. */
const SCREEN_PX = 700;

/**
 * Return the whole picture with its marks, contours as the server draws them.
 * @param {import("./drawing.js").Drawing} drawing
 * @param {import("./picture.js").Picture} picture
 * @param {import("./options.js").ViewOptions} options
 * @returns {Promise<Blob>}
 */
export function snapshotOf(drawing, picture, options) {
  const { width, height } = picture.frame;
  const canvas = new OffscreenCanvas(width, height);
  const context = contextOf(canvas);
  drawing.draw(context, picture);
  if (options.heatOn && options.contours) drawing.drawContours(context, picture);
  const marks = { ...options, contours: false };
  const line = Math.max(1, Math.max(width, height) / SCREEN_PX);
  drawMarks(context, picture, { scale: 1, left: 0, top: 0 }, marks, line);
  return canvas.convertToBlob({ type: "image/png" });
}
