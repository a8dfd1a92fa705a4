/** What the server computes and draws, from the file that the test in Python wrote. */

import { readFileSync } from "node:fs";

export const server = JSON.parse(readFileSync(process.env.SERVER_FILE, "utf8"));

/** @param {string} text */
export function bytes(text) {
  return new Uint8Array(Buffer.from(text, "base64"));
}

/** @param {string} text */
export function floats(text) {
  return new Float32Array(bytes(text).buffer);
}

/**
 * @param {ArrayLike<number>} one
 * @param {ArrayLike<number>} other
 */
export function largestDifference(one, other) {
  if (one.length !== other.length) return Infinity;
  let found = 0;
  for (let at = 0; at < one.length; at++) {
    const difference = Math.abs(one[at] - other[at]);
    if (!(difference <= found)) found = difference;
  }
  return found;
}
