// `make bench-contract`: the load of the contract. 1000 connections at 567 requests a second, over the routes
// that people and scrapers poll, while decisions are asked for beside it. Fails where a floor is missed.
//
// CONTRACT_SECONDS (60; the contract says 300), CONTRACT_CONNECTIONS (1000), CONTRACT_RATE (567),
// CONTRACT_ROUTES (all): some of the routes below, comma separated, to see what each costs the others.
import { describe, load } from "./oha.mjs";
import { integer, machine, ms, percent, publish, revision, setting, table, watchCores } from "./report.mjs";
import { BASE, startApi } from "./servers.mjs";

const SECONDS = setting("CONTRACT_SECONDS", 60);
const CONNECTIONS = setting("CONTRACT_CONNECTIONS", 1_000);
const RATE = setting("CONTRACT_RATE", 567);
const DECISIONS_A_SECOND = 5;
const WARM_UP_SECONDS = 3;
// With less than this left, the load tool itself waits for a core and no figure is of the Worker alone.
const MIN_IDLE_SHARE = 0.05;

const FLOORS = { mean: 45, p95: 120, p99: 250, failedShare: 0.001 };
// The contract's targets for single routes, held against their p95.
const ALL_ROUTES = {
  "/health": 50,
  "/metrics": 100,
  "/metrics/technical": 100,
  "/partnerships": 200,
  "/partnerships/brand/status": 200,
  "/status": 100,
  "/config": 50,
  "/deployment/readiness": 100,
};
const ROUTES = chosen(process.env.CONTRACT_ROUTES);
const DECISIONS_TARGET_MS = 500;
const DECISION = { context: { estimated_cost: 100000, expected_revenue: 350000, estimated_days: 90, technical_complexity: 3, market_uncertainty: 2, resource_availability: 8, timeline_pressure: 3, revenue_impact: 1500000 } };

let api;
try {
  const facts = machine();
  api = await startApi();
  const headers = { authorization: `Bearer ${api.token}` };
  const reads = { urls: Object.keys(ROUTES).map((path) => api.url + BASE + path), headers, connections: CONNECTIONS, perSecond: RATE };
  const decisions = {
    urls: [`${api.url}${BASE}/decisions`],
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify(DECISION),
    connections: 2,
    perSecond: DECISIONS_A_SECOND,
  };
  await load({ ...reads, seconds: WARM_UP_SECONDS });
  const before = api.cpuMs();
  const idle = watchCores();
  const startedAt = Date.now();
  const [read, decided] = await Promise.all([load({ ...reads, seconds: SECONDS }), load({ ...decisions, seconds: SECONDS })]);
  const busy = before === null ? NaN : (api.cpuMs() - before) / (Date.now() - startedAt);
  report(read, decided, { idle: idle(), busy }, facts);
} catch (error) {
  console.error(`\nThe load test failed: ${error.message}`);
  process.exitCode = 1;
} finally {
  await api?.close();
}

function chosen(names) {
  if (names === undefined) return ALL_ROUTES;
  const wanted = names.split(",");
  const unknown = wanted.filter((name) => !(name in ALL_ROUTES));
  if (unknown.length > 0) throw new Error(`CONTRACT_ROUTES: ${unknown} is not among ${Object.keys(ALL_ROUTES)}`);
  return Object.fromEntries(wanted.map((name) => [name, ALL_ROUTES[name]]));
}

function report(read, decided, { idle, busy }, facts) {
  const all = describe(read);
  const verdict = (isKept) => (isKept ? "kept" : "MISSED");
  const floors = [
    ["mean", ms(all.mean), `${FLOORS.mean} ms`, verdict(all.mean <= FLOORS.mean)],
    ["p95", ms(all.p95), `${FLOORS.p95} ms`, verdict(all.p95 <= FLOORS.p95)],
    ["p99", ms(all.p99), `${FLOORS.p99} ms`, verdict(all.p99 <= FLOORS.p99)],
    ["errors", percent(all.failedShare), percent(FLOORS.failedShare), verdict(all.failedShare <= FLOORS.failedShare)],
    // A tool or a server that does not keep up would make the rest easy.
    ["requests/s", integer(all.perSecond), integer(RATE), verdict(all.perSecond >= 0.98 * RATE)],
  ];
  const routes = Object.entries(ROUTES).map(([route, target]) => {
    const requests = read.requests.filter(({ path }) => path === BASE + route);
    return [`GET ${route}`, target, describe({ ...read, requests, failed: 0 })];
  });
  routes.push(["POST /decisions", DECISIONS_TARGET_MS, describe(decided)]);
  const rows = routes.map(([name, target, one]) => [name, integer(one.sent), ms(one.mean), ms(one.p95), ms(one.p99), `${target} ms`, verdict(one.p95 < target)]);

  const text = [
    `The contract's load, ${new Date().toISOString().slice(0, 10)}, revision ${revision()}`,
    ...facts,
    `${integer(CONNECTIONS)} connections, ${integer(RATE)} requests a second for ${SECONDS} s, the routes below at random; beside them`,
    `${DECISIONS_A_SECOND} decisions a second. Under miniflare, without its proxy in front. Times count from when a request was due.`,
    `All cores together were idle ${percent(idle)} of the time${Number.isFinite(busy) ? `; the runtime used ${percent(busy)} of one` : ""}.`,
    ...(idle < MIN_IDLE_SHARE ? ["That is too little: something else was running, measure again."] : []),
    "",
    table(["all reads", "measured", "floor", ""], floors),
    "",
    table(["route", "requests", "mean ms", "p95 ms", "p99 ms", "target", "p95"], rows),
  ].join("\n");
  if (ROUTES === ALL_ROUTES) publish("contract.txt", text);
  else console.log(`\n${text}`);

  if (all.failed > 0) console.error(`failed reads: ${JSON.stringify(all.reasons)}`);
  const decisions = describe(decided);
  if (decisions.failed > 0) console.error(`failed decisions: ${JSON.stringify(decisions.reasons)}`);
  const isKept = [...floors, ...rows].every((row) => row.at(-1) === "kept") && decisions.failedShare <= FLOORS.failedShare;
  if (!isKept) {
    console.error("Not every floor was kept.");
    process.exitCode = 1;
  }
}
