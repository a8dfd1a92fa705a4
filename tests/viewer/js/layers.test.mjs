import assert from "node:assert/strict";
import { test } from "node:test";
import { Layers } from "../../../client/cxr_client/viewer/static/layers.js";

test("a layer is made once for the same inputs, again for others, and again once forgotten", () => {
  const layers = new Layers();
  let made = 0;
  const make = () => ++made;
  const evidence = {};
  assert.equal(layers.keep("heat", [evidence, 1], make), 1);
  assert.equal(layers.keep("heat", [evidence, 1], make), 1);
  assert.equal(layers.keep("hatch", [evidence, 1], make), 2);
  assert.equal(layers.keep("heat", [{}, 1], make), 3);
  layers.forget();
  assert.equal(layers.keep("hatch", [evidence, 1], make), 4);
});

test("as many layers of a name are kept as are asked for, and the oldest is used again", () => {
  const layers = new Layers();
  const make = (/** @type {string | undefined} */ before) => `${before ?? "new"}+`;
  const keep = (/** @type {number} */ input) => layers.keep("levels", [input], make, 2);
  assert.deepEqual([1, 2, 1, 2].map(keep), ["new+", "new+", "new+", "new+"]);
  assert.equal(keep(3), "new++");
  assert.equal(keep(2), "new+");
  assert.equal(keep(1), "new++");
});
