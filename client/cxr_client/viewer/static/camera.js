// @ts-check
/**
 * Camera: which part of a picture a canvas shows, and the point that is read there. Places are
 * shares of the picture's width and height, so that views of several sizes can share a camera.
 */

/** Largest zoom, where 1 fits the picture into the canvas. */
export const MAX_ZOOM = 32;

/** @typedef {{width: number, height: number}} Size */
/** @typedef {{x: number, y: number}} Point */

/**
 * A picture on a canvas: a pixel of the picture has `scale` pixels there, from `left` and `top`.
 * @typedef {{scale: number, left: number, top: number}} Placement
 */

export class Camera {
  /** Called after each change. @type {Set<() => void>} */
  listeners = new Set();
  /** What each view shows. @type {Map<object, import("./picture.js").Picture>} */
  shown = new Map();
  zoom = 1;
  /** The point of the picture in the middle of the canvas. @type {Point} */
  center = { x: 0.5, y: 0.5 };
  /** Tells which point is read now. @type {() => Point | null} */
  #read = () => null;

  /**
   * Return where a picture lies on a canvas. It is centred along a side on which it is the smaller
   * one, and covers the canvas along the other.
   * @param {Size} picture
   * @param {Size} canvas
   * @returns {Placement}
   */
  placement(picture, canvas) {
    const scale =
      this.zoom * Math.min(canvas.width / picture.width, canvas.height / picture.height);
    return {
      scale,
      left: start(picture.width * scale, canvas.width, this.center.x),
      top: start(picture.height * scale, canvas.height, this.center.y),
    };
  }

  /**
   * Zoom by a factor; the point of the picture at `at` on the canvas stays where it is.
   * @param {number} factor
   * @param {Point} at
   * @param {Size} picture
   * @param {Size} canvas
   */
  zoomAt(factor, at, picture, canvas) {
    const { scale, left, top } = this.placement(picture, canvas);
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), MAX_ZOOM);
    const fixed = { x: (at.x - left) / scale, y: (at.y - top) / scale };
    const zoomed = this.placement(picture, canvas).scale;
    this.center = {
      x: (fixed.x + (canvas.width / 2 - at.x) / zoomed) / picture.width,
      y: (fixed.y + (canvas.height / 2 - at.y) / zoomed) / picture.height,
    };
    this.#settle(picture, canvas);
  }

  /**
   * Move the picture by a distance on the canvas, as far as it covers the canvas.
   * @param {number} x
   * @param {number} y
   * @param {Size} picture
   * @param {Size} canvas
   */
  panBy(x, y, picture, canvas) {
    const { scale } = this.placement(picture, canvas);
    this.center = {
      x: this.center.x - x / (scale * picture.width),
      y: this.center.y - y / (scale * picture.height),
    };
    this.#settle(picture, canvas);
  }

  /** Fit the picture into the canvas. */
  fit() {
    this.zoom = 1;
    this.center = { x: 0.5, y: 0.5 };
    this.#notify();
  }

  /** The point that is read. @type {Point | null} */
  get pointer() {
    return this.#read();
  }

  /** @param {Point | null} pointer The point that is read, wherever the picture moves. */
  pointAt(pointer) {
    this.follow(() => pointer);
  }

  /** @param {() => Point | null} read Tells the point below a pointer that rests while the picture moves. */
  follow(read) {
    this.#read = read;
    this.#notify();
  }

  /**
   * Take the middle of what is shown as the center: beyond it, nothing would move.
   * @param {Size} picture
   * @param {Size} canvas
   */
  #settle(picture, canvas) {
    const { scale, left, top } = this.placement(picture, canvas);
    this.center = {
      x: (canvas.width / 2 - left) / (scale * picture.width),
      y: (canvas.height / 2 - top) / (scale * picture.height),
    };
    this.#notify();
  }

  #notify() {
    for (const listener of this.listeners) listener();
  }
}

/**
 * Return where a picture of this length starts on a canvas, with `center` in its middle.
 * @param {number} length
 * @param {number} room
 * @param {number} center
 */
function start(length, room, center) {
  if (length <= room) return (room - length) / 2;
  return Math.min(0, Math.max(room - length, room / 2 - center * length));
}
