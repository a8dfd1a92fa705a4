// @ts-check
/** Options: what a view draws. Pure. */

import { FIXED_SCALE_LOGITS } from "./heat.js";

/**
 * All of it: see `PictureOptions`, `HeatOptions`, `ColorOptions` and `Marks`.
 * @typedef {import("./picture.js").Options & import("./marks.js").Marks} ViewOptions
 */

/** The defaults of the contract, without marks. @type {Readonly<ViewOptions>} */
export const DEFAULTS = Object.freeze({
  kind: "OVERLAY",
  frame: "ORIGINAL",
  colorMap: "INFERNO",
  opacity: 0.5,
  scale: "PER_MAP",
  fixedScaleLogits: FIXED_SCALE_LOGITS,
  negative: false,
  heatOn: true,
  contours: false,
  crop: false,
  regions: false,
  peak: false,
});

/**
 * Return options of which some have changed.
 * @param {ViewOptions} options
 * @param {Partial<ViewOptions>} changes
 * @returns {ViewOptions}
 * @throws {RangeError} the colour map is GRAY over the radiograph, which the server refuses as well
 */
export function changed(options, changes) {
  const all = { ...options, ...changes };
  if (all.kind === "OVERLAY" && all.colorMap === "GRAY") {
    throw new RangeError("GRAY is for heat alone: over the radiograph it looks like anatomy");
  }
  return all;
}
