// @ts-check
/** Exports: answer -> CSV, JSON, marked PNG and the text of other callers. Pure, but for drawing. */

/**
 * @typedef {import("./api.js").Result} Result
 * @typedef {import("./api.js").Explanation} Explanation
 * @typedef {{colorMap: string, opacity: number, scale: string, fixedScaleLogits: number,
 *   contours: boolean, negative: boolean, frame: string}} Drawn Settings that change a picture.
 * @typedef {{address: string, tls: boolean, name: string, label: string, presentation: string,
 *   drawn: Drawn}} Call
 * @typedef {{finding: string, score: number, method: string, model: string, version: string,
 *   weights_sha256: string, precision: string, scale: string, low: number, high: number,
 *   unit: string, notice: string}} Mark What a picture says of itself: the fields of the server's pictures.
 */

/** The PNG text by which the server and `cxr` know, and refuse, a picture with a heat map. */
const MARK = "cxr-serve";
const COLUMNS =
  "file,rank,label,score,probability,calibrated_probability,threshold,above_threshold,logit,peak_x_px,peak_y_px,picture,warnings,error,model,model_version,weights_sha256,precision,request_id,notice".split(
    ",",
  );

/**
 * The number with the fewest digits that is the same float32: 0.9957862496376038 is 0.99578625.
 * @param {number} value
 */
export function shortest(value) {
  for (const digits of [6, 7, 8, 9]) {
    const candidate = Number(value.toPrecision(digits));
    if (Math.fround(candidate) === Math.fround(value)) return candidate;
  }
  return value;
}

/**
 * A row for each finding, best first: the columns of `cxr explain --csv -v`, and the notice.
 * @param {string} name
 * @param {Result} result
 */
export function csv(name, result) {
  const explained = new Map(result.explanations.map((each) => [each.finding.label, each]));
  const rows = result.findings.map((finding, index) => {
    const explanation = explained.get(finding.label);
    /** @type {Record<string, string | number>} */
    const row = {
      file: asText(name),
      rank: index + 1,
      label: finding.label,
      score: shortest(finding.score),
      probability: shortest(finding.probability),
      threshold: shortest(finding.threshold),
      above_threshold: String(finding.above_threshold),
      warnings: result.warnings.map((warning) => warning.code).join(" "),
      model: result.model.name,
      model_version: result.model.version,
      weights_sha256: result.model.weights_sha256,
      precision: result.model.precision,
      request_id: result.request_id,
      notice: result.notice,
    };
    if (finding.calibrated_probability !== null)
      row.calibrated_probability = shortest(finding.calibrated_probability);
    if (explanation) row.logit = shortest(explanation.logit);
    if (explanation?.peak) {
      row.peak_x_px = shortest(explanation.peak.x_px);
      row.peak_y_px = shortest(explanation.peak.y_px);
    }
    return COLUMNS.map((column) => cell(row[column] ?? "")).join(",");
  });
  return `${[COLUMNS.join(","), ...rows].join("\n")}\n`;
}

/**
 * The answer as `cxr explain --json` prints it.
 * @param {string} name
 * @param {Result} result
 */
export function json(name, result) {
  return `${JSON.stringify({ file: name, ...result }, null, 2)}\n`;
}

/**
 * A command that repeats the call, to run where the file lies.
 * @param {Call} call
 */
export function grpcurl({ address, tls, name, label, presentation, drawn }) {
  const request = {
    image: "%s",
    labels: [label],
    render: {
      frame: `RENDER_FRAME_${drawn.frame}`,
      colorMap: `COLOR_MAP_${drawn.colorMap}`,
      opacity: drawn.opacity,
      legend: true,
      ...scaleOf(drawn, "HEAT_SCALE_"),
      contours: drawn.contours,
      format: "RENDER_FORMAT_JPEG",
    },
    ...(presentation === "stored" && { dicom: { presentation: "DICOM_PRESENTATION_STORED" } }),
  };
  // The text is a format of printf; only %s is one in it.
  const format = JSON.stringify(request)
    .replaceAll("\\", "\\\\")
    .replaceAll("%", "%%")
    .replace("%%s", "%s");
  const socket = address.startsWith("unix:");
  const target = socket ? `-unix ${quoted(address.slice("unix:".length))}` : quoted(address);
  return [
    `file=${quoted(name)}`,
    `printf ${quoted(format)} "$(base64 -w0 "$file")" |`,
    `  grpcurl ${tls ? '-cacert "$CXR_CA_FILE"' : "-plaintext"} -d @ ${target} cxr.v1.ChestXrayService/Explain`,
    "",
  ].join("\n");
}

/**
 * A program that repeats the call, to run where the file lies.
 * @param {Call} call
 */
export function python({ address, tls, name, label, presentation, drawn }) {
  /** @type {Record<string, string | number | boolean>} */
  const render = {
    frame: drawn.frame,
    color_map: drawn.colorMap,
    opacity: drawn.opacity,
    ...scaleOf(drawn, "", "fixed_scale_logits"),
    contours: drawn.contours,
    legend: true,
  };
  const options = Object.entries(render).map(([key, value]) => `    ${key}=${literal(value)},`);
  const stored = presentation === "stored" ? ', presentation="STORED"' : "";
  const security = tls ? ", tls=TLSConfig.from_env()" : "";
  return [
    `from cxr_client import Client, RenderOptions${tls ? ", TLSConfig" : ""}`,
    "",
    "render = RenderOptions(",
    ...options,
    ")",
    `with Client(${literal(address)}, timeout_s=30${security}) as client:`,
    `    answer = client.explain(${literal(name)}, labels=[${literal(label)}], render=render${stored})`,
    "for finding in answer.findings:",
    "    print(finding.label, finding.score, finding.above_threshold)",
    `explanation = answer[${literal(label)}]`,
    "print(explanation.logit, explanation.peak, answer.notice)",
    `explanation.save(${literal(fileName(name, label, "png"))})`,
    "",
  ].join("\n");
}

/**
 * @param {string} name
 * @param {string} label
 * @param {string} suffix
 */
export function fileName(name, label, suffix) {
  const stem = name.replace(/^.*[/\\]/, "").replace(/\.(png|jpe?g|dcm|dicom)$/i, "") || "film";
  return `${[stem, ...(label ? [label] : [])].join("-").replace(/[^\p{L}\p{N}._-]+/gu, "-")}.${suffix}`;
}

/**
 * Insert marks into a PNG file, one `tEXt` chunk for each picture that it shows.
 * @param {Uint8Array} png
 * @param {Mark[]} marks
 */
export function marked(png, marks) {
  const chunks = marks.map((mark) => textChunk(MARK, asciiJson(mark)));
  const ihdrEnd = 8 + 12 + 13; // signature, then a chunk's length, type and CRC, then its data
  const file = new Uint8Array(png.length + chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const part of [png.subarray(0, ihdrEnd), ...chunks, png.subarray(ihdrEnd)]) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}

/**
 * What a picture of one explanation says of itself.
 * @param {Result} result
 * @param {Explanation} explanation
 * @param {string} scale
 * @param {{low: number, high: number}} limits
 * @returns {Mark}
 */
export function markOf(result, explanation, scale, { low, high }) {
  const { finding, method } = explanation;
  const { model, notice } = result;
  return {
    finding: finding.label,
    score: Number(finding.score.toFixed(6)),
    method,
    model: model.name,
    version: model.version,
    weights_sha256: model.weights_sha256,
    precision: model.precision,
    scale,
    low,
    high,
    unit: "evidence (logits)",
    notice,
  };
}

/**
 * @param {string} keyword
 * @param {string} text Latin-1.
 */
function textChunk(keyword, text) {
  const payload = Uint8Array.from(`tEXt${keyword}\0${text}`, (letter) => letter.charCodeAt(0));
  const chunk = new Uint8Array(payload.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, payload.length - 4);
  chunk.set(payload, 4);
  view.setUint32(4 + payload.length, crc32(payload));
  return chunk;
}

/** @param {Uint8Array} bytes */
function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

/** @param {unknown} value */
function asciiJson(value) {
  return JSON.stringify(value).replace(
    /[^\x20-\x7e]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * @param {Drawn} drawn
 * @param {string} prefix
 * @param {string} [limit]
 */
function scaleOf({ scale, fixedScaleLogits }, prefix, limit = "fixedScaleLogits") {
  return { scale: `${prefix}${scale}`, ...(scale === "FIXED" && { [limit]: fixedScaleLogits }) };
}

/** @param {string | number | boolean} value A value as Python writes it. */
function literal(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

/** @param {string} text A text as one word of the shell. */
function quoted(text) {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {string} text A text that no spreadsheet takes for a formula. */
function asText(text) {
  return /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
}

/** @param {string | number} value */
function cell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
