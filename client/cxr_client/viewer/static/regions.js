// @ts-check
/**
 * Regions: heat map -> its peak and the boxes around its regions, equal to the server's
 * `cxr_server/explanation/regions.py`. Pure.
 */

/** Share of a map's highest value down to which a region reaches. */
export const REGION_HEIGHT = 0.5;

/** @typedef {import("./heat.js").HeatMap} HeatMap */
/** @typedef {import("./frame.js").Box} Box */

/**
 * Return the highest point of a map in pixels of the original image; null without any heat.
 * @param {HeatMap} heat that covers `crop`
 * @param {Box} crop
 */
export function peakPoint(heat, crop) {
  if (heat.peak === null || !(heat.highest > 0)) return null;
  return {
    x_px: crop.x_px + ((heat.peak.column + 0.5) * crop.width_px) / heat.side,
    y_px: crop.y_px + ((heat.peak.row + 0.5) * crop.height_px) / heat.side,
  };
}

/**
 * Return the boxes around the 8-connected regions of a map in the original image, largest region
 * first. A region ends where the map falls below `REGION_HEIGHT` of its highest value.
 * @param {HeatMap} heat that covers `crop`
 * @param {Box} crop
 * @returns {Box[]}
 */
export function regionBoxes(heat, crop) {
  const { values, side } = heat;
  const threshold = REGION_HEIGHT * heat.highest;
  if (!(threshold > 0)) return [];
  const isSeen = new Uint8Array(values.length);
  const found = [];
  for (let first = 0; first < values.length; first++) {
    if (isSeen[first] || values[first] < threshold) continue;
    isSeen[first] = 1;
    const open = [first];
    let [area, top, bottom, left, right] = [0, side, 0, side, 0];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const row = Math.floor(at / side);
      const column = at % side;
      area++;
      top = Math.min(top, row);
      bottom = Math.max(bottom, row + 1);
      left = Math.min(left, column);
      right = Math.max(right, column + 1);
      for (let y = Math.max(0, row - 1); y <= Math.min(side - 1, row + 1); y++) {
        for (let x = Math.max(0, column - 1); x <= Math.min(side - 1, column + 1); x++) {
          const next = y * side + x;
          if (isSeen[next] || values[next] < threshold) continue;
          isSeen[next] = 1;
          open.push(next);
        }
      }
    }
    found.push({ area, box: boxIn(crop, side, left, top, right, bottom) });
  }
  return found.sort((one, other) => other.area - one.area).map(({ box }) => box);
}

/**
 * Return a box of a map's pixels in the original image, rounded outwards to whole pixels.
 * @param {Box} crop
 * @param {number} side
 * @param {number} left
 * @param {number} top
 * @param {number} right
 * @param {number} bottom
 * @returns {Box}
 */
function boxIn(crop, side, left, top, right, bottom) {
  const x_px = Math.floor((left * crop.width_px) / side);
  const y_px = Math.floor((top * crop.height_px) / side);
  return {
    x_px: crop.x_px + x_px,
    y_px: crop.y_px + y_px,
    width_px: Math.ceil((right * crop.width_px) / side) - x_px,
    height_px: Math.ceil((bottom * crop.height_px) / side) - y_px,
  };
}
