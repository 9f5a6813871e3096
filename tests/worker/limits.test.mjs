// Rate limits, quotas, blocks, API keys, lockout, Idempotency-Key, entity tags and pages on the real runtime, with
// limits on. Every test has clients of its own (users by minted tokens, API keys, addresses), so none waits for a window.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { API, AUTH, caller, expect, expectProblem, logIn, mintToken, startWorker, uuidV7 } from "./harness.mjs";

const PASSWORD = "a long enough password";
const ORIGIN = "https://console.example.com";
const READ = `${API}/partnerships`;

let worker, admin, early;

before(async () => {
  worker = await startWorker({ vars: { RATE_LIMITING: "on", CORS_ALLOWED_ORIGINS: ORIGIN } });
  admin = await logIn(worker);
  // What its object publishes by an alarm, ten seconds later, the last test looks for.
  early = newcomer();
  expect(await early.get(READ), 200);
});
after(() => worker?.close());

const rows = (sql, ...values) => worker.rows(sql, ...values);
const count = async (from, ...values) => (await rows(`SELECT COUNT(*) AS n FROM ${from}`, ...values))[0].n;
const now = () => new Date().toISOString();

/** An admin nobody has seen before, without a row: one more client. */
function newcomer(claims = {}) {
  const id = `usr_${uuidV7(Date.now())}`;
  return { id, ...caller(worker, mintToken({ claims: { sub: id, ...claims } })) };
}

/** Somebody without a credential, at this address as Cloudflare says it. */
const at = (address) => ({ "cf-connecting-ip": address });
const anyone = () => caller(worker);

/** Each once, one after the other; the statuses. */
async function statuses(times, ask) {
  const seen = [];
  for (let i = 0; i < times; i += 1) seen.push((await ask(i)).status);
  return seen;
}

const all = (times, status) => Array(times).fill(status);

/** A 429 of this code for breaking this policy; the seconds to wait. */
function expectRefused(reply, code, policy) {
  const problem = expectProblem(reply, 429, code);
  assert.equal(problem.type, "https://iana.org/assignments/http-problem-types#quota-exceeded");
  assert.deepEqual(problem["violated-policies"], [policy]);
  const wait = Number(reply.headers.get("retry-after"));
  assert.ok(Number.isInteger(wait) && wait >= 1, `${wait}`);
  return wait;
}

/** A refusal for so many requests in 60 s, with all that it must say in both kinds of fields. */
function expectLimited(reply, policy, limit) {
  const wait = expectRefused(reply, "rate_limited", policy);
  // An object started anew lets what it reads back count for a second longer.
  assert.ok(wait <= 61, `${wait}`);
  assert.equal(reply.headers.get("ratelimit-policy"), `"${policy}";q=${limit};w=60`);
  assert.equal(reply.headers.get("ratelimit"), `"${policy}";r=0;t=${wait}`);
  assert.equal(reply.headers.get("x-ratelimit-limit"), `${limit}`);
  assert.equal(reply.headers.get("x-ratelimit-remaining"), "0");
  const reset = Number(reply.headers.get("x-ratelimit-reset"));
  assert.ok(Math.abs(reset - (Date.now() / 1000 + wait)) < 5, `${reset}`);
}

describe("a client", () => {
  test("gets exactly its hundred requests, each told what is left, and the next one is told when", async () => {
    const client = newcomer();
    const started = Date.now();
    for (let left = 99; left >= 0; left -= 1) {
      const reply = await client.get(READ);
      expect(reply, 200);
      assert.equal(reply.headers.get("ratelimit-policy"), '"default";q=100;w=60');
      const [, remaining, seconds] = reply.headers.get("ratelimit").match(/^"default";r=(\d+);t=(\d+)$/);
      assert.equal(Number(remaining), left);
      assert.ok(seconds >= 60 - Math.ceil((Date.now() - started) / 1000) - 1 && seconds <= 60, seconds);
      assert.equal(reply.headers.get("x-ratelimit-limit"), "100");
      assert.equal(reply.headers.get("x-ratelimit-remaining"), remaining);
      assert.ok(Math.abs(Number(reply.headers.get("x-ratelimit-reset")) - (started / 1000 + 60)) < 3);
      assert.equal(reply.headers.get("retry-after"), null);
    }
    // The count outlives the object's memory.
    await worker.evict("RATE_LIMIT", `ten_default/${client.id}`);
    const reply = await client.get(READ, { origin: ORIGIN, "x-request-id": "the-101st-one" });
    expectLimited(reply, "default", 100);
    assert.equal(reply.json.request_id, "the-101st-one");
    assert.equal(reply.headers.get("access-control-allow-origin"), ORIGIN);
    const exposed = reply.headers.get("access-control-expose-headers");
    for (const name of ["RateLimit", "RateLimit-Policy", "Retry-After", "X-RateLimit-Reset"]) assert.ok(exposed.includes(name));
    for (const [name, value] of Object.entries({
      "strict-transport-security": "max-age=63072000; includeSubDomains",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "cache-control": "no-store",
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    })) {
      assert.equal(reply.headers.get(name), value, name);
    }
    // Preflights are free; any other route of the class is refused too, be it there or not.
    assert.equal((await client.request("OPTIONS", READ)).status, 204);
    for (const path of [`${API}/info`, `${API}/nowhere`]) expectLimited(await client.get(path), "default", 100);
    expectLimited(await client.delete(READ), "default", 100);
  });

  test("that sends 150 requests at once gets exactly a hundred", async () => {
    const client = newcomer();
    const replies = await Promise.all(Array.from({ length: 150 }, () => client.get(READ)));
    const passed = replies.filter(({ status }) => status === 200).length;
    assert.equal(passed, 100);
    for (const reply of replies.filter(({ status }) => status !== 200)) expectLimited(reply, "default", 100);
  });

  test("has a budget for each class", async () => {
    const client = newcomer();
    const decide = () => client.post(`${API}/decisions`, { context: {} });
    assert.deepEqual(await statuses(30, decide), all(30, 200));
    expectLimited(await decide(), "decisions", 30);
    for (const [path, policy] of [
      [READ, '"default";q=100;w=60'],
      [`${API}/metrics`, '"metrics";q=100;w=60'],
      ["/openapi.json", '"documents";q=300;w=60'],
    ]) {
      const reply = await client.get(path);
      expect(reply, 200);
      assert.equal(reply.headers.get("ratelimit-policy"), policy);
      assert.match(reply.headers.get("ratelimit"), /;r=(99|299);/);
    }
    const push = await client.post(`${READ}/grok/observations`, [{ at: now(), outcome: "up", source: "test" }]);
    expect(push, 202);
    assert.equal(push.headers.get("ratelimit-policy"), '"ingest";q=600;w=60');
  });

  test("without a credential is its address, of IPv6 the first 64 bits; a bad credential is none", async () => {
    const ask = (address, headers) => anyone().get(`${API}/health`, { ...at(address), ...headers });
    const from = (i) => `2001:db8:0:7:${i.toString(16)}::1`;
    const forged = (i) => ({ "x-forwarded-for": `198.51.100.${i}`, "x-real-ip": `198.51.100.${i}` });
    assert.deepEqual(await statuses(90, (i) => ask(from(i), forged(i))), all(90, 200));
    const garbage = (i) => ask(from(i), { authorization: "Bearer garbage" });
    assert.deepEqual(await statuses(10, garbage), all(10, 401));
    expectLimited(await ask(from(7), forged(7)), "default", 100);
    expect(await ask("2001:db8:0:8::1"), 200);
    expect(await ask("192.0.2.1"), 200);
    // Whoever has a good credential there has a budget of his own.
    expect(await newcomer().get(`${API}/health`, at(from(7))), 200);
  });

  test("may try ten logins from an address, and five on an account from wherever", async () => {
    const attempt = (address, username, headers) =>
      anyone().post(`${AUTH}/login`, { username, password: "not the password" }, { ...at(address), ...headers });
    assert.deepEqual(await statuses(10, (i) => attempt("203.0.113.1", `nobody-${i}`)), all(10, 401));
    expectLimited(await attempt("203.0.113.1", "nobody-11"), "login", 10);
    // A token does not buy more guesses.
    expectLimited(await attempt("203.0.113.1", "x", { authorization: `Bearer ${newcomer().token}` }), "login", 10);
    const spellings = ["somebody", "SomeBody", "SOMEBODY"];
    assert.deepEqual(await statuses(5, (i) => attempt(`203.0.113.${10 + i}`, spellings[i % 3])), all(5, 401));
    expectLimited(await attempt("203.0.113.20", "somebody"), "account", 5);
  });
});

describe("what KV says", () => {
  const soon = (ms) => new Date(Date.now() + ms).toISOString();

  /** A client with a row, without which he is not found, of whom KV says that he is blocked. */
  async function block(client) {
    await rows(
      `INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, created_at, created_by, updated_at)
       VALUES (?, 'ten_default', ?, 'x', 'admin', 'admin', 0, 'system', 0)`,
      client.id, client.id,
    );
    const record = { published_at: now(), counted: {}, blocked_until: soon(600_000), day: null };
    await worker.env.KV.put(`rl:client:ten_default/${client.id}`, JSON.stringify(record));
    const path = `${API}/rate-limits/${client.id}`;
    assert.equal(expect(await admin.get(path), 200).kv.client.blocked_until, record.blocked_until);
    return path;
  }

  test("of a block holds until an admin lifts it", async () => {
    const client = newcomer();
    const path = await block(client);
    for (let i = 0; i < 3; i += 1) {
      const wait = expectRefused(await client.get(READ), "client_blocked", "block");
      assert.ok(wait > 590 && wait <= 600, `${wait}`);
    }
    assert.equal((await admin.delete(path)).status, 204);
    expect(await client.get(READ), 200);
  });

  test("of a block ends for other locations too when an admin lifts it", async () => {
    const client = newcomer();
    // Its object has to know whose it is.
    expect(await client.get(READ), 200);
    const path = await block(client);
    assert.equal((await admin.delete(path)).status, 204);
    assert.equal(expect(await admin.get(path), 200).kv.client.blocked_until, null);
  });

  test("of a tenant's day holds for all of its clients and for nobody else", async () => {
    const midnight = new Date().setUTCHours(0, 0, 0, 0);
    const day = { day: new Date(midnight).toISOString(), used: 100_000, quota: 100_000 };
    await worker.env.KV.put("rl:tenant:ten_spent", JSON.stringify({ published_at: now(), day }));
    for (const client of [newcomer({ tid: "ten_spent" }), newcomer({ tid: "ten_spent" })]) {
      const reply = await client.get(READ);
      const wait = expectRefused(reply, "quota_exceeded", "daily-tenant");
      assert.ok(Math.abs(midnight + 86_400_000 - (Date.now() + wait * 1000)) < 5_000);
      assert.equal(reply.headers.get("ratelimit-policy"), '"daily-tenant";q=100000;w=86400');
    }
    expect(await newcomer({ tid: "ten_fresh" }).get(READ), 200);
  });
});

test("what counts of a client is shown: users and keys to their tenant, addresses to the operator", async () => {
  const { id } = expect(await admin.get(`${AUTH}/me`), 200);
  const seen = expect(await admin.get(`${API}/rate-limits/${id}`), 200);
  assert.equal(seen.client, id);
  assert.ok(seen.object.classes.default.counted >= 2);
  assert.equal(seen.limits.default, 100);
  for (let i = 0; i < 3; i += 1) expect(await anyone().get(`${API}/health`, at("2001:db8:0:9::1")), 200);
  for (const name of ["2001:db8:0:9::ffff", "ip:2001:db8:0:9", "ip%3A2001%3Adb8%3A0%3A9"]) {
    const { client, object, kv } = expect(await admin.get(`${API}/rate-limits/${name}`), 200);
    assert.equal(client, "ip:2001:db8:0:9");
    assert.ok(object.classes.default.counted >= 3);
    assert.equal(object.day, null);
    assert.equal(kv.tenant, null);
  }
  const stranger = newcomer({ tid: "ten_other" });
  for (const name of [id, "2001:db8:0:9::1"]) {
    expectProblem(await stranger.get(`${API}/rate-limits/${name}`), 404, "not_found");
    expectProblem(await stranger.delete(`${API}/rate-limits/${name}`), 404, "not_found");
  }
  expectProblem(await admin.get(`${API}/rate-limits/nobody`), 404, "not_found");
  assert.equal((await admin.delete(`${API}/rate-limits/${id}`)).status, 204, "there was no block");
  assert.equal(await count("activity WHERE event = 'rate_limit.block_lifted' AND subject = ?", id), 0);
});

test("a tenant's new limits hold at once, for its own clients", async () => {
  await rows("INSERT INTO tenants (id, name, created_at) VALUES ('ten_tight', 'Tight', 0)");
  await rows(
    `INSERT INTO settings (tenant_id, version, document, author_id, created_at)
     SELECT 'ten_tight', 1, document, 'system', 0 FROM settings WHERE tenant_id = 'ten_default' AND version = 1`,
  );
  const owner = newcomer({ tid: "ten_tight" });
  const changed = expect(await owner.patch(`${API}/config`, { limits: { default: 7 } }), 200);
  assert.equal(changed.configuration.api_settings.limits.default, 7);
  const client = newcomer({ tid: "ten_tight" });
  assert.deepEqual(await statuses(7, () => client.get(READ)), all(7, 200));
  expectLimited(await client.get(READ), "default", 7);
  assert.equal((await newcomer().get(READ)).headers.get("x-ratelimit-limit"), "100");
});

describe("an API key", () => {
  const make = async (permissions, more) =>
    expect(await newcomer().post(`${AUTH}/keys`, { name: "scraper", permissions, ...more }), 201);

  test("is taken in either field, has the permissions it was given, and its use is noted", async () => {
    const { key, api_key: made } = await make(["metrics:read"], { expires_in_days: 1 });
    assert.match(key, /^dsk_[0-9a-z]{10}_[\w-]{43}$/);
    assert.equal(made.last_used_at, null);
    assert.equal(Date.parse(made.expires_at) - Date.parse(made.created_at), 86_400_000);
    expect(await anyone().get(`${API}/metrics`, { authorization: `Bearer ${key}` }), 200);
    expect(await anyone().get(`${API}/metrics`, { "x-api-key": key }), 200);
    expectProblem(await anyone().get(READ, { "x-api-key": key }), 403, "forbidden");
    const both = { authorization: `Bearer ${key}`, "x-api-key": key };
    expectProblem(await anyone().get(`${API}/metrics`, both), 401, "invalid_token");
    for (const wrong of [`${key}A`, key.slice(0, -1), key.replace("dsk_", ""), `${made.prefix}_${"A".repeat(43)}`]) {
      expectProblem(await anyone().get(`${API}/metrics`, { "x-api-key": wrong, ...at("192.0.2.9") }), 401, "invalid_token");
    }
    const me = expect(await caller(worker, key).get(`${AUTH}/me`), 200);
    assert.deepEqual([me.id, me.username, me.role, me.permissions], [made.id, "scraper", null, ["metrics:read"]]);
    const shown = await newcomer().get(`${AUTH}/keys/${made.id}`);
    assert.ok(Math.abs(Date.now() - Date.parse(expect(shown, 200).last_used_at)) < 30_000);
    const listed = await newcomer().get(`${AUTH}/keys`);
    assert.deepEqual(expect(listed, 200).keys.find(({ id }) => id === made.id), shown.json);
    // Shown once; stored as a hash.
    const secret = key.slice("dsk_0123456789_".length);
    const stored = JSON.stringify([await rows("SELECT * FROM api_keys"), await rows("SELECT * FROM activity"), worker.logs()]);
    for (const text of [shown.text, listed.text, stored]) assert.ok(!text.includes(secret));
  });

  test("has a limit of its own", async () => {
    const [one, other] = [await make(["partnerships:read"]), await make(["partnerships:read"])];
    assert.deepEqual(await statuses(100, () => caller(worker, one.key).get(READ)), all(100, 200));
    expectLimited(await caller(worker, one.key).get(READ), "default", 100);
    const reply = await caller(worker, other.key).get(READ);
    expect(reply, 200);
    assert.equal(reply.headers.get("x-ratelimit-remaining"), "99");
  });

  test("that is rotated works on for the overlap, and not without one", async () => {
    const owner = newcomer();
    const { key, api_key: old } = await make(["metrics:read", "docs:read"]);
    const works = async (key) => (await anyone().get(`${API}/metrics`, { "x-api-key": key })).status;
    const rotate = (id, body) => owner.post(`${AUTH}/keys/${id}/rotate`, body);
    const next = expect(await rotate(old.id, { overlap_seconds: 3_600 }), 201);
    assert.equal(next.api_key.replaces, old.id);
    assert.deepEqual(next.api_key.permissions, old.permissions);
    assert.deepEqual([await works(key), await works(next.key)], [200, 200]);
    const { expires_at: ends } = expect(await owner.get(`${AUTH}/keys/${old.id}`), 200);
    assert.ok(Math.abs(Date.parse(ends) - Date.now() - 3_600_000) < 60_000);
    const last = expect(await rotate(next.api_key.id, { overlap_seconds: 0 }), 201);
    assert.deepEqual([await works(next.key), await works(last.key), await works(key)], [401, 200, 200]);
    expectProblem(await rotate(next.api_key.id, {}), 409, "conflict");
    expectProblem(await rotate(last.api_key.id, { overlap_seconds: 604_801 }), 422, "validation_failed");
  });

  test("that is revoked is refused at once, though this isolate knew it", async () => {
    const owner = newcomer();
    const { key, api_key: made } = await make(["metrics:read"]);
    const ask = () => anyone().get(`${API}/metrics`, { "x-api-key": key });
    expect(await ask(), 200);
    expect(await ask(), 200);
    assert.equal((await owner.delete(`${AUTH}/keys/${made.id}`)).status, 204);
    expectProblem(await ask(), 401, "invalid_token");
    expectProblem(await owner.get(`${AUTH}/keys/${made.id}`), 404, "not_found");
    assert.equal((await rows("SELECT revoked_at FROM api_keys WHERE id = ? AND revoked_at IS NOT NULL", made.id)).length, 1);
    assert.equal((await owner.delete(`${AUTH}/keys/${made.id}`)).status, 204, "again");
  });

  test("that is revoked elsewhere is refused within a second, though this isolate knows it", async () => {
    const { key, api_key: made } = await make(["metrics:read"]);
    const ask = () => anyone().get(`${API}/metrics`, { "x-api-key": key });
    expect(await ask(), 200);
    // What another isolate does: the row, then word to the board.
    await rows("UPDATE api_keys SET revoked_at = ? WHERE id = ?", Date.now(), made.id);
    const { BOARD } = worker.env;
    const command = { revoke_tokens: { user_id: made.id, issued_before: now(), now: now() } };
    const board = BOARD.get(BOARD.idFromName("ten_default"));
    const told = await board.fetch("https://object/", { method: "POST", body: JSON.stringify(command) });
    assert.equal(told.status, 200, await told.text());
    const revoked = performance.now();
    for (;;) {
      const started = performance.now();
      const reply = await ask();
      if (reply.status === 401) break;
      expect(reply, 200);
      assert.ok(started - revoked <= 1_050, "still accepted by a request that began more than a second later");
      await sleep(50);
    }
  });

  test("is refused where it would change who may do what, and may not be given that", async () => {
    const owner = newcomer();
    for (const permission of ["users:write", "keys:write", "config:write", "limits:write", "everything"]) {
      const body = { name: "greedy", permissions: [permission] };
      expectProblem(await owner.post(`${AUTH}/keys`, body), 422, "validation_failed");
    }
    assert.equal(await count("api_keys WHERE name = 'greedy'"), 0);
  });
});

test("five failures lock an account: the right password fails alike, the session goes on, and time unlocks it", async () => {
  const owner = newcomer();
  const user = { username: "careless", password: PASSWORD };
  const { id } = expect(await owner.post(`${AUTH}/users`, { ...user, role: "system_admin" }), 201);
  const attempt = (password, username = user.username) => anyone().post(`${AUTH}/login`, { username, password }, at("198.51.100.1"));
  const session = await logIn(worker, user);
  expectProblem(await attempt("not the password"), 401, "invalid_credentials");
  // The password change is no way around it. (Five logins a minute are all that an account has.)
  const guess = { current_password: "not the password", new_password: "another long password" };
  for (let i = 0; i < 3; i += 1) expectProblem(await session.put(`${AUTH}/password`, guess), 422, "validation_failed");
  assert.equal((await rows("SELECT locked_until FROM users WHERE id = ?", id))[0].locked_until, null);
  expectProblem(await session.put(`${AUTH}/password`, guess), 422, "validation_failed");
  const { locked_until: until } = expect(await owner.get(`${AUTH}/users`), 200).users.find((known) => known.id === id);
  assert.ok(Math.abs(Date.parse(until) - Date.now() - 900_000) < 30_000);

  const told = ({ status, json, headers }) => [status, { ...json, request_id: "" }, headers.get("www-authenticate")];
  const locked = told(await attempt(PASSWORD));
  assert.deepEqual(locked, told(await attempt("x", "nobody of this name")));
  assert.equal(locked[0], 401);
  // Not even the right one is confirmed by the password change.
  const right = { current_password: PASSWORD, new_password: "another long password" };
  expectProblem(await session.put(`${AUTH}/password`, right), 422, "validation_failed");
  expect(await session.get(READ), 200);
  assert.equal(expect(await anyone().post(`${AUTH}/refresh`, { refresh_token: session.tokens.refresh_token }), 200).token_type, "bearer");

  const { activity } = expect(await session.get(`${API}/activity?limit=200`), 200);
  const events = activity.filter(({ event, subject }) => event === "login.locked" && subject === id);
  assert.equal(events.length, 1);
  // A quarter of an hour later, without the wait.
  await rows("UPDATE users SET locked_until = locked_until - 900001 WHERE id = ?", id);
  expect(await attempt(PASSWORD), 200);
});

describe("Idempotency-Key", () => {
  let key = 0;
  const fresh = () => ({ "idempotency-key": `"order-${(key += 1)}"` });
  const status = async (who, id) => expect(await who.get(`${READ}/${id}/status`), 200);
  const createdBy = (table) => (who) => count(`${table} WHERE created_by = ?`, who.id);
  const told = (event) => (who) => count("activity WHERE event = ? AND actor = ?", event, who.id);

  const WEEKLY = { days: ["sunday"], start: "02:30", minutes: 90, time_zone: "UTC" };
  const anotherPartnership = async (who, name) => expect(await who.post(READ, { id: name, name: "Another", partner: "Acme" }), 201);
  /** What is done to an incident, of which a partnership of its own has one. */
  const onIncident = (action, body, kind) => ({
    setUp: async (who, name) => {
      await anotherPartnership(who, name);
      const down = { at: now(), outcome: "down", source: "gateway" };
      expect(await who.post(`${READ}/${name}/observations`, [down, down, down]), 202);
      who.incident = expect(await who.get(`${API}/incidents?partnership=${name}`), 200).incidents[0].id;
    },
    request: (_, who) => ["POST", `${API}/incidents/${who.incident}/${action}`, body],
    other: { text: "twice" },
    done: async (who) => {
      const { timeline } = expect(await who.get(`${API}/incidents/${who.incident}`), 200);
      return timeline.filter((entry) => entry.kind === kind).length;
    },
  });

  /** Each operation that takes the key: a request, another body for it, and how often it was done. */
  const WRITES = {
    decide: {
      request: () => ["POST", `${API}/decisions`, { context: {} }],
      other: { context: { title: "Another one" } },
      done: (who) => count("decisions WHERE author_id = ?", who.id),
    },
    record_outcome: {
      setUp: async (who) => {
        who.decision = expect(await who.post(`${API}/decisions`, { context: {} }), 200).decision_id;
      },
      request: (_, who) => ["POST", `${API}/decisions/${who.decision}/outcome`, { outcome: "rejected" }],
      other: { outcome: "reversed" },
      done: (who) => count("decision_outcomes WHERE author_id = ?", who.id),
    },
    create_partnership: {
      request: (name) => ["POST", READ, { id: name, name: "Once", partner: "Acme" }],
      other: { id: "another_one", name: "Once", partner: "Acme" },
      done: told("partnership.created"),
    },
    report_deliverable: {
      request: (name) => ["PUT", `${READ}/cursor/deliverables/${name}`, { completion_percentage: 10, status: "in_progress" }],
      other: { completion_percentage: 20, status: "in_progress" },
      done: told("deliverable.reported"),
    },
    push_observations: {
      setUp: async (who, name) => expect(await who.post(READ, { id: name, name: "Pushed", partner: "Acme" }), 201),
      request: (name) => ["POST", `${READ}/${name}/observations`, [{ at: now(), outcome: "up", source: "once" }]],
      other: [{ at: now(), outcome: "down", source: "once" }],
      // A push with a bad row forgets the board that the isolate keeps.
      done: async (who, name) => {
        expect(await who.post(`${READ}/${name}/observations`, [{}]), 202);
        return (await status(who, name)).metrics.uptime.n;
      },
    },
    push_kpi: {
      setUp: async (who, name) => {
        const kpis = [{ name: "speed", target: 10, unit: "pages/s", direction: "higher" }];
        expect(await who.post(READ, { id: name, name: "Pushed", partner: "Acme", kpis }), 201);
      },
      request: (name) => ["POST", `${READ}/${name}/kpis/speed`, { value: 5, at: now() }],
      other: { value: 6, at: now() },
      done: told("kpi.recorded"),
    },
    create_user: {
      request: (name) => ["POST", `${AUTH}/users`, { username: name, password: PASSWORD, role: "viewer" }],
      other: { username: "another-one", password: PASSWORD, role: "viewer" },
      done: createdBy("users"),
    },
    create_key: {
      request: (name) => ["POST", `${AUTH}/keys`, { name, permissions: ["docs:read"] }],
      other: { name: "another one", permissions: ["docs:read"] },
      done: createdBy("api_keys"),
    },
    rotate_key: {
      setUp: async (who) => {
        const { api_key: made } = expect(await newcomer().post(`${AUTH}/keys`, { name: "old", permissions: ["docs:read"] }), 201);
        who.key = made.id;
      },
      request: (_, who) => ["POST", `${AUTH}/keys/${who.key}/rotate`, { overlap_seconds: 60 }],
      other: { overlap_seconds: 61 },
      done: createdBy("api_keys"),
    },
    create_channel: {
      request: (name) => ["POST", `${API}/channels`, { kind: "slack", name, url: "https://hooks.example.com/in" }],
      other: { kind: "slack", name: "another one", url: "https://hooks.example.com/in" },
      done: createdBy("channels"),
    },
    create_slo: {
      setUp: anotherPartnership,
      request: (name) => ["POST", `${READ}/${name}/slos`, { key: "once", kind: "availability", target_percent: 99, period_days: 7 }],
      other: { key: "twice", kind: "availability", target_percent: 99, period_days: 7 },
      done: told("slo.created"),
    },
    create_maintenance: {
      setUp: anotherPartnership,
      request: (name) => ["POST", `${READ}/${name}/maintenance`, { name: "once", weekly: WEEKLY }],
      other: { name: "twice", weekly: WEEKLY },
      done: told("maintenance.created"),
    },
    acknowledge_incident: onIncident("acknowledge", undefined, "acknowledged"),
    resolve_incident: onIncident("resolve", undefined, "resolved"),
    note_incident: onIncident("notes", { text: "once" }, "noted"),
  };

  const shown = ({ status, text, headers }) => [status, text, headers.get("location"), headers.get("etag")];

  for (const [operation, { setUp, request, other, done }] of Object.entries(WRITES)) {
    test(`makes ${operation} happen once, however often it is sent`, async () => {
      const [who, name] = [newcomer(), `once_${operation}`];
      await setUp?.(who, name);
      const [method, path, body] = request(name, who);
      const first = fresh();
      const send = (body, headers) => who.request(method, path, { body, headers });
      const original = await send(body, first);
      assert.ok(original.status < 300, original.text);
      assert.equal(original.headers.get("idempotency-replayed"), null);
      for (let i = 0; i < 2; i += 1) {
        const repeated = await send(body, first);
        assert.deepEqual(shown(repeated), shown(original));
        assert.equal(repeated.headers.get("idempotency-replayed"), "true");
      }
      assert.equal(await done(who, name), 1);
      expectProblem(await send(other, first), 422, "idempotency_key_reused");
      expectProblem(await send(body, { "idempotency-key": '"open' }), 400, "malformed_request");
      assert.equal(await done(who, name), 1);
    });

    test(`makes ${operation} happen once when it is sent eight times at once`, async () => {
      const [who, name] = [newcomer(), `eight_${operation}`];
      await setUp?.(who, name);
      const [method, path, body] = request(name, who);
      const headers = fresh();
      const replies = await Promise.all(Array.from({ length: 8 }, () => who.request(method, path, { body, headers })));
      for (const reply of replies) {
        assert.ok(reply.status < 300, reply.text);
        assert.deepEqual(shown(reply), shown(replies[0]));
      }
      assert.equal(replies.filter(({ headers }) => headers.get("idempotency-replayed") === null).length, 1);
      assert.equal(await done(who, name), 1);
    });
  }

  test("makes a change of password happen once, and ends the logins of before only", async () => {
    const user = { username: "changing", password: PASSWORD };
    const { id } = expect(await newcomer().post(`${AUTH}/users`, { ...user, role: "viewer" }), 201);
    const body = { current_password: PASSWORD, new_password: "another long password" };
    // A token that was withdrawn meanwhile counts as a guess of the address.
    const headers = { ...fresh(), ...at("198.51.100.2") };
    const session = await logIn(worker, user);
    const replies = await Promise.all(Array.from({ length: 8 }, () => session.put(`${AUTH}/password`, body, headers)));
    // Who comes after the change has a token that it withdrew.
    for (const reply of replies) assert.ok([204, 401].includes(reply.status), reply.text);
    assert.ok(replies.some((reply) => reply.status === 204));
    const changes = () => count("activity WHERE event = 'user.password_changed' AND subject = ?", id);
    assert.equal(await changes(), 1);
    const next = await logIn(worker, { username: "changing", password: body.new_password });
    const repeated = await next.put(`${AUTH}/password`, body, headers);
    assert.equal(repeated.status, 204, repeated.text);
    assert.equal(repeated.headers.get("idempotency-replayed"), "true");
    assert.equal(await changes(), 1);
    expect(await next.get(`${AUTH}/me`), 200);
    const otherBody = { ...body, new_password: "a third long password" };
    expectProblem(await next.put(`${AUTH}/password`, otherBody, headers), 422, "idempotency_key_reused");
  });

  test("is taken by the operations tried here, as the document says", async () => {
    const { paths } = expect(await anyone().get("/openapi.json"), 200);
    const operations = Object.values(paths).flatMap((methods) => Object.values(methods));
    const takes = ({ parameters = [] }) => JSON.stringify(parameters).includes("Idempotency");
    const named = operations.filter(takes).map(({ operationId }) => operationId);
    // A test and a replay are found again by the id of their delivery, which goes on: channels.test.mjs.
    const elsewhere = ["change_password", "replay_delivery", "test_channel"];
    assert.deepEqual(named.sort(), [...Object.keys(WRITES), ...elsewhere].sort());
  });

  test("is one caller's own", async () => {
    const [one, other] = [newcomer(), newcomer()];
    const headers = fresh();
    const made = (who, title) => who.post(`${API}/decisions`, { context: { title } }, headers);
    const ids = [expect(await made(one, "a"), 200), expect(await made(other, "b"), 200)].map(({ decision_id: id }) => id);
    assert.notEqual(ids[0], ids[1]);
  });
});

describe("an entity tag", () => {
  const etagOf = (reply) => {
    expect(reply, 200);
    const etag = reply.headers.get("etag");
    assert.match(etag, /^"[^"]+"$/, "strong");
    return etag;
  };

  test("saves the body to who has it already", async () => {
    const who = newcomer();
    for (const path of [`${READ}/cursor`, `${READ}/cursor/deliverables/mobile_first_platform`, `${API}/config`, `${API}/policies/standard`, "/openapi.json", "/.well-known/jwks.json"]) {
      const first = await who.get(path);
      const etag = etagOf(first);
      for (const known of [etag, `"other", W/${etag}`, "*"]) {
        const reply = await who.get(path, { "if-none-match": known });
        assert.deepEqual([reply.status, reply.text], [304, ""], `${path} ${known}`);
        assert.equal(reply.headers.get("etag"), etag, path);
        assert.equal(reply.headers.get("cache-control"), first.headers.get("cache-control"), path);
      }
      const reply = await who.get(path, { "if-none-match": '"other"' });
      assert.deepEqual([reply.status, reply.text], [200, first.text], path);
    }
  });

  test("keeps a writer from overwriting what he has not seen", async () => {
    const who = newcomer();
    expect(await who.post(READ, { id: "tagged", name: "Tagged", partner: "Acme", deliverables: [{ key: "paper" }] }), 201);
    const half = (percentage) => ({ completion_percentage: percentage, status: "in_progress" });
    for (const [path, method, bodies] of [
      [`${READ}/tagged`, "PATCH", [{ name: "One" }, { name: "Two" }]],
      [`${READ}/tagged/deliverables/paper`, "PUT", [half(10), half(20)]],
      [`${API}/config`, "PATCH", [{ min_coverage: 0.4 }, { min_coverage: 0.3 }]],
    ]) {
      const write = (body, etag) => who.request(method, path, { body, headers: { "if-match": etag } });
      const seen = etagOf(await who.get(path));
      expectProblem(await write(bodies[0], `W/${seen}`), 412, "precondition_failed");
      const changed = await write(bodies[0], seen);
      const next = etagOf(await who.get(path));
      assert.notEqual(next, seen, path);
      assert.equal(etagOf(changed), next, path);
      const stale = await write(bodies[1], seen);
      expectProblem(stale, 412, "precondition_failed");
      assert.equal(stale.headers.get("etag"), next, path);
      assert.equal(etagOf(await who.get(path)), next, `${path}: nothing changed`);
      expect(await write(bodies[1], next), 200);
    }
    const last = etagOf(await who.get(`${READ}/tagged`));
    expectProblem(await who.delete(`${READ}/tagged`, { "if-match": '"other"' }), 412, "precondition_failed");
    assert.equal((await who.delete(`${READ}/tagged`, { "if-match": last })).status, 204);
  });

  test("lets one of eight writers who saw the same state through", async () => {
    const who = newcomer();
    expect(await who.post(READ, { id: "raced", name: "Raced", partner: "Acme" }), 201);
    const headers = { "if-match": etagOf(await who.get(`${READ}/raced`)) };
    const strikes = Array.from({ length: 8 }, (_, i) => who.patch(`${READ}/raced`, { name: `Name ${i}` }, headers));
    const outcomes = await Promise.all(strikes);
    const done = outcomes.filter(({ status }) => status === 200);
    assert.equal(done.length, 1, outcomes.map(({ status }) => status).join());
    for (const reply of outcomes) assert.ok([200, 409, 412].includes(reply.status), reply.text);
    assert.deepEqual(await rows("SELECT name, revision FROM partnerships WHERE id = 'raced'"), [{ name: done[0].json.name, revision: 2 }]);
  });
});

test("lists come page by page, each entry once, with the next page in the body and in Link", async () => {
  const owner = newcomer();
  for (let i = 0; i < 7; i += 1) {
    expect(await owner.post(`${AUTH}/keys`, { name: `page ${i}`, permissions: ["docs:read"] }), 201);
    expect(await owner.post(`${API}/decisions`, { context: {} }), 200);
    const hash = "a hash of no password";
    await rows(
      `INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, created_at, created_by, updated_at)
       VALUES (?, 'ten_default', ?, ?, 'admin', 'viewer', 0, 'system', 0)`,
      `usr_${uuidV7(Date.now())}`, `page-${i}`, hash,
    );
  }
  for (const [path, field] of [[`${AUTH}/users`, "users"], [`${AUTH}/keys`, "keys"], [`${API}/activity`, "activity"], [`${API}/decisions`, "decisions"]]) {
    const who = newcomer();
    const whole = expect(await who.get(`${path}?limit=200`), 200);
    assert.ok(whole[field].length >= 7 && whole[field].length < 200, `${path}: ${whole[field].length}`);
    assert.equal(whole.next_cursor, null);
    const limit = Math.ceil(whole[field].length / 4);
    const collected = [];
    let next = `${path}?limit=${limit}`;
    let pages = 0;
    while (next !== null) {
      const reply = await who.get(next);
      const page = expect(reply, 200);
      assert.ok(page[field].length <= limit);
      collected.push(...page[field]);
      pages += 1;
      const link = reply.headers.get("link");
      next = page.next_cursor && `${path}?limit=${limit}&cursor=${page.next_cursor}`;
      assert.equal(link, next && `<${next}>; rel="next"`, path);
    }
    assert.deepEqual(collected, whole[field], path);
    assert.equal(pages, Math.ceil(whole[field].length / limit));
    for (const query of ["limit=0", "limit=201", "limit=x", "cursor=x", "limit=1&limit=1"]) {
      expectProblem(await who.get(`${path}?${query}`), 400, "malformed_request");
    }
  }
  const { next_cursor: cursor } = expect(await owner.get(`${AUTH}/keys?limit=1`), 200);
  expectProblem(await owner.get(`${AUTH}/users?cursor=${cursor}`), 400, "malformed_request");
});

// The last one: by now the alarm of the first client's object has rung, or is about to.
test("objects publish their counters to KV by an alarm", async () => {
  const { id } = early;
  const until = async (key) => {
    for (const deadline = Date.now() + 15_000; ; await sleep(200)) {
      const text = await worker.env.KV.get(key);
      if (text !== null) return JSON.parse(text);
      assert.ok(Date.now() < deadline, `${key} is not there`);
    }
  };
  const record = await until(`rl:client:ten_default/${id}`);
  assert.ok(record.counted.default >= 1);
  assert.equal(record.blocked_until, null);
  assert.ok(record.day.used >= 1);
  assert.equal(record.day.quota, null, "a user has no quota of his own");
  const sum = await until("rl:tenant:ten_default");
  assert.ok(sum.day.used >= record.day.used);
  assert.equal(sum.day.quota, 100_000);
  assert.equal(new Date(sum.day.day).toISOString(), new Date(new Date().setUTCHours(0, 0, 0, 0)).toISOString());
});
