// Decisions on the real runtime: the receipts of the host come out the same here, and those made here can be checked
// without any code of ours.
import assert from "node:assert/strict";
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { API, caller, expect, expectProblem, logIn, startWorker } from "./harness.mjs";

const kept = JSON.parse(readFileSync(new URL("../receipts.json", import.meta.url), "utf8"));

let worker, admin, anyone;

before(async () => {
  worker = await startWorker();
  anyone = caller(worker);
  admin = await logIn(worker);
});

after(() => worker?.close());

/** Canonical JSON (RFC 8785): JSON.stringify with sorted keys is that, for keys in ASCII. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
}

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

async function store({ receipt, signature }) {
  const { decision_id, kind, decision, question, author, decided_at, policy, confidence } = receipt;
  await worker.env.DB.prepare(
    `INSERT INTO decisions (id, tenant_id, kind, decision, inputs, reply, author_id, created_at, policy_id, policy_version,
     signature, confidence) VALUES (?, 'ten_default', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  ).bind(
    decision_id, kind, decision, JSON.stringify(question), canonical(receipt), author, Date.parse(decided_at),
    policy.id, policy.version, JSON.stringify(signature), confidence,
  ).run();
}

describe("receipts of the host", () => {
  test("come out the same here, to the last bit", async () => {
    for (const { record, changes, what_if } of kept.cases) {
      await store(record);
      const { decision_id: id, kind } = record.receipt;
      const replay = expect(await admin.post(`${API}/decisions/${id}/replay`), 200);
      assert.deepEqual(replay.differences, [], kind);
      assert.equal(replay.identical, true, kind);
      const { changed, ...other } = expect(await admin.post(`${API}/decisions/${id}/what-if`, changes), 200);
      // Numbers are written with all their digits: equal texts are equal bits.
      assert.equal(canonical(other), what_if, kind);
      assert.ok(changed.length > 0, kind);
      assert.deepEqual(expect(await admin.get(`${API}/decisions/${id}`), 200).policy_document, record.policy_document);
    }
  });
});

describe("POST /decisions", () => {
  const strategy = { business_goal: "improve_reliability", timeframe: "90_days", budget: 50_000 };
  const choice = {
    options: [
      { id: "a", values: { price: 40, quality: 0.9 } },
      { id: "b", values: { price: 55, quality: 0.5 } },
    ],
    criteria: [
      { id: "price", direction: "min", weight: 1, bounds: [0, 100] },
      { id: "quality", direction: "max", weight: 3, bounds: [0, 1] },
    ],
  };

  test("answers each kind with a receipt that others can check", async () => {
    const { keys } = expect(await anyone.get("/.well-known/jwks.json"), 200);
    const policy = expect(await admin.get(`${API}/policies/standard`), 200);
    assert.equal(sha256(canonical(policy.document)), policy.sha256);
    for (const [kind, context] of Object.entries({ appraisal: { estimated_cost: 5 }, strategy, choice })) {
      const { signature, narrative, ...receipt } = expect(await admin.post(`${API}/decisions`, { context }), 200);
      assert.equal(receipt.kind, kind);
      assert.equal(narrative, null);
      const key = createPublicKey({ key: keys.find(({ kid }) => kid === signature.kid), format: "jwk" });
      assert.ok(verify(null, Buffer.from(canonical(receipt)), key, Buffer.from(signature.value, "base64url")), kind);
      const facts = receipt.evidence.map(({ age_s, state, ...fact }) => fact);
      assert.equal(sha256(canonical(facts)), receipt.evidence_hash, "the facts, without what the policy makes of them");
      assert.equal(receipt.policy.sha256, policy.sha256);
      const record = expect(await admin.get(`${API}/decisions/${receipt.decision_id}`), 200);
      assert.deepEqual(record.receipt, receipt);
      assert.equal(expect(await admin.post(`${API}/decisions/${receipt.decision_id}/replay`), 200).identical, true);
    }
    const known = expect(await anyone.get("/.well-known/receipt-keys.json"), 200);
    assert.ok(known.keys.some(({ kid }) => kid === keys[0].kid));
  });

  test("takes the largest problem there may be, and says why it takes no larger one", async () => {
    const table = (options, criteria) => ({
      options: Array.from({ length: options }, (_, n) => ({
        id: `o${n}`,
        values: Object.fromEntries(Array.from({ length: criteria }, (_, k) => [`c${k}`, ((n * 7 + k * 13) % 11) / 10])),
      })),
      criteria: Array.from({ length: criteria }, (_, k) => ({
        id: `c${k}`, direction: k % 2 ? "max" : "min", weight: k + 1, bounds: [0, 1],
      })),
    });
    const largest = expect(await admin.post(`${API}/decisions`, { context: table(24, 10) }), 200);
    assert.equal(largest.ranking.length, 24);
    const refused = expectProblem(await admin.post(`${API}/decisions`, { context: table(200, 50) }), 422, "validation_failed");
    const pointers = refused.errors.map(({ pointer }) => pointer);
    assert.deepEqual(pointers, ["#/context/options", "#/context/criteria", "#/context/options"]);
    assert.match(refused.errors[2].detail, /CPU time/);
  });
});

describe("policies", () => {
  test("change by If-Match alone, and the next decision is made by the next version", async () => {
    const path = `${API}/policies/standard`;
    const reply = await admin.get(path);
    const { document } = expect(reply, 200);
    const draft = { ...document, stability: { ...document.stability, min_share: 0.9 } };
    expectProblem(await admin.put(path, draft), 428, "precondition_required");
    const next = expect(await admin.put(path, draft, { "if-match": reply.headers.get("etag") }), 200);
    assert.equal(next.version, 2);
    expectProblem(await admin.put(path, document, { "if-match": reply.headers.get("etag") }), 412, "precondition_failed");
    const made = expect(await admin.post(`${API}/decisions`, { context: {} }), 200);
    assert.deepEqual(made.policy, { id: "standard", version: 2, sha256: next.sha256 });
    const rehearsal = expect(await admin.post(`${path}/rehearse`, { document, days: 1 }), 200);
    assert.equal(rehearsal.rehearsed, rehearsal.unchanged + rehearsal.changed.length + rehearsal.not_applicable.length);
  });
});
