// An outage on the real runtime: from failed probes to an incident and back, and the alarm that misses the tick.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { API, expect, forgetBoard, logIn, startWorker } from "./harness.mjs";

const TICK = "* * * * *";
const MINUTE_MS = 60_000;

let worker;
let admin;
let isUp = true;
let tenantRows;

before(async () => {
  worker = await startWorker({
    // api2.cursor.sh is the probe of one partner; the others are always well.
    outbound: ({ url }) => new Response("{}", { status: !isUp && url.startsWith("https://api2.cursor.sh") ? 503 : 401 }),
  });
  await worker.scheduled(TICK);
  admin = await logIn(worker);
  tenantRows = () => worker.rows("SELECT event, subject FROM activity WHERE event LIKE 'incident.%' ORDER BY id");
});
after(() => worker?.close());

// Probes run once in the minute a tick is for, and are stored under the time at which they ran: now.
let minute = Math.ceil(Date.now() / MINUTE_MS);
async function ticks(count) {
  for (let i = 0; i < count; i += 1) {
    minute += 1;
    await worker.scheduled(TICK, minute * MINUTE_MS);
  }
  await forgetBoard(admin, "cursor");
}
const open = async () => expect(await admin.get(`${API}/incidents?state=open`), 200).incidents;

test("three failed probes are an incident, which everything shows and a person may look after", async () => {
  isUp = false;
  await ticks(3);
  const [incident, ...more] = await open();
  assert.deepEqual(more, []);
  assert.deepEqual([incident.rule, incident.partnership, incident.state], ["slo_fast_burn", "cursor_technical", "open"]);
  await ticks(1);
  assert.equal((await open()).length, 1, "one incident for one cause");

  const health = expect(await admin.get(`${API}/health`), 200);
  assert.equal(health.partnerships.cursor_technical.incidents[0].id, incident.id);
  const { slos } = expect(await admin.get(`${API}/partnerships/cursor/slos`), 200);
  assert.equal(slos[0].status.burning, "fast");
  assert.equal(slos[0].status.bad, 4);
  assert.deepEqual(await tenantRows(), [{ event: "incident.opened", subject: incident.id }]);

  const acknowledged = expect(await admin.post(`${API}/incidents/${incident.id}/acknowledge`), 200);
  assert.equal(acknowledged.state, "acknowledged");
  const resolved = expect(await admin.post(`${API}/incidents/${incident.id}/resolve`), 200);
  assert.deepEqual(resolved.timeline.map(({ kind }) => kind), ["opened", "acknowledged", "resolved"]);
  await ticks(1);
  assert.deepEqual(await open(), [], "while it lasts it does not come back");
});

test("state outlives the objects' memory", async () => {
  await worker.evict("INCIDENT", "ten_default");
  await worker.evict("PARTNERSHIP", "ten_default/cursor_technical");
  await ticks(1);
  assert.deepEqual(await open(), []);
  const { incidents } = expect(await admin.get(`${API}/incidents?partnership=cursor`), 200);
  assert.deepEqual(incidents.map(({ state }) => state), ["resolved"]);
});

test("a simulation runs in the objects", async () => {
  const wanted = { days: 1, policy: { min_bad_samples: 2 } };
  const out = expect(await admin.post(`${API}/alert-policies/simulate`, wanted), 200);
  assert.equal(out.partnerships.length, 6);
  assert.equal(out.pages, 1);
  assert.equal(out.alerts[0].partnership, "cursor_technical");
});

test("maintenance is by the clock of a place that the runtime knows nothing of", async () => {
  const weekly = { days: ["sunday"], start: "02:30", minutes: 90, time_zone: "Europe/Berlin" };
  const made = expect(await admin.post(`${API}/partnerships/grok/maintenance`, { name: "Patch night", weekly }), 201);
  assert.deepEqual(made.schedule, { weekly });
  const bad = await admin.post(`${API}/partnerships/grok/maintenance`, { name: "x", weekly: { ...weekly, time_zone: "Mars/Olympus" } });
  assert.equal(bad.status, 422);
});
