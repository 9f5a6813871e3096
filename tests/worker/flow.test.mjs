// What a user lives through, from the first login to retiring a partner: the partners are played by real
// servers on this machine, and the cron runs when a test says so. The tests follow one another in this file.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ADMIN, API, AUTH, caller, expect, expectProblem, forgetBoard, logIn, mintToken, startWorker } from "./harness.mjs";
import { startSimulator, statusPage } from "./simulator.mjs";

const SEEDED = {
  cursor_technical: "cursor",
  grok_brand: "grok",
  gemini_visual: "gemini",
  chatgpt_customer: "chatgpt",
  claude_strategic: "claude",
  perplexity_research: "perplexity",
};
const IDS = Object.keys(SEEDED);
const PLAYED = Object.values(SEEDED);
const TICK = "* * * * *";
const MINUTE_MS = 60_000;
const NOTHING_KNOWN = { status: "unknown", partnerships: {}, last_updated: null };

let partners, worker, admin;
/** The minute the next tick is for. Observations carry the real time, so only its order counts. */
let minute = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS;

before(async () => {
  partners = await startSimulator();
  worker = await startWorker({
    vars: {
      ALLOW_LOOPBACK_PROBES: "true",
      CONTROL_TARGETS: `${partners.url("control_a")},${partners.url("control_b")}`,
    },
  });
});
after(async () => {
  await worker?.close();
  await partners?.close();
});

async function tick({ minutes = 1 } = {}) {
  minute += minutes * MINUTE_MS;
  partners.forget();
  assert.equal((await worker.scheduled(TICK, minute)).outcome, "ok");
}

const rows = (sql, ...values) => worker.rows(sql, ...values);
const count = async (from, ...values) => (await rows(`SELECT COUNT(*) AS n FROM ${from}`, ...values))[0].n;
const path = (id) => `${API}/partnerships/${id}`;

/** Points the only probe of a partnership at the simulator. */
async function probe(name, terms = {}) {
  const probes = [{ key: "api", url: partners.url(name), ...terms }];
  return expect(await admin.patch(path(name), { probes, status_page_url: partners.url(statusPage(name)) }), 200);
}

/** The partnership as it stands now, not as the isolate has kept it. */
async function look(id) {
  await forgetBoard(admin, id);
  return expect(await admin.get(`${path(id)}/status`), 200);
}

/** How the newest request on this path ended; the Worker leaves right after its reply, if it leaves. */
const ended = (path) => Promise.race([partners.last(path).done, sleep(2_000, "still open", { ref: false })]);

const term = ({ terms }, name) => terms.find((known) => known.name === name);
const close = (actual, expected, tolerance, what) =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what ?? "value"}: ${actual} is not ${expected} ± ${tolerance}`);

describe("the first minutes", () => {
  test("before the first login there is nothing, and it says so", async () => {
    const anyone = caller(worker);
    assert.deepEqual(expect(await anyone.get(`${API}/health`), 200), NOTHING_KNOWN);
    assert.equal(await count("tenants"), 0);
    assert.equal(await count("users"), 0);
  });

  test("the first login makes the tenant with six partnerships, of which nothing is known", async () => {
    admin = await logIn(worker);
    assert.deepEqual(await rows("SELECT id, name FROM tenants"), [{ id: "ten_default", name: "Default" }]);
    assert.equal(await count("activity WHERE event = 'tenant.created'"), 1);
    assert.deepEqual(await rows("SELECT username, role, password_source FROM users"), [
      { username: ADMIN.username, role: "admin", password_source: "bootstrap" },
    ]);
    const [{ password_hash: hash }] = await rows("SELECT password_hash FROM users");
    assert.ok(hash.startsWith("$argon2id$v=19$m=19456,t=2,p=1$"));

    await forgetBoard(admin, IDS[0]);
    const list = expect(await admin.get(`${API}/partnerships`), 200);
    assert.deepEqual(list.map(({ id }) => id).sort(), IDS.toSorted());
    for (const known of list) {
      for (const field of ["score", "progress", "observed_at"]) assert.equal(known[field], null, `${known.id} ${field}`);
      assert.deepEqual([known.health, known.verdict, known.coverage], ["unknown", "unknown", 0], known.id);
      assert.equal(known.partner_status_page.indicator, "unknown");
      for (const [name, detail] of Object.entries(known.metrics)) {
        assert.deepEqual([detail.value, detail.n, detail.state, detail.ci95], [null, 0, "no_data", null], `${known.id} ${name}`);
      }
      assert.deepEqual([...new Set(known.deliverables.map(({ progress }) => progress))], [null], known.id);
    }
    for (const { metrics } of expect(await admin.get(`${API}/metrics`), 200)) assert.deepEqual(metrics, {});
    const health = expect(await caller(worker).get(`${API}/health`), 200);
    assert.equal(health.status, "unknown");
    for (const id of IDS) assert.deepEqual(health.partnerships[id], { health: "unknown", score: null });
  });

  test("a second login makes nothing more", async () => {
    await logIn(worker);
    assert.equal(await count("tenants"), 1);
    assert.equal(await count("partnerships"), IDS.length);
    assert.equal(await count("activity WHERE event = 'tenant.created'"), 1);
  });

  test("probes are pointed at the simulator by PATCH", async () => {
    for (const [id, name] of Object.entries(SEEDED)) {
      const changed = await probe(name);
      assert.equal(changed.id, id, "found by its alias");
      assert.equal(changed.revision, 2);
      assert.equal(changed.agreement.probes[0].url, partners.url(name));
    }
    assert.deepEqual(partners.allHits(), {}, "nothing is asked before a tick");
  });
});

describe("the tick", () => {
  // Every test starts with partners that are fine; the one under test is told otherwise.
  beforeEach(async () => {
    for (const name of [...PLAYED, "control_a", "control_b"]) await partners.set(name, { scenario: "healthy" });
    for (const name of PLAYED) await partners.set(statusPage(name), { scenario: "status_page" });
  });

  test("asks each partner and each status page once, and the answers become values", async () => {
    await tick();
    const expected = Object.fromEntries(PLAYED.flatMap((name) => [[name, 1], [statusPage(name), 1]]));
    assert.deepEqual(partners.allHits(), expected, "and no control target, as nothing failed");
    const { method, headers } = partners.last("cursor");
    assert.equal(method, "GET");
    assert.match(headers["user-agent"], /^devskyy-orchestration\//);
    assert.equal(headers.authorization, undefined);

    const known = await look("cursor");
    assert.equal(known.verdict, "up");
    const { uptime, response_time, error_rate } = known.metrics;
    assert.deepEqual([uptime.value, uptime.n, uptime.state, uptime.source], [100, 1, "ok", "probe"]);
    assert.deepEqual([response_time.n, error_rate.value], [1, 0]);
    assert.ok(response_time.value >= 0);
    // Wilson's interval for 1 good of 1: 1 / (1 + 1.96²) to 1.
    close(uptime.ci95[0], 100 / (1 + 1.96 ** 2), 0.001);
    close(uptime.coverage, 1 / 1440, 0.0001);
    assert.equal(known.partner_status_page.indicator, "none");
    assert.equal(term(known, "availability").attainment, 1);
    assert.equal(known.score, 100);
    assert.equal(known.coverage, 0.4);

    const health = expect(await admin.get(`${API}/health`), 200);
    assert.equal(health.status, "healthy");
    const text = (await admin.get(`${API}/metrics`, { accept: "text/plain" })).text;
    assert.match(text, /^devskyy_partnership_uptime_ratio\{partnership="cursor_technical"\} 1$/m);
    assert.match(text, /^devskyy_partnership_verdict\{partnership="cursor_technical",verdict="up"\} 1$/m);
  });

  test("that comes twice, or once more within its minute, asks nobody again", async () => {
    await tick();
    const before = await look("cursor");
    partners.forget();
    await worker.scheduled(TICK, minute);
    await worker.scheduled(TICK, minute + MINUTE_MS - 1);
    await worker.scheduled(TICK, minute - MINUTE_MS);
    await Promise.all([1, 2, 3].map(() => worker.scheduled(TICK, minute)));
    assert.deepEqual(partners.allHits(), {});
    assert.deepEqual((await look("cursor")).metrics.uptime, before.metrics.uptime);
  });

  test("that comes twice at the same time asks each partner once", async () => {
    minute += MINUTE_MS;
    partners.forget();
    await Promise.all([1, 2, 3, 4].map(() => worker.scheduled(TICK, minute)));
    for (const name of PLAYED) assert.equal(partners.hits(name), 1, name);
  });

  test("one failure reads degraded, two in a row down, and the terms say why", async () => {
    const good = (await look("cursor")).metrics.uptime.n;
    partners.set("cursor", { scenario: "error", status: 500 });
    await tick();
    const once = await look("cursor");
    assert.equal(once.verdict, "degraded");
    const expectedOf = (bad) => (100 * good) / (good + bad);
    close(once.metrics.uptime.value, expectedOf(1), 0.0001);
    assert.equal(partners.hits("control_a") + partners.hits("control_b"), 0, "an answer in HTTP needs no control probe");

    partners.set("cursor", { scenario: "error", status: 503 });
    await tick();
    const twice = await look("cursor");
    assert.equal(twice.verdict, "down");
    close(twice.metrics.uptime.value, expectedOf(2), 0.0001);
    close(twice.metrics.error_rate.value, 100 - expectedOf(2), 0.0001);
    const availability = term(twice, "availability");
    assert.equal(availability.actual, twice.metrics.uptime.value);
    const attained = Math.min(1, Math.max(0, (availability.actual - 95) / (99.9 - 95)));
    close(availability.attainment, attained, 0.0001);
    close(twice.score, 100 * attained, 0.01);
    assert.equal(twice.health, "poor");
    const health = expect(await admin.get(`${API}/health`), 200);
    assert.notEqual(health.status, "healthy", "a partnership that is down keeps the system from being healthy");
    assert.equal(health.partnerships.cursor_technical.verdict, "down");
    assert.equal(health.partnerships.grok_brand.verdict, "up");
  });

  test("a partner that is back is up again, and the outage stays in its figures", async () => {
    const before = (await look("cursor")).metrics.uptime;
    await tick();
    const known = await look("cursor");
    assert.equal(known.verdict, "up");
    assert.equal(known.metrics.uptime.n, before.n + 1);
    assert.ok(known.metrics.uptime.value > before.value && known.metrics.uptime.value < 100);
  });

  test("an answer that never comes ends with the probe's deadline", async () => {
    const deadline_ms = 300;
    await probe("grok", { deadline_ms });
    partners.set("grok", { scenario: "hanging" });
    const started = performance.now();
    await tick();
    const took = performance.now() - started;
    assert.equal(await ended("grok"), "client_left");
    // A timer may fire a millisecond early; above, room for a busy machine, below the default deadline of 10 s.
    assert.ok(took >= deadline_ms - 2 && took < 8_000, `${took} ms`);
    assert.equal((await look("grok")).verdict, "degraded");
    assert.equal(partners.hits("control_a") + partners.hits("control_b"), 2, "silence is checked against both control targets");
    await probe("grok");
  });

  test("the body of an answer is not read, however long it is", async () => {
    partners.set("gemini", { scenario: "big" });
    const before = (await look("gemini")).metrics.uptime.n;
    await tick();
    assert.equal(await ended("gemini"), "client_left");
    const known = await look("gemini");
    assert.equal(known.verdict, "up");
    assert.equal(known.metrics.uptime.n, before + 1);
  });

  test("a redirect is an answer and is not followed", async () => {
    partners.set("gemini", { scenario: "redirect" });
    await tick();
    assert.equal(partners.hits("gemini"), 1);
    assert.equal(partners.hits("gemini/redirected"), 0);
    assert.equal((await look("gemini")).verdict, "up");
  });

  test("each answer has its verdict, and only outages burn availability", async () => {
    for (const [behaviour, verdict, burns] of [
      [{ scenario: "unauthorized" }, "up", false],
      [{ scenario: "error", status: 404 }, "up", false],
      [{ scenario: "throttled" }, "throttled", undefined],
      [{ scenario: "cut", at: "headers" }, "down", true],
      [{ scenario: "refused" }, "down", true],
      [{ scenario: "slow", delayMs: 150 }, "degraded", false],
    ]) {
      if (behaviour.scenario === "slow") await probe("chatgpt", { degraded_above_ms: 100 });
      const before = (await look("chatgpt")).metrics.uptime;
      await partners.set("chatgpt", behaviour);
      await tick();
      const { verdict: now, metrics } = await look("chatgpt");
      const bad = ({ value, n }) => Math.round(n * (1 - value / 100));
      assert.equal(now, verdict, JSON.stringify(behaviour));
      assert.equal(metrics.uptime.n - before.n, burns === undefined ? 0 : 1, JSON.stringify(behaviour));
      assert.equal(bad(metrics.uptime) - bad(before), burns ? 1 : 0, JSON.stringify(behaviour));
    }
  });

  test("with nothing reachable at all, we are cut off and no partner is blamed", async () => {
    const before = {};
    for (const name of PLAYED) before[name] = (await look(name)).metrics;
    for (const name of [...PLAYED, "control_a", "control_b"]) await partners.set(name, { scenario: "refused" });
    await tick();
    for (const name of PLAYED) {
      const known = await look(name);
      assert.equal(known.verdict, "unreachable_from_us", name);
      assert.deepEqual(known.metrics.uptime, { ...before[name].uptime, observed_at: known.observed_at }, name);
      assert.equal(known.metrics.success_rate.n, before[name].success_rate.n, name);
    }

    // One control target is enough to know that it is the partner.
    await partners.set("control_b", { scenario: "error", status: 500 });
    await tick();
    assert.equal((await look("claude")).verdict, "down");
    for (const name of [...PLAYED, "control_a"]) await partners.set(name, { scenario: "healthy" });
    await tick();
    assert.equal((await look("claude")).verdict, "up");
  });
});

test("the partner's own status page is a second source, read every five minutes and doubted", async () => {
  const page = statusPage("claude");
  const read = async (behaviour) => {
    partners.set(page, behaviour);
    await tick({ minutes: 5 - ((minute / MINUTE_MS) % 5) }); // where the next five minutes begin
    assert.equal(partners.hits(page), 1);
    const known = await look("claude");
    assert.equal(known.verdict, "up", "what the page says does not change what was measured");
    return known.partner_status_page;
  };
  const minor = await read({ scenario: "status_page", indicator: "minor" });
  assert.deepEqual(
    [minor.state, minor.indicator, minor.description, minor.components_affected, minor.open_incidents],
    ["ok", "minor", "Minor Service Outage", 1, 1],
  );
  await tick();
  assert.equal(partners.hits(page), 0, "a minute later it is not read again");

  const stale = await read({ scenario: "stale" });
  assert.deepEqual([stale.state, stale.indicator], ["ok", "none"], "a page changes only when something happens");
  assert.ok(Date.parse(stale.page_updated_at) < Date.now() - 300 * 24 * 3_600_000);

  for (const [behaviour, reason] of [
    [{ scenario: "malformed" }, /^the page is not JSON/],
    [{ scenario: "status_page", indicator: "fabulous" }, /"fabulous"/],
    [{ scenario: "error", status: 503 }, /^the page answered 503$/],
    [{ scenario: "redirect" }, /^the page answered 302$/],
    [{ scenario: "cut", at: "body" }, /^the page cannot be reached$/],
    [{ scenario: "big" }, /^the page is longer than 64 KB$/],
  ]) {
    const failed = await read(behaviour);
    assert.deepEqual([failed.state, failed.indicator, failed.open_incidents], ["failed", "unknown", null]);
    assert.match(failed.reason, reason);
  }
  assert.equal(await ended(page), "client_left", "the rest of the long page was cancelled");
  assert.equal((await read({ scenario: "status_page", indicator: "critical" })).indicator, "critical");
});

describe("what clients send", () => {
  test("10,000 observations in 20 calls, one of them repeated, give the quantiles of all of them", async () => {
    expect(await admin.post(`${API}/partnerships`, { id: "gateway", name: "Gateway", partner: "Acme" }), 201);
    const now = Date.now();
    // A fixed generator: a skewed latency like that of a service, one row in a hundred an outage.
    let state = 12_345;
    const random = () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
    const latency = () => 40 + 20 * Math.exp(2.5 * (random() + random() + random() - 1));
    const all = Array.from({ length: 10_000 }, (_, i) => ({
      at: new Date(now - 1_000 - i * 6_000).toISOString(),
      source: "gateway-eu",
      ...(i % 100 === 99 ? { outcome: "down" } : { outcome: "up", latency_ms: latency() }),
    }));
    for (let call = 0; call < 20; call += 1) {
      const batch = all.slice(call * 500, (call + 1) * 500);
      const key = { "idempotency-key": `"batch-${call}"` };
      const first = await admin.post(`${path("gateway")}/observations`, batch, key);
      assert.deepEqual(expect(first, 202), { accepted: 500, rejected: [] });
      assert.equal(first.headers.get("idempotency-replayed"), null);
      if (call === 7) {
        const repeated = await admin.post(`${path("gateway")}/observations`, batch, key);
        assert.deepEqual(expect(repeated, 202), first.json);
        assert.equal(repeated.headers.get("idempotency-replayed"), "true");
        const other = await admin.post(`${path("gateway")}/observations`, batch.slice(1), key);
        expectProblem(other, 422, "idempotency_key_reused");
      }
    }
    const { metrics, details } = expect(await admin.get(`${API}/metrics/gateway`), 200);
    const latencies = all.flatMap(({ latency_ms = [] }) => latency_ms).sort((a, b) => a - b);
    const exact = (q) => latencies[Math.floor(q * (latencies.length - 1))];
    for (const [name, q] of [["response_time", 0.5], ["response_time_p95", 0.95], ["response_time_p99", 0.99]]) {
      close(metrics[name], exact(q), exact(q) * 0.0101, name);
      assert.equal(details[name].n, 9_900);
      const [low, high] = details[name].ci95;
      assert.ok(low <= metrics[name] && metrics[name] <= high);
    }
    assert.equal(details.uptime.n, 10_000);
    assert.equal(metrics.uptime, 99);
    // Wilson, written out here a second time.
    const [n, p, z] = [10_000, 0.99, 1.96];
    const half = (z * Math.sqrt((p * (1 - p)) / n + z ** 2 / (4 * n ** 2))) / (1 + z ** 2 / n);
    const centre = (p + z ** 2 / (2 * n)) / (1 + z ** 2 / n);
    close(details.uptime.ci95[0], 100 * (centre - half), 0.0002);
    close(details.uptime.ci95[1], 100 * (centre + half), 0.0002);
    const minutes = new Set(all.map(({ at }) => at.slice(0, 16))).size;
    close(details.uptime.coverage, minutes / 1440, 0.0001);
    close(metrics.requests_per_minute, 10, 0.01);
    assert.equal(details.uptime.source, "client");

    await worker.evict("PARTNERSHIP", "ten_default/gateway");
    await forgetBoard(admin, "gateway");
    const later = expect(await admin.get(`${API}/metrics/gateway`), 200);
    assert.equal(later.metrics.response_time_p99, metrics.response_time_p99);
    assert.equal(later.details.uptime.n, 10_000);
  });

  test("a bad row is refused with its reason and the others are taken", async () => {
    const good = { at: new Date().toISOString(), outcome: "up", source: "gateway-eu" };
    const before = (await look("gateway")).metrics.uptime.n;
    const batch = [
      good,
      { ...good, outcome: "fine" },
      { ...good, at: new Date(Date.now() + 3_600_000).toISOString() },
      { ...good, latency_ms: -1 },
      { ...good, at: new Date(Date.now() - 49 * 3_600_000).toISOString() },
      good,
    ];
    const { accepted, rejected } = expect(await admin.post(`${path("gateway")}/observations`, batch), 202);
    assert.equal(accepted, 2);
    assert.deepEqual(rejected.map(({ row }) => row), [1, 2, 3, 4]);
    for (const [index, reason] of [/outcome/, /ahead/, /latency_ms/, /48 hours/].entries()) {
      assert.match(rejected[index].reason, reason);
    }
    assert.equal((await look("gateway")).metrics.uptime.n, before + 2);
  });

  test("a KPI and a deliverable move the score by the arithmetic of the terms", async () => {
    const start = await look("claude");
    const availability = term(start, "availability");
    assert.equal(availability.weight, 40);
    assert.equal(start.coverage, 0.4);
    close(start.score, 100 * availability.attainment, 0.01);

    // 60 of 80 is 0.75, on half of the KPIs' weight; availability is as it was.
    const send = (body, name = "decision_adoption_rate") => admin.post(`${path("claude")}/kpis/${name}`, body);
    const ago = (ms) => new Date(Date.now() - ms).toISOString();
    expect(await send({ value: 60, at: ago(0) }), 202);
    const withKpi = await look("claude");
    const kpi = term(withKpi, "kpi:decision_adoption_rate");
    assert.deepEqual([kpi.actual, kpi.target, kpi.attainment, kpi.weight], [60, 80, 0.75, 20]);
    assert.equal(withKpi.coverage, 0.6);
    close(withKpi.score, (100 * (40 * availability.attainment + 20 * 0.75)) / 60, 0.01);

    const report = { completion_percentage: 30, status: "in_progress" };
    const deliverable = expect(await admin.put(`${path("claude")}/deliverables/quarterly_strategy_review`, report), 200);
    const me = expect(await admin.get(`${AUTH}/me`), 200);
    assert.deepEqual([deliverable.progress, deliverable.updated_by], [30, me.id]);
    const whole = await look("claude");
    assert.equal(whole.progress, 30);
    assert.equal(whole.coverage, 0.8);
    close(whole.score, (100 * (40 * availability.attainment + 20 * 0.75 + 20 * 0.3)) / 80, 0.01);
    close(whole.terms.reduce((sum, { points }) => sum + (points ?? 0), 0), whole.score, 0.001, "the points add up");
    assert.equal(whole.metrics.decision_adoption_rate.source, me.id);

    // The last value by its own time counts, not the last to arrive.
    expect(await send([{ value: 10, at: ago(3_600_000) }]), 202);
    const { value, n } = (await look("claude")).metrics.decision_adoption_rate;
    assert.deepEqual([value, n], [60, 2]);
    expectProblem(await send({ value: 1, at: ago(0) }, "nonsense"), 404, "not_found");
  });

  test("a decision is stored with its inputs, its reply and its author", async () => {
    const context = {
      title: "Zweite Region 🗺️",
      estimated_cost: 40_000,
      expected_revenue: 95_000.5,
      estimated_days: 60,
      market_uncertainty: 3,
      technical_complexity: 4,
      resource_availability: 7,
      timeline_pressure: 2,
      affects_customers: true,
      customer_impact: 12_000,
    };
    const reply = await admin.post(`${API}/decisions`, { context });
    const decision = expect(reply, 200);
    for (const field of ["decision", "rationale", "implementation_plan", "success_metrics", "risk_mitigation"]) {
      assert.ok(decision[field].length > 0, field);
    }
    const [row] = await rows("SELECT * FROM decisions WHERE id = ?", decision.decision_id);
    assert.deepEqual([row.tenant_id, row.decision, row.author_id], ["ten_default", decision.decision, decision.author]);
    // What was signed: the reply, but for the signature and what a narrator says.
    const { signature, narrative, ...signed } = decision;
    assert.deepEqual(JSON.parse(row.reply), signed);
    assert.deepEqual([JSON.parse(row.signature), row.narrative, narrative], [signature, null, null]);
    const inputs = JSON.parse(row.inputs);
    for (const [name, value] of Object.entries(context)) assert.deepEqual(inputs[name], value, name);
    assert.equal(new Date(row.created_at).toISOString(), decision.decided_at);
    assert.equal(await count("activity WHERE event = 'decision.made' AND subject = ? AND actor = ?", row.id, row.author_id), 1);

    const nonsense = { context: { ...context, estimated_cost: -1 } };
    expectProblem(await admin.post(`${API}/decisions`, nonsense), 422, "validation_failed");
    assert.equal(await count("decisions"), 1);
  });
});

describe("what the service says of itself", () => {
  test("/status counts what is there", async () => {
    await tick();
    const tables = await rows("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 1");
    const lines = await rows("SELECT event, status, actor, subject FROM activity ORDER BY at DESC, id DESC LIMIT 20");
    const expected = {};
    for (const { name } of tables) expected[name] = await count(name);
    await forgetBoard(admin, "gateway");
    const known = expect(await admin.get(`${API}/partnerships`), 200);
    const status = expect(await admin.get(`${API}/status`), 200);
    assert.deepEqual(status.resource_usage.d1_rows, expected);
    assert.ok(status.resource_usage.d1_bytes > 0);
    const shown = status.recent_activity.map(({ timestamp: _, ...line }) => line);
    assert.deepEqual(shown, lines);
    for (const [name, state] of Object.entries(status.components)) {
      assert.equal(state, "operational", `${name}: ${status.component_details[name]}`);
    }
    assert.equal(status.overall_status, "operational");
    const sum = (of) => known.reduce((total, each) => total + of(each), 0);
    assert.ok(status.resource_usage.observations_stored >= sum(({ metrics }) => metrics.uptime.n));
    assert.ok(Math.abs(Date.now() - Date.parse(status.last_check)) < 10_000);
    close(status.resource_usage.observations_per_minute, sum(({ metrics }) => metrics.requests_per_minute.value ?? 0), 1);
  });

  test("/deployment/readiness names what is not ready, and counts its own checks", async () => {
    const report = expect(await admin.get(`${API}/deployment/readiness`), 200);
    const all = Object.entries(report.checks).map(([name, { status }]) => [name, status]);
    assert.deepEqual(Object.fromEntries(all.filter(([, status]) => status !== "pass")), {
      signing_key: "fail", // a development key
      bootstrap_secret: "warning", // the first password is still the deployment's
      loopback_probes: "warning", // allowed, in development
      channels: "warning", // there is none, so nobody was told of anything
      alert_latency: "not_run",
      backup_age: "not_run", // nobody waits here for minute 37
      last_drill: "not_run",
    });
    assert.deepEqual(report.summary, { total_checks: all.length, passed: all.length - 7, warnings: 3, failed: 1, not_run: 3 });
    assert.equal(report.overall_status, "not_ready");
    close(report.readiness_score, (100 * (all.length - 5.5)) / all.length, 0.0001);
    assert.equal(report.recommendations.length, 7);
    assert.match(report.checks.migrations.message, new RegExp(` ${await count("d1_migrations")} `));
  });

  test("/info counts what is there", async () => {
    await forgetBoard(admin, "gateway");
    const { partnerships, statistics, user } = expect(await admin.get(`${API}/info`), 200);
    const list = expect(await admin.get(`${API}/partnerships`), 200);
    const kpis = list.flatMap(({ agreement, metrics }) => agreement.kpis.map(({ name }) => metrics[name]));
    assert.equal(partnerships, await count("partnerships WHERE retired_at IS NULL"));
    assert.deepEqual(
      { ...statistics, observations_total: undefined },
      {
        partnerships_with_score: list.filter(({ score }) => score !== null).length,
        probes_enabled: await count("probes WHERE enabled = 1"),
        kpis: await count("kpi_definitions"),
        kpis_with_value: kpis.filter(({ value }) => value !== null).length,
        deliverables: await count("deliverables"),
        deliverables_reported: await count("deliverables WHERE updated_at IS NOT NULL"),
        observations_total: undefined,
        decisions: await count("decisions"),
      },
    );
    assert.equal(statistics.observations_total, expect(await admin.get(`${API}/status`), 200).resource_usage.observations_total);
    assert.deepEqual([user.role, user.permissions.length], ["admin", 24]);
  });

  test("/config shows the values in force, and of secrets only that they are there", async () => {
    const reply = await admin.get(`${API}/config`);
    const { configuration, version, last_updated } = expect(reply, 200);
    const { control_targets: targets } = configuration.orchestration_settings;
    assert.deepEqual(targets, [partners.url("control_a"), partners.url("control_b")]);
    assert.equal(configuration.security_settings.loopback_probes_allowed, true);
    assert.equal(configuration.security_settings.signing_key_usable, true);
    assert.equal(configuration.security_settings.bootstrap_secrets_present, true);
    assert.equal(configuration.api_settings.environment, "development");
    const [stored] = await rows("SELECT version, document, created_at FROM settings ORDER BY version DESC LIMIT 1");
    const { limits } = configuration.api_settings;
    assert.deepEqual({ ...configuration.partnership_settings, limits }, JSON.parse(stored.document));
    assert.equal(configuration.security_settings.rate_limiting, false, "here");
    assert.deepEqual([version, last_updated], [stored.version, new Date(stored.created_at).toISOString()]);
    for (const secret of [ADMIN.password, Buffer.alloc(32, 7).toString("base64url")]) assert.ok(!reply.text.includes(secret));
  });
});

test("a retired partnership is gone from every view and asked no more, and its history stays", async () => {
  const deliverables = await count("deliverables WHERE partnership_id = 'gemini_visual'");
  assert.equal((await admin.delete(path("gemini"))).status, 204);
  for (const name of ["gemini_visual", "gemini", "visual"]) {
    expectProblem(await admin.get(`${API}/metrics/${name}`), 404, "not_found");
    expectProblem(await admin.get(`${path(name)}/status`), 404, "not_found");
    expectProblem(await admin.patch(path(name), { name: "Back" }), 404, "not_found");
    expectProblem(await admin.delete(path(name)), 404, "not_found");
  }
  const list = expect(await admin.get(`${API}/partnerships`), 200).map(({ id }) => id);
  assert.ok(!list.includes("gemini_visual") && list.includes("grok_brand"));
  assert.ok(!Object.hasOwn(expect(await caller(worker).get(`${API}/health`), 200).partnerships, "gemini_visual"));
  assert.ok(!(await admin.get(`${API}/metrics`, { accept: "text/plain" })).text.includes("gemini_visual"));
  await tick();
  assert.equal(partners.hits("gemini"), 0);
  assert.equal(partners.hits("grok"), 1);
  await forgetBoard(admin, "grok");
  assert.equal(expect(await admin.get(`${API}/partnerships`), 200).length, list.length, "a tick does not bring it back");

  const [row] = await rows("SELECT retired_at, revision FROM partnerships WHERE id = 'gemini_visual'");
  assert.ok(Math.abs(Date.now() - row.retired_at) < 60_000);
  assert.equal(await count("deliverables WHERE partnership_id = 'gemini_visual'"), deliverables);
  assert.equal(await count("activity WHERE event = 'partnership.retired' AND subject = 'gemini_visual'"), 1);
  // Its id is not used again, its aliases may be.
  expectProblem(await admin.post(`${API}/partnerships`, { id: "gemini_visual", name: "X", partner: "X" }), 409, "conflict");
  expect(await admin.post(`${API}/partnerships`, { id: "visual_two", name: "X", partner: "X", aliases: ["visual"] }), 201);
  assert.equal(expect(await admin.get(`${path("visual")}/status`), 200).id, "visual_two");
});

describe("a second tenant", () => {
  let stranger;
  before(async () => {
    const now = Date.now();
    await worker.env.DB.batch([
      worker.env.DB.prepare("INSERT INTO tenants VALUES ('ten_other', 'Other', ?)").bind(now),
      worker.env.DB.prepare("INSERT INTO settings SELECT 'ten_other', 1, document, 'system', ? FROM settings LIMIT 1").bind(now),
    ]);
    stranger = caller(worker, mintToken({ claims: { tid: "ten_other" } }));
  });

  test("sees nothing of the first", async () => {
    assert.deepEqual(expect(await stranger.get(`${API}/partnerships`), 200), []);
    assert.deepEqual(expect(await stranger.get(`${API}/metrics`), 200), []);
    assert.deepEqual(expect(await stranger.get(`${API}/health`), 200), NOTHING_KNOWN);
    assert.deepEqual(expect(await stranger.get(`${AUTH}/users`), 200), { users: [], next_cursor: null });
    assert.deepEqual(expect(await stranger.get(`${AUTH}/keys`), 200), { keys: [], next_cursor: null });
    assert.deepEqual(expect(await stranger.get(`${API}/activity`), 200), { activity: [], next_cursor: null });
    assert.deepEqual(expect(await stranger.get(`${API}/decisions`), 200), { decisions: [], next_cursor: null });
    const { recent_activity, resource_usage } = expect(await stranger.get(`${API}/status`), 200);
    assert.deepEqual(recent_activity, []);
    assert.equal(resource_usage.observations_total, 0);
    const { partnerships, statistics } = expect(await stranger.get(`${API}/info`), 200);
    assert.equal(partnerships, 0);
    assert.deepEqual([...new Set(Object.values(statistics))], [0]);
  });

  test("gets 404 for each resource of the first, on every route that names one", async () => {
    const { paths } = expect(await caller(worker).get("/openapi.json"), 200);
    const [{ id: user }] = await rows("SELECT id FROM users");
    const wanted = { name: "of the first", permissions: ["metrics:read"] };
    const { id: key } = expect(await admin.post(`${AUTH}/keys`, wanted), 201).api_key;
    const bodies = {
      change_partnership: { name: "Taken over" },
      report_deliverable: { completion_percentage: 1, status: "in_progress" },
      push_observations: [{ at: new Date().toISOString(), outcome: "down", source: "stranger" }],
      push_kpi: { value: 1, at: new Date().toISOString() },
      change_user: { role: "viewer" },
      rotate_key: {},
      create_slo: { key: "theirs", kind: "availability", target_percent: 99, period_days: 7 },
      change_slo: { period_days: 7 },
      create_maintenance: { name: "theirs", weekly: { days: ["sunday"], start: "02:30", minutes: 1, time_zone: "UTC" } },
      note_incident: { text: "theirs" },
      change_channel: { name: "Taken over" },
      what_if: {},
      record_outcome: { outcome: "reversed" },
    };
    const down = { at: new Date().toISOString(), outcome: "down", source: "gateway" };
    expect(await admin.post(`${API}/partnerships/chatgpt/observations`, Array(20).fill(down)), 202);
    await tick();
    const slack = { kind: "slack", name: "of the first", min_severity: "critical", url: "https://hooks.example.com/in" };
    const { channel } = expect(await admin.post(`${API}/channels`, slack), 201);
    const [{ id: incident }] = expect(await admin.get(`${API}/incidents`), 200).incidents;
    const { decision_id: decision } = expect(await admin.post(`${API}/decisions`, { context: {} }), 200);
    const common = { type: "cursor_technical", key: "mobile_first_platform", name: "security_score", client: user };
    const idIn = (path) => (path.includes("/users/") ? user : path.includes("/keys/") ? key : path.includes("/incidents/") ? incident : path.includes("/channels/") ? channel.id : path.includes("/decisions/") ? decision : "cursor_technical");
    const asked = [];
    const before = JSON.stringify(await look("cursor"));
    for (const [template, methods] of Object.entries(paths)) {
      // Every tenant has a policy of the same name, its own.
      if (!template.includes("{") || template.startsWith("/docs-assets") || template.includes("/policies/")) continue;
      for (const [method, { operationId }] of Object.entries(methods)) {
        const names = { ...common, id: idIn(template) };
        const target = template.replace(/\{(\w+)\}/g, (_, name) => names[name]);
        expectProblem(await stranger.request(method.toUpperCase(), target, { body: bodies[operationId] }), 404, "not_found");
        asked.push(operationId);
      }
    }
    assert.deepEqual(asked.sort(), [
      "acknowledge_incident", "change_channel", "change_partnership", "change_slo", "change_user", "create_maintenance", "create_slo",
      "delete_channel", "delete_maintenance", "delete_slo", "get_backup", "get_channel", "get_decision", "get_deliverable", "get_incident", "get_key", "get_metrics", "get_partnership",
      "get_partnership_status", "get_rate_limits", "get_slo", "lift_block", "list_deliveries", "list_maintenance", "list_slos", "note_incident", "push_kpi", "push_observations", "record_outcome", "replay_decision", "replay_delivery", "report_deliverable",
      "resolve_incident", "restore_backup", "retire_partnership", "revoke_key", "rotate_key", "test_channel", "verify_backup", "what_if",
    ]);
    const after = await look("cursor");
    assert.equal(after.revision, JSON.parse(before).revision);
    assert.deepEqual(after.metrics.uptime, JSON.parse(before).metrics.uptime);
    assert.equal((await rows("SELECT role FROM users WHERE id = ?", user))[0].role, "admin");
    assert.deepEqual(await rows("SELECT id, revoked_at FROM api_keys"), [{ id: key, revoked_at: null }]);
    assert.equal(await count("activity WHERE tenant_id = 'ten_other'"), 0);
  });

  test("may use the same ids for partnerships of its own", async () => {
    const probes = [{ key: "api", url: partners.url("grok") }];
    const own = { id: "cursor_technical", name: "Ours", partner: "Cursor", aliases: ["cursor"], probes };
    expect(await stranger.post(`${API}/partnerships`, own), 201);
    const row = { at: new Date().toISOString(), outcome: "down", source: "stranger" };
    const mine = (await look("cursor")).metrics.uptime;
    expect(await stranger.post(`${path("cursor")}/observations`, [row, row]), 202);
    assert.equal(expect(await stranger.get(`${path("cursor")}/status`), 200).verdict, "down");
    assert.deepEqual((await look("cursor")).metrics.uptime, mine);
    // The tick asks for each tenant; who has no token is shown the default tenant.
    await tick();
    assert.equal(partners.hits("grok"), 2);
    const known = await look("cursor");
    const { cursor_technical: shown } = expect(await caller(worker).get(`${API}/health`), 200).partnerships;
    assert.deepEqual(shown, { health: known.health, score: known.score });
    assert.equal((await stranger.delete(path("cursor"))).status, 204);
    assert.equal((await look("cursor")).name, "Technical Excellence");
  });
});
