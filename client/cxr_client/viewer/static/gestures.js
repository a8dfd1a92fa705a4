// @ts-check
/**
 * Gestures: pointer, wheel and keys on a canvas -> what a view does. Distances and places are in
 * CSS pixels from the canvas's left and top edge.
 *
 * Drag: pan. Two fingers: zoom and pan. Right button or Shift and drag: window, across its width
 * and along its level. Wheel: zoom at the pointer. Double click: zoom in there, or fit. Keys: + and - zoom, 0 fits,
 * arrows read the next cell, Shift and arrows set the window, Escape ends reading.
 */

/** @typedef {import("./camera.js").Point} Point */

/**
 * @typedef {object} Actions
 * @property {(factor: number, at?: Point) => void} zoom
 * @property {(x: number, y: number) => void} pan
 * @property {(level: number, width: number) => void} window by these differences
 * @property {(at: Point | null, hovers?: boolean) => void} point there; a pointer that hovers stays
 *   there, a finger does not
 * @property {(columns: number, rows: number) => void} step to another cell
 * @property {() => void} fit
 * @property {(at: Point) => void} inOrOut zoom in there from fit, else fit
 */

/** Zoom for a pixel of the wheel; that of a trackpad's pinch, which comes in small steps. */
const [WHEEL_ZOOM, PINCH_ZOOM] = [1.0015, 1.01];
/** Pixels of a line and of a page, as the wheel of some browsers counts. */
const [LINE_PX, PAGE_PX] = [32, 400];
/** Zoom and grey levels of one press of a key. */
const [KEY_ZOOM, KEY_LEVELS] = [1.25, 8];

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Listen until the signal aborts.
 * @param {HTMLCanvasElement} canvas
 * @param {Actions} actions
 * @param {AbortSignal} signal
 */
export function listen(canvas, actions, signal) {
  listenToPointers(canvas, actions, signal);
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const unit = [1, LINE_PX, PAGE_PX][event.deltaMode];
      const base = event.ctrlKey ? PINCH_ZOOM : WHEEL_ZOOM;
      actions.zoom(base ** (-event.deltaY * unit), placeOf(event));
    },
    { signal, passive: false },
  );
  // Zooming in somewhere else is how a zoomed film is moved without dragging (WCAG 2.5.7).
  canvas.addEventListener("dblclick", (event) => actions.inOrOut(placeOf(event)), { signal });
  // The right button drags.
  canvas.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
  canvas.addEventListener(
    "keydown",
    (event) => {
      if (!event.ctrlKey && !event.altKey && !event.metaKey && press(event, actions)) {
        event.preventDefault();
      }
    },
    { signal },
  );
}

/** @param {MouseEvent} event */
function placeOf(event) {
  return { x: event.offsetX, y: event.offsetY };
}

/** @param {PointerEvent} event */
function hovers(event) {
  return event.pointerType !== "touch";
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Actions} actions
 * @param {AbortSignal} signal
 */
function listenToPointers(canvas, actions, signal) {
  /** Where the pressed pointers are. @type {Map<number, Point>} */
  const pressed = new Map();
  let setsWindow = false;

  /** @param {PointerEvent} event */
  const down = (event) => {
    pressed.set(event.pointerId, placeOf(event));
    canvas.setPointerCapture(event.pointerId);
    setsWindow = event.button === 2 || event.shiftKey;
    actions.point(placeOf(event), hovers(event));
  };
  /** @param {PointerEvent} event */
  const move = (event) => {
    const at = placeOf(event);
    const before = pressed.get(event.pointerId);
    if (before === undefined) {
      if (pressed.size === 0) actions.point(at, hovers(event));
      return;
    }
    const others = [...pressed].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    pressed.set(event.pointerId, at);
    if (others.length === 0) {
      drag(at.x - before.x, at.y - before.y);
      actions.point(at, hovers(event));
    } else if (others.length === 1) {
      pinch(before, at, others[0]);
    }
  };
  /**
   * @param {number} x
   * @param {number} y
   */
  const drag = (x, y) => (setsWindow ? actions.window(-y, x) : actions.pan(x, y));
  /**
   * @param {Point} before
   * @param {Point} after
   * @param {Point} other finger, which rests
   */
  const pinch = (before, after, other) => {
    const apart = (/** @type {Point} */ at) => Math.hypot(at.x - other.x, at.y - other.y);
    actions.pan((after.x - before.x) / 2, (after.y - before.y) / 2);
    if (apart(before) > 0 && apart(after) > 0) {
      const middle = { x: (after.x + other.x) / 2, y: (after.y + other.y) / 2 };
      actions.zoom(apart(after) / apart(before), middle);
    }
  };
  /** @param {PointerEvent} event */
  const up = (event) => pressed.delete(event.pointerId);
  /** @param {PointerEvent} event */
  const leave = (event) => {
    // A finger leaves by being lifted; what it pointed at stays readable.
    if (hovers(event) && pressed.size === 0) actions.point(null);
  };

  canvas.addEventListener("pointerdown", down, { signal });
  canvas.addEventListener("pointermove", move, { signal });
  canvas.addEventListener("pointerup", up, { signal });
  canvas.addEventListener("pointercancel", up, { signal });
  canvas.addEventListener("pointerleave", leave, { signal });
}

/**
 * Do what a key stands for; return whether it stands for anything.
 * @param {KeyboardEvent} event
 * @param {Actions} actions
 */
function press(event, actions) {
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey) actions.window((0 - arrow[1]) * KEY_LEVELS, arrow[0] * KEY_LEVELS);
  else if (arrow) actions.step(...arrow);
  else if (event.key === "+" || event.key === "=") actions.zoom(KEY_ZOOM);
  else if (event.key === "-") actions.zoom(1 / KEY_ZOOM);
  else if (event.key === "0") actions.fit();
  else if (event.key === "Escape") actions.point(null);
  else return false;
  return true;
}
