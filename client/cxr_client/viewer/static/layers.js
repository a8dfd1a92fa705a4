// @ts-check
/** Layers: pictures that are kept as long as what they show is the same. */

export class Layers {
  /** @type {Map<string, {inputs: unknown[], layer: unknown}>} */
  #kept = new Map();

  /**
   * Return what `make` returned the last time under this name, if it was for the same inputs.
   * @template T
   * @param {string} name
   * @param {unknown[]} inputs
   * @param {() => T} make
   * @returns {T}
   */
  keep(name, inputs, make) {
    const kept = this.#kept.get(name);
    if (kept?.inputs.every((input, at) => Object.is(input, inputs[at]))) {
      return /** @type {T} */ (kept.layer);
    }
    const layer = make();
    this.#kept.set(name, { inputs, layer });
    return layer;
  }

  /** Make all of them anew when they are needed next. */
  forget() {
    this.#kept.clear();
  }
}

/**
 * Return a canvas with these pixels.
 * @param {Uint8ClampedArray<ArrayBuffer>} pixels RGBA
 * @param {number} width
 * @param {number} height
 */
export function layerOf(pixels, width, height) {
  const canvas = new OffscreenCanvas(width, height);
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
