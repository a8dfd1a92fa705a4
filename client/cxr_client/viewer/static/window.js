// @ts-check
/** Window: which grey levels of a radiograph are displayed from black to white. Pure. */

/**
 * `width` grey levels with `level` in their middle.
 * @typedef {{level: number, width: number}} Window
 */

/** The window that shows each of the 256 grey levels as it is. */
export const FULL_WINDOW = Object.freeze({ level: 128, width: 256 });

/**
 * Return the nearest window that can be displayed.
 * @param {Window} window
 * @returns {Window}
 */
export function bounded({ level, width }) {
  return {
    level: Math.min(Math.max(level, 0), FULL_WINDOW.width),
    width: Math.min(Math.max(width, 2), 2 * FULL_WINDOW.width),
  };
}

/** @param {Window} window */
export function isFull({ level, width }) {
  return level === FULL_WINDOW.level && width === FULL_WINDOW.width;
}

/**
 * Return grey levels in a window as RGBA, by the linear function of DICOM (PS3.3, C.11.2.1.2).
 * @param {Uint8Array} greys
 * @param {Window} window
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export function windowed(greys, { level, width }) {
  const shown = Uint8ClampedArray.from(
    { length: 256 },
    (_, grey) => ((grey - (level - 0.5)) / (width - 1) + 0.5) * 255,
  );
  const pixels = new Uint8ClampedArray(4 * greys.length);
  for (let at = 0; at < greys.length; at++) {
    pixels[4 * at] = pixels[4 * at + 1] = pixels[4 * at + 2] = shown[greys[at]];
    pixels[4 * at + 3] = 255;
  }
  return pixels;
}
