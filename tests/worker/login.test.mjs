// Who may do what: logins and their refresh tokens, access tokens as an outsider would verify or forge them,
// users, and a deployment that lacks its secrets. (Which role may do what: access.test.mjs.)
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { ADMIN, API, AUTH, caller, expect, expectProblem, forgetBoard, logIn, logLines } from "./harness.mjs";
import { mintToken, startWorker, uuidV7 } from "./harness.mjs";

const PASSWORD = "a long enough password";

let worker, admin, anyone;
/** Users of two roles, named after them, made by the admin and logged in: { id, ...caller }. */
const users = {};

before(async () => {
  worker = await startWorker();
  anyone = caller(worker);
  admin = await logIn(worker);
  for (const role of ["viewer", "ingest"]) users[role] = await addUser(role, role);
});
after(() => worker?.close());

async function addUser(username, role) {
  const email = `${username}@example.com`;
  const { id } = expect(await admin.post(`${AUTH}/users`, { username, email, password: PASSWORD, role }), 201);
  return { id, ...(await logInAs(username)) };
}

/** A new login of the first admin, or of a user that a test made. */
function logInAs(username) {
  return logIn(worker, username === "admin" ? ADMIN : { username, password: PASSWORD });
}

const rows = (sql, ...values) => worker.rows(sql, ...values);
const refresh = (refresh_token, headers) => anyone.post(`${AUTH}/refresh`, { refresh_token }, headers);
const decode = (token, part) => JSON.parse(Buffer.from(token.split(".")[part], "base64url"));
/** A problem without what differs from request to request. */
const withoutId = ({ json, headers }) => ({ ...json, request_id: "", challenge: headers.get("www-authenticate") });

describe("a login", () => {
  test("takes JSON or the form of OAuth 2, a user name in any case or an e-mail address", async () => {
    const FORM = { "content-type": "application/x-www-form-urlencoded" };
    const form = (fields) => anyone.post(`${AUTH}/login`, new URLSearchParams(fields).toString(), FORM);
    const json = (username) => anyone.post(`${AUTH}/login`, { username, password: PASSWORD });
    for (const reply of [
      await json("viewer"),
      await json("VIEWER"),
      await json("viewer@example.com"),
      await json("Viewer@Example.com"),
      await form({ grant_type: "password", username: "viewer", password: PASSWORD, scope: "" }),
      await form({ username: "viewer@example.com", password: PASSWORD }),
    ]) {
      const tokens = expect(reply, 200);
      assert.deepEqual(Object.keys(tokens).sort(), ["access_token", "expires_in", "refresh_token", "token_type"]);
      assert.deepEqual([tokens.token_type, tokens.expires_in], ["bearer", 900]);
      assert.equal(reply.headers.get("cache-control"), "no-store");
      const me = expect(await caller(worker, tokens.access_token).get(`${AUTH}/me`), 200);
      assert.deepEqual(me, {
        id: users.viewer.id,
        username: "viewer",
        email: "viewer@example.com",
        role: "viewer",
        permissions: [],
        tenant_id: "ten_default",
      });
    }
    const otherGrant = { grant_type: "client_credentials", username: "viewer", password: PASSWORD };
    expectProblem(await form(otherGrant), 422, "validation_failed");
    expectProblem(await form([["username", "viewer"], ["username", "admin"], ["password", PASSWORD]]), 422, "validation_failed");
  });

  test("that fails reads the same whether the password is wrong, the user unknown or disabled", async () => {
    const disabled = await addUser("dismissed", "viewer");
    expect(await admin.patch(`${AUTH}/users/${disabled.id}`, { disabled: true }), 200);
    const attempt = (username, password) => anyone.post(`${AUTH}/login`, { username, password });
    const failed = [
      await attempt("viewer", "not the password"),
      await attempt("nobody", PASSWORD),
      await attempt("dismissed", PASSWORD),
      await attempt("' OR 1=1 --", "' OR 1=1 --"),
      await attempt("", ""),
      await attempt("viewer", `${PASSWORD} `),
    ];
    for (const reply of failed) {
      expectProblem(reply, 401, "invalid_credentials");
      assert.deepEqual(withoutId(reply), withoutId(failed[0]));
    }
    const noted = await rows("SELECT actor, subject FROM activity WHERE event = 'login.refused' AND status = 'refused'");
    assert.equal(noted.length, failed.length, "each is noted");
    assert.ok(!JSON.stringify(noted).includes("nobody"), "the name that was typed is not kept: it may be a password");
  });

  test("is refused with the right password too after five failures, until a quarter of an hour has passed", async () => {
    const user = await addUser("locked", "metrics_viewer");
    const attempt = (password) => anyone.post(`${AUTH}/login`, { username: "locked", password });
    const fail = async (times) => {
      for (let i = 0; i < times; i += 1) expectProblem(await attempt("not the password"), 401, "invalid_credentials");
    };
    await fail(4);
    // Whoever gets in begins anew.
    expect(await attempt(PASSWORD), 200);
    await fail(4);
    const failed = await attempt("not the password");
    const locked = await attempt(PASSWORD);
    expectProblem(locked, 401, "invalid_credentials");
    assert.deepEqual(withoutId(locked), withoutId(failed));
    expect(await user.get(`${API}/metrics`), 200);
    expect(await refresh(user.tokens.refresh_token), 200);
    const noted = await rows("SELECT COUNT(*) AS n FROM activity WHERE event = 'login.locked' AND subject = ?", user.id);
    assert.equal(noted[0].n, 1);
    await rows("UPDATE users SET locked_until = locked_until - 900001 WHERE id = ?", user.id);
    expect(await attempt(PASSWORD), 200);
  });

  test("stores hashes only", async () => {
    const stored = JSON.stringify([await rows("SELECT * FROM users"), await rows("SELECT * FROM refresh_tokens")]);
    for (const secret of [PASSWORD, ADMIN.password, admin.tokens.refresh_token, admin.tokens.access_token]) {
      assert.ok(!stored.includes(secret));
    }
  });
});

describe("a refresh token", () => {
  test("is good for one refresh, which gives the next pair", async () => {
    let { tokens } = await logInAs("viewer");
    const seen = new Set([tokens.refresh_token]);
    for (let i = 0; i < 4; i += 1) {
      tokens = expect(await refresh(tokens.refresh_token), 200);
      assert.ok(!seen.has(tokens.refresh_token));
      seen.add(tokens.refresh_token);
      assert.equal(expect(await caller(worker, tokens.access_token).get(`${AUTH}/me`), 200).username, "viewer");
    }
  });

  test("that is repeated by the same client within ten seconds gives the same successor", async () => {
    const { tokens } = await logInAs("viewer");
    const first = expect(await refresh(tokens.refresh_token), 200);
    const again = expect(await refresh(tokens.refresh_token), 200);
    assert.equal(again.refresh_token, first.refresh_token);
    assert.notEqual(again.access_token, first.access_token);
    expect(await refresh(first.refresh_token), 200);
  });

  test("that is spent many times at once gives everybody the same successor", async () => {
    const { tokens } = await logInAs("viewer");
    const replies = await Promise.all(Array.from({ length: 8 }, () => refresh(tokens.refresh_token)));
    const successors = new Set(replies.map((reply) => expect(reply, 200).refresh_token));
    assert.equal(successors.size, 1);
    expect(await refresh([...successors][0]), 200);
  });

  for (const [how, reuse] of [
    ["after its successor was used", async (spent, successor) => {
      const latest = expect(await refresh(successor), 200).refresh_token;
      return [await refresh(spent), latest];
    }],
    ["by another client", async (spent, successor) => [await refresh(spent, { "user-agent": "another client" }), successor]],
    ["from another address", async (spent, successor) => [await refresh(spent, { "cf-connecting-ip": "192.0.2.7" }), successor]],
    ["after ten seconds", async (spent, successor, family) => {
      await rows("UPDATE refresh_tokens SET spent_at = spent_at - 10001 WHERE family_id = ? AND spent_at IS NOT NULL", family);
      return [await refresh(spent), successor];
    }],
  ]) {
    test(`that is used again ${how} ends the login`, async () => {
      const { tokens } = await logInAs("viewer");
      const [{ family_id: family }] = await rows("SELECT family_id FROM refresh_tokens ORDER BY id DESC LIMIT 1");
      const successor = expect(await refresh(tokens.refresh_token), 200).refresh_token;
      const [reused, latest] = await reuse(tokens.refresh_token, successor, family);
      expectProblem(reused, 401, "invalid_refresh_token");
      for (const token of [latest, successor, tokens.refresh_token]) {
        expectProblem(await refresh(token), 401, "invalid_refresh_token");
      }
      const reasons = await rows("SELECT DISTINCT revoked_reason AS reason FROM refresh_tokens WHERE family_id = ?", family);
      assert.deepEqual(reasons, [{ reason: "refresh_reused" }]);
    });
  }

  test("of one login says nothing about another login of the same user", async () => {
    const one = await logInAs("viewer");
    const other = await logInAs("viewer");
    expect(await refresh(one.tokens.refresh_token), 200);
    expectProblem(await refresh(one.tokens.refresh_token, { "user-agent": "thief" }), 401, "invalid_refresh_token");
    expect(await refresh(other.tokens.refresh_token), 200);
  });

  test("is refused when it is unknown, expired or an access token", async () => {
    const { tokens } = await logInAs("ingest");
    await rows("UPDATE refresh_tokens SET expires_at = ? WHERE id = (SELECT MAX(id) FROM refresh_tokens)", Date.now());
    for (const token of [tokens.refresh_token, tokens.access_token, `rt_${"A".repeat(43)}`, "", "x".repeat(100_000)]) {
      expectProblem(await refresh(token), 401, "invalid_refresh_token");
    }
  });

  test("ends with logout, which only the user's own login does", async () => {
    const one = await logInAs("viewer");
    const other = await logInAs("ingest");
    const next = expect(await refresh(one.tokens.refresh_token), 200).refresh_token;
    assert.equal((await other.post(`${AUTH}/logout`, { refresh_token: next })).status, 204);
    assert.equal((await one.post(`${AUTH}/logout`, { refresh_token: "rt_unknown" })).status, 204);
    const still = expect(await refresh(next), 200).refresh_token;
    // Any refresh token of the login will do, a spent one too.
    assert.equal((await one.post(`${AUTH}/logout`, { refresh_token: one.tokens.refresh_token })).status, 204);
    expectProblem(await refresh(still), 401, "invalid_refresh_token");
    expect(await refresh(other.tokens.refresh_token), 200);
    expectProblem(await anyone.post(`${AUTH}/logout`, { refresh_token: still }), 401, "unauthenticated");
  });
});

describe("an access token", () => {
  test("is verified by WebCrypto with the published key, and says what it must", async () => {
    const token = users.ingest.token;
    const { keys } = expect(await anyone.get("/.well-known/jwks.json"), 200);
    const header = decode(token, 0);
    const jwk = keys.find(({ kid }) => kid === header.kid);
    assert.deepEqual(Object.keys(jwk).sort(), ["alg", "crv", "kid", "kty", "use", "x"], "no private part");
    const key = await crypto.subtle.importKey("jwk", jwk, { name: "Ed25519" }, false, ["verify"]);
    const verify = (token) => {
      const [head, payload, signature] = token.split(".");
      return crypto.subtle.verify("Ed25519", key, Buffer.from(signature, "base64url"), Buffer.from(`${head}.${payload}`));
    };
    assert.equal(await verify(token), true);
    assert.equal(await verify(token.replace(/\../, (c) => (c === ".A" ? ".B" : ".A"))), false);
    assert.deepEqual(header, { alg: "EdDSA", typ: "at+jwt", kid: jwk.kid });
    const claims = decode(token, 1);
    const { iat, nbf, exp, jti, ...who } = claims;
    assert.deepEqual(who, {
      iss: "devskyy-orchestration",
      aud: "devskyy-orchestration-api",
      sub: users.ingest.id,
      tid: "ten_default",
      role: "ingest",
    });
    assert.match(jti, /^tok_[0-9a-f-]{36}$/);
    assert.ok(Math.abs(Date.now() / 1000 - iat) < 60);
    assert.deepEqual([nbf - iat, exp - iat], [0, 900]);
  });

  test("made by other hands is refused unless it is right in everything", async () => {
    const now = Date.now();
    const iat = Math.floor(now / 1000);
    /** The claims of a token that was issued at another time. */
    const issued = (seconds) => ({
      jti: `tok_${uuidV7(now + seconds * 1000)}`,
      iat: iat + seconds,
      nbf: iat + seconds,
      exp: iat + seconds + 900,
    });
    const goodOnes = [{}, { header: { typ: "application/at+jwt" } }, { header: { jku: "https://evil.example/keys" } }];
    const unsigned = (token) => token.slice(0, token.lastIndexOf(".") + 1);
    const { x, kid } = expect(await anyone.get("/.well-known/jwks.json"), 200).keys[0];
    const hmac = (head) => head + createHmac("sha256", Buffer.from(x, "base64url")).update(head.slice(0, -1)).digest("base64url");
    const tampered = (token) => {
      const [head, payload, signature] = token.split(".");
      const richer = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(payload, "base64url")), role: "admin" }));
      return `${head}.${richer.toString("base64url")}.${signature}`;
    };
    for (const good of [...goodOnes, { claims: issued(-890) }, { claims: issued(20) }]) {
      expect(await caller(worker, mintToken(good)).get(`${API}/info`), 200);
    }
    for (const [what, token] of Object.entries({
      expired: mintToken({ claims: issued(-900) }),
      "not yet valid": mintToken({ claims: { nbf: iat + 120 } }),
      "issued in the future": mintToken({ claims: { ...issued(120), nbf: iat } }),
      "good for longer than a token may be": mintToken({ claims: { ...issued(0), exp: iat + 901 } }),
      "good for ever": mintToken({ claims: { exp: undefined } }),
      "of another issuer": mintToken({ claims: { iss: "somebody" } }),
      "for another audience": mintToken({ claims: { aud: "another-api" } }),
      "without a tenant": mintToken({ claims: { tid: undefined } }),
      "without a user": mintToken({ claims: { sub: undefined } }),
      "without an id": mintToken({ claims: { jti: undefined } }),
      "of an unknown role": mintToken({ claims: { role: "root" } }),
      "of the wrong type": mintToken({ header: { typ: "JWT" } }),
      "without a type": mintToken({ header: { typ: undefined } }),
      "with an unknown extension": mintToken({ header: { crit: ["exp"] } }),
      "naming no key": mintToken({ header: { kid: undefined } }),
      "naming another key": mintToken({ header: { kid: "another" } }),
      "signed with another key": mintToken({ seed: Buffer.alloc(32, 8) }),
      "signed with another key, naming ours": mintToken({ seed: Buffer.alloc(32, 8), header: { kid } }),
      "of algorithm none": unsigned(mintToken({ header: { alg: "none" } })),
      "of algorithm none, signed": mintToken({ header: { alg: "none" } }),
      "unsigned": unsigned(mintToken()),
      "an HMAC with the public key": hmac(unsigned(mintToken({ header: { alg: "HS256" } }))),
      "tampered with": tampered(users.viewer.token),
      "longer than 8 KB": mintToken({ claims: { padding: "x".repeat(8_192) } }),
      "a refresh token": users.viewer.tokens.refresh_token,
      "no token": "x",
    })) {
      for (const path of [`${API}/info`, `${AUTH}/me`, `${API}/health`]) {
        const reply = await caller(worker, token).get(path);
        const { detail } = expectProblem(reply, 401, "invalid_token");
        assert.equal(detail, "the token or API key is not valid or has expired", what);
        assert.equal(reply.headers.get("www-authenticate"), 'Bearer error="invalid_token"', what);
      }
    }
  });

  test("is looked for in the Authorization field alone, as a bearer token", async () => {
    const { token } = admin;
    for (const scheme of ["Bearer", "bearer", "BEARER"]) {
      expect(await anyone.get(`${API}/info`, { authorization: `${scheme} ${token}` }), 200);
    }
    const basic = `Basic ${Buffer.from(`${ADMIN.username}:${ADMIN.password}`).toString("base64")}`;
    for (const value of [basic, token, "Bearer", "Bearer ", `Bearer ${token}, Bearer ${token}`]) {
      expectProblem(await anyone.get(`${API}/info`, { authorization: value }), 401, "invalid_token");
    }
    const elsewhere = await anyone.get(`${API}/info?access_token=${token}`, { cookie: `access_token=${token}` });
    expectProblem(elsewhere, 401, "unauthenticated");
    // Routes for anyone do not look at it.
    expect(await caller(worker, "rubbish").get("/.well-known/jwks.json"), 200);
  });

  test("withdrawn elsewhere is refused within a second", async () => {
    const user = await addUser("elsewhere", "metrics_viewer");
    await forgetBoard(admin, "grok");
    // From here on the isolate has a fresh board, and nobody tells it of what another one withdraws.
    expect(await user.get(`${API}/metrics`), 200);
    const now = new Date().toISOString();
    const { BOARD } = worker.env;
    const command = { revoke_tokens: { user_id: user.id, issued_before: now, now } };
    const board = BOARD.get(BOARD.idFromName("ten_default"));
    const told = await board.fetch("https://object/", { method: "POST", body: JSON.stringify(command) });
    assert.equal(told.status, 200, await told.text());
    const withdrawn = performance.now();
    for (;;) {
      const started = performance.now();
      const reply = await user.get(`${API}/metrics`);
      if (reply.status === 401) break;
      expect(reply, 200);
      assert.ok(started - withdrawn <= 1_050, "still accepted by a request that began more than a second later");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const { token } = await logInAs("elsewhere");
    expect(await caller(worker, token).get(`${API}/metrics`), 200);
  });
});

describe("users", () => {
  test("are made, listed and changed, and nobody is shown a hash", async () => {
    const wanted = { username: "maria", email: "maria@example.com", password: PASSWORD, role: "viewer" };
    const made = await admin.post(`${AUTH}/users`, wanted);
    const maria = expect(made, 201);
    const me = expect(await admin.get(`${AUTH}/me`), 200);
    assert.deepEqual([maria.username, maria.role, maria.created_by], ["maria", "viewer", me.id]);
    assert.deepEqual([maria.disabled, maria.disabled_at], [false, null]);
    const changed = await admin.patch(`${AUTH}/users/${maria.id}`, { role: "ingest" });
    assert.equal(expect(changed, 200).role, "ingest");
    const listed = await admin.get(`${AUTH}/users`);
    const { users: all } = expect(listed, 200);
    assert.deepEqual(all.find(({ id }) => id === maria.id), changed.json);
    assert.deepEqual(all.map(({ id }) => id), all.map(({ id }) => id).toSorted(), "oldest first");
    assert.equal(all.length, (await rows("SELECT id FROM users")).length);
    for (const { text } of [made, changed, listed]) assert.doesNotMatch(text, /argon2|hash|password/i);
    const events = await rows("SELECT event FROM activity WHERE subject = ? ORDER BY at, id", maria.id);
    assert.deepEqual(events.map(({ event }) => event), ["user.created", "user.role_changed"]);
  });

  test("are refused with all that is wrong with them, and names are taken once in any case", async () => {
    const good = { username: "paula", email: "paula@example.com", password: PASSWORD, role: "viewer" };
    const bad = { username: "p@", email: "nowhere", password: "short", role: "root" };
    const { errors } = expectProblem(await admin.post(`${AUTH}/users`, bad), 422, "validation_failed");
    assert.deepEqual(errors.map(({ pointer }) => pointer).sort(), ["#/email", "#/password", "#/role", "#/username"]);
    expectProblem(await admin.post(`${AUTH}/users`, { ...good, is_admin: true }), 422, "validation_failed");
    expect(await admin.post(`${AUTH}/users`, good), 201);
    for (const [changes, pointer] of [
      [{ username: "PAULA", email: "p2@example.com" }, "#/username"],
      [{ username: "paula2", email: "Paula@Example.com" }, "#/email"],
    ]) {
      const problem = expectProblem(await admin.post(`${AUTH}/users`, { ...good, ...changes }), 409, "conflict");
      assert.deepEqual(problem.errors.map((error) => error.pointer), [pointer]);
    }
    assert.equal((await rows("SELECT id FROM users WHERE username LIKE 'paula%'")).length, 1);
    // Two at the same moment: one of them is made.
    const twins = await Promise.all([1, 2].map(() => admin.post(`${AUTH}/users`, { ...good, username: "twin", email: null })));
    assert.deepEqual(twins.map(({ status }) => status).sort(), [201, 409]);
    expectProblem(await admin.patch(`${AUTH}/users/usr_${uuidV7(0)}`, { role: "viewer" }), 404, "not_found");
    expectProblem(await admin.patch(`${AUTH}/users/${users.viewer.id}`, {}), 422, "validation_failed");
    expectProblem(await admin.patch(`${AUTH}/users/${users.viewer.id}`, { password: PASSWORD }), 422, "validation_failed");
  });

  test("who are disabled are out at once: their tokens, their refreshes and their password", async () => {
    const user = await addUser("leaving", "metrics_viewer");
    expect(await user.get(`${API}/metrics`), 200);
    const disabled = expect(await admin.patch(`${AUTH}/users/${user.id}`, { disabled: true }), 200);
    assert.ok(disabled.disabled && disabled.disabled_at !== null);
    expectProblem(await user.get(`${API}/metrics`), 401, "invalid_token");
    expectProblem(await user.get(`${AUTH}/me`), 401, "invalid_token");
    expectProblem(await refresh(user.tokens.refresh_token), 401, "invalid_refresh_token");
    expectProblem(await anyone.post(`${AUTH}/login`, { username: "leaving", password: PASSWORD }), 401, "invalid_credentials");
    // Back again: with a new login, the old one stays ended.
    assert.equal(expect(await admin.patch(`${AUTH}/users/${user.id}`, { disabled: false }), 200).disabled, false);
    expectProblem(await user.get(`${API}/metrics`), 401, "invalid_token");
    expectProblem(await refresh(user.tokens.refresh_token), 401, "invalid_refresh_token");
    expect(await (await logInAs("leaving")).get(`${API}/metrics`), 200);
  });

  test("whose role changes lose the tokens that say the old one", async () => {
    const user = await addUser("promoted", "system_admin");
    expect(await user.get(`${API}/status`), 200);
    expect(await admin.patch(`${AUTH}/users/${user.id}`, { role: "metrics_viewer" }), 200);
    expectProblem(await user.get(`${API}/status`), 401, "invalid_token");
    // The login goes on, in the new role.
    const { access_token } = expect(await refresh(user.tokens.refresh_token), 200);
    assert.equal(decode(access_token, 1).role, "metrics_viewer");
    expectProblem(await caller(worker, access_token).get(`${API}/status`), 403, "forbidden");
  });

  test("change their own password, which ends every login", async () => {
    const user = await addUser("careful", "viewer");
    const elsewhere = await logInAs("careful");
    const change = (current_password, new_password) => user.put(`${AUTH}/password`, { current_password, new_password });
    expectProblem(await change("not the password", "another long password"), 422, "validation_failed");
    expectProblem(await change(PASSWORD, "short"), 422, "validation_failed");
    expectProblem(await change(PASSWORD, PASSWORD), 422, "validation_failed");
    assert.equal((await change(PASSWORD, "another long password")).status, 204);
    for (const session of [user, elsewhere]) {
      expectProblem(await session.get(`${AUTH}/me`), 401, "invalid_token");
      expectProblem(await refresh(session.tokens.refresh_token), 401, "invalid_refresh_token");
    }
    expectProblem(await anyone.post(`${AUTH}/login`, { username: "careful", password: PASSWORD }), 401, "invalid_credentials");
    const back = await logIn(worker, { username: "careful", password: "another long password" });
    assert.equal(expect(await back.get(`${AUTH}/me`), 200).id, user.id);
  });

  test("never leave the tenant without an admin, even when two admins disable each other at once", async () => {
    const me = expect(await admin.get(`${AUTH}/me`), 200);
    for (const change of [{ disabled: true }, { role: "viewer" }]) {
      expectProblem(await admin.patch(`${AUTH}/users/${me.id}`, change), 422, "validation_failed");
    }
    // Somebody else whose token still says admin, while no other admin can log in.
    const former = caller(worker, mintToken());
    const { id } = await addUser("former", "admin");
    expect(await admin.patch(`${AUTH}/users/${id}`, { disabled: true }), 200);
    for (const change of [{ disabled: true }, { role: "viewer" }]) {
      expectProblem(await former.patch(`${AUTH}/users/${me.id}`, change), 409, "conflict");
    }
    const rival = await addUser("rival", "admin");
    const strikes = [];
    // Connections are open and the board is known, so that the strikes meet at the table and not before.
    await Promise.all([admin, rival, admin, rival, admin, rival].map(({ get }) => get(`${API}/info`)));
    for (let i = 0; i < 3; i += 1) {
      strikes.push(admin.patch(`${AUTH}/users/${rival.id}`, { disabled: true }));
      strikes.push(rival.patch(`${AUTH}/users/${me.id}`, { disabled: true }));
    }
    // Done, too late for a token that was withdrawn, or one too many.
    for (const { status, text } of await Promise.all(strikes)) assert.ok([200, 401, 409].includes(status), text);
    const left = await rows("SELECT username FROM users WHERE role = 'admin' AND disabled_at IS NULL");
    assert.equal(left.length, 1);
    // The first admin is needed again.
    const survivor = await logInAs(left[0].username);
    if (left[0].username === "rival") expect(await survivor.patch(`${AUTH}/users/${me.id}`, { disabled: false }), 200);
    admin = await logInAs("admin");
    expect(await admin.patch(`${AUTH}/users/${rival.id}`, { role: "viewer" }), 200);
  });
});

// Each starts a Worker of its own, as a secret is read at its start.
describe("a deployment", () => {
  async function withWorker(options, work) {
    const other = await startWorker(options);
    try {
      await work(other, caller(other));
    } finally {
      await other.close();
    }
  }
  /** Whether the log tells of this, as the cause of something. */
  const tells = async (other, cause) => {
    const told = (lines) => lines.some((line) => line["error.message"]?.includes(cause));
    return told(await logLines(other, told));
  };

  test("without a signing key serves what needs none, and says what is missing", async () => {
    await withWorker({ secrets: { SIGNING_KEY: undefined } }, async (other, anyone) => {
      for (const reply of [
        await anyone.post(`${AUTH}/login`, { username: ADMIN.username, password: ADMIN.password }),
        await anyone.post(`${AUTH}/refresh`, { refresh_token: "rt_x" }),
        await anyone.get("/.well-known/jwks.json"),
      ]) {
        assert.match(expectProblem(reply, 503, "not_configured").detail, /SIGNING_KEY is not set/);
      }
      expect(await anyone.get(`${API}/health`), 200);
      for (const token of [mintToken(), mintToken({ seed: Buffer.alloc(32) })]) {
        expectProblem(await caller(other, token).get(`${API}/info`), 401, "invalid_token");
      }
      assert.equal((await other.env.DB.prepare("SELECT COUNT(*) AS n FROM users").first()).n, 0);
      assert.ok(await tells(other, "SIGNING_KEY is not set"));
      // The partners are watched all the same.
      await other.scheduled("* * * * *");
      assert.equal((await other.env.DB.prepare("SELECT outcome FROM job_runs WHERE job = 'tick'").first()).outcome, "success");
    });
  });

  test("without the first admin's secrets lets nobody in, and says what is missing", async () => {
    const secrets = { BOOTSTRAP_ADMIN_USERNAME: undefined, BOOTSTRAP_ADMIN_PASSWORD: undefined };
    await withWorker({ secrets, vars: { PUBLIC_HEALTH: "false" } }, async (other, anyone) => {
      const reply = await anyone.post(`${AUTH}/login`, { username: "admin", password: "" });
      const { detail } = expectProblem(reply, 503, "not_configured");
      for (const name of Object.keys(secrets)) {
        assert.match(detail, new RegExp(`${name} is not set`));
        assert.ok(await tells(other, `${name} is not set`));
      }
      for (const table of ["tenants", "users"]) {
        assert.equal((await other.env.DB.prepare(`SELECT COUNT(*) AS n FROM ${table}`).first()).n, 0, "nothing is made up");
      }
      const { checks } = expect(await caller(other, mintToken()).get(`${API}/deployment/readiness`), 200);
      assert.notEqual(checks.bootstrap_secret.status, "pass", checks.bootstrap_secret.message);
      expectProblem(await anyone.get(`${API}/health`), 401, "unauthenticated");
    });
  });

  test("with a first password that is too weak makes no admin, and does not show it", async () => {
    await withWorker({ secrets: { BOOTSTRAP_ADMIN_PASSWORD: "weak-secret" } }, async (other, anyone) => {
      const reply = await anyone.post(`${AUTH}/login`, { username: ADMIN.username, password: "weak-secret" });
      assert.match(expectProblem(reply, 503, "not_configured").detail, /BOOTSTRAP_ADMIN_PASSWORD: expected 12 to 128 characters/);
      assert.ok(await tells(other, "BOOTSTRAP_ADMIN_PASSWORD"));
      assert.ok(!(reply.text + JSON.stringify(other.logs())).includes("weak-secret"));
    });
  });

  test("whose key was rotated signs with the new one, shows both and takes tokens of both", async () => {
    const fresh = Buffer.alloc(32, 9);
    const secrets = { SIGNING_KEY_2: `ed25519:${fresh.toString("base64url")}` };
    await withWorker({ secrets, vars: { SIGNING_KEY_ACTIVE: "2" } }, async (other, anyone) => {
      const newcomer = await logIn(other);
      // Of the Worker with the first key alone, which this file's other tests run.
      const old = admin.token;
      const kids = [mintToken({ seed: fresh }), old].map((token) => decode(token, 0).kid);
      assert.equal(decode(newcomer.token, 0).kid, kids[0]);
      assert.deepEqual(expect(await anyone.get("/.well-known/jwks.json"), 200).keys.map(({ kid }) => kid), kids);
      for (const token of [newcomer.token, mintToken({ seed: fresh }), old]) {
        expect(await caller(other, token).get(`${API}/info`), 200);
      }
      const { checks } = expect(await newcomer.get(`${API}/deployment/readiness`), 200);
      assert.match(checks.signing_key.message, /SIGNING_KEY is a development key/, "the old one still counts");
      const { configuration } = expect(await newcomer.get(`${API}/config`), 200);
      const { active_signing_key_slot, second_signing_key_present } = configuration.security_settings;
      assert.deepEqual([active_signing_key_slot, second_signing_key_present], [2, true]);
    });
  });

  test("whose active slot is empty or unknown signs nothing, and says what is missing", async () => {
    for (const [slot, what] of [["2", /SIGNING_KEY_2 is not set/], ["3", /SIGNING_KEY_ACTIVE must be 1 /]]) {
      await withWorker({ vars: { SIGNING_KEY_ACTIVE: slot } }, async (other, anyone) => {
        const { detail } = expectProblem(await anyone.get("/.well-known/jwks.json"), 503, "not_configured");
        assert.match(detail, what);
        expectProblem(await caller(other, mintToken()).get(`${API}/info`), 401, "invalid_token");
      });
    }
  });
});
