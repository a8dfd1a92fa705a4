// @ts-check
/**
 * Heat: evidence of one finding -> heat map -> levels -> colours, equal to what the server draws
 * (`cxr_server/explanation/heatmap.py`, `render.py`, `legend.py`). Pure.
 *
 * Evidence against a finding is drawn as the map of the negated evidence, in other colours.
 */

import { colorsOf } from "./colormaps.js";
import { resizeBytes, resizeFloats } from "./resize.js";

/** A finding has a map if the evidence of one cell reaches this, in logits. */
export const MIN_EVIDENCE_LOGITS = 1;
/** No scale is narrower, in logits: weak evidence is not stretched to full colour. */
export const MIN_SCALE_LOGITS = 10;
/** Default of the fixed scale, in logits. */
export const FIXED_SCALE_LOGITS = 25;
/** Heat from which an overlay has its full opacity; below, the opacity follows the heat. */
export const OPAQUE_FROM = 0.5;

/** Heat within this share of the maximum counts as the maximum. */
const PEAK_TOLERANCE = 1e-6;
/** The colours of an overlay are shown over this grey in its legend. */
const LEGEND_GROUND = 128;

/**
 * A class evidence map in logits, row-major from the top left, as in the contract.
 * @typedef {object} EvidenceGrid
 * @property {number} rows
 * @property {number} columns
 * @property {ArrayLike<number>} values
 */

/** @typedef {"INFERNO" | "VIRIDIS" | "JET" | "GRAY"} ColorMap */
/** @typedef {"PER_MAP" | "FIXED"} HeatScale */
/** @typedef {"OVERLAY" | "HEATMAP"} RenderKind */

/**
 * Which evidence is drawn, and on what scale.
 * @typedef {object} HeatOptions
 * @property {HeatScale} scale
 * @property {number} fixedScaleLogits evidence of full heat for FIXED
 * @property {boolean} negative draw the evidence against the finding instead
 */

/**
 * How heat is coloured.
 * @typedef {object} ColorOptions
 * @property {RenderKind} kind
 * @property {ColorMap} colorMap GRAY only for HEATMAP: over a radiograph it looks like anatomy
 * @property {number} opacity of full heat in an OVERLAY, in [0, 1]
 * @property {boolean} negative
 */

/**
 * Heat of one finding on the square that the network saw. `values` [side, side] are in [0, 1],
 * which stand for `low` and `high`: evidence for the finding in logits, or against it.
 * @typedef {object} HeatMap
 * @property {Float32Array} values
 * @property {number} side
 * @property {number} low
 * @property {number} high
 * @property {number} highest the largest of the values
 * @property {{row: number, column: number} | null} peak null if there is no such evidence
 */

/**
 * Return the Grad-CAM map of one finding: the positive part of its evidence, enlarged.
 *
 * Heat of 1 is `fixedScaleLogits`; on its own scale a map is stretched to [0, 1].
 * @param {EvidenceGrid} grid
 * @param {number} side of the network's input, in pixels
 * @param {HeatOptions} options
 * @returns {HeatMap}
 */
export function heatMap(grid, side, options) {
  const full = options.scale === "FIXED" ? options.fixedScaleLogits : null;
  const sign = options.negative ? -1 : 1;
  const evidence = Float32Array.from(grid.values, (value) => sign * value);
  if (!(largest(evidence) >= MIN_EVIDENCE_LOGITS)) {
    const high = full ?? MIN_SCALE_LOGITS;
    return { values: new Float32Array(side * side), side, low: 0, high, highest: 0, peak: null };
  }
  const positive = evidence.map((value) => Math.max(value, 0));
  // The lowest cell is added after enlarging, so that rounding leaves a level map level.
  const lowest = smallest(positive);
  const above = positive.map((value) => value - lowest);
  const values = resizeFloats(above, grid.columns, grid.rows, side, side);
  const peak = peakOf(values, side);
  if (full !== null) {
    const divisor = Math.fround(full);
    for (let at = 0; at < values.length; at++) {
      values[at] = Math.min(Math.fround(Math.fround(values[at] + lowest) / divisor), 1);
    }
    return { values, side, low: 0, high: full, highest: largest(values), peak };
  }
  const start = smallest(values);
  for (let at = 0; at < values.length; at++) values[at] -= start;
  const range = Math.max(largest(values), MIN_SCALE_LOGITS);
  for (let at = 0; at < values.length; at++) values[at] /= range;
  const low = lowest + start;
  return { values, side, low, high: low + range, highest: largest(values), peak };
}

/** @param {Float32Array} values */
function largest(values) {
  let found = -Infinity;
  for (const value of values) if (value > found) found = value;
  return found;
}

/** @param {Float32Array} values */
function smallest(values) {
  let found = Infinity;
  for (const value of values) if (value < found) found = value;
  return found;
}

/**
 * Return the highest point; of several, the one nearest the middle.
 * @param {Float32Array} values [side, side]
 * @param {number} side
 */
function peakOf(values, side) {
  const least = largest(values) * (1 - PEAK_TOLERANCE);
  const middle = (side - 1) / 2;
  let nearest = Infinity;
  let peak = { row: 0, column: 0 };
  for (let at = 0; at < values.length; at++) {
    if (values[at] < least) continue;
    const row = Math.floor(at / side);
    const column = at % side;
    const distance = (row - middle) ** 2 + (column - middle) ** 2;
    if (distance < nearest) {
      nearest = distance;
      peak = { row, column };
    }
  }
  return peak;
}

/**
 * Round to the nearest integer; halves to the even one, as numpy's `rint` and Python's `round`.
 * @param {number} value
 */
export function rint(value) {
  const floor = Math.floor(value);
  const above = value - floor;
  if (above !== 0.5) return above < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Return a map's levels, 0 to 255 for heat 0 to `full`, on a square of another size.
 * @param {HeatMap} heat
 * @param {number} width
 * @param {number} height
 * @param {number} [full]
 * @returns {Uint8Array} [height, width]
 */
export function levelsOf(heat, width, height, full = 1) {
  const { values, side } = heat;
  const factor = Math.fround(255 / full);
  const levels = new Uint8Array(values.length);
  for (let at = 0; at < values.length; at++) levels[at] = rint(Math.fround(values[at] * factor));
  return resizeBytes(levels, side, side, width, height);
}

/**
 * Return the opacity of each of the 256 levels for an overlay of full opacity, in [0, 255].
 * @param {RenderKind} kind
 * @returns {Uint8Array}
 */
function opacityOfLevel(kind) {
  if (kind === "HEATMAP") return new Uint8Array(256).fill(255);
  return Uint8Array.from({ length: 256 }, (_, level) => Math.min(level / OPAQUE_FROM, 255));
}

/**
 * Colour levels: RGBA, four bytes a pixel. An overlay has the opacity of `opacity` 1 here, so that
 * the pixels stay the same when only the opacity changes.
 * @param {Uint8Array} levels
 * @param {RenderKind} kind
 * @param {ColorMap} colorMap
 * @param {boolean} negative
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export function colorize(levels, kind, colorMap, negative) {
  const rgb = colorsOf(colorMap, negative);
  const alpha = opacityOfLevel(kind);
  const palette = new Uint8Array(4 * 256);
  for (let level = 0; level < 256; level++) {
    palette.set(rgb.subarray(3 * level, 3 * level + 3), 4 * level);
    palette[4 * level + 3] = alpha[level];
  }
  const words = new Uint32Array(palette.buffer);
  const pixels = new Uint32Array(levels.length);
  for (let at = 0; at < levels.length; at++) pixels[at] = words[levels[at]];
  return new Uint8ClampedArray(pixels.buffer);
}

/**
 * Return the cell of the grid at a point of the square that it covers, or null outside.
 * @param {EvidenceGrid} grid
 * @param {number} x in [0, 1) from the left edge
 * @param {number} y in [0, 1) from the top edge
 */
export function cellAt(grid, x, y) {
  if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return null;
  const row = Math.floor(y * grid.rows);
  const column = Math.floor(x * grid.columns);
  return { row, column, logits: grid.values[row * grid.columns + column] };
}

/**
 * What the colours mean. `colors` are `rgb()` colours of the 256 levels, from no heat to full heat,
 * as they are drawn over grey; `low` and `high` are evidence in `unit`, and negative for evidence
 * against the finding; `limits` are no heat, half and full heat as the server's legend writes them.
 * @typedef {object} Legend
 * @property {string[]} colors
 * @property {number} low
 * @property {number} high
 * @property {string} unit
 * @property {[string, string, string]} limits
 * @property {boolean} hasEvidence
 */

/**
 * Return the legend of a map.
 * @param {HeatMap} heat
 * @param {HeatOptions & ColorOptions} options
 * @returns {Legend}
 */
export function legend(heat, options) {
  const rgb = colorsOf(options.colorMap, options.negative);
  const opacity = options.kind === "HEATMAP" ? 1 : options.opacity;
  const colors = Array.from(opacityOfLevel(options.kind), (alpha, level) => {
    const share = rint(alpha * opacity) / 255;
    const drawn = Array.from(rgb.subarray(3 * level, 3 * level + 3), (value) =>
      rint(value * share + LEGEND_GROUND * (1 - share)),
    );
    return `rgb(${drawn.join(" ")})`;
  });
  const sign = options.negative ? -1 : 1;
  const digits = 2 - Math.floor(Math.log10(heat.high)); // three significant ones of the highest
  const [least, middle, most] = [heat.low, (heat.low + heat.high) / 2, heat.high].map((value) => {
    const rounded = Number((rint(value * 10 ** digits) / 10 ** digits).toPrecision(6));
    return options.negative && rounded > 0 ? `\u2212${rounded}` : String(rounded);
  });
  const beyond = options.negative ? "<= " : ">= ";
  return {
    colors,
    low: sign * heat.low + 0,
    high: sign * heat.high,
    unit: "evidence (logits)",
    limits: [least, middle, options.scale === "FIXED" ? beyond + most : most],
    hasEvidence: heat.peak !== null,
  };
}
