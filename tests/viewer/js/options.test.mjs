import assert from "node:assert/strict";
import { test } from "node:test";
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
