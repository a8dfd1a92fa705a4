// @ts-check
/**
 * Marks: crop box, regions, peak and the cell under the pointer, drawn over a picture in lines of
 * the same width at any zoom: white within black, which can be seen on any ground.
 */

import { peakPoint, regionBoxes } from "./regions.js";

/** @typedef {import("./picture.js").Context} Context */
/** @typedef {import("./picture.js").Picture} Picture */
/** @typedef {import("./frame.js").Box} Box */

/**
 * Which marks are drawn.
 * @typedef {object} Marks
 * @property {boolean} crop
 * @property {boolean} regions
 * @property {boolean} peak
 */

/** @typedef {{row: number | null, column: number | null}} Cell */

/** Radius of the ring around the peak, in lines. */
const PEAK_RADIUS = 7;
/** Dashes of the crop box and of a cell, in lines. */
const [CROP_DASHES, CELL_DASHES] = [
  [8, 5],
  [2, 3],
];

/**
 * Draw the marks.
 * @param {Context} context whose pixels are those of the canvas
 * @param {Picture} picture
 * @param {import("./camera.js").Placement} placement of the picture on the canvas
 * @param {Marks & {heatOn: boolean, cell?: Cell | null}} marks
 * @param {number} line width of a line, in pixels
 */
export function drawMarks(context, picture, placement, marks, line) {
  const { info, explanation } = picture.film;
  /** @param {Box} box of the original image */
  const outline = (box, dashes = /** @type {number[]} */ ([])) => {
    const { x_px, y_px, width_px, height_px } = picture.toPicture(box);
    const { scale, left, top } = placement;
    const path = new Path2D();
    path.rect(left + x_px * scale, top + y_px * scale, width_px * scale, height_px * scale);
    stroke(context, path, line, dashes);
  };
  if (marks.crop) outline(info.crop_box, CROP_DASHES);
  if (marks.cell && explanation) {
    const box = cellBox(info.crop_box, explanation.evidence, marks.cell);
    if (box) outline(box, CELL_DASHES);
  }
  const { heat } = picture;
  if (!heat || !marks.heatOn) return;
  if (marks.regions) for (const box of regionBoxes(heat, info.crop_box)) outline(box);
  const peak = marks.peak && peakPoint(heat, info.crop_box);
  if (peak) {
    const at = picture.toPicture({ ...peak, width_px: 0, height_px: 0 });
    const x = placement.left + at.x_px * placement.scale;
    const y = placement.top + at.y_px * placement.scale;
    const path = new Path2D();
    path.arc(x, y, PEAK_RADIUS * line, 0, 2 * Math.PI);
    for (const [across, down] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      path.moveTo(x + across * (PEAK_RADIUS - 3) * line, y + down * (PEAK_RADIUS - 3) * line);
      path.lineTo(x + across * (PEAK_RADIUS + 5) * line, y + down * (PEAK_RADIUS + 5) * line);
    }
    stroke(context, path, line, []);
  }
}

/**
 * Return a cell of the evidence grid in the original image.
 * @param {Box} crop that the grid covers
 * @param {import("./heat.js").EvidenceGrid} grid
 * @param {Cell} cell
 * @returns {Box | null} null for no cell
 */
export function cellBox(crop, grid, { row, column }) {
  if (row === null || column === null) return null;
  const [width_px, height_px] = [crop.width_px / grid.columns, crop.height_px / grid.rows];
  const [x_px, y_px] = [crop.x_px + column * width_px, crop.y_px + row * height_px];
  return { x_px, y_px, width_px, height_px };
}

/**
 * @param {Context} context
 * @param {Path2D} path
 * @param {number} line
 * @param {number[]} dashes in lines; none: solid
 */
function stroke(context, path, line, dashes) {
  context.setLineDash([]);
  context.lineWidth = 3 * line;
  context.strokeStyle = "rgb(0 0 0 / 0.6)";
  context.stroke(path);
  context.setLineDash(dashes.map((length) => length * line));
  context.lineWidth = 1.25 * line;
  context.strokeStyle = "white";
  context.stroke(path);
}
