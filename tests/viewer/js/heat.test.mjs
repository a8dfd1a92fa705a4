import assert from "node:assert/strict";
import { test } from "node:test";
import { cellAt, heatMap, legend } from "../../../client/cxr_client/viewer/static/heat.js";
import { peakPoint, regionBoxes } from "../../../client/cxr_client/viewer/static/regions.js";
import { resizeBytes } from "../../../client/cxr_client/viewer/static/resize.js";
import { bytes, floats, largestDifference, server } from "./server.mjs";

for (const expected of server.heatMaps) {
  const map = () => heatMap(expected.evidence, expected.side, expected.options);

  test(`the map is the server's to the last bit: ${expected.name}`, () => {
    const heat = map();
    assert.equal(largestDifference(heat.values, floats(expected.values)), 0);
    assert.equal(heat.low, expected.low);
    assert.equal(heat.high, expected.high);
    assert.deepEqual(heat.peak && [heat.peak.row, heat.peak.column], expected.peak);
  });

  test(`peak and regions are the server's: ${expected.name}`, () => {
    const heat = map();
    const peak = peakPoint(heat, expected.crop);
    assert.deepEqual(peak && [peak.x_px, peak.y_px], expected.peakPoint);
    assert.deepEqual(regionBoxes(heat, expected.crop), expected.regions);
  });

  test(`the legend has the server's limits: ${expected.name}`, () => {
    const { negative } = expected.options;
    const options = { ...expected.options, kind: "OVERLAY", colorMap: "INFERNO", opacity: 1 };
    const { limits, low, high, unit, hasEvidence } = legend(map(), options);
    const mirrored = expected.limits.map((/** @type {string} */ limit) =>
      limit
        .replace(">=", "<=")
        .replace(/[\d.]+$/, (value) => (Number(value) ? `\u2212${value}` : value)),
    );
    assert.deepEqual(limits, negative ? mirrored : expected.limits);
    assert.equal(negative ? 0 - low : low, expected.low);
    assert.equal(negative ? 0 - high : high, expected.high);
    assert.equal(unit, expected.unit);
    assert.equal(hasEvidence, expected.peak !== null);
  });
}

for (const { kind, colorMap, opacity, rgb } of server.colorsOverGrey) {
  test(`the legend has the colours as drawn over grey: ${colorMap}, ${opacity}`, () => {
    const options = { scale: "PER_MAP", fixedScaleLogits: 25, negative: false };
    const grid = { rows: 1, columns: 1, values: [20] };
    const { colors } = legend(heatMap(grid, 8, options), { ...options, kind, colorMap, opacity });
    const drawn = colors.flatMap((color) => color.match(/\d+/g)?.map(Number) ?? []);
    assert.ok(largestDifference(drawn, bytes(rgb)) <= 1);
  });
}

for (const { from, width, height, to, levels } of server.resized) {
  test(`levels are resized as Pillow does: ${width} x ${height} to ${to.join(" x ")}`, () => {
    const resized = resizeBytes(bytes(from), width, height, to[0], to[1]);
    assert.equal(largestDifference(resized, bytes(levels)), 0);
  });
}

test("a point has the evidence of the cell that covers it, and none outside of the grid", () => {
  const grid = { rows: 2, columns: 3, values: [0, 1, 2, 3, 4, 5] };
  assert.deepEqual(cellAt(grid, 0, 0), { row: 0, column: 0, logits: 0 });
  assert.deepEqual(cellAt(grid, 0.34, 0.49), { row: 0, column: 1, logits: 1 });
  assert.deepEqual(cellAt(grid, 0.99, 0.5), { row: 1, column: 2, logits: 5 });
  for (const [x, y] of [
    [-0.01, 0.5],
    [1, 0.5],
    [0.5, -0.01],
    [0.5, 1],
    [NaN, 0.5],
  ]) {
    assert.equal(cellAt(grid, x, y), null);
  }
});
