// What is measured: the built Worker as wrangler.toml describes it, and Workers in JavaScript that answer
// every request with one constant reply. Each runs in a runtime of its own (workerd, started by miniflare)
// and listens itself: the proxy Worker that miniflare puts in front of others is left out.
import { readFileSync, readdirSync, existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Miniflare, NoOpLog, convertV4MiniflareOptions } from "miniflare";
import { startSimulator } from "../worker/simulator.mjs";
import { unstable_getMiniflareWorkerOptions as readOptions, unstable_splitSqlQuery as splitSql } from "wrangler";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
export const BASE = "/api/v1/orchestration";
const ADMIN = { username: "admin", password: "password of the load test" };
const PARTNERSHIPS = ["cursor_technical", "grok_brand", "gemini_visual", "chatgpt_customer", "claude_strategic", "perplexity_research"];
const ROWS_PER_CALL = 500;

/** The built Worker with an empty database, seeded, and somebody logged in. With rate limits it counts as in
 *  production; the limits themselves are raised, as one client sends all of the load. */
export async function startApi({ limits = true } = {}) {
  if (!existsSync(join(PROJECT, "build/index.js"))) throw new Error("no build/index.js: run `make build` first");
  const { workerOptions, main } = readOptions(join(PROJECT, "wrangler.toml"));
  // Files are served through one more Worker, which no measured route uses. The rules say how to find the
  // modules of a Worker that is not built; this one is, and consists of just these two.
  const { assets, modulesRules, ...options } = workerOptions;
  // Its own check of the way out must not leave this machine.
  const outside = await startSimulator({ names: ["control_a", "control_b"] });
  const server = await start({
    ...options,
    modulesRoot: dirname(main),
    modules: [
      { type: "ESModule", path: main },
      { type: "CompiledWasm", path: join(dirname(main), "index_bg.wasm") },
    ],
    bindings: {
      ...options.bindings,
      ENVIRONMENT: "development",
      RATE_LIMITING: limits ? "on" : "off",
      PUBLIC_HEALTH: "true",
      CONTROL_TARGETS: outside.names.map(outside.url).join(),
      SIGNING_KEY_ACTIVE: "1",
      SIGNING_KEY: `dev:${Buffer.alloc(32, 7).toString("base64url")}`,
      BOOTSTRAP_ADMIN_USERNAME: ADMIN.username,
      BOOTSTRAP_ADMIN_PASSWORD: ADMIN.password,
    },
    serviceBindings: { ...options.serviceBindings, [assets.binding]: () => new Response(null, { status: 404 }) },
  });
  const close = () => Promise.all([server.close(), outside.close()]);
  try {
    await migrate(await server.miniflare.getD1Database("DB"));
    return { ...server, close, token: await seed(server.url) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A Worker that always gives the reply it was started with, same headers and same body, after writing `line` if there is one. */
export async function startConstant({ headers, body, line }) {
  const script = `
    const body = ${JSON.stringify(body)};
    const headers = ${JSON.stringify(headers)};
    export default {
      fetch() {
        ${line === undefined ? "" : `console.log(${JSON.stringify(line)});`}
        return new Response(body, { headers });
      },
    };`;
  return start({ modules: true, script, compatibilityDate: "2026-11-01" });
}

async function start(worker) {
  const before = runtimes();
  let lastLine;
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: 0,
      cf: false,
      log: new NoOpLog(),
      telemetry: { enabled: false },
      // Lines are taken from the runtime, as in production, and dropped.
      handleStructuredLogs: ({ message }) => (lastLine = message),
      workers: [{ name: "measured", unsafeDirectSockets: [{ host: "127.0.0.1", port: 0, proxy: false }], ...worker }],
    }),
  );
  await miniflare.ready;
  const url = (await miniflare.unsafeGetDirectURL("measured")).origin;
  const process = runtimes().find((id) => !before.includes(id));
  return {
    miniflare,
    url,
    lastLine: () => lastLine,
    /** Processor time the runtime has used, in milliseconds; null where the system does not tell. */
    cpuMs: () => (process === undefined ? null : cpuMs(process)),
    close: () => miniflare.dispose(),
  };
}

async function migrate(database) {
  const folder = join(PROJECT, "migrations");
  for (const name of readdirSync(folder).filter((name) => name.endsWith(".sql")).sort()) {
    const statements = splitSql(readFileSync(join(folder, name), "utf8"));
    await database.batch(statements.map((statement) => database.prepare(statement)));
  }
}

/** Observations, a KPI value and a deliverable for each partnership, so that no page is empty. Returns a token. */
async function seed(url) {
  const send = async (method, path, body, token) => {
    const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
    const response = await fetch(url + path, { method, headers, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 500)}`);
    return JSON.parse(text);
  };
  const { access_token: token } = await send("POST", "/api/v1/auth/login", ADMIN);
  const perMinute = Object.fromEntries(["default", "metrics", "decisions", "ingest", "documents"].map((name) => [name, 1_000_000]));
  await send("PATCH", `${BASE}/config`, { limits: { ...perMinute, daily_tenant: 1_000_000_000 } }, token);
  for (const id of PARTNERSHIPS) {
    const path = `${BASE}/partnerships/${id}`;
    for (let call = 0; call < 2; call += 1) {
      await send("POST", `${path}/observations`, observations(ROWS_PER_CALL, 60_000, call * ROWS_PER_CALL), token);
    }
    const { agreement, deliverables } = await get(url, `${path}/status`, token);
    const [kpi] = agreement.kpis;
    await send("POST", `${path}/kpis/${kpi.name}`, { value: kpi.target, at: new Date().toISOString() }, token);
    await send("PUT", `${path}/deliverables/${deliverables[0].name}`, { completion_percentage: 50, status: "in_progress" }, token);
  }
  return token;
}

export async function get(url, path, token) {
  const response = await fetch(url + path, { headers: token ? { authorization: `Bearer ${token}` } : {} });
  if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${(await response.text()).slice(0, 500)}`);
  return response.json();
}

/** Rows going back from now, one every so often, without the newest `skip`. */
export function observations(count, everyMs, skip = 0) {
  return Array.from({ length: count }, (_, i) => ({
    at: new Date(Date.now() - (skip + i) * everyMs).toISOString(),
    outcome: i % 100 === 99 ? "down" : "up",
    latency_ms: 80 + ((i * 37) % 220),
    source: "load",
  }));
}

// ---- processor time of the runtimes we started (Linux tells in /proc, others do not) ---------------

function runtimes() {
  if (!existsSync("/proc/self/stat")) return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((id) => {
      const stat = readStat(id);
      return stat !== undefined && stat.name === "workerd" && stat.parent === process.pid;
    });
}

// proc(5): the name in brackets, then from field 3 on; times in clock ticks, of which Linux has 100 a second.
function readStat(id) {
  try {
    const [, name, rest] = /\((.*)\) (.*)/s.exec(readFileSync(`/proc/${id}/stat`, "utf8"));
    const fields = rest.split(" ");
    return { name, parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
  } catch {
    return undefined; // ended meanwhile
  }
}

function cpuMs(id) {
  const stat = readStat(id);
  return stat === undefined ? null : stat.ticks * 10;
}
