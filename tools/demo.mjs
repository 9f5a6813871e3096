// `make demo`: the API at work. Starts the built Worker on the real runtime, plays its six partners on
// loopback, lets them fail and recover, and prints each request with the part of its reply that matters.
// Checks what it shows and exits with 1 where something is not as it should be. Touches no network.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { ADMIN, startWorker } from "../tests/worker/harness.mjs";
import { startSimulator, statusPage } from "../tests/worker/simulator.mjs";

const BASE = "/api/v1/orchestration";
const EVERY_MINUTE = "* * * * *";
const MINUTE_MS = 60_000;
// An isolate may serve a board this old; what a cron changed is seen by everybody after it.
const BOARD_AGE_MS = 1_000;
const TOO_LONG_MS = 60_000;
const WIDTH = 120;
const PROSE_WIDTH = 100;
const MAX_TEXT_CHARS = 90;

const PARTNERSHIPS = {
  cursor_technical: "cursor",
  grok_brand: "grok",
  gemini_visual: "gemini",
  chatgpt_customer: "chatgpt",
  claude_strategic: "claude",
  perplexity_research: "perplexity",
};

const startedAt = Date.now();
let partners;
let api;
let token;
let requests = 0;
let checks = 0;
const watchdog = setTimeout(() => stop(new Error(`not done after ${TOO_LONG_MS / 1000} s`)), TOO_LONG_MS);

async function main() {
  try {
    partners = await startSimulator();
    api = await startWorker({
      vars: {
        ALLOW_LOOPBACK_PROBES: "true",
        CONTROL_TARGETS: `${partners.url("control_a")},${partners.url("control_b")}`,
      },
    });
    await demo();
    const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
    console.log(`\nDone: ${requests} requests and ${checks} checks in ${seconds} s, all as it should be.`);
    await stop();
  } catch (error) {
    await stop(error);
  }
}

async function stop(error) {
  clearTimeout(watchdog);
  if (error) {
    const known = error instanceof assert.AssertionError || error.message.startsWith("no build/") || error.message.startsWith("not done");
    console.error(`\nThe demo failed: ${known ? error.message : error.stack}`);
  }
  await Promise.allSettled([api?.close(), partners?.close()]);
  process.exit(error ? 1 : 0);
}

// ---- the story -----------------------------------------------------------------------------------

async function demo() {
  // Status pages are read once in five minutes. A clock that starts on such a boundary makes the run the same every time.
  const clock = new Clock(Math.floor(Date.now() / (5 * MINUTE_MS)) * 5 * MINUTE_MS);

  title("Log in", "The first administrator comes from two secrets of the deployment. The token lives 15 minutes.");
  const login = await call("POST", "/api/v1/auth/login", {
    body: ADMIN,
    printBody: { ...ADMIN, password: "…" },
    show: ({ access_token, refresh_token, ...rest }) => ({ access_token: cut(access_token), refresh_token: cut(refresh_token), ...rest }),
  });
  token = login.access_token;

  title("A new deployment knows nothing, and says so", "No constant stands in for a measurement. Without a token there are only statuses and scores.");
  const first = await call("GET", `${BASE}/health`, { anonymous: true, show: ({ status, partnerships }) => ({ status, partnerships }) });
  check(first.status === "unknown", "the system is unknown");
  check(Object.keys(first.partnerships).sort().join() === Object.keys(PARTNERSHIPS).sort().join(), "the six partnerships are there");
  for (const [id, known] of Object.entries(first.partnerships)) {
    check(known.health === "unknown" && known.score === null, `${id} is unknown and has no score`);
    check(!("metrics" in known), `${id} shows no metrics to the public`);
  }

  title("Probes are rows in the registry", "Each partnership is pointed at a partner played on this machine (only a development setting allows that).");
  for (const [id, name] of Object.entries(PARTNERSHIPS)) {
    const isFed = id === "claude_strategic"; // gets its observations from a client alone, so that step 9 can be exact
    const probe = { key: "api", url: partners.url(name), deadline_ms: 500 };
    await call("PATCH", `${BASE}/partnerships/${id}`, {
      body: { probes: isFed ? [] : [probe], status_page_url: partners.url(statusPage(name)) },
      quiet: id !== "cursor_technical",
      show: ({ id, agreement, revision }) => ({ id, agreement: pick(agreement, ["status_page_url", "probes"]), revision }),
    });
  }
  note("the same for the other five; claude_strategic gets no probe, a client will feed it");

  title("A minute passes: values appear", "Every value comes with its sample count, interval and source. One good answer is 100 %, but the interval says how little that is.");
  partners.set("cursor", { scenario: "healthy", delayMs: 20 });
  await clock.tick();
  const measured = await health("cursor_technical", ["verdict", "score", "coverage", "terms", "partner_status_page"], ["uptime", "response_time"], { inFull: true });
  check(measured.verdict === "up" && measured.metrics.uptime.n === 1, "one good observation");
  check(measured.partner_status_page.indicator === "none", "the partner's own page was read");
  check(measured.score === 100 && near(measured.coverage, 0.4), "scored from availability alone, 40 of 100 by weight");
  const hits = partners.hits("cursor");
  await clock.repeat();
  check(hits === 1 && partners.hits("cursor") === 1, "a tick that comes twice probes once");
  note("the same cron event comes again: the partner is not called a second time");

  title("A client adds what its own gateway saw", "300 calls of the last five hours. Both sources count alike and are told apart.");
  const history = rows({ seed: 1, count: 300, everyMs: MINUTE_MS, newestAgoMs: MINUTE_MS, source: "gateway-eu", outcome: () => "up", median: 90 });
  await call("POST", `${BASE}/partnerships/cursor_technical/observations`, { body: history, expect: 202 });
  const fed = await health("cursor_technical", ["verdict", "score"], ["uptime", "response_time_p95"]);
  check(fed.metrics.uptime.n === 301, "301 observations");

  title("The partner fails", "First with errors, then it hangs, then it cuts its connections. One failure after a success is not yet an outage; two are. Its status page still says that all is well.");
  const failing = [];
  for (const [behaviour, verdict] of [
    [{ scenario: "error" }, "degraded"],
    [{ scenario: "hanging" }, "down"],
    [{ scenario: "cut" }, "down"],
  ]) {
    partners.set("cursor", behaviour);
    note(`cursor: ${behaviour.scenario}`);
    await clock.tick();
    const last = behaviour.scenario === "cut";
    const known = await health("cursor_technical", ["verdict", "score", ...(last ? ["health", "terms", "partner_status_page"] : [])], ["uptime"]);
    check(known.verdict === verdict, `${behaviour.scenario}: ${verdict}`);
    failing.push(known);
  }
  check(partners.hits("control_a") > 0, "a control target was asked whether we can reach anybody");
  const [one, , three] = failing;
  check(three.metrics.uptime.n === 304 && near(three.metrics.uptime.value, (100 * 301) / 304), "3 of 304 failed");
  check(three.score < one.score && one.score < 100, "the score falls with each failure");
  const availability = three.terms.find(({ name }) => name === "availability");
  check(near(availability.attainment, ((100 * 301) / 304 - 95) / 4.9), "attainment is (uptime - 95) / (99.9 - 95)");
  check(near(sum(three.terms.map(({ points }) => points ?? 0)), three.score), "the points add up to the score");
  check(near(availability.points, three.score), "availability is the one term with data");

  title("Everything fails, the two control targets too", "Then it is us who are cut off. That burns no partner's availability: the counts stay as they were.");
  for (const name of partners.names) await partners.set(name, { scenario: "refused" });
  note("all partners and both control targets refuse connections");
  await clock.tick();
  const cutOff = await call("GET", `${BASE}/health`, {
    show: ({ status, partnerships }) => ({ status, verdicts: Object.fromEntries(Object.entries(partnerships).map(([id, { verdict }]) => [id, verdict])) }),
  });
  for (const [id, { verdict }] of Object.entries(cutOff.partnerships)) {
    if (id !== "claude_strategic") check(verdict === "unreachable_from_us", `${id} is unreachable from us`);
  }
  const { uptime } = cutOff.partnerships.cursor_technical.metrics;
  check(uptime.n === 304 && near(uptime.value, three.metrics.uptime.value), "no observation was counted against it");

  title("It recovers", "The verdict is of now, the score of the last 24 hours. By now the status page is due again, and the partner admits an incident.");
  for (const name of partners.names) await partners.set(name, { scenario: "healthy" });
  partners.set(statusPage("cursor"), { scenario: "status_page", indicator: "major" });
  note("everybody answers again");
  await clock.tick();
  const recovered = await health("cursor_technical", ["verdict", "health", "score", "partner_status_page"], ["uptime"]);
  check(recovered.verdict === "up" && recovered.metrics.uptime.n === 305, "up again, 302 of 305");
  check(recovered.score > three.score && recovered.score < 100, "the failures of the day still count");
  check(recovered.partner_status_page.indicator === "major", "the page was read again, five minutes later");

  await pushTenThousand();
  await moveTheScore();
  await decide();
}

async function pushTenThousand() {
  title("10,000 observations in 20 calls", "Each call carries an Idempotency-Key, so a client that did not get the reply may repeat it: it counts once. Rows that cannot be taken are named, the rest of the call is.");
  const path = `${BASE}/partnerships/claude_strategic/observations`;
  const outcome = (random) => {
    const roll = random();
    return roll < 0.97 ? "up" : roll < 0.985 ? "degraded" : roll < 0.99 ? "down" : roll < 0.995 ? "throttled" : "credential";
  };
  const pushed = rows({ seed: 42, count: 10_000, everyMs: 7_000, newestAgoMs: 2 * MINUTE_MS, source: "gateway-eu", outcome, median: 180 });
  const calls = Array.from({ length: 20 }, (_, i) => ({ body: pushed.slice(i * 500, (i + 1) * 500), headers: { "idempotency-key": `"demo-batch-${i + 1}"` }, expect: 202 }));
  for (const [i, one] of calls.entries()) {
    const reply = await call("POST", path, { ...one, quiet: i > 0 });
    check(reply.accepted === 500 && reply.rejected.length === 0, "500 accepted");
  }
  note("19 more calls like it");
  const repeated = await call("POST", path, { ...calls[6], printBody: "[the same 500 rows]", note: "the seventh once more" });
  check(repeated.accepted === 500, "the repeated call gets the reply of the first");
  await call("POST", path, { ...calls[6], body: calls[7].body, printBody: "[500 other rows]", expect: 422, note: "its key with other rows", show: problem });
  const bad = [{ ...pushed[0], latency_ms: -1 }, { ...pushed[0], at: new Date(Date.now() + 3600_000).toISOString() }];
  const refused = await call("POST", path, { body: bad, expect: 202, note: "rows that no clock and no wire can make" });
  check(refused.accepted === 0 && refused.rejected.map(({ row }) => row).join() === "0,1", "both rows are rejected by number");

  title("Its metrics, beside the exact ones", "Quantiles come from a mergeable sketch with a relative error of at most 1 %, never from averaged percentiles.");
  const served = await call("GET", `${BASE}/metrics/claude`, { show: ({ partnership_type, metrics, timestamp }) => ({ partnership_type, metrics, timestamp }) });
  const count = (name) => pushed.filter(({ outcome }) => outcome === name).length;
  const latencies = pushed.filter(({ outcome }) => ["up", "degraded"].includes(outcome)).map(({ latency_ms }) => latency_ms).sort((a, b) => a - b);
  const exact = {
    response_time: quantile(latencies, 0.5),
    response_time_p95: quantile(latencies, 0.95),
    response_time_p99: quantile(latencies, 0.99),
    uptime: (100 * (count("up") + count("degraded"))) / (count("up") + count("degraded") + count("down")),
    success_rate: (100 * (count("up") + count("degraded"))) / 10_000,
  };
  console.log(`\n     ${"".padEnd(20)}${"exact".padStart(12)}${"served".padStart(12)}${"off by".padStart(10)}${"n".padStart(8)}`);
  for (const [name, value] of Object.entries(exact)) {
    const { value: got, n } = served.details[name];
    const off = Math.abs(got - value) / value;
    console.log(`     ${name.padEnd(20)}${value.toFixed(3).padStart(12)}${got.toFixed(3).padStart(12)}${`${(100 * off).toFixed(2)} %`.padStart(10)}${String(n).padStart(8)}`);
    check(name.startsWith("response_time") ? off <= 0.01 : near(got, value), `${name} is ${value}, served was ${got}`);
  }
  check(served.details.response_time.n === latencies.length, "n is the number of served calls");
  check(served.details.success_rate.n === 10_000, "10,000 attempts: the repeated call counted once, the rejected rows not at all");

  const text = await call("GET", `${BASE}/metrics`, {
    headers: { accept: "application/openmetrics-text" },
    note: "the same for a scraper",
    show: (body) => {
      const wanted = /^# EOF|^devskyy_partnership_(uptime_ratio|response_time_seconds|score).*claude_strategic/;
      return ["…", ...body.split("\n").filter((line) => wanted.test(line))].join("\n");
    },
  });
  check(text.endsWith("# EOF\n"), "the OpenMetrics text is complete");
}

async function moveTheScore() {
  title("A KPI value and a deliverable move the score", "Somebody with a name sends them. Each is a term: here (40 x availability + 10 x 100/125 + 20 x 0.6) / 70.");
  const before = await health("cursor_technical", ["score", "coverage"], [], { quiet: true });
  const path = `${BASE}/partnerships/cursor_technical`;
  await call("POST", `${path}/kpis/api_response_time`, { body: { value: 125, at: new Date().toISOString() }, expect: 202 });
  await call("PUT", `${path}/deliverables/payment_processing_system`, {
    body: { completion_percentage: 60, status: "in_progress", due_date: new Date(Date.now() + 30 * 24 * 3600_000).toISOString().slice(0, 10) },
    show: (reply) => pick(reply, ["name", "progress", "status", "due_date"]),
  });
  const after = await health("cursor_technical", ["health", "score", "coverage", "terms"]);
  const availability = after.terms.find(({ name }) => name === "availability").attainment;
  check(near(after.score, (100 * (40 * availability + 10 * 0.8 + 20 * 0.6)) / 70, 0.01), `the score follows from its terms (${before.score} before)`);
  check(near(after.coverage, 0.7), "70 of 100 by weight have data");
}

async function decide() {
  title("A decision", "From the facts of the request alone; a fact that is missing is never replaced by a default.");
  const context = {
    estimated_cost: 100_000, expected_revenue: 350_000, estimated_days: 90, technical_complexity: 3,
    market_uncertainty: 2, resource_availability: 8, timeline_pressure: 3, revenue_impact: 1_500_000,
  };
  const decided = await call("POST", `${BASE}/decisions`, {
    body: { context },
    show: ({ implementation_plan, ...reply }) => ({
      ...pick(reply, ["decision", "rationale", "priority", "roi_percent", "risk"]),
      implementation_plan: implementation_plan.map(({ phase, duration_days }) => ({ phase, duration_days })),
    }),
  });
  check(decided.decision === "APPROVE_IMMEDIATE", "approved");
  check(decided.roi_percent === 250 && near(decided.risk, 0.25), "ROI and risk follow from the facts");
  check(sum(decided.implementation_plan.map(({ duration_days }) => duration_days)) === 90, "the plan takes the days that were stated");
  const without = await call("POST", `${BASE}/decisions`, {
    body: { context: { expected_revenue: 350_000 } },
    note: "without the cost",
    show: (reply) => pick(reply, ["decision", "rationale"]),
  });
  check(without.decision === "INSUFFICIENT_DATA", "no verdict without the cost");
}

// ---- the clock -----------------------------------------------------------------------------------

/** Fires the minute cron as of one minute after the other, so that each finds its slot free. */
class Clock {
  #minute = -1;
  #start;

  constructor(start) {
    this.#start = start;
  }

  async tick() {
    this.#minute += 1;
    await this.repeat();
    note(`cron "${EVERY_MINUTE}", minute ${this.#minute}`);
  }

  async repeat() {
    const { outcome } = await api.scheduled(EVERY_MINUTE, this.#start + this.#minute * MINUTE_MS);
    check(outcome === "ok", "the cron event was handled");
    await sleep(BOARD_AGE_MS + 100);
  }
}

// ---- requests ------------------------------------------------------------------------------------

/** Sends a request, prints it with its reply (`show` chooses what of it), and checks the status. */
async function call(method, path, { body, printBody = body, headers = {}, expect = 200, anonymous = false, quiet = false, note: remark, show = (reply) => reply } = {}) {
  const send = { ...headers };
  if (body !== undefined) send["content-type"] = "application/json";
  if (!anonymous && token) send.authorization = `Bearer ${token}`;
  const response = await api.fetch(path, { method, headers: send, body: body && JSON.stringify(body) });
  const text = await response.text();
  const reply = /json/.test(response.headers.get("content-type")) ? JSON.parse(text) : text;
  requests += 1;

  const isExpected = response.status === expect;
  if (!quiet || !isExpected) {
    const key = headers["idempotency-key"] ? `  Idempotency-Key: ${headers["idempotency-key"]}` : "";
    console.log(`\n   ${method} ${path}${key}${remark ? `  (${remark})` : ""}`);
    if (body !== undefined) print(Array.isArray(printBody) ? [...printBody.slice(0, 2), ...more(printBody.length - 2)] : printBody, "     ");
    console.log(`   ${response.status}`);
    print(isExpected ? show(reply) : reply, "     ");
  }
  check(isExpected, `${method} ${path}: ${expect} expected, got ${response.status}\n${text.slice(0, 1_000)}`);
  return reply;
}

/** One partnership as /health has it: these fields of it, and of its metrics those named. */
async function health(id, fields, metrics = [], { inFull = false, ...options } = {}) {
  const shown = {
    term: ["name", "weight", "actual", "attainment", "points", ...(inFull ? ["target", "unit", "state", "rule"] : [])],
    metric: ["value", "n", "ci95", "source", ...(inFull ? ["unit", "state"] : [])],
    page: ["indicator", "description", "open_incidents"],
  };
  const reply = await call("GET", `${BASE}/health`, {
    ...options,
    show: ({ status, partnerships }) => {
      const known = pick(partnerships[id], fields);
      // All terms without a value are alike: only how many there are matters.
      if (known.terms) {
        const withData = known.terms.filter(({ points }) => points !== null).map((term) => pick(term, shown.term));
        const rest = known.terms.length - withData.length;
        known.terms = [...withData, ...(rest > 0 ? [`… ${rest} without data`] : [])];
      }
      if (known.partner_status_page) known.partner_status_page = pick(known.partner_status_page, shown.page);
      if (metrics.length > 0) known.metrics = Object.fromEntries(metrics.map((name) => [name, pick(partnerships[id].metrics[name], shown.metric)]));
      return { status, partnerships: { [id]: known } };
    },
  });
  return reply.partnerships[id];
}

const problem = (reply) => pick(reply, ["title", "status", "code", "detail"]);

// ---- observations --------------------------------------------------------------------------------

/** Rows as a client pushes them, the same for the same seed but for their times. Latencies are log-normal. */
function rows({ seed, count, everyMs, newestAgoMs, source, outcome, median }) {
  const random = generator(seed);
  const newest = Date.now() - newestAgoMs;
  return Array.from({ length: count }, (_, i) => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return {
      at: new Date(newest - (count - 1 - i) * everyMs).toISOString(),
      outcome: outcome(random),
      latency_ms: Math.round(median * Math.exp(0.5 * normal) * 100) / 100,
      source,
    };
  });
}

/** Mulberry32: 32 bits of state, good enough for a demo and the same everywhere. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const quantile = (sorted, q) => sorted[Math.floor(q * (sorted.length - 1))];
const sum = (values) => values.reduce((total, value) => total + value, 0);
// The API rounds to four decimals.
const near = (a, b, tolerance = 0.0002) => Math.abs(a - b) <= tolerance;

// ---- printing ------------------------------------------------------------------------------------

let step = 0;

function title(text, why) {
  step += 1;
  console.log(`\n\n${step}. ${text}\n`);
  console.log(wrap(why, "   "));
}

function note(text) {
  console.log(`\n   -- ${text}`);
}

function check(condition, message) {
  checks += 1;
  assert.ok(condition, message);
}

function pick(object, names) {
  return Object.fromEntries(names.filter((name) => object?.[name] !== undefined).map((name) => [name, object[name]]));
}

const cut = (text) => `${text.slice(0, 12)}…`;
const more = (count) => (count > 0 ? [`… ${count} more`] : []);

function print(value, indent) {
  const text = typeof value === "string" ? value : render(value, indent.length);
  console.log(text.split("\n").map((line) => indent + line).join("\n"));
}

/** JSON, with everything on one line that fits on it; `column` is where the value starts. */
function render(value, column, lead = 0) {
  const line = oneLine(value);
  // One more for the comma that may follow.
  if (column + lead + line.length + 1 <= WIDTH || value === null || typeof value !== "object") return line;
  const inner = Array.isArray(value)
    ? value.map((item) => render(item, column + 2))
    : Object.entries(value).map(([name, item]) => `"${name}": ${render(item, column + 2, name.length + 4)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${inner.join(",\n").replace(/^/gm, "  ")}\n${close}`;
}

function oneLine(value) {
  if (Array.isArray(value)) return `[${value.map(oneLine).join(", ")}]`;
  if (typeof value === "string" && value.length > MAX_TEXT_CHARS) return JSON.stringify(`${value.slice(0, MAX_TEXT_CHARS)}…`);
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const fields = Object.entries(value).map(([name, item]) => `"${name}": ${oneLine(item)}`);
  return fields.length > 0 ? `{ ${fields.join(", ")} }` : "{}";
}

function wrap(text, indent) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length + word.length + 1 > PROSE_WIDTH - indent.length) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) === "" ? "" : " ") + word;
  }
  return lines.map((line) => indent + line).join("\n");
}

await main();
