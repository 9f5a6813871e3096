// The cron lines of wrangler.toml, as the runtime fires them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { ADMIN, API, caller, expect, forgetBoard, logIn, logLines, networkFailure, startWorker } from "./harness.mjs";

const TICK = "* * * * *";
const HOURLY = "17 * * * *";
const BACKUP = "37 * * * *";
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

let worker;
/** What the Worker asked for, and what it is answered. */
let asked = [];
let answer = () => new Response("{}", { status: 401 });

before(async () => {
  worker = await startWorker({
    outbound: (request) => {
      asked.push(request.url);
      return answer(request);
    },
  });
});
after(() => worker?.close());

const rows = (sql, ...values) => worker.rows(sql, ...values);
const count = async (from) => (await rows(`SELECT COUNT(*) AS n FROM ${from}`))[0].n;
const run = async (job) => (await rows("SELECT * FROM job_runs WHERE job = ?", job))[0];
/** What the log says of jobs since an instant, once that is `count` lines. */
async function told(since, count) {
  const isTold = (line) => line["event.dataset"] === "devskyy.job" && Date.parse(line["@timestamp"]) >= since;
  const ofJobs = (lines) => lines.filter(isTold);
  return ofJobs(await logLines(worker, (lines) => ofJobs(lines).length >= count));
}

async function fire(cron, time) {
  asked = [];
  const began = Date.now();
  const { outcome } = await worker.scheduled(cron, time);
  assert.equal(outcome, "ok");
  return { began, ended: Date.now() };
}

test("the first tick makes the tenant and its admin before anybody logs in, and measures at once", async () => {
  assert.equal(await count("tenants"), 0);
  const minute = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS;
  const { began, ended } = await fire(TICK, minute);
  assert.deepEqual(await rows("SELECT id FROM tenants"), [{ id: "ten_default" }]);
  assert.deepEqual(await rows("SELECT username, role FROM users"), [{ username: ADMIN.username, role: "admin" }]);
  assert.equal(await count("partnerships"), 6);
  const pages = "SELECT status_page_url FROM partnerships WHERE status_page_url IS NOT NULL";
  const urls = await rows(`SELECT url FROM probes UNION ALL ${pages} ORDER BY url`);
  assert.deepEqual(asked.toSorted(), urls.map(({ url }) => url));

  const tick = await run("tick");
  assert.deepEqual([tick.outcome, tick.scheduled_at, tick.detail], ["success", minute, "6 partnerships, 6 probes"]);
  assert.ok(began <= tick.started_at && tick.started_at <= tick.finished_at && tick.finished_at <= ended);

  const admin = await logIn(worker);
  assert.equal(await count("users"), 1);
  for (const known of expect(await admin.get(`${API}/partnerships`), 200)) {
    assert.deepEqual([known.verdict, known.metrics.uptime.n], ["up", 1], known.id);
  }
});

test("every cron line of wrangler.toml runs a job, which leaves a row", async () => {
  const toml = readFileSync(new URL("../../wrangler.toml", import.meta.url), "utf8");
  const crons = JSON.parse(/^crons = (\[.*\])$/m.exec(toml)[1]);
  assert.deepEqual(crons, [TICK, HOURLY, BACKUP]);
  const began = Date.now();
  const time = began + MINUTE_MS;
  for (const cron of crons) await fire(cron, time);
  const runs = await rows("SELECT job, outcome, scheduled_at FROM job_runs ORDER BY job");
  assert.deepEqual(runs, ["backup", "housekeeping", "tick"].map((job) => ({ job, outcome: "success", scheduled_at: time })));
  const messages = (await told(began, 3)).map((line) => `${line["log.level"]}: ${line.message}`);
  assert.deepEqual(messages, ["info: job tick", "info: job housekeeping", "info: job backup"]);
});

test("a cron line without a job is logged and does nothing", async () => {
  const before = JSON.stringify([await rows("SELECT * FROM job_runs"), await count("activity")]);
  const { began } = await fire("0 0 1 1 *");
  assert.deepEqual(asked, []);
  assert.equal(JSON.stringify([await rows("SELECT * FROM job_runs"), await count("activity")]), before);
  const [line, ...more] = await told(began, 1);
  assert.deepEqual(more, []);
  assert.deepEqual([line["log.level"], line["error.message"]], ["warn", "0 0 1 1 *"]);
  assert.match(line.message, /no job/);
});

describe("a tick", () => {
  const tick = async (time) => {
    await fire(TICK, time);
    return (await run("tick")).detail;
  };
  /** Begins five minutes, well ahead of what the tests above have used up. */
  const start = Math.ceil(Date.now() / (5 * MINUTE_MS) + 12) * 5 * MINUTE_MS;

  /** What is shown of cron now: the checks of the last second would be shown again. */
  async function shown(admin) {
    await forgetBoard(admin, "cursor");
    const status = expect(await admin.get(`${API}/status`), 200);
    const { checks } = expect(await admin.get(`${API}/deployment/readiness`), 200);
    return [status.components.cron, checks.cron.status];
  }

  test("that is late is for its own minute, and one overtaken by a newer one asks nobody", async () => {
    assert.equal(await tick(start), "6 partnerships, 6 probes");
    assert.equal(await tick(start + 3 * MINUTE_MS), "6 partnerships, 6 probes", "two minutes are missing and not made up for");
    assert.equal(await tick(start + MINUTE_MS), "6 partnerships, 0 probes");
    assert.deepEqual(asked, []);
    assert.equal(await tick(start + 3 * MINUTE_MS + 59_999), "6 partnerships, 0 probes");
    assert.equal((await run("tick")).scheduled_at, start + 3 * MINUTE_MS + 59_999);
    assert.equal(await tick(start + 4 * MINUTE_MS), "6 partnerships, 6 probes");
  });

  test("asks a probe as often as its interval says, counted from the epoch", async () => {
    const admin = await logIn(worker);
    const probes = [
      { key: "often", url: "https://api.example.com/often" },
      { key: "seldom", url: "https://api.example.com/seldom", interval_s: 300 },
      { key: "never", url: "https://api.example.com/never", enabled: false },
    ];
    expect(await admin.patch(`${API}/partnerships/grok`, { probes }), 200);
    const seen = [];
    for (let i = 0; i < 6; i += 1) {
      await tick(start + (60 + i) * MINUTE_MS);
      seen.push(asked.filter((url) => url.startsWith("https://api.example.com/")).map((url) => url.slice(24)).sort().join("+"));
    }
    assert.deepEqual(seen, ["often+seldom", "often", "often", "often", "often", "often+seldom"]);
  });

  test("whose partners all fail has succeeded: it is them, not the job", async () => {
    answer = networkFailure;
    assert.match(await tick(start + 120 * MINUTE_MS), /^6 partnerships, [67] probes$/);
    assert.equal((await run("tick")).outcome, "success");
    const admin = await logIn(worker);
    await forgetBoard(admin, "cursor");
    for (const { id, verdict } of expect(await admin.get(`${API}/partnerships`), 200)) {
      assert.equal(verdict, "unreachable_from_us", id);
    }
    const { components, component_details } = expect(await admin.get(`${API}/status`), 200);
    assert.deepEqual([components.outbound, components.cron], ["down", "operational"], JSON.stringify(component_details));
    answer = () => new Response(null, { status: 204 });
  });

  test("that found the database broken is a failed one, and says no more to people than that", async () => {
    await rows("ALTER TABLE probes RENAME TO probes_away");
    const began = Date.now();
    try {
      await fire(TICK, start + 180 * MINUTE_MS);
    } finally {
      await rows("ALTER TABLE probes_away RENAME TO probes");
    }
    const { outcome, detail } = await run("tick");
    assert.deepEqual([outcome, detail], ["failed", "failed; the cause is in the log"]);
    const [line] = await told(began, 1);
    assert.deepEqual([line.message, line["log.level"], line["error.type"]], ["job tick", "error", "job_failed"]);
    assert.match(line["error.message"], /no such table: probes/);
    const admin = await logIn(worker);
    assert.deepEqual(await shown(admin), ["degraded", "warning"]);

    await tick(start + 181 * MINUTE_MS);
    assert.ok(asked.length >= 6);
    assert.deepEqual(await shown(admin), ["operational", "pass"]);
  });

  test("that has not come for more than three minutes shows", async () => {
    const admin = await logIn(worker);
    const { started_at: started } = await run("tick");
    const began = (at) => rows("UPDATE job_runs SET started_at = ? WHERE job = 'tick'", at);
    await began(Date.now() - 3 * MINUTE_MS - 1);
    assert.deepEqual(await shown(admin), ["down", "fail"]);
    await began(started);
    assert.deepEqual(await shown(admin), ["operational", "pass"]);
  });
});

test("the hourly job deletes refresh tokens a month after their end, what a day or an hour made useless, and nothing else", async () => {
  const { tokens } = await logIn(worker);
  for (const [scope, hours] of [["old", 25], ["kept", 23]]) {
    await rows("INSERT INTO idempotency_keys VALUES ('ten_default', ?, 'mac', 200, '[]', '', ?)", scope, Date.now() - hours * HOUR_MS);
  }
  const [{ id: user }] = await rows("SELECT id FROM users LIMIT 1");
  for (const minutes of [61, 59]) {
    await rows("INSERT INTO login_failures (tenant_id, user_id, at) VALUES ('ten_default', ?, ?)", user, Date.now() - minutes * 60_000);
  }
  await rows("DELETE FROM refresh_tokens WHERE id <> (SELECT MAX(id) FROM refresh_tokens)");
  for (const [id, days] of [["rft_old", 31], ["rft_older", 400], ["rft_kept", 29], ["rft_ended", 0]]) {
    await rows(
      `INSERT INTO refresh_tokens
       SELECT ?1, tenant_id, user_id, family_id, ?1, client_hash, issued_at, ?2, NULL, NULL, NULL FROM refresh_tokens LIMIT 1`,
      id,
      Date.now() - days * DAY_MS,
    );
  }
  await fire(HOURLY);
  const left = (await rows("SELECT id FROM refresh_tokens ORDER BY id")).map(({ id }) => id);
  assert.equal(left.length, 3);
  assert.ok(left.includes("rft_kept") && left.includes("rft_ended"));
  const { outcome, detail } = await run("housekeeping");
  assert.deepEqual([outcome, detail], ["success", "2 refresh tokens, 1 replies to repetitions and 1 failed logins deleted"]);
  assert.deepEqual(await rows("SELECT scope FROM idempotency_keys"), [{ scope: "kept" }]);
  assert.equal((await rows("SELECT id FROM login_failures")).length, 1);
  expect(await caller(worker).post("/api/v1/auth/refresh", { refresh_token: tokens.refresh_token }), 200);
});
