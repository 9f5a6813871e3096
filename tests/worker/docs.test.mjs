// The documents, held against the running service: every operation of the OpenAPI document is called as its own
// examples say, and every reply must be one the document describes.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ADMIN, API, AUTH, caller, expect, expectProblem, logIn, startWorker } from "./harness.mjs";

let worker, admin, anyone, document;
before(async () => {
  worker = await startWorker();
  anyone = caller(worker);
  admin = await logIn(worker);
  await worker.scheduled("* * * * *");
  document = expect(await anyone.get("/openapi.json"), 200);
});
after(() => worker?.close());

const operations = () =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
const referred = (reference) => reference.slice("#/".length).split("/").reduce((at, name) => at[name], document);
const resolve = (part) => (part.$ref === undefined ? part : referred(part.$ref));
const JSON_MEDIA = "application/json";

/** What of a value the schema does not allow or does not describe; the keywords are those the document uses. */
function misfits(value, schema, place = "") {
  const known = new Set([
    "$ref", "additionalProperties", "allOf", "anyOf", "const", "default", "description", "enum", "exclusiveMinimum", "format",
    "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "oneOf",
    "pattern", "properties", "propertyNames", "required", "type", "uniqueItems",
  ]);
  for (const keyword of Object.keys(schema)) assert.ok(known.has(keyword), `this test does not know "${keyword}"`);
  if (schema.$ref !== undefined) return misfits(value, resolve(schema), place);
  if (schema.allOf !== undefined) {
    // The parts describe the value; what stands beside them narrows some of its fields.
    const fields = Object.entries(schema.properties ?? {});
    return [
      ...schema.allOf.flatMap((part) => misfits(value, part, place)),
      ...fields.flatMap(([name, field]) => misfits(value[name], field, `${place}/${name}`)),
    ];
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) {
    const found = choices.map((choice) => misfits(value, choice, place));
    return found.some((errors) => errors.length === 0) ? [] : found[0];
  }
  const type = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  const allowed = schema.type === undefined ? undefined : [schema.type].flat();
  const fits = allowed === undefined || allowed.includes(type) || (allowed.includes("integer") && Number.isInteger(value));
  if (!fits) return [`${place}: ${type} is not ${allowed}`];
  const errors = [];
  const require = (good, what) => good || errors.push(`${place}: ${JSON.stringify(value)} is not ${what}`);
  if (schema.enum !== undefined) require(schema.enum.includes(value), `one of ${schema.enum}`);
  if (schema.const !== undefined) require(value === schema.const, schema.const);
  if (type === "number") require(value >= (schema.minimum ?? -Infinity) && value <= (schema.maximum ?? Infinity), "in range");
  if (type === "number") require(value > (schema.exclusiveMinimum ?? -Infinity), "above its limit");
  if (type === "string") {
    const chars = [...value].length;
    require(chars >= (schema.minLength ?? 0) && chars <= (schema.maxLength ?? Infinity), "of the right length");
  }
  if (schema.pattern !== undefined && type === "string") {
    require(new RegExp(schema.pattern, "u").test(value), `like ${schema.pattern}`);
  }
  if (schema.format === "date-time" && type === "string") {
    require(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value), "RFC 3339 in UTC with milliseconds");
  }
  if (type === "array") {
    require(value.length >= (schema.minItems ?? 0) && value.length <= (schema.maxItems ?? Infinity), "of the right length");
    for (const [index, item] of value.entries()) errors.push(...misfits(item, schema.items ?? {}, `${place}/${index}`));
  }
  if (type === "object") {
    const names = Object.keys(value);
    const right = names.length >= (schema.minProperties ?? 0) && names.length <= (schema.maxProperties ?? Infinity);
    require(right, "of the right size");
    if (schema.propertyNames !== undefined) {
      for (const name of names) errors.push(...misfits(name, schema.propertyNames, `${place}/${name}`));
    }
    for (const name of schema.required ?? []) require(Object.hasOwn(value, name), `complete: ${name} is missing`);
    for (const [name, field] of Object.entries(value)) {
      const described = schema.properties?.[name] ?? schema.additionalProperties;
      if (typeof described === "object") errors.push(...misfits(field, described, `${place}/${name}`));
      else if (schema.properties !== undefined) require(described === true, `described: ${name} is not in the document`);
    }
  }
  return errors;
}

/** The reply is one that the operation announces, in status, media type and shape. */
function assertDescribed(operation, reply) {
  const where = `${operation.method} ${operation.path} ${reply.status}`;
  const described = operation.responses[reply.status];
  assert.ok(described, `${where} is not described: ${reply.text.slice(0, 300)}`);
  const { content } = resolve(described);
  const media = reply.headers.get("content-type")?.split(";")[0];
  if (content === undefined) return assert.equal(reply.text, "", where);
  assert.ok(content[media], `${where}: ${media} is not described`);
  if (reply.json !== undefined) assert.deepEqual(misfits(reply.json, content[media].schema), [], where);
}

const successOf = ({ responses }) => Object.keys(responses).map(Number).find((status) => status < 300);

describe("/openapi.json", () => {
  test("is OpenAPI 3.1 for anyone, and a cache may keep it", async () => {
    const reply = await anyone.get("/openapi.json");
    assert.equal(reply.headers.get("content-type"), "application/json");
    assert.equal(reply.headers.get("cache-control"), "public, max-age=300");
    assert.match(reply.json.openapi, /^3\.1\./);
    assert.ok(operations().length >= 41);
  });

  test("each operation called as its example says answers as it says", async () => {
    const exampleOf = ({ requestBody }) => requestBody?.content[JSON_MEDIA].example;
    const now = () => new Date(Date.now() - 1_000).toISOString();
    // The examples make this user and this key, before they are needed.
    const made = (id) => exampleOf(operations().find(({ operationId }) => operationId === id));
    const [maria, scraper] = [made("create_user"), made("create_key")];
    const idOf = async ({ username }) => (await worker.rows("SELECT id FROM users WHERE username = ?", username))[0].id;
    const keyId = async () => (await worker.rows("SELECT id FROM api_keys WHERE name = ? ORDER BY id", scraper.name))[0].id;
    const ofKey = { parameters: async () => ({ id: await keyId() }) };
    const channelId = async () => (await worker.rows("SELECT id FROM channels"))[0].id;
    const ofChannel = { parameters: async () => ({ id: await channelId() }) };
    const delivery = async () => (await admin.get(`/api/v1/orchestration/channels/${await channelId()}/deliveries`)).json.deliveries[0];
    const ofClient = { parameters: async () => ({ client: await keyId() }) };
    const down = () => ({ at: now(), outcome: "down", source: "gateway" });
    let incident;
    const anIncident = async () => {
      if (incident === undefined) {
        expect(await admin.post(`${API}/partnerships/grok/observations`, [down(), down(), down()]), 202);
        await worker.scheduled("* * * * *");
        [incident] = expect(await admin.get(`${API}/incidents?partnership=grok`), 200).incidents;
      }
      return { id: incident.id };
    };
    const ofIncident = { parameters: anIncident };
    let set;
    const aSet = async () => {
      if (set === undefined) {
        await worker.scheduled("37 * * * *");
        [set] = expect(await admin.get(`${API}/backups`), 200).backups;
      }
      return { id: set.id };
    };
    const ofSet = { parameters: aSet };
    let decision;
    const aDecision = async () => {
      decision ??= expect(await admin.post(`${API}/decisions`, { context: {} }), 200);
      return { id: decision.decision_id };
    };
    const ofDecision = { parameters: aDecision };
    const aWindow = async () => ({ id: "cursor", window: (await worker.rows("SELECT id FROM maintenance_windows"))[0].id });
    // Where an example cannot be sent as it stands: who calls, and what changes in the body.
    const special = {
      login: { body: () => ADMIN },
      refresh: { body: async () => ({ refresh_token: (await logIn(worker)).tokens.refresh_token }) },
      logout: { who: () => logIn(worker), body: (_, { tokens }) => ({ refresh_token: tokens.refresh_token }) },
      change_password: { who: () => logIn(worker, maria) },
      change_user: { parameters: async () => ({ id: await idOf(maria) }) },
      get_key: ofKey,
      rotate_key: ofKey,
      revoke_key: ofKey,
      get_channel: ofChannel,
      change_channel: ofChannel,
      delete_channel: ofChannel,
      test_channel: ofChannel,
      list_deliveries: ofChannel,
      replay_delivery: { parameters: async () => ({ id: (await delivery()).id }) },
      get_rate_limits: ofClient,
      lift_block: ofClient,
      get_incident: ofIncident,
      acknowledge_incident: ofIncident,
      note_incident: ofIncident,
      resolve_incident: ofIncident,
      get_decision: ofDecision,
      replay_decision: ofDecision,
      record_outcome: ofDecision,
      // The facts of the example are those of another question.
      what_if: { ...ofDecision, body: () => ({ facts: { "context.estimated_cost": 5 } }) },
      replace_policy: { headers: { "if-match": "*" } },
      delete_maintenance: { parameters: aWindow },
      get_backup: ofSet,
      verify_backup: ofSet,
      // This environment holds something.
      restore_backup: { ...ofSet, status: 409 },
      docs_asset: { parameters: () => ({ file: "page.js" }) },
      push_observations: { body: (rows) => rows.map((row) => ({ ...row, at: now() })) },
      push_kpi: { body: (value) => ({ ...value, at: now() }) },
    };
    // What makes something comes before what needs it; what ends something comes last.
    const FIRST = ["create_partnership", "create_slo", "create_user", "create_key", "change_password", "create_channel", "test_channel"];
    const LAST = ["delete_channel", "resolve_incident", "delete_slo", "delete_maintenance", "retire_partnership", "change_user", "revoke_key", "logout"];
    const rank = ({ operationId: id }) => (FIRST.includes(id) ? FIRST.indexOf(id) - FIRST.length : LAST.indexOf(id) + 1);
    const called = [];
    for (const operation of operations().sort((a, b) => rank(a) - rank(b))) {
      const { who, body, headers, parameters, status = successOf(operation) } = special[operation.operationId] ?? {};
      const inPath = (operation.parameters ?? []).map(resolve).filter((parameter) => parameter.in === "path");
      const values = { ...Object.fromEntries(inPath.map(({ name, example }) => [name, example])), ...(await parameters?.()) };
      const path = operation.path.replace(/\{(\w+)\}/g, (_, name) => values[name]);
      const someone = await (who?.() ?? (operation.security.length === 0 ? anyone : admin));
      const given = exampleOf(operation);
      assert.equal(given === undefined, operation.requestBody === undefined, `${operation.operationId} has no example`);
      const sent = body === undefined ? given : await body(given, someone);
      const reply = await someone.request(operation.method, path, { body: sent, headers });
      assert.equal(reply.status, status, `${operation.operationId}: ${reply.text.slice(0, 500)}`);
      assertDescribed(operation, reply);
      called.push(operation.operationId);
    }
    assert.equal(called.length, operations().length);
  });

  test("each media type it names is served to who asks for it", async () => {
    const list = operations().find(({ operationId }) => operationId === "list_metrics");
    for (const media of Object.keys(list.responses[200].content)) {
      const reply = await admin.get(list.path, { accept: media });
      assert.equal(reply.status, 200);
      assert.equal(reply.headers.get("content-type").split(";")[0], media);
      assertDescribed(list, reply);
    }
    const openMetrics = (await admin.get(list.path, { accept: "application/openmetrics-text" })).text;
    assert.match(openMetrics, /\n# EOF\n$/);
    assert.match(openMetrics, /^# TYPE devskyy_partnership_verdict (gauge|stateset)$/m);
  });

  test("each operation refuses as it says: no token; a body that is no JSON, misshapen, of another kind or too long", async () => {
    for (const operation of operations()) {
      const path = operation.path.replace(/\{\w+\}/g, "nothing_like_it");
      const replies = [await anyone.request(operation.method, path)];
      if (operation.requestBody !== undefined) {
        replies.push(
          await admin.request(operation.method, path, { body: "}" }),
          await admin.request(operation.method, path, { body: { unexpected: 1 } }),
          await admin.request(operation.method, path, { body: "a", headers: { "content-type": "text/plain" } }),
          await admin.request(operation.method, path, { body: " ".repeat(1_048_577) }),
        );
        assert.deepEqual(replies.slice(1).map(({ status }) => status), [400, 422, 415, 413], operation.operationId);
      } else {
        replies.push(await admin.request(operation.method, path));
      }
      const open = operation.security.length === 0 || operation.security.some((needs) => Object.keys(needs).length === 0);
      assert.equal(replies[0].status === 401, !open, operation.operationId);
      for (const reply of replies) {
        assert.ok(reply.status < 500, `${operation.operationId}: ${reply.text}`);
        assertDescribed(operation, reply);
      }
    }
  });
});

describe("/docs", () => {
  const CSP =
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
  const assertSafe = ({ headers }, path) => {
    for (const [name, value] of Object.entries({
      "strict-transport-security": "max-age=63072000; includeSubDomains",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "referrer-policy": "no-referrer",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
      "cross-origin-resource-policy": "same-origin",
      "cache-control": "public, max-age=300",
    })) {
      assert.equal(headers.get(name), value, `${path} ${name}`);
    }
    assert.match(headers.get("x-request-id"), /^[0-9a-f-]{36}$/);
  };

  test("is a page for anyone that loads nothing from another host", async () => {
    const page = await anyone.get("/docs");
    assert.equal(page.status, 200);
    assert.equal(page.headers.get("content-type"), "text/html; charset=utf-8");
    assert.equal(page.headers.get("content-security-policy").replace(/\s+/g, " "), CSP);
    assertSafe(page, "/docs");
    assert.doesNotMatch(page.text, /(https?:)?\/\/[\w-]+\.|<script(?![^>]* src=)|\son\w+=|javascript:/i);

    const files = [...page.text.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, target]) => target);
    assert.ok(files.length >= 5);
    for (const target of files.filter((target) => target !== "data:,")) {
      assert.match(target, /^\/[^/]/, "a path of this host");
      const reply = await anyone.get(target);
      assert.equal(reply.status, 200, target);
      assertSafe(reply, target);
      if (target.startsWith("/docs-assets/")) {
        assert.match(reply.headers.get("content-type"), target.endsWith(".js") ? /^text\/javascript/ : /^text\/css/);
        assert.equal(reply.headers.get("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
        assert.ok(reply.text.length > 100, target);
      }
    }
    // What runs on the page asks this host alone.
    const script = (await anyone.get("/docs-assets/page.js")).text;
    assert.match(script, /url: "\/openapi\.json"/);
    assert.match(script, /validatorUrl: null/);
    assert.doesNotMatch(script, /https?:\/\//);
  });

  test("lists every operation for readers without scripts", async () => {
    const { text } = await anyone.get("/docs");
    for (const { method, path } of operations()) {
      assert.ok(text.includes(`<td>${method}</td><td><code>${path}</code></td>`), `${method} ${path}`);
    }
  });

  test("serves the files it names and their licences, and no other", async () => {
    for (const name of ["LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"]) {
      const reply = await anyone.get(`/docs-assets/${name}`);
      assert.equal(reply.status, 200, name);
      assert.match(reply.headers.get("content-type"), /^text\/plain/);
    }
    for (const name of ["index.html", "page.js.map", "..%2Fdocs%2Fpage.js", "swagger-initializer.js", "PAGE.JS"]) {
      expectProblem(await anyone.get(`/docs-assets/${name}`), 404, "not_found");
    }
  });
});

describe("/docs/endpoints", () => {
  test("lists the operations of /openapi.json, no more and no fewer, in the same words", async () => {
    const endpoints = expect(await admin.get(`${API}/docs/endpoints`), 200);
    const sorted = (list) => list.sort((a, b) => a.id.localeCompare(b.id));
    assert.deepEqual(
      sorted(endpoints.endpoints.map(({ id, method, path, description, status }) => ({ id, method, path, description, status }))),
      sorted(operations().map((operation) => ({
        id: operation.operationId,
        method: operation.method,
        path: operation.path,
        description: operation.summary,
        status: successOf(operation),
      }))),
    );
    assert.equal(endpoints.base_url, API);
    assert.equal(endpoints.rate_limiting.enforced, false);
    for (const { id, permission, access } of endpoints.endpoints) {
      assert.equal(access === "permission" || access === "anyone_or_token", permission !== null, id);
    }
  });

  test("says of each role what its tokens really carry", async () => {
    const { authentication } = expect(await admin.get(`${API}/docs/endpoints`), 200);
    for (const [role, permissions] of Object.entries(authentication.roles)) {
      const credentials = { username: `reader_${role}`, password: "a long enough password" };
      expect(await admin.post(`${AUTH}/users`, { ...credentials, role }), 201);
      const me = expect(await (await logIn(worker, credentials)).get(`${AUTH}/me`), 200);
      assert.deepEqual([me.role, me.permissions], [role, permissions]);
    }
  });
});
