// Starts the built Worker on the real runtime (workerd), as wrangler.toml describes it, with an empty
// database, KV and objects of its own. About 0.7 s; nothing is kept after close().
//
//   const worker = await startWorker({ vars: { PUBLIC_HEALTH: "false" } });
//   after(() => worker.close());
//   const response = await worker.fetch("/api/v1/orchestration/health");
import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// Without this the runtime asks the network for a sample `request.cf` at every start. Read when wrangler starts a server.
process.env.CLOUDFLARE_CF_FETCH_ENABLED = "false";
const { createTestHarness } = await import("wrangler");

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
// Everything wrangler.toml names. See startWorker for why they are linked and not used in place.
const CONFIGURATION = ["wrangler.toml", "build", "migrations", "assets"];

export const ADMIN = { username: "admin", password: "password of the tests only" };

const VARS = { ENVIRONMENT: "development" };
const SECRETS = {
  SIGNING_KEY: `dev:${Buffer.alloc(32, 7).toString("base64url")}`,
  BOOTSTRAP_ADMIN_USERNAME: ADMIN.username,
  BOOTSTRAP_ADMIN_PASSWORD: ADMIN.password,
};

/**
 * @param options.vars      [vars] of wrangler.toml to override
 * @param options.secrets   secrets to add or override
 * @param options.outbound  (request) => Response, answers every fetch the Worker makes; see `outbound` below
 */
export async function startWorker({ vars = {}, secrets = {}, outbound = loopbackOnly } = {}) {
  if (!existsSync(join(PROJECT, "build/index.js"))) throw new Error("no build/index.js: run `make build` first");

  // wrangler reads .dev.vars from the folder of its configuration. A folder with links to the parts of the
  // project, and without the developer's own secrets, makes a test mean the same on every machine.
  const folder = mkdtempSync(join(tmpdir(), "worker-test-"));
  for (const name of CONFIGURATION) symlinkSync(join(PROJECT, name), join(folder, name));

  const server = createTestHarness({
    workers: [
      {
        configPath: join(folder, "wrangler.toml"),
        vars: { ...VARS, ...vars },
        secrets: { ...SECRETS, ...secrets },
      },
    ],
  });
  answerOutbound = outbound;

  async function close() {
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  }

  try {
    const { url } = await server.listen();
    const handle = server.getWorker();
    // wrangler's own code: the files in order, each in one transaction, its name noted in d1_migrations.
    await handle.applyD1Migrations("DB");

    return {
      url,
      /** A request as from outside. `target` is a path, or a whole URL when the host matters. */
      fetch: (target, init) => server.fetch(target, { redirect: "manual", ...init }),
      /** The bindings of the running Worker: env.DB, env.KV, env.PARTNERSHIP … */
      env: await handle.getEnv(),
      /** Runs a cron as of `time` (Date, milliseconds or RFC 3339); resolves when the job has ended. */
      scheduled: (cron, time = Date.now()) => handle.scheduled({ cron, scheduledTime: new Date(time) }),
      /** What the Worker wrote to its console since the start or clearLogs(): [{ timestamp, level, message }]. */
      logs: () => server.getLogs(),
      clearLogs: () => server.clearLogs(),
      /** Throws an object out of memory, as Cloudflare may at any time; its storage stays. */
      evict: (binding, name) => handle.evictDurableObject(binding, { name }),
      /** The ids of the objects that have stored something. */
      objectIds: (binding) => handle.listDurableObjectIds(binding),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
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
  return realFetch(request.url, { method: request.method, headers, body: request.body, duplex: "half", redirect: "manual" })
    .catch(networkFailure);
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
