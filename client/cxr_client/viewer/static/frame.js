// @ts-check
/**
 * Frame: where a picture shows the radiograph, and what of it the network saw, equal to the
 * server's `cxr_server/explanation/frame.py`. Pure.
 */

import { rint } from "./heat.js";

/** Greys of the hatching on and between the stripes, and of the edge around the seen part. */
const HATCH_GREYS = [200, 40];
export const EDGE_GREY = 208;
/** Opacity of the hatching where heat would have its full opacity. */
export const HATCH_OPACITY = 0.35;

/**
 * A box; its right and lower edges lie outside. In pixels of the upright original image in the
 * contract, and of the picture in a `Frame`.
 * @typedef {{x_px: number, y_px: number, width_px: number, height_px: number}} Box
 */

/** @typedef {{width_px: number, height_px: number, crop_box: Box}} ImageInfo */

/**
 * The size of a picture and the part of it that the network saw, in pixels of the picture.
 * @typedef {{width: number, height: number, seen: Box}} Frame
 */

/**
 * Return the frame of a picture of the whole image.
 * @param {number} width of the picture, in pixels
 * @param {number} height
 * @param {ImageInfo} info
 * @returns {Frame}
 */
export function frameOf(width, height, info) {
  const crop = info.crop_box;
  const scaleX = width / info.width_px;
  const scaleY = height / info.height_px;
  const left = rint(crop.x_px * scaleX);
  const top = rint(crop.y_px * scaleY);
  const right = rint((crop.x_px + crop.width_px) * scaleX);
  const bottom = rint((crop.y_px + crop.height_px) * scaleY);
  const seen = {
    x_px: left,
    y_px: top,
    width_px: Math.max(1, right - left),
    height_px: Math.max(1, bottom - top),
  };
  return { width, height, seen };
}

/**
 * Tell whether the network saw only a part of the picture.
 * @param {Frame} frame
 */
export function hasUnseen({ width, height, seen }) {
  return seen.width_px < width || seen.height_px < height;
}

/**
 * Return the hatching of what the network did not see: RGBA, opaque there and transparent inside.
 * @param {Frame} frame
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export function hatching({ width, height, seen }) {
  const period = Math.max(8, Math.floor(Math.max(width, height) / 24));
  const stripe = Math.floor(period / 4);
  const pixels = new Uint8ClampedArray(4 * width * height);
  const right = seen.x_px + seen.width_px;
  const bottom = seen.y_px + seen.height_px;
  for (let y = 0; y < height; y++) {
    const isBeside = y < seen.y_px || y >= bottom;
    for (let x = 0; x < width; x++) {
      if (!isBeside && x >= seen.x_px && x < right) continue;
      const grey = HATCH_GREYS[(x + y) % period < stripe ? 0 : 1];
      const at = 4 * (y * width + x);
      pixels[at] = pixels[at + 1] = pixels[at + 2] = grey;
      pixels[at + 3] = 255;
    }
  }
  return pixels;
}

/**
 * Return the edge of what the network saw: boxes around it, as far as the picture reaches.
 * @param {Frame} frame
 * @returns {Box[]}
 */
export function edgeOf({ width, height, seen }) {
  const line = Math.max(1, Math.floor(Math.max(width, height) / 512));
  const [x, y] = [seen.x_px, seen.y_px];
  const [right, bottom] = [x + seen.width_px, y + seen.height_px];
  const around = [
    [x - line, y - line, right + line, y],
    [x - line, bottom, right + line, bottom + line],
    [x - line, y, x, bottom],
    [right, y, right + line, bottom],
  ];
  return around
    .map((edges) => edges.map((at, side) => Math.min(Math.max(at, 0), side % 2 ? height : width)))
    .map(([x0, y0, x1, y1]) => ({ x_px: x0, y_px: y0, width_px: x1 - x0, height_px: y1 - y0 }))
    .filter((box) => box.width_px > 0 && box.height_px > 0);
}
