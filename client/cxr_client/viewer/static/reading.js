// @ts-check
/** Reading: a point of a picture -> the pixel, the grey level and the evidence there. */

import { cellAt } from "./heat.js";

/** @typedef {import("./camera.js").Point} Point */
/** @typedef {import("./frame.js").Box} Box */
/** @typedef {import("./heat.js").EvidenceGrid} EvidenceGrid */
/** @typedef {import("./picture.js").Picture} Picture */

/**
 * What is at a point: pixel of the original image, its grey level of 256, and the cell of the
 * evidence grid with its evidence; null outside of what the network saw.
 * @typedef {object} Reading
 * @property {number} x_px
 * @property {number} y_px
 * @property {number} grey
 * @property {number | null} logits
 * @property {number | null} row
 * @property {number | null} column
 */

/**
 * Return what is at a point, given as shares of the picture's sides; null outside of the picture.
 * @param {Picture} picture
 * @param {Point} at
 * @param {(at: Point) => number} greyAt grey level at a point of the original image, in pixels
 * @returns {Reading | null}
 */
export function readingAt(picture, at, greyAt) {
  if (!(at.x >= 0 && at.x < 1 && at.y >= 0 && at.y < 1)) return null;
  const { explanation, info } = picture.film;
  const { shown } = picture;
  const x_px = shown.x_px + at.x * shown.width_px;
  const y_px = shown.y_px + at.y * shown.height_px;
  const crop = info.crop_box;
  const [x, y] = [(x_px - crop.x_px) / crop.width_px, (y_px - crop.y_px) / crop.height_px];
  const cell = explanation && cellAt(explanation.evidence, x, y);
  return {
    x_px: Math.floor(x_px),
    y_px: Math.floor(y_px),
    grey: greyAt({ x: x_px, y: y_px }),
    logits: cell?.logits ?? null,
    row: cell?.row ?? null,
    column: cell?.column ?? null,
  };
}

/**
 * Return the middle of a cell beside that of a reading, as shares of the picture's sides; without
 * a cell there, of the cell with the most evidence. Null beyond the grid or without one.
 * @param {Picture} picture
 * @param {Reading | null} reading
 * @param {number} columns
 * @param {number} rows
 * @returns {Point | null}
 */
export function besideReading(picture, reading, columns, rows) {
  const grid = picture.film.explanation?.evidence;
  if (!grid) return null;
  let cell = strongestCell(grid, picture.options.negative ? -1 : 1);
  if (reading?.row != null && reading.column != null) {
    cell = { row: reading.row + rows, column: reading.column + columns };
  }
  if (Math.min(cell.row, cell.column) < 0) return null;
  if (cell.row >= grid.rows || cell.column >= grid.columns) return null;
  const box = picture.toPicture(cellBox(picture.film.info.crop_box, grid, cell));
  const { width, height } = picture.frame;
  return {
    x: (box.x_px + box.width_px / 2) / width,
    y: (box.y_px + box.height_px / 2) / height,
  };
}

/**
 * Return a cell of the evidence grid in the original image.
 * @param {Box} crop that the grid covers
 * @param {EvidenceGrid} grid
 * @param {{row: number, column: number}} cell
 * @returns {Box}
 */
export function cellBox(crop, grid, { row, column }) {
  const [width_px, height_px] = [crop.width_px / grid.columns, crop.height_px / grid.rows];
  const [x_px, y_px] = [crop.x_px + column * width_px, crop.y_px + row * height_px];
  return { x_px, y_px, width_px, height_px };
}

/**
 * @param {EvidenceGrid} grid
 * @param {number} sign
 */
function strongestCell({ columns, values }, sign) {
  let strongest = 0;
  for (let at = 0; at < values.length; at++) {
    if (sign * values[at] > sign * values[strongest]) strongest = at;
  }
  return { row: Math.floor(strongest / columns), column: strongest % columns };
}
