// What only the real runtime can show: D1, KV, the objects' storage, HTTP as workerd speaks it, and the log.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { ADMIN, API, AUTH, caller, expect, expectProblem, forgetBoard, logIn, logLines } from "./harness.mjs";
import { mintToken, startWorker } from "./harness.mjs";

const MAX_BODY_BYTES = 1_048_576;
// Secrets of this run, and texts sent where a careless server would write them down.
const SIGNING_SEED = Buffer.alloc(32, 7).toString("base64url");
const CANARY = "canary-3f9a";
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";

let worker, admin, anyone;
/** Every reply that came back, for the last tests. */
const replies = [];

before(async () => {
  const started = await startWorker();
  worker = { ...started, fetch: recorded(started.fetch) };
  anyone = caller(worker);
  admin = await logIn(worker);
});
after(() => worker?.close());

function recorded(fetch) {
  return async (path, init) => {
    const response = await fetch(path, init);
    replies.push({ headers: response.headers, text: await response.clone().text(), isLogin: path === `${AUTH}/login` });
    return response;
  };
}

const rows = (sql, ...values) => worker.rows(sql, ...values);
const count = async (from, ...values) => (await rows(`SELECT COUNT(*) AS n FROM ${from}`, ...values))[0].n;
const now = () => new Date().toISOString();
const observation = (changes = {}) => ({ at: now(), outcome: "up", latency_ms: 12.5, source: "test", ...changes });
const partnership = (id, changes = {}) => ({ id, name: "Translation", partner: "Acme", ...changes });

/** A stream has no length, so it is sent in chunks. */
const inChunks = (chunks) => ReadableStream.from(chunks);

describe("D1", () => {
  test("holds every migration, in order, each recorded once", async () => {
    const files = readdirSync(fileURLToPath(new URL("../../migrations", import.meta.url)));
    const applied = await rows("SELECT name FROM d1_migrations ORDER BY id");
    assert.deepEqual(applied.map(({ name }) => name), files.filter((name) => name.endsWith(".sql")).sort());
  });

  test("has STRICT tables only", async () => {
    const tables = await rows("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0");
    const ours = tables.map(({ name }) => name).filter((name) => !/^(sqlite_|_cf_|d1_migrations$)/.test(name));
    assert.deepEqual(ours, []);
    assert.ok((await count("pragma_table_list WHERE strict = 1")) >= 15);
  });

  test("refuses values that break a rule of the schema", async () => {
    const partnership = (column, value) => `UPDATE partnerships SET ${column} = ${value} WHERE id = 'grok_brand'`;
    const user = (column, value) => `UPDATE users SET ${column} = ${value} WHERE username = '${ADMIN.username}'`;
    /** The one key once more, with these values instead. */
    const key = (id, prefix, name = "name", permissions = "permissions") =>
      `INSERT INTO api_keys SELECT ${id}, tenant_id, ${name}, ${prefix}, secret_hash, ${permissions},
       created_at, created_by, expires_at, NULL, NULL, NULL FROM api_keys LIMIT 1`;
    expect(await admin.post(`${AUTH}/keys`, { name: "one of a kind", permissions: ["metrics:read"] }), 201);
    for (const [sql, reason] of [
      ["INSERT INTO tenants VALUES ('ten_x', 'X', 'yesterday')", /cannot store TEXT value in INTEGER column/],
      ["INSERT INTO tenants VALUES ('ten_x', '', 0)", /CHECK constraint failed: tenants_name/],
      [user("role", "'root'"), /CHECK constraint failed: users_role/],
      [user("password_source", "'guess'"), /CHECK constraint failed: users_password_source/],
      [user("tenant_id", "'ten_nobody'"), /FOREIGN KEY constraint failed/],
      [
        `INSERT INTO users
         SELECT 'usr_x', tenant_id, upper(username), NULL, password_hash, password_source, role, NULL, 0, 'x', 0, NULL FROM users`,
        /UNIQUE constraint failed: users.username/,
      ],
      [partnership("availability_floor_percent", "100"), /CHECK constraint failed: partnerships_availability/],
      [partnership("latency_target_ms", "0"), /CHECK constraint failed: partnerships_latency/],
      [partnership("degraded_counts_as_bad", "2"), /CHECK constraint failed: partnerships_degraded/],
      [partnership("revision", "0"), /CHECK constraint failed: partnerships_revision/],
      ["UPDATE partnership_names SET name = 'grok' WHERE name = 'cursor'", /UNIQUE constraint failed/],
      ["UPDATE probes SET interval_s = 59", /CHECK constraint failed: probes_interval/],
      ["UPDATE probes SET deadline_ms = 20001", /CHECK constraint failed: probes_deadline/],
      ["UPDATE kpi_definitions SET direction = 'sideways'", /CHECK constraint failed: kpi_definitions_direction/],
      ["UPDATE kpi_definitions SET target = 0", /CHECK constraint failed: kpi_definitions_target/],
      ["UPDATE deliverables SET completion_percentage = 100.5", /CHECK constraint failed: deliverables_completion/],
      ["UPDATE deliverables SET status = 'done'", /CHECK constraint failed: deliverables_status/],
      ["UPDATE settings SET version = 0", /CHECK constraint failed: settings_version/],
      ["UPDATE settings SET document = '{'", /CHECK constraint failed: settings_document/],
      [
        `INSERT INTO decisions (id, tenant_id, kind, decision, inputs, reply, author_id, created_at)
         VALUES ('dec_x', 'ten_default', 'appraisal', 'x', '{', '{}', 'x', 0)`,
        /CHECK constraint failed: decisions_inputs/,
      ],
      [
        "INSERT INTO activity VALUES ('act_x', 'ten_default', 0, 'x', 'x', 'maybe', 'x')",
        /CHECK constraint failed: activity_status/,
      ],
      [key("id || 'x'", "prefix"), /UNIQUE constraint failed: api_keys.prefix/],
      [key("'key_y'", "'dsk_y'", "''"), /CHECK constraint failed: api_keys_name/],
      [key("'key_y'", "'dsk_y'", "name", "'read'"), /CHECK constraint failed: api_keys_permissions/],
      ["INSERT INTO login_failures VALUES (1, 'ten_default', 'usr_nobody', 0)", /FOREIGN KEY constraint failed/],
      [
        "INSERT INTO idempotency_keys VALUES ('ten_default', 'x', 'x', 200, '[', '', 0)",
        /CHECK constraint failed: idempotency_keys_headers/,
      ],
      ["INSERT INTO job_runs VALUES ('x', 0, 0, 0, 'perhaps', '')", /CHECK constraint failed: job_runs_outcome/],
    ]) {
      await assert.rejects(worker.env.DB.prepare(sql).run(), reason, sql);
    }
  });

  test("keeps activity as it was written", async () => {
    const before = await rows("SELECT * FROM activity ORDER BY id");
    assert.ok(before.length > 0);
    for (const sql of [
      "UPDATE activity SET actor = 'nobody'",
      "DELETE FROM activity",
      "DELETE FROM activity WHERE id = (SELECT MIN(id) FROM activity)",
    ]) {
      await assert.rejects(worker.env.DB.prepare(sql).run(), /activity is append-only/, sql);
    }
    assert.deepEqual(await rows("SELECT * FROM activity ORDER BY id"), before);
  });

  test("takes a batch whole or not at all", async () => {
    // The second statement of the batch is refused; the first and those behind it would be fine.
    const body = partnership("half_made", {
      aliases: ["half", "brand"],
      probes: [{ key: "api", url: "https://api.example.com/" }],
      kpis: [{ name: "speed", target: 1, unit: "x", direction: "higher" }],
      deliverables: [{ key: "paper" }],
    });
    expectProblem(await admin.post(`${API}/partnerships`, body), 409, "conflict");
    for (const table of ["partnership_names", "probes", "kpi_definitions", "deliverables"]) {
      assert.equal(await count(`${table} WHERE partnership_id = 'half_made'`), 0, table);
    }
    assert.equal(await count("partnerships WHERE id = 'half_made'"), 0);
    assert.equal(await count("activity WHERE subject = 'half_made'"), 0);
    expectProblem(await admin.get(`${API}/partnerships/half_made/status`), 404, "not_found");

    expect(await admin.post(`${API}/partnerships`, { ...body, aliases: ["half"] }), 201);
    assert.equal(await count("activity WHERE subject = 'half_made'"), 1);
  });

  test("counts every change that was confirmed, when many come at once", async () => {
    expect(await admin.post(`${API}/partnerships`, partnership("contested")), 201);
    const changes = Array.from({ length: 12 }, (_, i) => admin.patch(`${API}/partnerships/contested`, { name: `Name ${i}` }));
    const outcomes = await Promise.all(changes);
    const done = outcomes.filter(({ status }) => status === 200);
    for (const reply of outcomes.filter((reply) => !done.includes(reply))) expectProblem(reply, 409, "conflict");
    assert.ok(done.length >= 1);
    const [{ revision, name }] = await rows("SELECT revision, name FROM partnerships WHERE id = 'contested'");
    assert.equal(revision, 1 + done.length);
    assert.equal(await count("activity WHERE subject = 'contested' AND event = 'partnership.changed'"), done.length);
    const last = done.find(({ json }) => json.revision === revision);
    assert.equal(last.json.name, name, "the last revision is what was answered for it");
  });
});

describe("the objects", () => {
  const OBJECT = "ten_default/chatgpt_customer";
  const PATH = `${API}/partnerships/chatgpt_customer`;

  test("lose nothing when they are thrown out of memory", async () => {
    const key = { "idempotency-key": '"before-eviction"' };
    const batch = [1, 10, 100].map((latency_ms) => observation({ latency_ms }));
    expect(await admin.post(`${PATH}/observations`, batch, key), 202);
    expect(await admin.post(`${PATH}/kpis/customer_satisfaction`, { value: 81.5, at: new Date().toISOString() }), 202);
    const before = expect(await admin.get(`${PATH}/status`), 200);
    assert.equal(before.metrics.uptime.n, 3);
    assert.equal(before.metrics.customer_satisfaction.value, 81.5);

    await worker.evict("PARTNERSHIP", OBJECT);
    await worker.evict("BOARD", "ten_default");
    await forgetBoard(admin, "grok_brand");
    assert.deepEqual(expect(await admin.get(`${PATH}/status`), 200), before);

    const repeated = await admin.post(`${PATH}/observations`, batch, key);
    expect(repeated, 202);
    assert.equal(repeated.headers.get("idempotency-replayed"), "true");
    expect(await admin.post(`${PATH}/observations`, [observation()]), 202);
    assert.equal(expect(await admin.get(`${PATH}/status`), 200).metrics.uptime.n, 4);
  });

  test("remember which tokens were withdrawn when the board is thrown out of memory", async () => {
    const user = expect(
      await admin.post(`${AUTH}/users`, { username: "evicted", password: "a password for one test", role: "metrics_viewer" }),
      201,
    );
    const reader = await logIn(worker, { username: "evicted", password: "a password for one test" });
    expect(await reader.get(`${API}/metrics`), 200);
    expect(await admin.patch(`${AUTH}/users/${user.id}`, { disabled: true }), 200);
    await worker.evict("BOARD", "ten_default");
    await forgetBoard(admin, "grok_brand");
    expectProblem(await reader.get(`${API}/metrics`), 401, "invalid_token");
  });

  test("are one for each tenant and partnership", async () => {
    // A push that tells all of them something, so that each has stored something.
    const known = expect(await admin.get(`${API}/partnerships`), 200).map(({ id }) => id);
    for (const id of known) expect(await admin.post(`${API}/partnerships/${id}/observations`, [observation()]), 202);
    const { PARTNERSHIP, BOARD } = worker.env;
    const stored = await worker.objectIds("PARTNERSHIP");
    for (const id of known) assert.ok(stored.includes(PARTNERSHIP.idFromName(`ten_default/${id}`).toString()), id);
    assert.deepEqual(await worker.objectIds("BOARD"), [BOARD.idFromName("ten_default").toString()]);
  });
});

test("KV holds what the self-check wrote, and the next check reads it", async () => {
  const check = async () => {
    await forgetBoard(admin, "grok_brand"); // the checks of the last second would be shown again
    const { checks } = expect(await admin.get(`${API}/deployment/readiness`), 200);
    assert.equal(checks.kv_round_trip.status, "pass");
    return checks.kv_round_trip.message;
  };
  await check();
  const written = await worker.env.KV.get("selfcheck:readiness");
  assert.match(written, /^\d{4}-\d\d-\d\dT\d\d:\d\d:00\.000Z$/);
  assert.ok(Math.abs(Date.now() - Date.parse(written)) < 120_000);
  // It says what it did: a minute may have ended in between.
  const message = await check();
  const now = await worker.env.KV.get("selfcheck:readiness");
  assert.equal(message, now === written ? `read what was written at ${now}` : `wrote and read back at ${now}`);
});

describe("values", () => {
  test("come back as the numbers they were, at both ends of their range", async () => {
    const numbers = [1e15, -1e15, 999_999_999_999_999, 0.1 + 0.2, 1e-12, 5e-324, -0.5, 0, 123_456_789.123_456_78];
    const kpi = { name: "figure", target: 1e15, unit: "x", direction: "higher", weight: 1e-9 };
    const wanted = partnership("numbers", { kpis: [kpi], latency_target_ms: 3_600_000 });
    const { agreement } = expect(await admin.post(`${API}/partnerships`, wanted), 201);
    assert.equal(agreement.kpis[0].target, 1e15);
    assert.equal(agreement.kpis[0].weight, 1e-9);
    assert.equal(agreement.latency_target_ms, 3_600_000);
    const start = Date.now() - 60_000;
    for (const [i, value] of numbers.entries()) {
      const at = new Date(start + i).toISOString();
      expect(await admin.post(`${API}/partnerships/numbers/kpis/figure`, { value, at }), 202);
      const { metrics, details } = expect(await admin.get(`${API}/metrics/numbers`), 200);
      assert.ok(Object.is(metrics.figure, value), `${value} came back as ${metrics.figure}`);
      assert.equal(details.figure.observed_at, at);
    }
    const path = `${API}/partnerships/numbers/kpis/figure`;
    const at = new Date().toISOString();
    expectProblem(await admin.post(path, { value: 1e15 + 1, at }), 422, "validation_failed");
    expectProblem(await admin.post(path, `{"value":1e400,"at":"${at}"}`), 400, "malformed_json");
    expectProblem(await admin.post(path, `{"value":NaN,"at":"${at}"}`), 400, "malformed_json");
  });

  test("come back as the text they were, in any script", async () => {
    const name = 'Übersetzung 翻訳 ترجمة 👩🏽‍🚀🏳️‍🌈 "quoted" \\ <b>&amp;';
    const partner = "Партнёр\u{1F9FF}";
    const kpi = { name: "speed", target: 1, unit: 'µs/"頁"\\', direction: "lower" };
    const created = expect(await admin.post(`${API}/partnerships`, partnership("scripts", { name, partner, kpis: [kpi] })), 201);
    const read = expect(await admin.get(`${API}/partnerships/scripts/status`), 200);
    for (const shown of [created, read]) {
      assert.equal(shown.name, name);
      assert.equal(shown.partner, partner);
      assert.equal(shown.agreement.kpis[0].unit, kpi.unit);
    }
    assert.deepEqual(await rows("SELECT name, partner FROM partnerships WHERE id = 'scripts'"), [{ name, partner }]);

    const source = "прокси-🛰️";
    expect(await admin.post(`${API}/partnerships/scripts/observations`, [observation({ source })]), 202);
    expect(await admin.post(`${API}/partnerships/scripts/kpis/speed`, { value: 2, at: new Date().toISOString() }), 202);
    const text = (await admin.get(`${API}/metrics`, { accept: "application/openmetrics-text" })).text;
    assert.match(text, /\{partnership="scripts",kpi="speed",unit="µs\/\\"頁\\"\\\\"\} 2/);

    const change = (body) => admin.patch(`${API}/partnerships/scripts`, body);
    expectProblem(await change('{"name":"\\ud800"}'), 400, "malformed_json");
    expectProblem(await change({ name: "bell\u0007" }), 422, "validation_failed");
    expectProblem(await change({ name: "👩🏽‍🚀".repeat(26) }), 422, "validation_failed");
    const invalidUtf8 = new Uint8Array([...Buffer.from('{"name":"'), 0xc3, 0x28, ...Buffer.from('"}')]);
    expectProblem(await change(invalidUtf8), 400, "malformed_json");
  });
});

describe("a body", () => {
  const PATH = `${API}/partnerships/gemini_visual/observations`;

  test("of a mebibyte is taken, and one of a byte more is not, whether its length is announced or not", async () => {
    const exact = JSON.stringify([observation()]).padEnd(MAX_BODY_BYTES, " ");
    for (const body of [exact, inChunks([Buffer.from(exact)])]) expect(await admin.post(PATH, body), 202);
    const longer = `${exact} `;
    for (const body of [longer, inChunks([Buffer.from(longer)])]) {
      expectProblem(await admin.post(PATH, body), 413, "payload_too_large");
    }
    expect(await admin.get(`${API}/health`), 200);
  });

  test("may come in chunks that end anywhere, within a character too", async () => {
    const name = "Zerteilt 🧩 überall";
    expect(await admin.post(`${API}/partnerships`, partnership("chunks")), 201);
    const bytes = [...Buffer.from(JSON.stringify({ name }))].map((byte) => Buffer.from([byte]));
    assert.equal(expect(await admin.patch(`${API}/partnerships/chunks`, inChunks(bytes)), 200).name, name);
  });

  test("of another shape than the document says is refused, with the place of what is wrong", async () => {
    const at = new Date().toISOString();
    const deliverable = `${API}/partnerships/gemini_visual/deliverables/visual_search_system`;
    const kpi = `${API}/partnerships/gemini_visual/kpis/user_satisfaction`;
    for (const [method, path, body, pointer] of [
      ["POST", `${AUTH}/login`, [ADMIN.username, ADMIN.password], "#"],
      ["PUT", deliverable, [10, "in_progress"], "#"],
      ["PUT", deliverable, { completion_percentage: 10, status: { in_progress: null } }, "#/status"],
      ["PUT", deliverable, { completion_percentage: 10, status: 1 }, "#/status"],
      ["PUT", deliverable, { completion_percentage: "10", status: "in_progress" }, "#/completion_percentage"],
      ["PUT", deliverable, { status: "in_progress" }, "#/completion_percentage"],
      ["PUT", deliverable, { completion_percentage: 10, status: "in_progress", due: "2026-01-01" }, "#/due"],
      ["POST", kpi, [[4.5, at]], "#/0"],
      ["POST", kpi, [{ value: 4.5, at }, { value: 4.5, at: "noon" }], "#/1/at"],
    ]) {
      const problem = expectProblem(await admin.request(method, path, { body }), 422, "validation_failed");
      assert.deepEqual(problem.errors.map((error) => error.pointer), [pointer], JSON.stringify(body));
    }
    const { rejected } = expect(await admin.post(PATH, [[at, "up", 12, "positional"]]), 202);
    assert.equal(rejected.length, 1);
  });

  test("that is missing, empty or of another kind is refused", async () => {
    expectProblem(await admin.request("POST", PATH), 415, "unsupported_media_type");
    expectProblem(await admin.post(PATH, ""), 400, "malformed_json");
    expectProblem(await admin.post(PATH, "[]", { "content-type": "text/plain" }), 415, "unsupported_media_type");
    expectProblem(await admin.post(PATH, "[]"), 422, "validation_failed");
  });
});

describe("HTTP", () => {
  /** As it is on the wire: nothing added, decompressed or normalised by a client. */
  function wire(path, { method = "GET", headers = {} } = {}) {
    const { hostname, port } = worker.url;
    return new Promise((resolve, reject) => {
      const sent = httpRequest({ hostname, port, path, method, headers }, (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => {
          const body = Buffer.concat(chunks);
          replies.push({ headers: new Headers(response.headers), text: body.toString(), isLogin: false });
          resolve({ status: response.statusCode, headers: response.headers, body });
        });
      });
      sent.on("error", reject);
      sent.end();
    });
  }

  test("HEAD answers like GET, without the body", async () => {
    for (const [path, status] of [["/openapi.json", 200], [`${API}/partnerships`, 401], ["/nowhere", 404]]) {
      const [get, head] = await Promise.all([wire(path), wire(path, { method: "HEAD" })]);
      assert.equal(get.status, status);
      assert.equal(head.status, status);
      assert.equal(head.body.length, 0);
      assert.equal(head.headers["content-type"], get.headers["content-type"]);
      assert.equal(head.headers["cache-control"], get.headers["cache-control"]);
      // A problem holds the request's id, always of one length.
      assert.equal(Number(head.headers["content-length"]), get.body.length);
    }
  });

  test("a client that accepts gzip gets the same content", async () => {
    const plain = await wire("/openapi.json", { headers: { "accept-encoding": "identity" } });
    assert.equal(plain.headers["content-encoding"], undefined);
    const { headers, body } = await wire("/openapi.json", { headers: { "accept-encoding": "gzip" } });
    // What packs it is the server in front of the Worker, here and in production.
    assert.equal(headers["content-encoding"], "gzip");
    assert.ok(gunzipSync(body).equals(plain.body));
  });

  test("a method the resource does not know is 405 with those it knows", async () => {
    for (const [method, path, allow] of [
      ["DELETE", `${API}/health`, "GET, HEAD, OPTIONS"],
      ["PUT", `${API}/decisions`, "POST, GET, HEAD, OPTIONS"],
      ["GET", `${API}/partnerships/cursor/observations`, "POST, OPTIONS"],
      ["PUT", `${API}/partnerships`, "GET, POST, HEAD, OPTIONS"],
      ["POST", `${API}/partnerships/cursor`, "GET, PATCH, DELETE, HEAD, OPTIONS"],
      ["PROPFIND", `${API}/health`, "GET, HEAD, OPTIONS"],
    ]) {
      const reply = await admin.request(method, path);
      expectProblem(reply, 405, "method_not_allowed");
      assert.equal(reply.headers.get("allow"), allow, `${method} ${path}`);
    }
    const options = await anyone.request("OPTIONS", `${API}/partnerships/cursor`);
    assert.equal(options.status, 204);
    assert.equal(options.headers.get("allow"), "GET, PATCH, DELETE, HEAD, OPTIONS");
  });

  test("a path that is not there is 404, with or without a token", async () => {
    const routes = [API, `${API}/`, `${API}/health/`, `${API}/HEALTH`, `/${API}/health`];
    const files = ["/assets/docs/page.js", "/docs/page.js", "/wrangler.toml"];
    for (const path of ["/", "/nowhere", `/${"x".repeat(8_000)}`, ...routes, ...files]) {
      for (const who of [anyone, admin]) expectProblem(await who.get(path), 404, "not_found");
    }
    // Dots are resolved before the Worker sees the path, so they lead to a route or to nothing.
    assert.equal((await wire(`${API}/nowhere/../health`)).status, 200);
    assert.equal((await wire("/docs-assets/../../migrations/0001_tenants_and_users.sql")).status, 404);
    assert.equal((await wire("/docs-assets/..%2f..%2fwrangler.toml")).status, 404);
    expect(await anyone.get(`${API}/health?verbose=1&x=%00%ff`), 200);
  });

  test("every reply has the security headers, and none tells what serves it", async () => {
    const expected = {
      "strict-transport-security": "max-age=63072000; includeSubDomains",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "referrer-policy": "no-referrer",
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
      "cross-origin-resource-policy": "same-origin",
      "x-permitted-cross-domain-policies": "none",
      "x-dns-prefetch-control": "off",
      "cache-control": "no-store",
    };
    const all = await Promise.all([
      anyone.get(`${API}/health`),
      anyone.get(`${API}/metrics`),
      anyone.get("/nowhere"),
      anyone.request("DELETE", `${API}/health`),
      anyone.request("OPTIONS", `${API}/health`),
      anyone.head(`${API}/health`),
      admin.post(`${API}/decisions`, "{"),
      admin.post(`${API}/decisions`, " ".repeat(MAX_BODY_BYTES + 1)),
    ]);
    assert.deepEqual(all.map(({ status }) => status), [200, 401, 404, 405, 204, 200, 400, 413]);
    for (const { status, headers } of all) {
      for (const [name, value] of Object.entries(expected)) assert.equal(headers.get(name), value, `${status} ${name}`);
      assert.match(headers.get("permissions-policy"), /camera=\(\)/);
      for (const name of ["server", "x-powered-by", "x-xss-protection", "access-control-allow-origin"]) {
        assert.equal(headers.get(name), null, `${status} ${name}`);
      }
    }
  });

  test("a well-formed request id is taken over, any other replaced", async () => {
    const given = "order-7.of_monday";
    assert.equal((await anyone.get(`${API}/health`, { "x-request-id": given })).headers.get("x-request-id"), given);
    for (const bad of ["short", "with blank in it", "x".repeat(129), '"><script>alert(1)']) {
      const made = (await anyone.get(`${API}/health`, { "x-request-id": bad })).headers.get("x-request-id");
      assert.match(made, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    }
  });

  test("200 requests at once each get the answer to their own question", async () => {
    const path = `${API}/partnerships/perplexity_research`;
    const total = async () => {
      await forgetBoard(admin, "perplexity_research");
      return expect(await admin.get(`${path}/status`), 200).metrics.uptime.n;
    };
    const before = await total();
    const batch = (i) => Array.from({ length: (i % 7) + 1 }, () => observation());
    const pushes = (i, to) => admin.post(`${path}/observations`, batch(i), to);
    const sendsKpi = (i, to) => admin.post(`${path}/kpis/citation_accuracy`, { value: i, at: now() }, to);
    // The status expected, what the i-th request asks, and whether the body answers this very question.
    const kinds = [
      [200, (_, to) => anyone.get(`${API}/health`, to), ({ partnerships }) => partnerships.grok_brand.terms === undefined],
      [200, (_, to) => admin.get(`${API}/metrics/grok`, to), ({ partnership_type }) => partnership_type === "grok_brand"],
      [200, (_, to) => admin.get(`${API}/metrics/visual`, to), ({ partnership_type }) => partnership_type === "gemini_visual"],
      [202, pushes, ({ accepted }, i) => accepted === batch(i).length],
      [200, (_, to) => admin.get(`${API}/info`, to), ({ user }) => user.role === "admin"],
      [404, (i, to) => admin.get(`${API}/metrics/nobody_${i}`, to), ({ detail }, i) => detail.includes(`"nobody_${i}"`)],
      [401, (_, to) => anyone.get(`${API}/config`, to), ({ code }) => code === "unauthenticated"],
      [200, (_, to) => admin.get(`${API}/status`, to), ({ components }) => components.d1 === "operational"],
      [422, (i, to) => admin.post(`${API}/decisions`, { context: i }, to), ({ errors }) => errors[0].pointer === "#/context"],
      [202, sendsKpi, ({ accepted }) => accepted === 1],
    ];
    let pushed = 0;
    await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const [status, ask, fits] = kinds[i % kinds.length];
        const id = `at-once-${i}`;
        const reply = await ask(i, { "x-request-id": id });
        assert.equal(reply.status, status, reply.text);
        assert.equal(reply.headers.get("x-request-id"), id);
        assert.ok(fits(reply.json, i), reply.text);
        if (ask === pushes) pushed += batch(i).length;
      }),
    );
    assert.equal(await total(), before + pushed, "no row was lost or counted twice");
  });
});

// These look back on all requests of this file, and on a few of their own.
describe("the log", () => {
  const ofRequests = (lines) => lines.filter((line) => line["event.dataset"] === "devskyy.request");
  const allLines = () => logLines(worker, (lines) => ofRequests(lines).length >= replies.length);

  before(async () => {
    const secret = { "x-request-id": "careless-client" };
    await caller(worker, `${CANARY}.${CANARY}.${CANARY}`).get(`${API}/metrics?token=${CANARY}`, secret);
    await anyone.post(`${AUTH}/login`, { username: CANARY, password: `${CANARY} in a password` }, secret);
    await anyone.post(`${AUTH}/login`, { username: ADMIN.username, password: `${CANARY} in a password` }, secret);
    await anyone.post(`${AUTH}/login`, { username: ADMIN.username, password: [CANARY] }, secret);
    await anyone.post(`${AUTH}/refresh`, { refresh_token: `rt_${CANARY}` }, secret);
    await anyone.get(`/${CANARY}`, secret);
    await admin.get(`${API}/metrics/${CANARY}`, { cookie: `session=${CANARY}`, ...secret });
    await caller(worker, mintToken({ claims: { sub: `usr_${CANARY}`, jti: CANARY } })).get(`${API}/info`, secret);
    const traceparent = `00-${TRACE}-00f067aa0ba902b7-01`;
    await anyone.get(`${API}/health`, { traceparent, "x-request-id": "traced-request" });
  });

  // What fields each line must have is looked at by the canary, here and in every other file.
  test("has one line for each request, which says what became of it", async () => {
    const templates = new Set(["(no route)", ...Object.keys(expect(await anyone.get("/openapi.json"), 200).paths)]);
    const lines = await allLines();
    const ids = ofRequests(lines).map((line) => line["http.request.id"]);
    assert.deepEqual(ids.toSorted(), replies.map(({ headers }) => headers.get("x-request-id")).toSorted());
    for (const line of lines) assert.ok(Math.abs(Date.now() - Date.parse(line["@timestamp"])) < 300_000);
    for (const line of ofRequests(lines)) {
      const status = line["http.response.status_code"];
      assert.ok(Number.isInteger(status));
      assert.ok(templates.has(line["url.path"]), line["url.path"]);
      assert.equal(line["log.level"], status >= 500 ? "error" : status >= 400 ? "warn" : "info");
      assert.equal(line["error.type"] !== undefined, status >= 400, line.message);
    }
    const traced = lines.find((line) => line["http.request.id"] === "traced-request");
    assert.equal(traced["trace.id"], TRACE);
  });

  test("tells of no failure of our own", async () => {
    const lines = await allLines();
    assert.deepEqual(lines.filter((line) => line["log.level"] === "error"), []);
  });

  test("and the replies hold no secret", async () => {
    const written = JSON.stringify(await allLines());
    const secrets = [ADMIN.password, SIGNING_SEED, "$argon2", "a password for one test"];
    for (const text of [...secrets, admin.tokens.access_token, admin.tokens.refresh_token, CANARY]) {
      assert.ok(!written.includes(text), `the log holds ${text}`);
    }
    for (const { headers, text, isLogin } of replies) {
      const whole = JSON.stringify([...headers]) + text;
      for (const secret of secrets) assert.ok(!whole.includes(secret), `a reply holds ${secret}`);
      if (!isLogin) assert.doesNotMatch(whole, /rt_[\w-]{43}|eyJ[\w-]+\.eyJ/, "a token outside of a login");
    }
  });
});
