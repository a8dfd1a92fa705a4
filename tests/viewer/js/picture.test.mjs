import assert from "node:assert/strict";
import { test } from "node:test";
import {
  contourLine,
  contourSegments,
  contours,
} from "../../../client/cxr_client/viewer/static/contours.js";
import {
  EDGE_GREY,
  edgeOf,
  frameOf,
  HATCH_OPACITY,
  hasUnseen,
  hatching,
} from "../../../client/cxr_client/viewer/static/frame.js";
import { colorize, heatMap, levelsOf } from "../../../client/cxr_client/viewer/static/heat.js";
import { bytes, largestDifference, server } from "./server.mjs";

/** Pixels that layers are put over, as a canvas does it. */
class Surface {
  /** @param {number} width @param {number} height @param {Uint8Array} greys */
  constructor(width, height, greys) {
    this.width = width;
    this.height = height;
    this.rgb = Float64Array.from(
      { length: 3 * width * height },
      (_, at) => greys[Math.floor(at / 3)],
    );
  }

  /**
   * @param {ArrayLike<number>} rgba
   * @param {{x_px: number, y_px: number, width_px: number, height_px: number}} box
   * @param {number} [opacity]
   */
  put(rgba, { x_px, y_px, width_px, height_px }, opacity = 1) {
    assert.equal(rgba.length, 4 * width_px * height_px);
    for (let at = 0; at < width_px * height_px; at++) {
      const alpha = (rgba[4 * at + 3] / 255) * opacity;
      const target = (y_px + Math.floor(at / width_px)) * this.width + x_px + (at % width_px);
      for (let channel = 0; channel < 3; channel++) {
        const under = this.rgb[3 * target + channel];
        this.rgb[3 * target + channel] = under + (rgba[4 * at + channel] - under) * alpha;
      }
    }
  }
}

for (const {
  name,
  frame: kindOfFrame,
  width,
  height,
  side,
  evidence,
  info,
  ground,
  drawn,
} of server.pictures) {
  for (const { rgb, contours: hasContours, ...options } of drawn) {
    test(`the picture is the server's within 2 of 255: ${name}, ${JSON.stringify(options)}, ${hasContours}`, () => {
      const all = { x_px: 0, y_px: 0, width_px: width, height_px: height };
      const frame =
        kindOfFrame === "ORIGINAL" ? frameOf(width, height, info) : { width, height, seen: all };
      const { seen } = frame;
      const isAlone = options.kind === "HEATMAP";
      const strength = isAlone ? 1 : options.opacity;
      const surface = new Surface(
        width,
        height,
        isAlone ? new Uint8Array(width * height) : bytes(ground),
      );
      if (hasUnseen(frame) && strength > 0) {
        surface.put(hatching(frame), all, strength * HATCH_OPACITY);
        for (const box of edgeOf(frame)) {
          const edge = Array(box.width_px * box.height_px).fill([
            EDGE_GREY,
            EDGE_GREY,
            EDGE_GREY,
            255,
          ]);
          surface.put(edge.flat(), box);
        }
      }
      const heat = heatMap(evidence, side, options);
      const levels = levelsOf(heat, seen.width_px, seen.height_px);
      surface.put(colorize(levels, options.kind, options.colorMap, false), seen, strength);
      if (hasContours) {
        const outlines = contours(heat, seen.width_px, seen.height_px, contourLine(width, height));
        assert.ok(outlines);
        surface.put(outlines, seen);
      }
      assert.ok(largestDifference(surface.rgb, bytes(rgb)) <= 2);
    });
  }
}

test("contour lines lie on the border of the contour pixels", () => {
  const { evidence } = server.pictures[0];
  const options = { scale: "PER_MAP", fixedScaleLogits: 25, negative: false };
  const side = 96;
  const heat = heatMap(evidence, side, /** @type {any} */ (options));
  const pixels = contours(heat, side, side, 1);
  const segments = contourSegments(heat);
  assert.ok(pixels && segments.length > 20);
  const onLine = new Set();
  for (const ends of segments) {
    for (const [x, y] of ends) onLine.add(Math.floor(y * side) * side + Math.floor(x * side));
  }
  for (const at of onLine) assert.equal(pixels[4 * at + 3], 255, `pixel ${at} has no contour`);
  let outlined = 0;
  for (let at = 3; at < pixels.length; at += 4) outlined += Number(pixels[at] > 0);
  assert.ok(outlined < 3 * onLine.size);
});

test("no contour is drawn without evidence", () => {
  const grid = { rows: 7, columns: 7, values: Array(49).fill(0.5) };
  const options = { scale: "PER_MAP", fixedScaleLogits: 25, negative: false };
  const heat = heatMap(grid, 32, /** @type {any} */ (options));
  assert.equal(contours(heat, 32, 32, 1), null);
  assert.deepEqual(contourSegments(heat), []);
});
