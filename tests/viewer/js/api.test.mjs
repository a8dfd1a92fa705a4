import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Answers, explain, getState } from "../../../client/cxr_client/viewer/static/api.js";

const film = /** @type {const} */ ({ key: "served 7", name: "film.png", group: "folder", id: "7" });
const PICTURE = [137, 80, 78, 71];

const wanting = new AbortController().signal;

/** What was asked for. @type {{path: string, options: RequestInit}[]} */
const asked = [];

/** @param {() => Response | Promise<Response>} respond */
function serve(respond) {
  globalThis.fetch = async (path, options = {}) => {
    asked.push({ path: String(path), options });
    return respond();
  };
}

/** @param {object} fields */
function framed(fields) {
  const text = new TextEncoder().encode(JSON.stringify(fields));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, text.length);
  const headers = { "content-type": "application/octet-stream" };
  return new Response(new Blob([length, text, Uint8Array.from(PICTURE)]), { headers });
}

beforeEach(() => {
  asked.length = 0;
  globalThis.createImageBitmap = /** @type {any} */ (
    async (/** @type {Blob} */ blob) => [...new Uint8Array(await blob.arrayBuffer())]
  );
});

test("an answer is its JSON and the picture behind it", async () => {
  serve(() => framed({ notice: "größer als ASCII" }));
  const { result, radiograph } = await explain(film, { presentation: "stored", maxSidePx: 128 });
  assert.equal(result.notice, "größer als ASCII");
  assert.deepEqual(radiograph, PICTURE);
  const { path, options } = asked[0];
  assert.equal(path, "api/films/7/explanation?presentation=stored&frame=original&max_side_px=128");
  assert.equal(options.method, "POST");
});

test("of a file that was opened here, the bytes are sent and not the name", async () => {
  serve(() => framed({}));
  const file = new File(["bytes"], "Jane Doe.dcm");
  await explain({ key: "file", name: file.name, group: "opened", file });
  const { path, options } = asked[0];
  assert.equal(path, "api/explanations?presentation=as-shown&frame=original");
  assert.equal(new TextDecoder().decode(/** @type {ArrayBuffer} */ (options.body)), "bytes");
  assert.ok(!JSON.stringify(options).includes("Jane"));
});

test("a refusal carries reason, message, hint, pause and request", async () => {
  const error = {
    reason: "QUEUE_FULL",
    message: "Full.",
    hint: "Wait.",
    retry_after_s: 1.5,
    request_id: "abc",
  };
  serve(() => Response.json({ error }));
  await assert.rejects(explain(film), {
    reason: "QUEUE_FULL",
    message: "Full.",
    hint: "Wait.",
    retryAfterS: 1.5,
    requestId: "abc",
  });
});

test("a web server that is gone, and what is none, are told apart", async () => {
  serve(() => Promise.reject(new TypeError("connection refused")));
  await assert.rejects(getState(), { reason: "VIEWER_UNREACHABLE" });
  const headers = { "content-type": "application/octet-stream" };
  const broken = () => new ReadableStream({ pull: (body) => body.error(new TypeError("reset")) });
  serve(() => new Response(broken(), { headers }));
  await assert.rejects(explain(film), { reason: "VIEWER_UNREACHABLE" });
  serve(() => new Response("<h1>Bad gateway</h1>", { status: 502 }));
  await assert.rejects(getState(), { reason: "HTTP_502" });
});

test("a file that can't be read any more says so, and one above the limit is not sent", async () => {
  serve(() => framed({}));
  const gone = Object.assign(new File(["x"], "gone.png"), {
    arrayBuffer: () => Promise.reject(new Error("not found")),
  });
  const opened = /** @type {const} */ ({ key: "k", name: "gone.png", group: "opened" });
  await assert.rejects(explain({ ...opened, file: gone }), { reason: "FILE_UNREADABLE" });
  const large = new File(["12345"], "large.png");
  await assert.rejects(explain({ ...opened, file: large }, { maxBytes: 4 }), {
    reason: "REQUEST_TOO_LARGE",
  });
  assert.deepEqual(asked, []);
});

test("the most recent answers are kept, by film, presentation and frame", async () => {
  serve(() => framed({}));
  const answers = new Answers(2);
  const other = { ...film, key: "served 8", id: "8" };
  await answers.get(film, "as-shown", wanting);
  await answers.get(film, "as-shown", wanting);
  assert.equal(asked.length, 1);
  await answers.get(film, "stored", wanting);
  await answers.get(film, "as-shown", wanting);
  assert.equal(asked.length, 2);
  await answers.get(other, "as-shown", wanting); // in place of the stored values, the oldest
  await answers.get(film, "as-shown", wanting);
  assert.equal(asked.length, 3);
  await answers.get(film, "stored", wanting);
  assert.equal(asked.length, 4);
  answers.clear();
  await answers.get(film, "stored", wanting);
  assert.equal(asked.length, 5);
});

test("a failure is not kept", async () => {
  const answers = new Answers(2);
  serve(() => Promise.reject(new TypeError("connection refused")));
  await assert.rejects(answers.get(film, "as-shown", wanting));
  serve(() => framed({}));
  await answers.get(film, "as-shown", wanting);
  assert.equal(asked.length, 2);
});

test("a request is aborted once nobody wants its answer, and not before", async () => {
  serve(() => new Promise(() => {}));
  const answers = new Answers(2);
  const [one, other, again] = [1, 2, 3].map(() => new AbortController());
  const isAborted = async () => {
    await new Promise(setImmediate);
    return asked[0].options.signal?.aborted;
  };
  answers.get(film, "as-shown", one.signal).catch(() => {});
  answers.get(film, "as-shown", other.signal).catch(() => {});
  one.abort();
  assert.equal(await isAborted(), false);
  other.abort();
  answers.get(film, "as-shown", again.signal).catch(() => {});
  assert.equal(await isAborted(), false);
  again.abort();
  assert.equal(await isAborted(), true);
  answers.get(film, "as-shown", wanting).catch(() => {});
  assert.equal(asked.length, 2);
});

test("an answer is kept when the one who wanted it wants it no more", async () => {
  serve(() => framed({}));
  const answers = new Answers(2);
  for (let turn = 0; turn < 3; turn++) {
    const wanted = new AbortController();
    await answers.get(film, "as-shown", wanted.signal);
    wanted.abort();
    await new Promise(setImmediate);
  }
  assert.equal(asked.length, 1);
});
