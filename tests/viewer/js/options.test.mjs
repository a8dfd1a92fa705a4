import assert from "node:assert/strict";
import { test } from "node:test";
import { Layers } from "../../../client/cxr_client/viewer/static/layers.js";
import { changed, DEFAULTS } from "../../../client/cxr_client/viewer/static/options.js";

test("what is not named stays", () => {
  const options = changed(DEFAULTS, { opacity: 0.2 });
  assert.deepEqual(options, { ...DEFAULTS, opacity: 0.2 });
  assert.equal(changed(options, { colorMap: "JET" }).opacity, 0.2);
});

test("grey heat is refused over the radiograph, and drawn alone", () => {
  assert.throws(() => changed(DEFAULTS, { colorMap: "GRAY" }), RangeError);
  const alone = changed(DEFAULTS, { colorMap: "GRAY", kind: "HEATMAP" });
  assert.throws(() => changed(alone, { kind: "OVERLAY" }), RangeError);
});

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
