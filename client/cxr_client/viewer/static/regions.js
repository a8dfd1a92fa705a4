// @ts-check
/**
 * Regions: heat map -> its peak, its regions and their outlines, equal to the server's
 * `cxr_server/explanation/regions.py` and `contours.py`. Pure.
 */

import { levelsOf } from "./heat.js";

/** Share of a map's highest value down to which a region reaches. */
export const REGION_HEIGHT = 0.5;

/** @typedef {import("./heat.js").HeatMap} HeatMap */
/** @typedef {import("./frame.js").Box} Box */

/**
 * Return the highest point of a map in pixels of the original image; null without any heat.
 * @param {HeatMap} heat that covers `crop`
 * @param {Box} crop
 */
export function peakPoint(heat, crop) {
  if (heat.peak === null || !(heat.highest > 0)) return null;
  return {
    x_px: crop.x_px + ((heat.peak.column + 0.5) * crop.width_px) / heat.side,
    y_px: crop.y_px + ((heat.peak.row + 0.5) * crop.height_px) / heat.side,
  };
}

/**
 * Return the boxes around the 8-connected regions of a map in the original image, largest region
 * first. A region ends where the map falls below `REGION_HEIGHT` of its highest value.
 * @param {HeatMap} heat that covers `crop`
 * @param {Box} crop
 * @returns {Box[]}
 */
export function regionBoxes(heat, crop) {
  const { values, side } = heat;
  const threshold = REGION_HEIGHT * heat.highest;
  if (!(threshold > 0)) return [];
  const isSeen = new Uint8Array(values.length);
  const found = [];
  for (let first = 0; first < values.length; first++) {
    if (isSeen[first] || values[first] < threshold) continue;
    isSeen[first] = 1;
    const open = [first];
    let [area, top, bottom, left, right] = [0, side, 0, side, 0];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const row = Math.floor(at / side);
      const column = at % side;
      area++;
      top = Math.min(top, row);
      bottom = Math.max(bottom, row + 1);
      left = Math.min(left, column);
      right = Math.max(right, column + 1);
      for (let y = Math.max(0, row - 1); y <= Math.min(side - 1, row + 1); y++) {
        for (let x = Math.max(0, column - 1); x <= Math.min(side - 1, column + 1); x++) {
          const next = y * side + x;
          if (isSeen[next] || values[next] < threshold) continue;
          isSeen[next] = 1;
          open.push(next);
        }
      }
    }
    found.push({ area, box: boxIn(crop, side, left, top, right, bottom) });
  }
  return found.sort((one, other) => other.area - one.area).map(({ box }) => box);
}

/**
 * Return a box of a map's pixels in the original image, rounded outwards to whole pixels.
 * @param {Box} crop
 * @param {number} side
 * @param {number} left
 * @param {number} top
 * @param {number} right
 * @param {number} bottom
 * @returns {Box}
 */
function boxIn(crop, side, left, top, right, bottom) {
  const x_px = Math.floor((left * crop.width_px) / side);
  const y_px = Math.floor((top * crop.height_px) / side);
  return {
    x_px: crop.x_px + x_px,
    y_px: crop.y_px + y_px,
    width_px: Math.ceil((right * crop.width_px) / side) - x_px,
    height_px: Math.ceil((bottom * crop.height_px) / side) - y_px,
  };
}

/**
 * Return the outlines of a map's regions as RGBA: a white line inside of them and a black one
 * around them, which can be seen on dark and bright ground; transparent elsewhere.
 * @param {HeatMap} heat
 * @param {number} width of what the network saw in the picture, in pixels
 * @param {number} height
 * @param {number} line width of each line, in pixels
 * @returns {Uint8ClampedArray<ArrayBuffer> | null} null without any heat
 */
export function contours(heat, width, height, line) {
  if (!(heat.highest > 0)) return null;
  const isInside = levelsOf(heat, width, height, heat.highest);
  for (let at = 0; at < isInside.length; at++) {
    isInside[at] = isInside[at] >= 255 * REGION_HEIGHT ? 1 : 0;
  }
  const [halo, white] = new Uint32Array(Uint8Array.of(0, 0, 0, 255, 255, 255, 255, 255).buffer);
  const pixels = new Uint32Array(width * height);
  /** Pixels of the lines that were added last. @type {number[]} */
  let added = [];
  /** @param {number} at */
  const add = (at) => {
    if (pixels[at]) return;
    pixels[at] = isInside[at] ? white : halo;
    added.push(at);
  };
  for (let row = 0; row < height; row++) {
    for (let at = row * width; at < (row + 1) * width; at++) {
      const below = at + width;
      if (at + 1 < (row + 1) * width && isInside[at] !== isInside[at + 1]) {
        add(at);
        add(at + 1);
      }
      if (row + 1 < height && isInside[at] !== isInside[below]) {
        add(at);
        add(below);
      }
    }
  }
  // Each line grows away from the border, along rows and columns.
  for (let width_px = 1; width_px < line; width_px++) {
    const border = added;
    added = [];
    for (const at of border) {
      const column = at % width;
      const sides = [
        at - width,
        at + width,
        column > 0 ? at - 1 : -1,
        column < width - 1 ? at + 1 : -1,
      ];
      for (const next of sides) {
        if (next >= 0 && next < pixels.length && isInside[next] === isInside[at]) add(next);
      }
    }
  }
  return new Uint8ClampedArray(pixels.buffer);
}

/**
 * Return the width of a contour's lines on a picture of this size, in pixels.
 * @param {number} width
 * @param {number} height
 */
export function contourLine(width, height) {
  return Math.max(1, Math.floor(Math.max(width, height) / 400));
}
