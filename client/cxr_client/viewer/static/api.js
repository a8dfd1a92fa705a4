// @ts-check
/** The web server of this page: requests -> answers and errors. The page talks to nothing else. */

/**
 * @typedef {{x_px: number, y_px: number, width_px: number, height_px: number}} Box
 * @typedef {{label: string, class_index: number, score: number, probability: number,
 *   threshold: number, above_threshold: boolean, calibrated_probability: number | null}} Finding
 * @typedef {{rows: number, columns: number, values: number[]}} EvidenceGrid
 * @typedef {{finding: Finding, evidence: EvidenceGrid, logit: number,
 *   peak: {x_px: number, y_px: number, value: number} | null,
 *   regions: {box: Box, peak_value: number, threshold: number}[],
 *   no_positive_evidence: boolean, method: string}} Explanation
 * @typedef {{name: string, version: string, weights_sha256: string, intended_use: string,
 *   precision: string}} Model
 * @typedef {{format: string, width_px: number, height_px: number, bit_depth: number,
 *   crop_box: Box, presentation: string}} ImageInfo
 * @typedef {{decode_ms: number | null, queue_ms: number | null, inference_ms: number | null,
 *   render_ms: number | null, evidence_cached: boolean}} Timing
 * @typedef {{explanations: Explanation[], findings: Finding[], model: Model,
 *   image_info: ImageInfo, warnings: {code: string, message: string}[], timing: Timing,
 *   request_id: string, notice: string, typicality: number | null}} Result `ExplanationSet.to_dict()`
 * @typedef {{result: Result, radiograph: ImageBitmap}} Answer
 * @typedef {{value: number, low: number, high: number}} Estimate
 * @typedef {{criterion: string, sensitivity: Estimate | null, specificity: Estimate | null,
 *   kept_reason: string}} FindingRefit
 * @typedef {{parent_name: string, parent_version: string, labels_title: string,
 *   labels_sha256: string, image_count: number, patient_count: number | null, split: string,
 *   calibration_method: string}} Refit
 * @typedef {{parent_name: string, parent_version: string, tool: string, films: string,
 *   calibration_count: number, film_count: number, max_probability_difference: number,
 *   mean_probability_difference: number, max_score_difference: number,
 *   mean_score_difference: number, changed_side_count: number, far_changed_side_count: number,
 *   evidence_correlation: number, tolerance: number, planted: {auc_float32: number,
 *   auc_int8: number, pointing_float32: number, pointing_int8: number} | null}} Quantization
 * @typedef {{label: string, reliability: string, reliability_note: string,
 *   refit: FindingRefit | null}} FindingDescription
 * @typedef {{model: Model, architecture: string, findings: FindingDescription[],
 *   input_side_px: number, preprocessing_id: string, evidence_side: number,
 *   file_sha256: Record<string, string>, upstream_sha256: string,
 *   limits: {max_request_bytes: number}, license: string, notices: string[],
 *   create_time: string | null, precision: string, refit: Refit | null,
 *   quantization: Quantization | null}} ModelDescription
 * @typedef {{address: string, tls: boolean, state: string, message: string, hint: string,
 *   server_version: string, engine: string, device: string, precision: string,
 *   in_flight_count: number}} Server
 * @typedef {{server: Server, model: ModelDescription | null,
 *   films: {id: string, name: string, group: "sample" | "folder"}[], folder_is_empty: boolean,
 *   notice: string, version: string}} State
 * @typedef {{key: string, name: string, group: "sample" | "folder" | "opened", id?: string,
 *   file?: File}} Film A film of the web server has an id, one that was opened here a file.
 * @typedef {"as-shown" | "stored"} Presentation
 * @typedef {"original" | "model-input"} Frame What of the radiograph: all, or what the network saw.
 */

/** What went wrong, and what to do about it. */
export class ViewerError extends Error {
  /**
   * @param {{reason: string, message: string, hint?: string, retry_after_s?: number | null,
   *   request_id?: string | null}} fields
   */
  constructor(fields) {
    super(fields.message);
    this.reason = fields.reason;
    this.hint = fields.hint ?? "";
    this.retryAfterS = fields.retry_after_s ?? null;
    this.requestId = fields.request_id ?? "";
  }
}

const ANSWER = "application/octet-stream";

/** @returns {Promise<State>} */
export async function getState() {
  return JSON.parse(decoded(await request("api/state", {})));
}

/**
 * Score a film and fetch the evidence of all findings with the radiograph as the server read it.
 * @param {Film} film
 * @param {{presentation?: Presentation, frame?: Frame, maxSidePx?: number, maxBytes?: number,
 *   signal?: AbortSignal}} [options]
 * @returns {Promise<Answer>}
 */
export async function explain(
  film,
  { presentation = "as-shown", frame = "original", maxSidePx, maxBytes = Infinity, signal } = {},
) {
  const query = new URLSearchParams({ presentation, frame });
  if (maxSidePx) query.set("max_side_px", String(maxSidePx));
  const path = film.file
    ? "api/explanations"
    : `api/films/${encodeURIComponent(film.id ?? "")}/explanation`;
  // A file that is gone, or was changed since, fails here rather than as a broken connection.
  const body = film.file && (await bytesOf(film.file, maxBytes));
  const answer = await request(`${path}?${query}`, { method: "POST", body, signal });
  const { json, rest } = unframe(answer);
  const radiograph = await createImageBitmap(new Blob([rest], { type: "image/png" }));
  return { result: json, radiograph };
}

/** @param {Film} film Of the web server. */
export const thumbnailUrl = ({ id = "" }) => `api/films/${encodeURIComponent(id)}/thumbnail`;

/**
 * An answer that has come or is being waited for, and who still wants it.
 * @typedef {{answer: Promise<Answer>, wanted: Set<AbortSignal>, request: AbortController}} Kept
 */

/**
 * Answers, the most recent ones kept: going back to a film takes no request. A request that nobody
 * wants any more is aborted: the web server takes only a few at a time.
 */
export class Answers {
  #limit;
  /** @type {Map<string, Kept>} */
  #kept = new Map();

  /** Largest file that the server takes: what is larger is not sent. */
  maxBytes = Infinity;

  /** @param {number} limit Answers to keep; each holds about 4 MiB of pixels. */
  constructor(limit) {
    this.#limit = limit;
  }

  /**
   * @param {Film} film
   * @param {Presentation} presentation
   * @param {AbortSignal} signal Aborts once the caller wants it no more.
   * @param {Frame} [frame]
   * @returns {Promise<Answer>}
   */
  get(film, presentation, signal, frame = "original") {
    // A file of the web server that was changed has another id.
    const key = `${film.id ?? film.key} ${presentation} ${frame}`;
    const kept = this.#kept.get(key) ?? this.#ask(film, presentation, frame);
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    const forget = () => this.#kept.get(key) === kept && this.#kept.delete(key);
    // A failure is not kept: the next call asks again.
    kept.answer.then(() => kept.wanted.clear(), forget);
    kept.wanted.add(signal);
    signal.addEventListener("abort", () => {
      // Who wants another one now may want the same one again: its turn ends first.
      queueMicrotask(() => {
        if (!kept.wanted.delete(signal) || kept.wanted.size) return;
        kept.request.abort();
        forget();
      });
    });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > this.#limit) this.#kept.delete(oldest);
    return kept.answer;
  }

  /** @param {Film} film @param {Presentation} presentation @param {Frame} frame @returns {Kept} */
  #ask(film, presentation, frame) {
    const request = new AbortController();
    const options = { presentation, frame, maxBytes: this.maxBytes, signal: request.signal };
    return { answer: explain(film, options), wanted: new Set(), request };
  }

  /** Forget all of them: another model answers now. */
  clear() {
    this.#kept.clear();
  }
}

/**
 * Return the body of an answer, once all of it has come.
 * @param {string} path
 * @param {RequestInit} options
 * @returns {Promise<ArrayBuffer>}
 */
async function request(path, options) {
  let response, body;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
    body = await response.arrayBuffer();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ViewerError({
      reason: "VIEWER_UNREACHABLE",
      message: "The web server of this page does not answer.",
      hint: "Start it again; the page connects by itself.",
    });
  }
  const isAnswer = response.headers.get("content-type")?.startsWith(ANSWER);
  if (isAnswer && response.ok) return body;
  const fields = parsed(decoded(body));
  if (fields?.error) throw new ViewerError(fields.error);
  if (!response.ok || !fields) {
    throw new ViewerError({
      reason: `HTTP_${response.status}`,
      message: "The web server refused the request.",
    });
  }
  return body;
}

/**
 * Split an answer: uint32 (big-endian) length of the JSON, the JSON, the bytes of a PNG.
 * @param {ArrayBuffer} buffer
 */
function unframe(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const json = decoded(new Uint8Array(buffer, 4, length));
  return { json: /** @type {Result} */ (JSON.parse(json)), rest: buffer.slice(4 + length) };
}

/** @param {ArrayBuffer | Uint8Array} utf8 */
const decoded = (utf8) => new TextDecoder().decode(utf8);

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {File} file @param {number} maxBytes */
async function bytesOf(file, maxBytes) {
  if (file.size > maxBytes) {
    throw new ViewerError({
      reason: "REQUEST_TOO_LARGE",
      message: `The file is larger than the limit of ${maxBytes / 2 ** 20} MiB.`,
      hint: "The option --max-request-mib sets the limit, of cxr-server serve and of cxr view.",
    });
  }
  try {
    return await file.arrayBuffer();
  } catch {
    throw new ViewerError({
      reason: "FILE_UNREADABLE",
      message: `The file ${file.name} cannot be read.`,
      hint: "It was moved, changed or removed since it was opened. Open it again.",
    });
  }
}
