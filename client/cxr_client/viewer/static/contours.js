// @ts-check
/**
 * Contours: heat map -> outlines of its regions, as pixels, equal to the server's
 * `cxr_server/explanation/contours.py`, and as lines, which stay smooth at any zoom. Pure.
 */

import { levelsOf } from "./heat.js";
import { REGION_HEIGHT } from "./regions.js";

/** @typedef {import("./heat.js").HeatMap} HeatMap */
/** @typedef {[number, number]} Point x and y as shares of the square that the network saw */

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

/**
 * Return the outlines of a map's regions as line segments, by marching squares between the middles
 * of the map's pixels.
 * @param {HeatMap} heat
 * @returns {[Point, Point][]}
 */
export function contourSegments({ values, side, highest }) {
  const height = REGION_HEIGHT * highest;
  /** @type {[Point, Point][]} */
  const segments = [];
  if (!(height > 0)) return segments;
  for (let row = 0; row < side - 1; row++) {
    for (let column = 0; column < side - 1; column++) {
      const at = row * side + column;
      const [a, b, c, d] = [values[at], values[at + 1], values[at + side], values[at + side + 1]];
      const isInside = a >= height;
      if (b >= height === isInside && c >= height === isInside && d >= height === isInside)
        continue;
      /** @type {(x: number, y: number) => Point} */
      const point = (x, y) => [(column + 0.5 + x) / side, (row + 0.5 + y) / side];
      /** @type {(from: number, to: number) => number | null} */
      const crossing = (from, to) =>
        from >= height === to >= height ? null : (height - from) / (to - from);
      const [above, right, below, left] = [
        crossing(a, b),
        crossing(b, d),
        crossing(c, d),
        crossing(a, c),
      ];
      const found = [
        above === null ? null : point(above, 0),
        right === null ? null : point(1, right),
        below === null ? null : point(below, 1),
        left === null ? null : point(0, left),
      ].filter((each) => each !== null);
      // On a saddle, the middle tells which corners belong together.
      if (found.length === 4 && (a + b + c + d) / 4 >= height !== isInside) {
        found.unshift(/** @type {Point} */ (found.pop()));
      }
      for (let pair = 0; pair < found.length; pair += 2) {
        segments.push([found[pair], found[pair + 1]]);
      }
    }
  }
  return segments;
}
