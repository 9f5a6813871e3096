// The service counts its own requests: each isolate in memory, handed over to the tenant's object behind the replies by
// a task that outlives them. Only the real runtime has such tasks, and a clock that goes on by itself.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { API, AUTH, caller, expect, expectProblem, logIn, startWorker } from "./harness.mjs";

let worker, admin;

before(async () => {
  worker = await startWorker();
  admin = await logIn(worker);
});
after(() => worker?.close());

/** What `/info` says of the last hour, as soon as it is `enough` (or much later than it should be: then the test says
 *  what is missing). Each question is a request of the class `default` itself. */
async function counted(enough) {
  for (const deadline = Date.now() + 20_000; ; await sleep(100)) {
    const { service } = expect(await admin.get(`${API}/info`), 200);
    if (enough(service.last_hour) || Date.now() > deadline) return service;
  }
}

test("requests arrive in the tenant's object, each once, and outlive it", async () => {
  const started = Date.now();
  const anyone = caller(worker);
  for (let i = 0; i < 5; i += 1) expect(await anyone.get(`${API}/health`), 200);
  for (let i = 0; i < 2; i += 1) expect(await admin.get(`${API}/metrics`), 200);
  expectProblem(await anyone.get(`${API}/metrics`), 401, "unauthenticated");
  const first = await counted(({ metrics }) => metrics.requests >= 3);
  const { requests, refused, errors, p50_s, p95_s } = first.last_hour.metrics;
  assert.deepEqual([requests, refused, errors], [3, 1, 0]);
  assert.ok(p50_s >= 0 && p95_s >= p50_s, `${p50_s}, ${p95_s}`);
  assert.deepEqual([first.last_hour.login.requests, first.last_hour.login.refused], [1, 0], "that of the admin");
  assert.deepEqual(first.last_hour.ingest, { requests: 0, refused: 0, errors: 0, p50_s: null, p95_s: null });
  assert.ok(Math.abs(Date.parse(first.counting_since) - started) < 120_000, first.counting_since);
  assert.equal((await worker.objectIds("TELEMETRY")).length, 1);

  // What was handed over is stored; another task hands over what comes after.
  await worker.evict("TELEMETRY", "ten_default");
  const wrong = { username: "nobody", password: "not the password" };
  expectProblem(await anyone.post(`${AUTH}/login`, wrong), 401, "invalid_credentials");
  for (let i = 0; i < 2; i += 1) expect(await admin.get(`${API}/metrics`), 200);
  const second = await counted(({ metrics, login }) => metrics.requests >= 5 && login.requests >= 2);
  const figures = ({ requests, refused, errors }) => [requests, refused, errors];
  assert.deepEqual(figures(second.last_hour.metrics), [5, 1, 0]);
  assert.deepEqual(figures(second.last_hour.login), [2, 1, 0]);
  assert.equal(second.counting_since, first.counting_since);

  // The same in the other two places.
  const { service } = expect(await admin.get(`${API}/status`), 200);
  assert.deepEqual(service.last_hour.login, second.last_hour.login);
  const text = (await admin.get("/metrics", { accept: "text/plain" })).text;
  const health = text.split("\n").filter((line) => /^devskyy_api_requests_total\{.*route="health"/.test(line) && !line.endsWith(" 0"));
  assert.equal(health.length, 1, health.join("\n"));
  assert.match(health[0], /method="GET".* 5$/);
});
