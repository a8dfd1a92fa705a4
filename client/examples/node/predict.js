/**
 * Score one chest radiograph and draw where the evidence for its top finding lies.
 *
 *     node predict.js chest.png [--server HOST:PORT] [--output DIR] [--ca-file FILE | --insecure]
 *
 * For research use only: nothing that this prints or draws is a diagnosis.
 */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, parse } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const TIMEOUT_MS = 60_000;
const MAX_MESSAGE_BYTES = 64 * 2 ** 20;

// A server that is full, loads its model or stops has not read the image: sending it again is safe.
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: "cxr.v1.ChestXrayService" }],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "1s",
        maxBackoff: "10s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
      },
    },
  ],
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    server: { type: "string", default: "127.0.0.1:50051" },
    output: { type: "string", default: "." },
    "ca-file": { type: "string" },
    insecure: { type: "boolean", default: false },
  },
});

/** TLS, but for a server on this machine; `--insecure` where the network itself is trusted. */
async function credentials() {
  const caFile = values["ca-file"];
  const isLoopback = /^(localhost|127\.0\.0\.1|\[::1\]):/.test(values.server);
  if (values.insecure || (isLoopback && !caFile)) return grpc.credentials.createInsecure();
  return grpc.credentials.createSsl(caFile ? await readFile(caFile) : null);
}

async function connect() {
  const definition = loadSync("cxr/v1/chest_xray.proto", {
    includeDirs: [fileURLToPath(new URL("../../../protos", import.meta.url))],
    enums: String, // by name
    defaults: true, // fields that are zero are there
  });
  const { cxr } = grpc.loadPackageDefinition(definition);
  return new cxr.v1.ChestXrayService(values.server, await credentials(), {
    "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES, // 4 MiB by default
    "grpc.per_rpc_retry_buffer_size": MAX_MESSAGE_BYTES, // larger requests, by default 1 MiB, are not retried
    "grpc.retry_buffer_size": 4 * MAX_MESSAGE_BYTES,
    "grpc.keepalive_time_ms": 30_000, // notices a connection that is dead
  });
}

/** One call gives every score and, as `labels` is empty, a picture of the top finding. */
function explain(client, image) {
  const request = { image, render: { frame: "RENDER_FRAME_ORIGINAL", legend: true } };
  const metadata = new grpc.Metadata();
  if (process.env.CXR_TOKEN) metadata.set("authorization", `Bearer ${process.env.CXR_TOKEN}`);
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + TIMEOUT_MS;
    client.explain(request, metadata, { deadline }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

async function main(file, ...others) {
  if (!file || others.length) throw new Error("give one file: node predict.js FILE [--server ...]");
  const image = await readFile(file);
  const client = await connect();
  try {
    const { findings, explanations, model, warnings, notice } = await explain(client, image);
    console.log(`${parse(file).base}: ${model.name} ${model.version}`);
    for (const { label, score, aboveThreshold } of findings.slice(0, 5)) {
      console.log(`${aboveThreshold ? "*" : " "} ${label.padEnd(28)} ${score.toFixed(3)}`);
    }
    for (const { message } of warnings) console.log(`! ${message}`);
    const [{ finding, heatmap }] = explanations;
    const picture = join(values.output, `${parse(file).name}-${finding.label}.png`);
    await mkdir(values.output, { recursive: true });
    await writeFile(picture, heatmap);
    console.log(`wrote ${picture}`);
    console.log(notice);
  } finally {
    client.close();
  }
}

try {
  await main(...positionals);
} catch (error) {
  // A failed call has a status, and with cxr-serve a reason that does not change, as plain text.
  const [reason = grpc.status[error.code]] = error.metadata?.get("x-error-reason") ?? [];
  const [requestId] = error.metadata?.get("x-request-id") ?? [];
  const names = [reason, requestId && `request ${requestId}`].filter(Boolean).join(", ");
  console.error(`failed: ${error.details ?? error.message}${names && ` [${names}]`}`);
  process.exitCode = 1;
}
