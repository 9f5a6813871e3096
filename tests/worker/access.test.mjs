// Who may do what: every row of tests/access.json, which `make generate` writes from the route table and the grants of
// roles, as every kind of caller. The host runs the same table.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { API, AUTH, caller, expect, expectProblem, logIn, mintToken, startWorker } from "./harness.mjs";

const table = JSON.parse(readFileSync(new URL("../access.json", import.meta.url), "utf8"));
const CALLERS = Object.keys(table.rows[0].expected);

let worker, admin;
const keys = new Map();

before(async () => {
  worker = await startWorker();
  admin = await logIn(worker);
  await run(table.given);
});
after(() => worker?.close());

const run = (sql) => sql.length > 0 && worker.env.DB.batch(sql.map((statement) => worker.env.DB.prepare(statement)));

/** Whoever a column stands for. */
async function callerOf(who, { permission }) {
  const token = (user, claims) => caller(worker, mintToken({ claims: { sub: `usr_access_${user}`, ...claims } }));
  const needed = table.key_permissions.filter((name) => name === permission);
  const others = table.key_permissions.filter((name) => name !== permission);
  const iat = Math.floor(Date.now() / 1000) - 901;
  switch (who) {
    case "api_key":
      return keyWith(needed.length > 0 ? needed : others);
    case "api_key_without":
      return keyWith(others);
    case "none":
      return caller(worker);
    case "expired":
      return token("admin", { iat, nbf: iat, exp: iat + 900 });
    case "other_tenant":
      return token("other", { tid: "ten_access_other" });
    default:
      return token(who, { role: who });
  }
}

async function keyWith(permissions) {
  const id = permissions.join(" ");
  if (!keys.has(id)) {
    const { key } = expect(await admin.post(`${AUTH}/keys`, { name: "of the table", permissions }), 201);
    keys.set(id, caller(worker, key));
  }
  return keys.get(id);
}

/** What a refusal says, beside its status. */
const CODES = { none: "unauthenticated", expired: "invalid_token" };

for (const who of CALLERS) {
  test(`${who} gets what the table says, on every route`, async () => {
    for (const row of table.rows) {
      const someone = await callerOf(who, row);
      await run(row.before);
      const body = row.body ?? undefined;
      const sent = body && JSON.parse(JSON.stringify(body).replaceAll("{now}", new Date().toISOString()));
      const reply = await someone.request(row.method, row.path, { body: sent });
      assert.equal(reply.status, row.expected[who], `${row.id}: ${reply.text.slice(0, 300)}`);
      if (reply.status === 403) expectProblem(reply, 403, "forbidden");
      if (reply.status === 404) expectProblem(reply, 404, "not_found");
      if (CODES[who] && reply.status === 401 && row.permission !== null) {
        expectProblem(reply, 401, CODES[who]);
        assert.match(reply.headers.get("www-authenticate"), /^Bearer/);
      }
    }
  });
}

test("the table has every operation of the document", async () => {
  const { paths } = expect(await admin.get("/openapi.json"), 200);
  const served = Object.values(paths).flatMap((methods) => Object.values(methods).map(({ operationId }) => operationId));
  assert.deepEqual(table.rows.map(({ id }) => id).sort(), served.sort());
});

test("without a credential, health shows no more than how each partner is", async () => {
  const { partnerships, ...rest } = expect(await caller(worker).get(`${API}/health`), 200);
  assert.deepEqual(Object.keys(rest).sort(), ["last_updated", "status"]);
  assert.ok(Object.keys(partnerships).length >= 6);
  for (const known of Object.values(partnerships)) assert.deepEqual(Object.keys(known).sort(), ["health", "score"]);
});
