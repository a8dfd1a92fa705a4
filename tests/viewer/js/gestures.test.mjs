import assert from "node:assert/strict";
import { test } from "node:test";
import { listen } from "../../../client/cxr_client/viewer/static/gestures.js";

/** A canvas that takes events, and what the gestures on it did. */
function gestures() {
  const canvas = Object.assign(new EventTarget(), { setPointerCapture() {} });
  /** @type {any[][]} */
  const done = [];
  const names = ["zoom", "pan", "window", "point", "step", "fit", "inOrOut"];
  const actions = Object.fromEntries(
    names.map((name) => [name, (/** @type {any[]} */ ...given) => done.push([name, ...given])]),
  );
  const end = new AbortController();
  listen(/** @type {any} */ (canvas), /** @type {any} */ (actions), end.signal);
  return {
    end,
    /** Send an event; return what it did, and whether the page is spared it. */
    send(/** @type {string} */ type, /** @type {object} */ fields = {}) {
      done.length = 0;
      const event = Object.assign(new Event(type, { cancelable: true }), fields);
      canvas.dispatchEvent(event);
      return { done: [...done], isHandled: event.defaultPrevented };
    },
  };
}

const at = (
  /** @type {number} */ x,
  /** @type {number} */ y,
  /** @type {object} */ fields = {},
) => ({
  pointerId: 1,
  offsetX: x,
  offsetY: y,
  button: 0,
  shiftKey: false,
  pointerType: "mouse",
  ...fields,
});

test("a pointer that moves over the canvas is read, and no longer once it leaves", () => {
  const { send } = gestures();
  assert.deepEqual(send("pointermove", at(3, 4)).done, [["point", { x: 3, y: 4 }, true]]);
  assert.deepEqual(send("pointerleave", at(-1, 4)).done, [["point", null]]);
});

test("a finger points at a place, and does not stay there", () => {
  const { send } = gestures();
  const finger = at(3, 4, { pointerType: "touch" });
  assert.deepEqual(send("pointerdown", finger).done, [["point", { x: 3, y: 4 }, false]]);
});

test("a drag pans by its distance, until the button is released", () => {
  const { send } = gestures();
  send("pointerdown", at(10, 10));
  assert.deepEqual(send("pointermove", at(15, 8)).done, [
    ["pan", 5, -2],
    ["point", { x: 15, y: 8 }, true],
  ]);
  assert.deepEqual(send("pointerleave", at(-1, 8)).done, []);
  send("pointerup", at(15, 8));
  assert.deepEqual(send("pointermove", at(20, 8)).done, [["point", { x: 20, y: 8 }, true]]);
});

for (const [name, fields] of Object.entries({
  "the right button": { button: 2 },
  Shift: { shiftKey: true },
})) {
  test(`a drag with ${name} sets the window: width across, level along`, () => {
    const { send } = gestures();
    send("pointerdown", at(10, 10, fields));
    assert.deepEqual(send("pointermove", at(17, 14)).done[0], ["window", -4, 7]);
  });
}

test("two fingers zoom about their middle and pan with it", () => {
  const { send } = gestures();
  const [one, other] = [
    { pointerId: 1, pointerType: "touch" },
    { pointerId: 2, pointerType: "touch" },
  ];
  send("pointerdown", at(100, 100, one));
  send("pointerdown", at(200, 100, other));
  assert.deepEqual(send("pointermove", at(300, 100, other)).done, [
    ["pan", 50, 0],
    ["zoom", 2, { x: 200, y: 100 }],
  ]);
  send("pointerup", at(300, 100, other));
  assert.deepEqual(send("pointermove", at(110, 100, one)).done[0], ["pan", 10, 0]);
});

test("what a finger pointed at stays readable once it is lifted", () => {
  const { send } = gestures();
  send("pointerdown", at(5, 5, { pointerType: "touch" }));
  send("pointerup", at(5, 5, { pointerType: "touch" }));
  assert.deepEqual(send("pointerleave", at(5, 5, { pointerType: "touch" })).done, []);
});

test("a drag that the browser takes over ends", () => {
  const { send } = gestures();
  send("pointerdown", at(5, 5));
  send("pointercancel", at(5, 5));
  assert.deepEqual(send("pointermove", at(9, 9)).done, [["point", { x: 9, y: 9 }, true]]);
});

test("the wheel zooms at the pointer, and the page does not scroll", () => {
  const { send } = gestures();
  const wheel = (/** @type {object} */ fields) =>
    send("wheel", at(7, 8, { deltaMode: 0, ctrlKey: false, ...fields }));
  const { done, isHandled } = wheel({ deltaY: -100 });
  assert.ok(isHandled);
  assert.equal(done[0][0], "zoom");
  assert.ok(done[0][1] > 1);
  assert.deepEqual(done[0][2], { x: 7, y: 8 });
  assert.ok(wheel({ deltaY: 100 }).done[0][1] < 1);
  const line = wheel({ deltaY: -3, deltaMode: 1 }).done[0][1];
  assert.ok(line > wheel({ deltaY: -3 }).done[0][1]);
});

test("a double click zooms there or fits, and the right button opens no menu", () => {
  const { send } = gestures();
  assert.deepEqual(send("dblclick", at(7, 8)).done, [["inOrOut", { x: 7, y: 8 }]]);
  assert.ok(send("contextmenu").isHandled);
});

test("keys zoom, fit, step, set the window and end reading; all others are the page's", () => {
  const { send } = gestures();
  const press = (/** @type {string} */ key, /** @type {object} */ fields = {}) =>
    send("keydown", {
      key,
      shiftKey: false,
      ctrlKey: false,
      altKey: false,
      metaKey: false,
      ...fields,
    });
  assert.ok(press("+").done[0][1] > 1);
  assert.ok(press("-").done[0][1] < 1);
  assert.deepEqual(press("0").done, [["fit"]]);
  assert.deepEqual(press("ArrowLeft").done, [["step", -1, 0]]);
  assert.deepEqual(press("ArrowDown").done, [["step", 0, 1]]);
  assert.deepEqual(press("ArrowUp", { shiftKey: true }).done, [["window", 8, 0]]);
  assert.deepEqual(press("ArrowRight", { shiftKey: true }).done, [["window", 0, 8]]);
  assert.deepEqual(press("Escape").done, [["point", null]]);
  for (const [key, fields] of [["a"], ["Tab"], ["Enter"], ["+", { ctrlKey: true }]]) {
    const { done, isHandled } = press(/** @type {string} */ (key), /** @type {object} */ (fields));
    assert.deepEqual([done, isHandled], [[], false]);
  }
});

test("nothing is heard once the listening has ended", () => {
  const { send, end } = gestures();
  end.abort();
  for (const type of ["pointermove", "dblclick", "contextmenu"]) {
    assert.deepEqual(send(type, at(1, 1)), { done: [], isHandled: false });
  }
});
