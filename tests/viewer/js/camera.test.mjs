import assert from "node:assert/strict";
import { test } from "node:test";
import { Camera, MAX_ZOOM } from "../../../client/cxr_client/viewer/static/camera.js";

const picture = { width: 1000, height: 500 };
const canvas = { width: 400, height: 400 };

/**
 * @param {Camera} camera
 * @param {{x: number, y: number}} at
 */
function pointAt(camera, at) {
  const { scale, left, top } = camera.placement(picture, canvas);
  return [(at.x - left) / scale, (at.y - top) / scale];
}

/** @param {number[]} one @param {number[]} other */
function assertClose(one, other) {
  one.forEach((value, at) => {
    assert.ok(Math.abs(value - other[at]) < 1e-9, `${one} is not ${other}`);
  });
}

test("at fit, the whole picture is in the middle of the canvas", () => {
  const { scale, left, top } = new Camera().placement(picture, canvas);
  assert.deepEqual([scale, left, top], [0.4, 0, 100]);
});

test("the point under the pointer stays there while zooming in and out", () => {
  const camera = new Camera();
  const at = { x: 130, y: 210 };
  camera.zoomAt(4, at, picture, canvas);
  const before = pointAt(camera, at);
  camera.zoomAt(1.7, at, picture, canvas);
  assertClose(pointAt(camera, at), before);
  camera.zoomAt(0.8, at, picture, canvas);
  assertClose(pointAt(camera, at), before);
});

test("zoom ends at fit and at its maximum", () => {
  const camera = new Camera();
  camera.zoomAt(0.1, { x: 0, y: 0 }, picture, canvas);
  assert.equal(camera.zoom, 1);
  camera.zoomAt(1e9, { x: 0, y: 0 }, picture, canvas);
  assert.equal(camera.zoom, MAX_ZOOM);
});

test("zooming out ends with the picture in the middle, wherever it was zoomed in", () => {
  const camera = new Camera();
  camera.zoomAt(8, { x: 399, y: 150 }, picture, canvas);
  camera.zoomAt(1e-3, { x: 5, y: 5 }, picture, canvas);
  assertClose(Object.values(camera.placement(picture, canvas)), [0.4, 0, 100]);
});

test("the picture follows the pointer while panning, and its edges stay outside of the canvas", () => {
  const camera = new Camera();
  camera.zoomAt(4, { x: 200, y: 200 }, picture, canvas);
  const before = pointAt(camera, { x: 200, y: 200 });
  camera.panBy(30, -20, picture, canvas);
  assertClose(pointAt(camera, { x: 230, y: 180 }), before);
  camera.panBy(1e5, 1e5, picture, canvas);
  assertClose(pointAt(camera, { x: 0, y: 0 }), [0, 0]);
  // What was beyond the edge has not to be moved back first.
  camera.panBy(-10, -10, picture, canvas);
  assert.ok(pointAt(camera, { x: 0, y: 0 })[0] > 0);
});

test("at fit there is nothing to pan", () => {
  const camera = new Camera();
  camera.panBy(50, 50, picture, canvas);
  assertClose(Object.values(camera.placement(picture, canvas)), [0.4, 0, 100]);
});

test("every change is told, and views of other sizes show the same part", () => {
  const camera = new Camera();
  let told = 0;
  camera.listeners.add(() => told++);
  camera.zoomAt(4, { x: 100, y: 200 }, picture, canvas);
  camera.panBy(5, 5, picture, canvas);
  camera.pointAt({ x: 0.5, y: 0.5 });
  camera.fit();
  assert.equal(told, 4);
  camera.zoomAt(4, { x: 100, y: 200 }, picture, canvas);
  const [one, other] = [1, 3].map((factor) => {
    const size = { width: factor * canvas.width, height: factor * canvas.height };
    const { scale, left, top } = camera.placement(picture, size);
    return [(size.width / 2 - left) / scale, (size.height / 2 - top) / scale];
  });
  assertClose(one, other);
});

test("a pointer that is followed is asked for its point, until another point is read", () => {
  const camera = new Camera();
  camera.follow(() => ({ x: camera.zoom, y: 0 }));
  camera.zoomAt(4, { x: 200, y: 200 }, picture, canvas);
  assert.deepEqual(camera.pointer, { x: 4, y: 0 });
  camera.pointAt({ x: 0.5, y: 0.5 });
  camera.fit();
  assert.deepEqual(camera.pointer, { x: 0.5, y: 0.5 });
});
