// A real Prometheus scrapes the real Worker: what it then answers is what the API says; rules and dashboard of ops/ work.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { API, AUTH, expect, forgetBoard, logIn, startWorker } from "../worker/harness.mjs";

const OPS = fileURLToPath(new URL("../../ops", import.meta.url));
const BIN = process.env.PROMETHEUS_BIN ?? "";
const TICK = "* * * * *";
const MINUTE_MS = 60_000;
/** The upper bounds of src/domain/histogram.rs, in seconds. */
const BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, Infinity];

/** Served calls, as [how many, milliseconds]: neither median nor p95 is near the edge of its bucket. */
const SERVED = [[60, 30], [80, 200], [40, 700], [20, 1_400]];
const FAILED = 20;

let worker;
let admin;
let folder;
let server;
let address;

before(async () => {
  worker = await startWorker({ outbound: () => new Response("{}", { status: 401 }) });
  await worker.scheduled(TICK);
  admin = await logIn(worker);
  const at = new Date().toISOString();
  const rows = SERVED.flatMap(([count, latency_ms]) => Array(count).fill({ at, outcome: "up", latency_ms, source: "gateway" }));
  rows.push(...Array(FAILED).fill({ at, outcome: "down", source: "gateway" }));
  expect(await admin.post(`${API}/partnerships/grok/observations`, rows), 202);
  for (let minutes = 1; minutes <= 3; minutes += 1) {
    await worker.scheduled(TICK, Date.now() + minutes * MINUTE_MS);
  }
  const page = { kind: "pagerduty", name: "night", enabled: false, routing_key: "0123456789abcdef0123456789abcdef" };
  expect(await admin.post(`${API}/channels`, page), 201);
  await forgetBoard(admin, "grok");
  const key = expect(await admin.post(`${AUTH}/keys`, { name: "prometheus", permissions: ["metrics:read"] }), 201).key;
  await startPrometheus(key);
});
after(async () => {
  if (server && server.exitCode === null) {
    const ended = new Promise((done) => server.once("exit", done));
    server.kill();
    await ended;
  }
  if (folder) rmSync(folder, { recursive: true, force: true });
  await worker?.close();
});

async function startPrometheus(key) {
  folder = mkdtempSync(join(tmpdir(), "prometheus-test-"));
  writeFileSync(join(folder, "key"), key);
  const { host } = new URL(worker.url);
  const config = `
global: { scrape_interval: 1s }
rule_files: ["${OPS}/prometheus/alerts.yml"]
scrape_configs:
  - job_name: devskyy
    authorization: { credentials_file: key }
    static_configs: [{ targets: ["${host}"] }]
`;
  writeFileSync(join(folder, "prometheus.yml"), config);
  const listen = `127.0.0.1:${await freePort()}`;
  address = `http://${listen}`;
  const options = [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`, `--web.listen-address=${listen}`];
  let log = "";
  server = spawn(join(BIN, "prometheus"), [...options, "--log.level=warn"], { stdio: ["ignore", "ignore", "pipe"] });
  server.on("error", (error) => (log += error));
  server.stderr.on("data", (text) => (log += text));
  // A rate needs two scrapes.
  let scraped = [];
  for (const deadline = Date.now() + 60_000; scraped[0]?.value[1] < 3 || scraped.length === 0; await sleep(200)) {
    assert.ok(Date.now() < deadline && server.exitCode === null, `nothing was scraped:\n${log}\n${await targets()}`);
    scraped = await query('sum_over_time(up{job="devskyy"}[1m])').catch(() => []);
  }
}

function freePort() {
  return new Promise((done) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

const targets = () => fetch(`${address}/api/v1/targets`).then((reply) => reply.text(), String);

/** The series of an instant query: [{ metric, value: [time, text] }]. */
async function query(expression) {
  const response = await fetch(`${address}/api/v1/query?${new URLSearchParams({ query: expression })}`);
  const { status, error, data } = await response.json();
  assert.equal(status, "success", `${expression}: ${error}`);
  return data.resultType === "scalar" ? [{ metric: {}, value: data.result }] : data.result;
}

async function number(expression) {
  const series = await query(expression);
  assert.equal(series.length, 1, `${expression}: ${JSON.stringify(series)}`);
  return Number(series[0].value[1]);
}

const near = (found, expected, what) => assert.ok(Math.abs(found - expected) < 1e-9, `${what}: ${found} for ${expected}`);

function promtool(args, input) {
  const { status, stdout, stderr } = spawnSync(join(BIN, "promtool"), args, { input, cwd: `${OPS}/prometheus`, encoding: "utf8" });
  return { status, text: stdout + stderr };
}

test("Prometheus says of availability what the API says", async () => {
  const all = expect(await admin.get(`${API}/metrics`), 200);
  let compared = 0;
  for (const { partnership_type, metrics } of all) {
    near(await number(`devskyy_partnership_uptime_ratio{partnership="${partnership_type}"}`), metrics.uptime / 100, partnership_type);
    compared += 1;
  }
  assert.equal(compared, 6);
  const grok = all.find(({ partnership_type }) => partnership_type === "grok_brand");
  assert.ok(grok.metrics.uptime < 100);
});

test("counters add up", async () => {
  const { resource_usage } = expect(await admin.get(`${API}/status`), 200);
  assert.ok(resource_usage.observations_total >= 200 + FAILED);
  assert.equal(await number("sum(devskyy_partnership_observations_total)"), resource_usage.observations_total);
  assert.equal(await number('sum(devskyy_job_runs_total{name="tick", outcome="success"})'), 4);
});

test("quantiles come from the buckets, of one partner and of all together", async () => {
  const { metrics } = expect(await admin.get(`${API}/metrics/grok`), 200);
  const bucket = (value) => BOUNDS.findIndex((bound) => value <= bound);
  const buckets = "devskyy_partnership_latency_seconds_bucket";
  for (const [q, name] of [[0.5, "response_time"], [0.95, "response_time_p95"]]) {
    const found = await number(`histogram_quantile(${q}, sum by (le) (${buckets}{partnership="grok_brand"}))`);
    assert.equal(bucket(found), bucket(metrics[name] / 1_000), `${q}: ${found} s, ${metrics[name]} ms`);
  }
  const served = expect(await admin.get(`${API}/metrics`), 200).map(({ details }) => details.response_time.n);
  const total = served.reduce((sum, n) => sum + n, 0);
  assert.equal(await number(`sum(${buckets}{le="+Inf"})`), total);
  assert.equal(await number("sum(devskyy_partnership_latency_seconds_count)"), total);
  const all = await number(`histogram_quantile(0.95, sum by (le) (${buckets}))`);
  assert.ok(all > 0 && all <= 5, `${all} s`);
});

test("objectives, alerts and incidents are those of the API", async () => {
  const { slos } = expect(await admin.get(`${API}/partnerships/grok/slos`), 200);
  const labels = 'partnership="grok_brand", slo="availability"';
  near(await number(`devskyy_slo_budget_remaining_ratio{${labels}}`), slos[0].status.budget_remaining, "budget");
  for (const window of ["5m", "1h", "3d"]) {
    near(await number(`devskyy_slo_burn_rate{${labels}, window="${window}"}`), slos[0].status.burn[window], window);
  }
  const { incidents } = expect(await admin.get(`${API}/incidents?state=open`), 200);
  assert.ok(incidents.length > 0);
  assert.equal(await number("sum(devskyy_incidents_open)"), incidents.length);
  assert.ok((await query('ALERTS{alertname="DevskyySloFastBurn"}')).length <= 1);
  assert.equal(await number('devskyy_alert_open{partnership="grok_brand", rule="slo_fast_burn"}'), 1);
});

test("both formats are read: OpenMetrics by the scrape, with its types, the other one by promtool", async () => {
  const { data } = await (await fetch(`${address}/api/v1/targets`)).json();
  assert.deepEqual(data.activeTargets.map(({ health, lastError }) => [health, lastError]), [["up", ""]]);
  // Prometheus asks for OpenMetrics first.
  const asked = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
  const openMetrics = await admin.get("/metrics", { accept: asked });
  assert.match(openMetrics.headers.get("content-type"), /^application\/openmetrics-text/);
  const text = await admin.get("/metrics", { accept: "*/*" });
  assert.match(text.headers.get("content-type"), /^text\/plain; version=0\.0\.4/);
  const metadata = (await (await fetch(`${address}/api/v1/metadata`)).json()).data;
  const types = (body) => [...body.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]);
  const declared = types(openMetrics.text);
  assert.ok(declared.length > 20);
  for (const [name, type] of declared) assert.equal(metadata[name]?.[0].type, type, name);
  // But for the names of counters and the last line they say the same.
  const samples = (body) => body.split("\n").filter((line) => !line.startsWith("#"));
  assert.deepEqual(samples(openMetrics.text), samples(text.text));
  assert.ok(openMetrics.text.endsWith("\n# EOF\n") && !text.text.includes("# EOF"));

  assert.deepEqual(promtool(["check", "metrics"], text.text), { status: 0, text: "" });
  const bad = promtool(["check", "metrics"], text.text.replaceAll("devskyy_job_runs_total", "devskyy_job_runs"));
  assert.match(bad.text, /counter metrics should have "_total" suffix/, "it would say so");
});

test("every query of the dashboard runs, and shows what is there", async () => {
  const dashboard = JSON.parse(readFileSync(`${OPS}/grafana/dashboard.json`, "utf8"));
  assert.deepEqual(dashboard.templating.list.map(({ name, type }) => [name, type]), [["datasource", "datasource"]]);
  const { text } = await admin.get("/metrics");
  const isThere = (name) => text.includes(`\n${name}{`) || text.includes(`\n${name} `);
  const ids = new Set();
  let shown = 0;
  for (const { id, title, datasource, targets } of dashboard.panels) {
    assert.ok(!ids.has(id));
    ids.add(id);
    assert.equal(datasource.uid, "${datasource}", title);
    for (const { expr } of targets) {
      const series = await query(expr.replaceAll("$__rate_interval", "1m"));
      const names = expr.match(/devskyy_\w+/g);
      if (names.every(isThere)) {
        assert.ok(series.length > 0, `${title}: ${expr}`);
        shown += 1;
      }
      // What is served by nobody would never be missed.
      const described = names.every((name) => new RegExp(`"${name.replace(/_(total|bucket)$/, "")}"`).test(families));
      assert.ok(described, `${expr}: no such family`);
    }
  }
  assert.ok(ids.size >= 12 && shown >= 16, `${shown} of the queries have data`);
});
const families = readFileSync(fileURLToPath(new URL("../../src/domain/exposition.rs", import.meta.url)), "utf8");

test("the alert rules are sound, tested, and about what is served", async () => {
  assert.equal(promtool(["check", "rules", "--lint-fatal", "alerts.yml"]).status, 0);
  const tested = promtool(["test", "rules", "alerts_test.yml"]);
  assert.equal(tested.status, 0, tested.text);
  assert.equal(promtool(["check", "config", "--syntax-only", "scrape.yml"]).status, 0);
  const rules = readFileSync(`${OPS}/prometheus/alerts.yml`, "utf8");
  for (const [name] of rules.matchAll(/devskyy_\w+/g)) {
    assert.ok(families.includes(`"${name.replace(/_total$/, "")}"`), `${name}: no such family`);
  }
  const tests = readFileSync(`${OPS}/prometheus/alerts_test.yml`, "utf8");
  for (const [, name] of rules.matchAll(/- alert: (\w+)/g)) assert.ok(tests.includes(`alertname: ${name}\n`), `${name} has no test`);
  const { data } = await (await fetch(`${address}/api/v1/rules`)).json();
  const loaded = data.groups.flatMap((group) => group.rules);
  assert.ok(loaded.length >= 10);
  for (const { name, labels, annotations } of loaded) {
    assert.ok(["warning", "critical"].includes(labels.severity), name);
    assert.ok(annotations.summary && annotations.description, name);
    assert.match(annotations.runbook_url, /README\.md#alert-[a-z-]+$/, name);
  }
});
