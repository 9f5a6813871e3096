// Channels on the real runtime: what receivers get, checked with the libraries that receivers use, and with what PagerDuty
// publishes of its events. What happens over hours and days is in tests/api/channels.rs, where the clock is set by hand.
import Ajv from "ajv";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Webhook } from "standardwebhooks";
import { API, expect, expectProblem, logIn, loopbackOnly, startWorker, uuidV7 } from "./harness.mjs";

const TENANT = "ten_default";
const GIVEN_SECRET = `whsec_${Buffer.alloc(24, 5).toString("base64")}`;
const ROUTING_KEY = "0123456789abcdefABCDEF0123456789";
const PAGERDUTY = "https://events.pagerduty.com/v2/enqueue";
const SCHEMA = JSON.parse(readFileSync(new URL("pagerduty-events-v2.schema.json", import.meta.url), "utf8"));
// Set by `make test-worker`: the Python that has the library.
const { WEBHOOK_PYTHON } = process.env;

let worker, admin, receiver, base;
/** What came in, in order: { path, headers, body }. */
const received = [];
const waiting = [];
/** The statuses of the next answers of a path; 200 when there are no more. */
const answers = {};

before(async () => {
  receiver = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    note({ path: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() });
    response.writeHead(answers[request.url]?.shift() ?? 200).end("thank you");
  });
  receiver.listen(0, "127.0.0.1");
  await once(receiver, "listening");
  base = `http://127.0.0.1:${receiver.address().port}`;
  worker = await startWorker({
    vars: { ALLOW_LOOPBACK_PROBES: "true" },
    outbound: async (request) => {
      if (request.url !== PAGERDUTY) return loopbackOnly(request);
      note({ path: "/pagerduty", headers: Object.fromEntries(request.headers), body: await request.text() });
      return new Response('{"status":"success"}', { status: answers["/pagerduty"]?.shift() ?? 202 });
    },
  });
  admin = await logIn(worker);
});
after(async () => {
  await worker?.close();
  receiver?.closeAllConnections();
  receiver?.close();
});

function note(message) {
  received.push(message);
  for (const look of waiting.splice(0)) look();
}

/** All that came in on a path, as soon as it is so much. */
async function arrived(path, count) {
  for (;;) {
    const found = received.filter((message) => message.path === path);
    if (found.length >= count) return found;
    await new Promise((resolve) => waiting.push(resolve));
  }
}

async function channel(body) {
  return expect(await admin.post(`${API}/channels`, { min_severity: "info", ...body }), 201);
}

/** Asks the object in which the tenant's incidents and the outbox are. */
async function outbox(command) {
  const object = worker.env.INCIDENT.getByName(TENANT);
  const reply = await object.fetch("https://object/", { method: "POST", body: JSON.stringify({ outbox: command }) });
  assert.equal(reply.status, 200);
  return (await reply.json()).outbox;
}

/** Until nothing is under way: an answer has come in before the outbox has written it down. */
async function settled() {
  for (;;) {
    const { figures } = await outbox("figures");
    if (Object.values(figures).every(({ waiting }) => waiting === 0)) return;
    await sleep(10);
  }
}

/** As the tenant's incidents do it. */
async function enqueue(kind, incident, more = {}) {
  const now = new Date().toISOString();
  const notification = {
    id: `ntf_${uuidV7(Date.now())}`,
    kind,
    incident_id: incident,
    severity: "critical",
    at: now,
    opened_at: now,
    partnership: "cursor_technical",
    rule: "slo_burn",
    title: `Budget <burns> & burns: ${kind}`,
    detail: "14.4 over 1 h and 5 m: é, 漢, 🔥",
    ...more,
  };
  await outbox({ enqueue: { notification } });
  return notification;
}

const webhooks = [];

test("a test is delivered at once, and the answer says how", async () => {
  const given = await channel({ kind: "webhook", name: "given", url: `${base}/given`, secret: GIVEN_SECRET });
  const ours = await channel({ kind: "webhook", name: "ours", url: `${base}/ours` });
  assert.equal(given.secret, null);
  assert.match(ours.secret, /^whsec_/);
  assert.deepEqual([given.channel.host, ours.channel.host], ["127.0.0.1", "127.0.0.1"]);
  webhooks.push({ ...given.channel, secret: GIVEN_SECRET, path: "/given" }, { ...ours.channel, secret: ours.secret, path: "/ours" });
  answers["/ours"] = [500];
  for (const [{ id, path }, state, status] of [[webhooks[0], "delivered", 200], [webhooks[1], "failed", 500]]) {
    const tested = expect(await admin.post(`${API}/channels/${id}/test`), 200);
    assert.equal(tested.state, state);
    assert.equal(tested.attempts[0].status, status);
    assert.ok(tested.attempts[0].latency_ms >= 0);
    assert.equal(JSON.parse((await arrived(path, 1))[0].body).type, "channel.test");
  }
});

test("an incident reaches every channel, in order, though the object is evicted", async () => {
  await channel({ kind: "slack", name: "chat", url: `${base}/slack` });
  await channel({ kind: "pagerduty", name: "on call", routing_key: ROUTING_KEY });
  const incident = `inc_${uuidV7(Date.now())}`;
  const said = [];
  for (const kind of ["triggered", "acknowledged", "resolved"]) {
    said.push(await enqueue(kind, incident));
    if (kind === "resolved") continue;
    await settled();
    await worker.evict("INCIDENT", TENANT);
  }
  for (const { path, id } of webhooks) {
    const messages = (await arrived(path, 4)).slice(1);
    assert.deepEqual(messages.map(({ body }) => JSON.parse(body).type), ["incident.triggered", "incident.acknowledged", "incident.resolved"]);
    assert.deepEqual(messages.map(({ headers }) => headers["webhook-id"]), said.map((news) => `${news.id}-${id}`));
    assert.equal(JSON.parse(messages[0].body).data.detail, said[0].detail);
  }
  const [chat] = await arrived("/slack", 3);
  assert.equal(JSON.parse(chat.body).text, "Critical: Budget &lt;burns&gt; &amp; burns: triggered");
  const events = (await arrived("/pagerduty", 3)).map(({ body }) => JSON.parse(body));
  assert.deepEqual(events.map((event) => [event.event_action, event.dedup_key]), ["trigger", "acknowledge", "resolve"].map((action) => [action, incident]));
});

test("every webhook verifies with the npm library of Standard Webhooks", () => {
  for (const { secret, path } of webhooks) {
    const all = received.filter((message) => message.path === path);
    assert.ok(all.length >= 4);
    for (const { headers, body } of all) {
      assert.deepEqual(new Webhook(secret).verify(body, headers), JSON.parse(body));
      assert.throws(() => new Webhook(secret).verify(`${body} `, headers));
      assert.throws(() => new Webhook(secret).verify(body, { ...headers, "webhook-id": "another" }));
    }
  }
});

test("and with the one from PyPI", { skip: WEBHOOK_PYTHON ? false : "no WEBHOOK_PYTHON: make test-worker sets it" }, () => {
  const all = webhooks.flatMap(({ secret, path }) => received.filter((message) => message.path === path).map((message) => ({ secret, ...message })));
  const script = fileURLToPath(new URL("verify_webhooks.py", import.meta.url));
  const run = spawnSync(WEBHOOK_PYTHON, [script], { input: JSON.stringify(all), encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
  assert.deepEqual(JSON.parse(run.stdout), all.map(() => [true, false]));
});

test("every event is one that PagerDuty takes", async () => {
  const channels = expect(await admin.get(`${API}/channels`), 200).channels;
  const pager = channels.find(({ kind }) => kind === "pagerduty");
  assert.equal(expect(await admin.post(`${API}/channels/${pager.id}/test`), 200).state, "delivered");
  const sent = (await arrived("/pagerduty", 4)).length;
  // Of the service itself, and longer than PagerDuty takes.
  await enqueue("triggered", `inc_${uuidV7(Date.now())}`, { partnership: null, title: "é".repeat(3000), severity: "warning" });
  await arrived("/pagerduty", sent + 1);
  const isEvent = new Ajv({ allErrors: true, formats: { "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/ } }).compile(SCHEMA);
  for (const { body } of received.filter(({ path }) => path === "/pagerduty")) {
    assert.ok(isEvent(JSON.parse(body)), JSON.stringify(isEvent.errors));
  }
  // The schema refuses what it should.
  const good = JSON.parse(received.find(({ path }) => path === "/pagerduty").body);
  for (const bad of [{ event_action: "open" }, { routing_key: "short" }, { payload: { ...good.payload, severity: "high" } }, { payload: undefined }, { sumary: "x" }]) {
    assert.ok(!isEvent(JSON.parse(JSON.stringify({ ...good, ...bad }))), JSON.stringify(bad));
  }
});

test("a receiver that is gone is disabled, shown so, and sent nothing more", async () => {
  const [{ id, path }] = webhooks;
  const before = received.filter((message) => message.path === path).length;
  answers[path] = [410];
  await enqueue("triggered", `inc_${uuidV7(Date.now())}`);
  await settled();
  const told = received.filter((message) => message.path === "/pagerduty" && JSON.parse(message.body).payload.class === "delivery_failing");
  assert.equal(told.length, 1, "the others are told of it");
  const shown = expect(await admin.get(`${API}/channels/${id}`), 200);
  assert.match(shown.disabled_reason, /410/);
  expectProblem(await admin.post(`${API}/channels/${id}/test`), 409, "conflict");
  assert.equal(received.filter((message) => message.path === path).length, before + 1);
  // Changed, it is tried again; what it missed is sent by a replay.
  expect(await admin.patch(`${API}/channels/${id}`, {}), 200);
  // (What waited behind it was given up without a try.)
  const { deliveries } = expect(await admin.get(`${API}/channels/${id}/deliveries`), 200);
  const missed = deliveries.find(({ attempts }) => attempts.at(-1)?.status === 410);
  assert.equal(missed.state, "failed");
  expect(await admin.post(`${API}/deliveries/${missed.id}/replay`), 202);
  await settled();
  const all = await arrived(path, before + 2);
  assert.equal(all.at(-1).headers["webhook-id"], all.at(-2).headers["webhook-id"]);
  assert.doesNotThrow(() => new Webhook(GIVEN_SECRET).verify(all.at(-1).body, all.at(-1).headers));
});

test("no secret is in the database or shown", async () => {
  const rows = JSON.stringify(await worker.rows("SELECT * FROM channels"));
  const shown = (await admin.get(`${API}/channels`)).text;
  for (const secret of [...webhooks.map(({ secret }) => secret), ROUTING_KEY, "/given", "/slack"]) {
    for (const text of [rows, shown]) assert.ok(!text.includes(secret), secret);
  }
  const without = await startWorker({ secrets: { CHANNEL_KEY: undefined } });
  try {
    const refused = await (await logIn(without)).post(`${API}/channels`, { kind: "slack", name: "x", url: "https://hooks.example.org/x" });
    assert.match(expectProblem(refused, 503, "not_configured").detail, /CHANNEL_KEY is not set/);
  } finally {
    await without.close();
  }
});
