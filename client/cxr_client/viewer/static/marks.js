// @ts-check
/**
 * Marks: crop box, contours, regions, peak and the cell under the pointer, drawn over a picture in
 * lines of the same width at any zoom: white within black, which can be seen on any ground.
 */

import { contourSegments } from "./contours.js";
import { cellBox } from "./reading.js";
import { peakPoint, regionBoxes } from "./regions.js";

/** @typedef {import("./drawing.js").Context} Context */
/** @typedef {import("./picture.js").Picture} Picture */
/** @typedef {import("./frame.js").Box} Box */

/**
 * Which marks are drawn.
 * @typedef {object} Marks
 * @property {boolean} crop
 * @property {boolean} contours
 * @property {boolean} regions
 * @property {boolean} peak
 */

/** Radius of the ring around the peak, and where its hairs begin and end, in lines. */
const [RING, HAIR_START, HAIR_END] = [7, 4, 12];
/** Dashes of the crop box, in lines. */
const CROP_DASHES = [8, 5];
/** Length of the corners of a cell, as a share of its sides. */
const CORNER = 0.2;

/**
 * Draw the marks.
 * @param {Context} context whose pixels are those of the canvas
 * @param {Picture} picture
 * @param {import("./camera.js").Placement} placement of the picture on the canvas
 * @param {Marks & {heatOn: boolean, reading?: import("./reading.js").Reading | null}} marks
 * @param {number} line width of a line, in pixels
 */
export function drawMarks(context, picture, placement, marks, line) {
  const { info, explanation } = picture.film;
  /** @param {Box} box of the original image */
  const onCanvas = (box) => {
    const { x_px, y_px, width_px, height_px } = picture.toPicture(box);
    const { scale, left, top } = placement;
    return new DOMMatrix([
      width_px * scale,
      0,
      0,
      height_px * scale,
      left + x_px * scale,
      top + y_px * scale,
    ]);
  };
  /** @param {Box} box @param {Path2D} path in shares of the box @param {number[]} [dashes] */
  const draw = (box, path, dashes = []) => {
    const placed = new Path2D();
    placed.addPath(path, onCanvas(box));
    stroke(context, placed, line, dashes);
  };
  const { heat } = picture;
  if (marks.crop) draw(info.crop_box, outline(), CROP_DASHES);
  if (heat && marks.heatOn) {
    if (marks.contours) draw(info.crop_box, contourPath(heat));
    if (marks.regions) for (const box of regionBoxes(heat, info.crop_box)) draw(box, outline());
    const peak = marks.peak && peakPoint(heat, info.crop_box);
    if (peak) {
      const { e, f } = onCanvas({ ...peak, width_px: 0, height_px: 0 });
      stroke(context, crossHairs(e, f, line), line, []);
    }
  }
  const { row = null, column = null } = marks.reading ?? {};
  if (row !== null && column !== null && explanation) {
    draw(cellBox(info.crop_box, explanation.evidence, { row, column }), corners());
  }
}

/** Contours by the heat map that they are of. @type {WeakMap<object, Path2D>} */
const contourPaths = new WeakMap();

/** @param {import("./heat.js").HeatMap} heat */
function contourPath(heat) {
  const kept = contourPaths.get(heat);
  if (kept) return kept;
  const path = new Path2D();
  for (const [from, to] of contourSegments(heat)) {
    path.moveTo(...from);
    path.lineTo(...to);
  }
  contourPaths.set(heat, path);
  return path;
}

function outline() {
  const path = new Path2D();
  path.rect(0, 0, 1, 1);
  return path;
}

function corners() {
  const path = new Path2D();
  for (const x of [0, 1]) {
    for (const y of [0, 1]) {
      path.moveTo(x, y + CORNER * (1 - 2 * y));
      path.lineTo(x, y);
      path.lineTo(x + CORNER * (1 - 2 * x), y);
    }
  }
  return path;
}

/** @param {number} x @param {number} y @param {number} line */
function crossHairs(x, y, line) {
  const path = new Path2D();
  path.arc(x, y, RING * line, 0, 2 * Math.PI);
  for (let quarter = 0; quarter < 4; quarter++) {
    const [across, down] = [Math.cos((quarter * Math.PI) / 2), Math.sin((quarter * Math.PI) / 2)];
    path.moveTo(x + across * HAIR_START * line, y + down * HAIR_START * line);
    path.lineTo(x + across * HAIR_END * line, y + down * HAIR_END * line);
  }
  return path;
}

/**
 * @param {Context} context
 * @param {Path2D} path
 * @param {number} line
 * @param {number[]} dashes in lines; none: solid
 */
function stroke(context, path, line, dashes) {
  context.lineCap = "round";
  context.setLineDash([]);
  context.lineWidth = 3 * line;
  context.strokeStyle = "rgb(0 0 0 / 0.6)";
  context.stroke(path);
  context.setLineDash(dashes.map((length) => length * line));
  context.lineWidth = 1.25 * line;
  context.strokeStyle = "white";
  context.stroke(path);
}
