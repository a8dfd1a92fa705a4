// @ts-check
/** Layers: canvases, and what else is made of a picture, kept as long as it would be the same. */

export class Layers {
  /** By name, oldest first. @type {Map<string, {inputs: unknown[], layer: unknown}[]>} */
  #kept = new Map();

  /**
   * Return what `make` returned under this name for the same inputs, as long as it is among the
   * last `most`. Else, `make` is given the one that it replaces, to be used again.
   * @template T
   * @param {string} name
   * @param {unknown[]} inputs
   * @param {(before: T | undefined) => T} make
   * @param {number} [most]
   * @returns {T}
   */
  keep(name, inputs, make, most = 1) {
    const kept = this.#kept.get(name) ?? [];
    this.#kept.set(name, kept);
    const found = kept.find((each) =>
      each.inputs.every((input, at) => Object.is(input, inputs[at])),
    );
    if (found) return /** @type {T} */ (found.layer);
    const before = kept.length === most ? kept.shift()?.layer : undefined;
    const layer = make(/** @type {T | undefined} */ (before));
    kept.push({ inputs, layer });
    return layer;
  }

  /** Make all of them anew when they are needed next. */
  forget() {
    this.#kept.clear();
  }
}

/**
 * Return a canvas of this size: the one before, if it has it.
 * @param {number} width
 * @param {number} height
 * @param {OffscreenCanvas} [before]
 */
export function canvasOf(width, height, before) {
  if (before?.width === width && before.height === height) return before;
  return new OffscreenCanvas(width, height);
}

/**
 * Return a canvas with these pixels.
 * @param {Uint8ClampedArray<ArrayBuffer>} pixels RGBA
 * @param {number} width
 * @param {number} height
 * @param {OffscreenCanvas} [before]
 */
export function layerOf(pixels, width, height, before) {
  const canvas = canvasOf(width, height, before);
  contextOf(canvas).putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}

/**
 * @param {OffscreenCanvas} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
export function contextOf(canvas, settings) {
  const context = canvas.getContext("2d", settings);
  if (context === null) throw new Error("the browser offers no 2D canvas");
  return context;
}
