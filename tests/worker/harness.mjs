// Starts the built Worker on the real runtime (workerd), as wrangler.toml describes it, with an empty
// database, KV and objects of its own. About 0.7 s; nothing is kept after close().
//
//   const worker = await startWorker({ vars: { PUBLIC_HEALTH: "false" } });
//   after(() => worker.close());
//   const response = await worker.fetch("/api/v1/orchestration/health");
import { AsyncLocalStorage } from "node:async_hooks";
import assert from "node:assert/strict";
import { createHash, createPrivateKey, createPublicKey, randomBytes, sign } from "node:crypto";
import { subscribe } from "node:diagnostics_channel";
import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Canary } from "./canary.mjs";

// Without this the runtime asks the network for a sample `request.cf` at every start. Read when wrangler starts a server.
process.env.CLOUDFLARE_CF_FETCH_ENABLED = "false";
const { createTestHarness } = await import("wrangler");

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
// Everything wrangler.toml names. See startWorker for why they are linked and not used in place.
const CONFIGURATION = ["wrangler.toml", "build", "migrations", "assets"];

export const ADMIN = { username: "admin", password: "password of the tests only" };

// Without rate limits: a file of tests is one client that sends hundreds of requests; limits.test.mjs has them on.
// (A rotation changes the slot in wrangler.toml; the keys here are those of the tests.)
const VARS = { ENVIRONMENT: "development", RATE_LIMITING: "off", SIGNING_KEY_ACTIVE: "1" };
const SIGNING_SEED = Buffer.alloc(32, 7);
const SECRETS = {
  SIGNING_KEY: `dev:${SIGNING_SEED.toString("base64url")}`,
  CHANNEL_KEY: Buffer.alloc(32, 9).toString("base64"),
  BOOTSTRAP_ADMIN_USERNAME: ADMIN.username,
  BOOTSTRAP_ADMIN_PASSWORD: ADMIN.password,
};

// Told when the process ends, and not by an exception of close(): what a test has to close after it would stay open.
const leaks = [];
process.on("exit", () => {
  if (leaks.length === 0) return;
  console.error(`Not what tests/canaries.json says of replies and log lines:\n${leaks.join("\n")}`);
  process.exitCode = 1;
});

/**
 * @param options.vars      [vars] of wrangler.toml to override
 * @param options.secrets   secrets to add or override; one that is undefined is not set
 * @param options.outbound  (request) => Response, answers every fetch the Worker makes; see `outbound` below
 */
export async function startWorker({ vars = {}, secrets = {}, outbound = loopbackOnly } = {}) {
  if (!existsSync(join(PROJECT, "build/index.js"))) throw new Error("no build/index.js: run `make build` first");

  // wrangler reads .dev.vars from the folder of its configuration. A folder with links to the parts of the
  // project, and without the developer's own secrets, makes a test mean the same on every machine.
  const folder = mkdtempSync(join(tmpdir(), "worker-test-"));
  for (const name of CONFIGURATION) symlinkSync(join(PROJECT, name), join(folder, name));

  const allSecrets = withoutUndefined({ ...SECRETS, ...secrets });
  const server = createTestHarness({
    workers: [{ configPath: join(folder, "wrangler.toml"), vars: { ...VARS, ...vars }, secrets: allSecrets }],
  });
  answerOutbound = outbound;
  const { BOOTSTRAP_ADMIN_USERNAME, ...notToBeShown } = allSecrets;
  const canary = new Canary(Object.values(notToBeShown));
  const messages = () => server.getLogs().map(({ message }) => message);

  async function close() {
    // Lines come later than replies, through a pipe of their own.
    for (const deadline = Date.now() + 1_000; !canary.hasAllLines(messages()) && Date.now() < deadline; ) await sleep(20);
    canary.wrote(messages());
    leaks.push(...canary.found());
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  }

  try {
    const { url } = await server.listen();
    const handle = server.getWorker();
    // wrangler's own code: the files in order, each in one transaction, its name noted in d1_migrations.
    await handle.applyD1Migrations("DB");
    const env = await handle.getEnv();

    return {
      url,
      /** A request as from outside. `target` is a path, or a whole URL when the host matters. */
      fetch: (target, init) => server.fetch(target, { redirect: "manual", ...init }),
      /** The bindings of the running Worker: env.DB, env.KV, env.PARTNERSHIP … */
      env,
      /** The rows of one statement in D1. */
      rows: async (sql, ...values) => (await env.DB.prepare(sql).bind(...values).all()).results,
      /** Runs a cron as of `time` (Date, milliseconds or RFC 3339); resolves when the job has ended. */
      scheduled: (cron, time = Date.now()) => handle.scheduled({ cron, scheduledTime: new Date(time) }),
      /** What the Worker wrote to its console since the start or clearLogs(): [{ timestamp, level, message }]. */
      logs: () => server.getLogs(),
      clearLogs: () => {
        canary.wrote(messages());
        server.clearLogs();
      },
      /** Throws an object out of memory, as Cloudflare may at any time; its storage stays. */
      evict: (binding, name) => handle.evictDurableObject(binding, { name }),
      /** The ids of the objects that have stored something. */
      objectIds: (binding) => handle.listDurableObjectIds(binding),
      canary,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function withoutUndefined(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

// ---- calling it ----------------------------------------------------------------------------------

export const API = "/api/v1/orchestration";
export const AUTH = "/api/v1/auth";

/**
 * Somebody who calls the Worker, with a token or without: `get(path, headers)`, `post(path, body, headers)` and so on,
 * each to { status, headers, text, json }. A body that is a string, bytes or a stream is sent as it is, any other as JSON.
 */
export function caller(worker, token) {
  async function request(method, path, { body, headers } = {}) {
    const raw = typeof body === "string" || body instanceof Uint8Array || body instanceof ReadableStream;
    const init = {
      method,
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: raw ? body : JSON.stringify(body) }),
      ...(body instanceof ReadableStream && { duplex: "half" }),
    };
    const response = await worker.fetch(path, init);
    const text = await response.text();
    const reply = { status: response.status, headers: response.headers, text, json: jsonOrUndefined(text) };
    worker.canary.saw(method, path, { headers: init.headers, body }, reply);
    return reply;
  }
  const withBody = (method) => (path, body, headers) => request(method, path, { body, headers });
  return {
    token,
    request,
    get: (path, headers) => request("GET", path, { headers }),
    head: (path, headers) => request("HEAD", path, { headers }),
    delete: (path, headers) => request("DELETE", path, { headers }),
    post: withBody("POST"),
    put: withBody("PUT"),
    patch: withBody("PATCH"),
  };
}

/** The caller that a login makes, with the reply as `tokens`. */
export async function logIn(worker, { username, password } = ADMIN) {
  const tokens = expect(await caller(worker).post(`${AUTH}/login`, { username, password }), 200);
  return { ...caller(worker, tokens.access_token), tokens };
}

/** The body of a reply of this status. */
export function expect(reply, status) {
  assert.equal(reply.status, status, reply.text.slice(0, 1000));
  return reply.json;
}

/** The body of a problem of this status and code, with all that each problem must say. */
export function expectProblem(reply, status, code) {
  const problem = expect(reply, status);
  assert.equal(reply.headers.get("content-type"), "application/problem+json");
  assert.equal(problem.code, code, reply.text);
  assert.equal(problem.status, status);
  assert.equal(problem.request_id, reply.headers.get("x-request-id"));
  for (const field of ["type", "title", "detail", "instance"]) assert.equal(typeof problem[field], "string", field);
  return problem;
}

/** Whatever the isolate keeps of the tenant's board is forgotten: a push forgets it, and one whose only row is refused
 *  changes nothing. (Otherwise a reader may be shown what was known, or checked, up to a second ago.) */
export async function forgetBoard(admin, partnership) {
  const { accepted } = expect(await admin.post(`${API}/partnerships/${partnership}/observations`, [{}]), 202);
  assert.equal(accepted, 0);
}

/** The Worker's log lines, parsed, as soon as they are `enough` (or a moment has passed: then the test says what is
 *  missing): they come through a pipe of their own, later than the replies. */
export async function logLines(worker, enough) {
  for (const deadline = Date.now() + 2_000; ; await sleep(20)) {
    const lines = worker.logs().map(({ message }) => JSON.parse(message));
    if (enough(lines) || Date.now() > deadline) return lines;
  }
}

function jsonOrUndefined(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** An access token made without the Worker's code, signed with its key; `claims`, `header` and `seed` replace parts of
 *  a good one, and what is undefined is left out. */
export function mintToken({ claims = {}, header = {}, seed = SIGNING_SEED } = {}) {
  // RFC 8410: an Ed25519 private key in PKCS #8 is this prefix and the seed.
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const { x } = createPublicKey(key).export({ format: "jwk" });
  const kid = createHash("sha256").update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest("base64url");
  const now = Date.now();
  const iat = Math.floor(now / 1000);
  const good = {
    iss: "devskyy-orchestration",
    aud: "devskyy-orchestration-api",
    sub: `usr_${uuidV7(now)}`,
    tid: "ten_default",
    role: "admin",
    jti: `tok_${uuidV7(now)}`,
    iat,
    nbf: iat,
    exp: iat + 900,
  };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const message = `${part({ alg: "EdDSA", typ: "at+jwt", kid, ...header })}.${part({ ...good, ...claims })}`;
  return `${message}.${sign(null, Buffer.from(message), key).toString("base64url")}`;
}

/** RFC 9562: 48 bits of milliseconds, version and variant, the rest random. */
export function uuidV7(ms) {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(ms, 0, 6);
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

// ---- what the Worker fetches ---------------------------------------------------------------------
//
// The harness hands each fetch of the Worker to this process's `fetch(url, request)`. Replacing that
// function is the way to play the partner, or to see that nothing was sent. A test file is one process
// and should run one Worker at a time: the last one started decides what is answered.

let answerOutbound = loopbackOnly;
const realFetch = globalThis.fetch;

globalThis.fetch = function fetch(input, init) {
  // Only the harness passes a request as the second argument; a call of the test itself goes through.
  const isOutbound = init?.url !== undefined && init.url === input;
  return isOutbound ? Promise.resolve(init).then((request) => answerOutbound(request)) : realFetch(input, init);
};

/** Real servers on this machine are reached, anything else behaves as if the network were cut. */
export function loopbackOnly(request) {
  const { hostname } = new URL(request.url);
  if (!["127.0.0.1", "[::1]", "localhost"].includes(hostname)) return networkFailure();
  const headers = new Headers(request.headers);
  headers.delete("host"); // taken from the URL
  // The Worker decides about redirects, so none may be followed on its behalf here.
  const { method, body } = request;
  return realFetch(request.url, { method, headers, body, duplex: "half", redirect: "manual", signal: workerLeaves() })
    .catch(networkFailure);
}

// The runtime asks this process over HTTP and closes that connection when the Worker gives up a fetch or cancels a
// body. Passed on, a server on this machine sees its client leave, as a real one would.
const exchange = new AsyncLocalStorage();
subscribe("http.server.request.start", ({ response }) => exchange.enterWith(response));

function workerLeaves() {
  const left = new AbortController();
  exchange.getStore().once("close", () => left.abort());
  return left.signal;
}

/** The Worker's fetch() rejects with "Network connection lost.": the runtime gives up on a length that is no number.
 *  (An exception thrown in `outbound` would instead reach the Worker as a 500 answer.) */
export function networkFailure() {
  return new Response(null, { headers: { "content-length": "none" } });
}

/** The answer starts, then the connection breaks: reading its body rejects. */
export function brokenBody(start, init = {}) {
  const length = String(Buffer.byteLength(start) + 1);
  return new Response(start, { ...init, headers: { ...init.headers, "content-length": length, connection: "close" } });
}

/** The partner that never answers: only a deadline of the Worker's own ends the wait. */
export function silence() {
  return new Promise(() => {});
}
