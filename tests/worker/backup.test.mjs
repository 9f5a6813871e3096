// The drill: fill, back up, destroy everything but the bucket, restore, and compare every table and every GET route.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { API, AUTH, expect, expectProblem, logIn, logLines, networkFailure, startWorker } from "./harness.mjs";

const TICK = "* * * * *";
const BACKUP = "37 * * * *";

const workers = [];
const start = async () => {
  const worker = await startWorker({ outbound: () => networkFailure() });
  workers.push(worker);
  return worker;
};
after(() => Promise.all(workers.map((worker) => worker.close())));

/** What depends on when and where a reply is made, and on nothing stored: these fields are not compared. */
const NOT_COMPARED = new Set([
  // Clocks.
  "last_check", "next_check", "checked_at", "generated_at", "now", "timestamp_now", "uptime_seconds", "age_s", "age_seconds",
  "last_good_age_s", "last_drill_age_s", "computed_at", "observed_at",
  // The isolate and the file the database is in.
  "wasm_memory_bytes", "d1_bytes", "object_bytes", "bytes_of_objects",
  // The restore itself, the login of this test, and the list of sets.
  "last_drill", "recent_activity", "component_details", "jti", "expires_at_of_token", "service",
]);

function comparable(value) {
  if (Array.isArray(value)) return value.map(comparable);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).filter(([name]) => !NOT_COMPARED.has(name)).map(([name, inner]) => [name, comparable(inner)]),
  );
}

const tables = async (worker) => {
  const names = await worker.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_cf%' ESCAPE '\\' AND name NOT IN ('d1_migrations', 'backups')");
  const all = {};
  for (const { name } of names) {
    const rows = await worker.rows(`SELECT * FROM ${name}`);
    all[name] = rows.map((row) => JSON.stringify(row)).sort();
  }
  return all;
};

async function carry(from, to) {
  let cursor;
  do {
    const page = await from.env.BACKUPS.list({ cursor });
    for (const { key } of page.objects) {
      await to.env.BACKUPS.put(key, await (await from.env.BACKUPS.get(key)).arrayBuffer());
    }
    cursor = page.truncated ? page.cursor : undefined;
  } while (cursor !== undefined);
}

test("what was backed up is restored: every table, every route", { timeout: 300_000 }, async () => {
  const source = await start();
  let admin = await logIn(source);
  const minute = Math.floor(Date.now() / 60_000) * 60_000;
  await source.scheduled(TICK, minute);

  // Fill it.
  const partner = { id: "acme", name: "Acme", partner: "Acme", kpis: [{ name: "quality", target: 90, unit: "percent", direction: "higher" }], deliverables: [{ key: "report" }] };
  expect(await admin.post(`${API}/partnerships`, partner), 201);
  expect(await admin.post(`${API}/partnerships`, { id: "gone", name: "Gone", partner: "Gone" }), 201);
  for (let batch = 0; batch < 10; batch += 1) {
    const rows = Array.from({ length: 500 }, (_, n) => ({
      at: new Date(minute - (batch * 500 + n) * 10_000).toISOString(),
      outcome: n % 50 === 0 ? "down" : "up",
      ...(n % 50 !== 0 && { latency_ms: 100 + n / 7 }),
      source: "gateway",
    }));
    expect(await admin.post(`${API}/partnerships/acme/observations`, rows, { "idempotency-key": `"b${batch}"` }), 202);
  }
  expect(await admin.delete(`${API}/partnerships/gone`), 204);
  expect(await admin.post(`${API}/partnerships/acme/kpis/quality`, { value: 81.3, at: new Date(minute).toISOString() }), 202);
  expect(await admin.put(`${API}/partnerships/acme/deliverables/report`, { completion_percentage: 40, status: "in_progress" }), 200);
  for (let n = 0; n < 5; n += 1) expect(await admin.post(`${API}/decisions`, { context: { title: `Nº ${n} "quoted"\n` } }, { "idempotency-key": `"d${n}"` }), 200);
  const { decision_id: made } = expect(await admin.post(`${API}/decisions`, { context: { business_goal: "grow_brand", timeframe: "90_days", budget: 5 } }), 200);
  expect(await admin.post(`${API}/decisions/${made}/outcome`, { outcome: "reversed", note: "Too dear." }), 201);
  expect(await admin.post(`${AUTH}/users`, { username: "grace", password: "a password of hers", role: "system_admin" }), 201);
  const { api_key: key } = expect(await admin.post(`${AUTH}/keys`, { name: "scraper", permissions: ["metrics:read"] }), 201);
  expect(await admin.patch(`${API}/config`, { limits: { ingest: 700 } }), 200);
  const slo = { key: "report", kind: "latency", target_percent: 99, threshold_ms: 150, period_days: 7 };
  expect(await admin.post(`${API}/partnerships/acme/slos`, slo), 201);
  const weekly = { days: ["sunday"], start: "02:30", minutes: 90, time_zone: "Europe/Berlin" };
  expect(await admin.post(`${API}/partnerships/acme/maintenance`, { name: "Patch night", weekly }), 201);
  await source.scheduled(TICK, minute + 60_000);
  // One of a hundred failed, which burns ten times the budget.
  const [incident] = expect(await admin.get(`${API}/incidents?partnership=acme`), 200).incidents;
  expect(await admin.post(`${API}/incidents/${incident.id}/acknowledge`), 200);
  // After the incident: what is to be told of it would go on being tried.
  const secret = `whsec_${Buffer.alloc(32, 5).toString("base64")}`;
  const { channel } = expect(await admin.post(`${API}/channels`, { kind: "webhook", name: "Desk", url: "https://hooks.example.com/in", secret }), 201);
  const [decision] = (await source.rows("SELECT id FROM users WHERE username = 'grace'")).map(({ id }) => id);

  // Back up.
  const began = performance.now();
  await source.scheduled(BACKUP, Date.now());
  const backedUp = performance.now();
  const { backups: sets } = expect(await admin.get(`${API}/backups`), 200);
  assert.equal(sets.length, 1, JSON.stringify(await source.rows("SELECT * FROM job_runs WHERE job = 'backup'")));
  const [set] = sets;
  let verification;
  do verification = expect(await admin.post(`${API}/backups/${set.id}/verify`), 200);
  while (verification.finished_at === null);
  assert.deepEqual(verification.defects, []);
  const manifest = expect(await admin.get(`${API}/backups/${set.id}`), 200);
  assert.ok(manifest.files.some(({ of, tables }) => of === "PARTNERSHIP/ten_default/acme" && tables.observations === 5_000));
  // An environment that holds something is left alone.
  const refused = await admin.post(`${API}/backups/${set.id}/restore`);
  assert.match(expectProblem(refused, 409, "conflict").detail, /not empty/);

  // The state that the set is of: what came later is not in it.
  const wanted = await tables(source);
  const ids = { "/partnerships/{id}": "acme", "/metrics/{type}": "acme", "/auth/keys/{id}": key.id, "/rate-limits/{client}": decision, "/backups/{id}": set.id, "/channels/{id}": channel.id, "/incidents/{id}": incident.id, "/decisions/{id}": made, "/policies/{id}": "standard" };
  const document = JSON.parse(readFileSync(new URL("../../src/http/openapi.json", import.meta.url), "utf8"));
  const paths = Object.entries(document.paths).filter(([path, methods]) => methods.get && !path.startsWith("/docs") && path !== "/openapi.json").map(([path]) => {
    const [, id] = Object.entries(ids).find(([start]) => path.includes(start)) ?? [];
    return path.replace("{key}", "report").replace("{name}", "quality").replace("{version}", "1").replace(/\{(id|type|client)\}/, id);
  });
  const replies = async (worker, caller) => {
    const all = {};
    for (const path of paths) {
      all[path] = await caller.get(path);
      assert.equal(all[path].status, 200, `${path}: ${all[path].text}`);
    }
    return all;
  };
  const before = await replies(source, admin);

  // Destroy everything but the bucket.
  const target = await start();
  await target.scheduled(TICK, minute); // as a fresh deployment has it: seeds, probes and a bootstrapped admin
  await carry(source, target);
  admin = await logIn(target);
  const restoring = performance.now();
  let step;
  do {
    const reply = await admin.post(`${API}/backups/${set.id}/restore`);
    assert.equal(reply.status, 200, reply.text + (await logLines(target, () => false)).map((line) => JSON.stringify(line)).join("\n"));
    step = reply.json;
  }
  while (step.drill === null);
  const restored = performance.now();
  assert.equal(step.drill.rows, set.rows);

  const found = await tables(target);
  // Lines and the job's row that were written after the set began, in the one or the other.
  const late = (line) => /"event":"(backup\.[a-z_]+)"/.test(line);
  assert.deepEqual(Object.keys(found).sort(), Object.keys(wanted).sort());
  for (const name of Object.keys(wanted)) {
    if (name === "job_runs") continue;
    assert.deepEqual(found[name].filter((line) => !late(line)), wanted[name].filter((line) => !late(line)), name);
  }

  // The signing key and the users are the same, so the earlier login still counts; a new one works too.
  const again = await logIn(target);
  const afterwards = await replies(target, again);
  for (const path of paths) {
    assert.equal(afterwards[path].status, before[path].status, `${path}: ${afterwards[path].text.slice(0, 300)}`);
    if (path.endsWith("/activity") || path.endsWith("/backups") || /readiness|status$|info$/.test(path)) continue; // below
    assert.deepEqual(comparable(afterwards[path].json), comparable(before[path].json), path);
  }
  // The list of activity begins with what happened since; what was there is there, in the same order.
  const events = (reply) => reply.json.activity.filter(({ event }) => !event.startsWith("backup.") && event !== "login.succeeded").map((line) => JSON.stringify(line));
  const old = events(before[`${API}/activity`]);
  assert.deepEqual(events(afterwards[`${API}/activity`]).slice(-old.length), old);
  for (const path of [`${API}/partnerships/acme/status`, `${API}/partnerships`]) {
    assert.deepEqual(comparable(afterwards[path].json), comparable(before[path].json), path);
  }
  const status = afterwards[`${API}/status`].json;
  assert.equal(typeof status.backups.last_drill_age_s, "number");
  assert.equal(typeof status.backups.last_good_age_s, "number");
  const readiness = afterwards[`${API}/deployment/readiness`].json;
  assert.equal(readiness.checks.backup_age.status, "pass");

  // Life goes on: a tick, and the observations of the source count.
  await target.scheduled(TICK, Date.now());
  const metrics = expect(await again.get(`${API}/metrics/acme`), 200);
  assert.equal(metrics.metrics.quality, 81.3);

  const s = (from, to) => `${((to - from) / 1_000).toFixed(1)} s`;
  console.log(`drill: ${set.rows} rows, ${set.bytes} bytes, ${set.files} files; backed up in ${s(began, backedUp)}, restored in ${s(restoring, restored)} (promise: under an hour)`);
});
