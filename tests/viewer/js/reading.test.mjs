import assert from "node:assert/strict";
import { test } from "node:test";
import { Picture } from "../../../client/cxr_client/viewer/static/picture.js";
import {
  besideReading,
  cellBox,
  readingAt,
} from "../../../client/cxr_client/viewer/static/reading.js";
import { bounded, FULL_WINDOW, windowed } from "../../../client/cxr_client/viewer/static/window.js";
import { server } from "./server.mjs";

/** A tall image of 200 x 400 whose picture has half of its pixels, and the middle as the crop. */
const film = /** @type {any} */ ({
  radiograph: { width: 100, height: 200 },
  info: {
    width_px: 200,
    height_px: 400,
    crop_box: { x_px: 0, y_px: 100, width_px: 200, height_px: 200 },
  },
  explanation: { evidence: { rows: 2, columns: 2, values: [1, -9, 3, 4] } },
});

/** @param {object} options */
function pictureOf(options = {}) {
  return new Picture(film, /** @type {any} */ ({ frame: "ORIGINAL", negative: false, ...options }));
}

/** @param {{x: number, y: number}} at */
const greyAt = ({ x, y }) => Math.floor(x) + Math.floor(y) / 1000;

test("a reading is of the original image's pixel and of the cell there", () => {
  assert.deepEqual(readingAt(pictureOf(), { x: 0.755, y: 0.5 }, greyAt), {
    x_px: 151,
    y_px: 200,
    grey: 151.2,
    logits: 4,
    row: 1,
    column: 1,
  });
});

test("a reading in the frame of the model's input is of the same pixel", () => {
  const { x_px, y_px, logits } =
    readingAt(pictureOf({ frame: "MODEL_INPUT" }), { x: 0.755, y: 0.25 }, greyAt) ?? {};
  assert.deepEqual([x_px, y_px, logits], [151, 150, -9]);
});

test("outside of what the network saw there is a grey level and no evidence", () => {
  const { grey, logits, row, column } = readingAt(pictureOf(), { x: 0.5, y: 0.1 }, greyAt) ?? {};
  assert.equal(grey, 100.04);
  assert.deepEqual([logits, row, column], [null, null, null]);
});

test("outside of the picture there is nothing to read", () => {
  for (const at of [
    { x: -0.1, y: 0.5 },
    { x: 0.5, y: 1 },
    { x: NaN, y: 0 },
  ]) {
    assert.equal(readingAt(pictureOf(), at, greyAt), null);
  }
});

test("the first step goes to the cell with the most evidence, the next to its neighbours", () => {
  const picture = pictureOf();
  const first = besideReading(picture, null, 1, 0);
  assert.deepEqual(first, { x: 0.75, y: 0.625 });
  const reading = first && readingAt(picture, first, greyAt);
  assert.deepEqual(besideReading(picture, reading, -1, 0), { x: 0.25, y: 0.625 });
  assert.deepEqual(besideReading(picture, reading, 0, -1), { x: 0.75, y: 0.375 });
  assert.equal(besideReading(picture, reading, 1, 0), null);
  assert.equal(besideReading(picture, reading, 0, 1), null);
});

test("with the evidence against shown, the first step goes to where most is against", () => {
  assert.deepEqual(besideReading(pictureOf({ negative: true }), null, 0, 1), { x: 0.75, y: 0.375 });
});

test("the cells cover the crop", () => {
  const { crop_box: crop } = film.info;
  assert.deepEqual(cellBox(crop, film.explanation.evidence, { row: 1, column: 0 }), {
    x_px: 0,
    y_px: 200,
    width_px: 100,
    height_px: 100,
  });
});

for (const { level, width, shown } of server.windows) {
  test(`greys in a window are those of DICOM: level ${level}, width ${width}`, () => {
    const greys = Uint8Array.from({ length: 256 }, (_, grey) => grey);
    const pixels = windowed(greys, { level, width });
    for (let grey = 0; grey < 256; grey++) {
      assert.ok(Math.abs(pixels[4 * grey] - shown[grey]) <= 0.5, `grey ${grey}`);
      assert.equal(pixels[4 * grey + 3], 255);
    }
  });
}

test("the full window shows each grey level as it is", () => {
  const greys = Uint8Array.from({ length: 256 }, (_, grey) => grey);
  const pixels = windowed(greys, FULL_WINDOW);
  assert.deepEqual(
    pixels.filter((_, at) => at % 4 === 1),
    Uint8ClampedArray.from(greys),
  );
});

test("a window keeps a width and stays on the grey levels", () => {
  assert.deepEqual(bounded({ level: -5, width: -5 }), { level: 0, width: 2 });
  assert.deepEqual(bounded({ level: 999, width: 999 }), { level: 256, width: 512 });
});
