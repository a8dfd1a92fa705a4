// Open-loop load on cxr-serve with k6: calls arrive at a rate, whether or not earlier ones have been
// answered, as from independent callers. Exits with 99 where an objective is missed.
//
//   k6 run -e SERVER=127.0.0.1:50051 -e IMAGES=a.png,b.png -e RATE=20 cxr.js
//
// Environment, all but IMAGES optional: SERVER, IMAGES (absolute paths, or relative to this file),
// METHOD (Predict or Explain), RATE (calls per second), DURATION, TLS=1 with CA_FILE, TOKEN_FILE,
// PRIORITY=bulk, and the objectives P99_MS, ANSWERED (share of calls that are answered).
import { check, fail } from 'k6';
import encoding from 'k6/encoding';
import { Counter } from 'k6/metrics';
import grpc from 'k6/net/grpc';
import exec from 'k6/execution';

const env = { SERVER: '127.0.0.1:50051', METHOD: 'Predict', RATE: '10', DURATION: '30s', P99_MS: '1000', ANSWERED: '0.99', ...__ENV };
if (!env.IMAGES) {
  throw new Error('IMAGES is not set: give the files to send, separated by commas');
}
const images = env.IMAGES.split(',').map((path) => inBase64(new Uint8Array(open(path, 'b'))));
const metadata = {
  ...(env.TOKEN_FILE ? { authorization: `Bearer ${open(env.TOKEN_FILE).trim()}` } : {}),
  ...(env.PRIORITY ? { 'x-priority': env.PRIORITY } : {}),
};
const tls = env.TLS === '1' ? { tls: env.CA_FILE ? { cacerts: [open(env.CA_FILE)] } : {} } : { plaintext: true };
const service = 'cxr.v1.ChestXrayService';
const refused = new Counter('cxr_refused');
const client = new grpc.Client();
client.load(['../../protos'], 'cxr/v1/chest_xray.proto');
let connected = false;

export const options = {
  scenarios: {
    open_loop: {
      executor: 'constant-arrival-rate',
      rate: Number(env.RATE),
      timeUnit: '1s',
      duration: env.DURATION,
      preAllocatedVUs: Math.ceil(2 * Number(env.RATE)),
      maxVUs: Math.ceil(30 * Number(env.RATE)), // one for each call that waits, for 30 s
    },
  },
  thresholds: {
    [`grpc_req_duration{method:${env.METHOD}}`]: [`p(99)<${env.P99_MS}`],
    checks: [`rate>=${env.ANSWERED}`],
    dropped_iterations: ['count<1'], // calls that could not be begun: this machine is too slow
    cxr_refused: ['count>=0'], // shown in any case
  },
};

// Base64 of a file and zeros up to a multiple of three bytes, so that more base64 can follow.
function inBase64(file) {
  const padded = new Uint8Array(Math.ceil(file.length / 3) * 3);
  padded.set(file);
  return encoding.b64encode(padded.buffer);
}

// A number of six bytes as base64. Behind the end of an image it changes nothing but the file's
// hash, so that no answer comes from the server's cache.
function serial(number) {
  const bytes = new Uint8Array(6);
  new DataView(bytes.buffer).setUint32(2, number);
  return encoding.b64encode(bytes.buffer);
}

function connect() {
  if (!connected) {
    client.connect(env.SERVER, { ...tls, maxReceiveSize: 268435456, maxSendSize: 33554432 });
    connected = true;
  }
}

export function setup() {
  connect();
  const answer = client.invoke(`${service}/DescribeModel`, {}, { metadata, timeout: '10s' });
  if (answer.status !== grpc.StatusOK) {
    fail(`${env.SERVER} does not describe its model: ${answer.error && answer.error.message}`);
  }
  console.log(`${answer.message.model.name} ${answer.message.model.version} at ${env.SERVER}`);
  return { base: Date.now() % 1e9 }; // so that a second run sends other serial numbers
}

export default function ({ base }) {
  connect();
  const number = exec.scenario.iterationInTest;
  const image = images[number % images.length] + serial(base + number);
  const answer = client.invoke(`${service}/${env.METHOD}`, { image }, {
    metadata,
    timeout: '30s',
    tags: { method: env.METHOD },
  });
  if (answer.status === grpc.StatusResourceExhausted) {
    refused.add(1);
  }
  check(answer, {
    answered: ({ status }) => status === grpc.StatusOK,
    'with findings': ({ message }) => message && message.findings && message.findings.length > 0,
  });
}
