// `make bench`: how fast the Worker answers, beside a Worker in JavaScript that gives one constant reply,
// and another that also writes a log line for each request, as the API does.
// Absolute figures are of this machine; the ratios to those two in the same run are what lasts.
//
// BENCH_SECONDS (8) a target, BENCH_CONNECTIONS (32), BENCH_ROUNDS (2): each target is measured in every
// round, forward in the first and backward in the second, so that a drift of the machine meets all alike.
import { setTimeout as sleep } from "node:timers/promises";
import { load, describe, together } from "./oha.mjs";
import { integer, machine, ms, percent, publish, revision, setting, table } from "./report.mjs";
import { BASE, get, observations, startApi, startConstant } from "./servers.mjs";

const SECONDS = setting("BENCH_SECONDS", 8);
const CONNECTIONS = setting("BENCH_CONNECTIONS", 32);
const ROUNDS = setting("BENCH_ROUNDS", 2);
const WARM_UP_SECONDS = 1;
const MAX_FAILED_SHARE = 0.001;
const INGEST_ROWS = 100;
// An access token lives 15 minutes.
const MAX_RUN_SECONDS = 13 * 60;

// What a gateway collects in a few seconds; a batch that spans more minutes touches more rollups.
const INGEST_SPAN_MS = 10_000;

const CONSTANT = "JS, constant reply";
const LOGGING = "JS, constant reply and log line";
const LIMITED = "GET /health, limits on";
const UNLIMITED = "GET /health, limits off";
const MIN_LIMITED_SHARE = 0.9;
const addressOf = (n) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
const DECISION = {
  context: {
    estimated_cost: 100000, expected_revenue: 350000, estimated_days: 90, technical_complexity: 3,
    market_uncertainty: 2, resource_availability: 8, timeline_pressure: 3, revenue_impact: 1500000,
  },
};

let api;
let limited;
let unlimited;
let constant;
let logging;
try {
  const facts = machine();
  api = await startApi();
  // A pair for the cost of the limits: whatever else is sent goes to neither.
  limited = await startApi();
  unlimited = await startApi({ limits: false });
  const example = await exampleReply();
  constant = await startConstant({ headers: example.headers, body: example.body });
  logging = await startConstant(example);
  const targets = listTargets();
  const seconds = targets.length * (WARM_UP_SECONDS + SECONDS);
  if (seconds > MAX_RUN_SECONDS) throw new Error(`${seconds} s are longer than an access token lives; lower BENCH_SECONDS`);

  for (const target of targets) await load({ ...target, seconds: WARM_UP_SECONDS, connections: CONNECTIONS });
  const results = new Map(targets.map(({ name }) => [name, []]));
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const target of round % 2 === 0 ? targets : targets.toReversed()) {
      process.stderr.write(`round ${round + 1} of ${ROUNDS}: ${target.name}\n`);
      const before = target.server.cpuMs();
      const run = await load({ ...target, seconds: SECONDS / ROUNDS, connections: CONNECTIONS });
      results.get(target.name).push({ ...run, cpuMs: target.server.cpuMs() - before });
    }
  }
  report(results, facts, example, [...(await many()), ...(await crowd())]);
} catch (error) {
  console.error(`\nThe benchmark failed: ${error.message}`);
  process.exitCode = 1;
} finally {
  await Promise.allSettled([api, limited, unlimited, constant, logging].map((server) => server?.close()));
}

/** What the constant Workers answer, and log: just what /health without a token does, headers included. */
async function exampleReply() {
  const response = await fetch(`${unlimited.url}${BASE}/health`);
  const headers = Object.fromEntries(response.headers);
  delete headers["content-length"]; // the runtime's own
  delete headers.date;
  const body = await response.text();
  const deadline = Date.now() + 5_000;
  while (unlimited.lastLine() === undefined && Date.now() < deadline) await sleep(20);
  return { headers, body, line: unlimited.lastLine() };
}

function listTargets() {
  const token = { authorization: `Bearer ${api.token}` };
  const health = (server) => ({ server, urls: [`${server.url}${BASE}/health`], headers: { authorization: `Bearer ${server.token}` } });
  const route = (name, path, more = {}) => ({ name, server: api, urls: [api.url + BASE + path], headers: token, ...more });
  const post = (name, path, body) => {
    const headers = { ...token, "content-type": "application/json" };
    return route(name, path, { method: "POST", headers, body: JSON.stringify(body) });
  };
  return [
    { name: CONSTANT, server: constant, urls: [`${constant.url}/`] },
    { name: LOGGING, server: logging, urls: [`${logging.url}/`] },
    // Without a token every request counts against its address, whose limit nobody can raise.
    { name: "GET /health, no token, limits off", ...health(unlimited), headers: {} },
    { name: UNLIMITED, ...health(unlimited) },
    { name: LIMITED, ...health(limited) },
    route("GET /partnerships", "/partnerships"),
    route("GET /metrics", "/metrics"),
    post("POST /decisions", "/decisions", DECISION),
    post(`POST observations, ${INGEST_ROWS} rows`, "/partnerships/research/observations", observations(INGEST_ROWS, INGEST_SPAN_MS / INGEST_ROWS)),
  ];
}

/** Requests of anonymous clients, each an address of its own, some at the same time. */
async function visit(server, addresses) {
  for (let i = 0; i < addresses.length; i += CONNECTIONS) {
    await Promise.all(addresses.slice(i, i + CONNECTIONS).map(async (address) => {
      const response = await fetch(`${server.url}${BASE}/health`, { headers: { "cf-connecting-ip": address } });
      await response.arrayBuffer();
      if (response.status !== 200) throw new Error(`${address}: ${response.status}`);
    }));
  }
}

/** Many clients, each within the limit as it is by default, so with the small leases of that: what the runtime spends on
 *  a request of theirs, with limits and without. (Node sends these; it is too slow to find the most that is possible.) */
async function many() {
  const clients = Array.from({ length: 300 }, (_, n) => addressOf(100_000 + n));
  const micros = async (server) => {
    // The first requests make the objects.
    for (let i = 0; i < 8; i += 1) await visit(server, clients);
    const before = server.cpuMs();
    const rounds = 60;
    for (let i = 0; i < rounds; i += 1) await visit(server, clients);
    return (1_000 * (server.cpuMs() - before)) / (rounds * clients.length);
  };
  const without = await micros(unlimited);
  const withLimits = await micros(limited);
  return [`${clients.length} clients within the default limit, leases of at most 10: ${integer(withLimits)} us CPU a request, without limits ${integer(without)}.`];
}

/** Ten thousand clients in one isolate: what that does to its memory. */
async function crowd() {
  const clients = 10_000;
  const memory = async () => (await get(api.url, `${BASE}/status`, api.token)).resource_usage.wasm_memory_bytes;
  const all = (from) => Array.from({ length: clients }, (_, n) => addressOf(from + n));
  const before = await memory();
  await visit(api, all(0));
  const after = await memory();
  await visit(api, all(clients));
  const twice = await memory();
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return [
    `Memory of the isolate (WebAssembly): ${mib(before)} before, ${mib(after)} after ${integer(clients)} distinct clients, ${mib(twice)} after ${integer(2 * clients)};`,
    "it remembers the last 4,096 of them.",
  ];
}

function report(results, facts, example, further) {
  const described = [...results].map(([name, runs]) => {
    const all = together(runs);
    const cpu = runs.every(({ cpuMs }) => Number.isFinite(cpuMs)) ? runs.reduce((sum, { cpuMs }) => sum + cpuMs, 0) : NaN;
    return { name, ...describe(all), cpuMicros: (1_000 * cpu) / all.requests.length };
  });
  const rate = (name) => described.find((one) => one.name === name).perSecond;
  const share = rate(LIMITED) / rate(UNLIMITED);
  const rows = described.map((one) => [
    one.name,
    integer(one.perSecond),
    (one.perSecond / rate(CONSTANT)).toFixed(2),
    (one.perSecond / rate(LOGGING)).toFixed(2),
    ms(one.p50),
    ms(one.p95),
    ms(one.p99),
    Number.isFinite(one.cpuMicros) ? integer(one.cpuMicros) : "-",
    percent(one.failedShare),
  ]);
  const head = ["", "requests/s", "to JS", "to JS+log", "p50 ms", "p95 ms", "p99 ms", "CPU us", "errors"];
  const text = [
    `Benchmark of ${new Date().toISOString().slice(0, 10)}, revision ${revision()}`,
    ...facts,
    `${CONNECTIONS} connections, each asks again as soon as it was answered; ${SECONDS} s a target in ${ROUNDS} rounds after a warm-up of ${WARM_UP_SECONDS} s.`,
    "All Workers under miniflare, without its proxy in front. The constant reply has the headers and body of",
    `/health without a token: ${Object.keys(example.headers).length} headers, ${Buffer.byteLength(example.body)} bytes; the log line is its line, ${Buffer.byteLength(example.line ?? "")} bytes.`,
    "With every connection busy, the times are mostly waiting for one's turn: connections / requests per",
    "second. \"to JS\" and \"to JS+log\" are ratios of requests/s; CPU is that of the runtime for one request.",
    "",
    table(head, rows),
    "",
    `Rate limits: GET /health reaches ${share.toFixed(2)} of its throughput without them (at least ${MIN_LIMITED_SHARE} wanted). One client`,
    "sends all of it, under a limit of 1,000,000 a minute, whose leases are of up to 10,000 tokens.",
    ...further,
  ].join("\n");
  publish("latest.txt", text);

  if (share < MIN_LIMITED_SHARE) {
    console.error(`Rate limits cost too much: ${share.toFixed(2)} of the throughput is left, not ${MIN_LIMITED_SHARE}.`);
    process.exitCode = 1;
  }
  for (const { name, failed, failedShare, reasons } of described) {
    if (failedShare <= MAX_FAILED_SHARE) continue;
    console.error(`${name}: ${failed} failed (${percent(failedShare)}): ${JSON.stringify(reasons)}`);
    process.exitCode = 1;
  }
}
