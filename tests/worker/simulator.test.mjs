// Each scenario of the simulator, as a client sees it.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startSimulator, statusPage } from "./simulator.mjs";

let partners;
before(async () => {
  partners = await startSimulator({ names: ["cursor", "grok"] });
});
beforeEach(async () => {
  await partners.set("cursor", { scenario: "healthy" });
  await partners.set(statusPage("cursor"), { scenario: "status_page" });
  partners.forget();
});
after(() => partners.close());

const ask = (path, init) => fetch(partners.url(path), { redirect: "manual", ...init });
const page = async () => (await ask(statusPage("cursor"))).json();

test("answers with the status of its scenario", async () => {
  for (const [behaviour, status] of [
    [{ scenario: "healthy" }, 200],
    [{ scenario: "error" }, 500],
    [{ scenario: "error", status: 503 }, 503],
    [{ scenario: "throttled" }, 429],
    [{ scenario: "unauthorized" }, 401],
    [{ scenario: "redirect" }, 302],
  ]) {
    partners.set("cursor", behaviour);
    assert.equal((await ask("cursor")).status, status, behaviour.scenario);
    assert.equal(await partners.last("cursor").done, "answered");
  }
});

test("says what belongs to 429, 401 and 302", async () => {
  partners.set("cursor", { scenario: "throttled", retryAfter: 7 });
  assert.equal((await ask("cursor")).headers.get("retry-after"), "7");
  partners.set("cursor", { scenario: "unauthorized" });
  assert.equal((await ask("cursor")).headers.get("www-authenticate"), "Bearer");
  partners.set("cursor", { scenario: "redirect" });
  assert.equal((await ask("cursor")).headers.get("location"), "/cursor/redirected");
  assert.equal(partners.hits("cursor/redirected"), 0);
  assert.equal((await fetch(partners.url("cursor"))).status, 200);
  assert.equal(partners.hits("cursor/redirected"), 1, "a client that follows is seen");
});

test("is slow", async () => {
  partners.set("cursor", { scenario: "slow", delayMs: 120 });
  const started = performance.now();
  assert.equal((await ask("cursor")).status, 200);
  // A timer may fire a millisecond early.
  assert.ok(performance.now() - started >= 118);
});

test("hangs until the client leaves", async () => {
  partners.set("cursor", { scenario: "hanging" });
  await assert.rejects(ask("cursor", { signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
  assert.equal(await partners.last("cursor").done, "client_left");
});

test("cuts the connection before, within and after the headers", async () => {
  for (const at of ["start", "headers"]) {
    partners.set("cursor", { scenario: "cut", at });
    await assert.rejects(ask("cursor"), { message: "fetch failed" }, at);
    assert.equal(await partners.last("cursor").done, "cut");
  }
  partners.set("cursor", { scenario: "cut", at: "body" });
  const response = await ask("cursor");
  assert.equal(response.status, 200);
  await assert.rejects(response.text(), { message: "terminated" });
  assert.equal(await partners.last("cursor").done, "cut");
});

test("refuses on a closed port, and comes back on the same one", async () => {
  const url = partners.url("cursor");
  // A client that waits when the port closes is not left waiting.
  partners.set("cursor", { scenario: "hanging" });
  const waiting = assert.rejects(ask("cursor"));
  while (partners.hits("cursor") === 0) await sleep(5);
  await partners.set("cursor", { scenario: "refused" });
  await waiting;
  await assert.rejects(fetch(url), (error) => error.cause.code === "ECONNREFUSED");
  await partners.set("cursor", { scenario: "refused" });
  assert.equal((await ask("grok")).status, 200, "another partner is not concerned");
  await partners.set("cursor", { scenario: "healthy" });
  assert.equal((await fetch(url)).status, 200);
  assert.equal(partners.hits("cursor"), 2, "what was refused was not seen");
});

test("sends a big body until the client cancels it", async () => {
  partners.set("cursor", { scenario: "big" });
  const response = await ask("cursor");
  const reader = response.body.getReader();
  let read = 0;
  while (read <= 64 * 1024) read += (await reader.read()).value.length;
  await reader.cancel();
  assert.equal(await partners.last("cursor").done, "client_left");
  assert.ok(partners.last("cursor").bytes >= read);

  partners.set("cursor", { scenario: "big", maxBytes: 128 * 1024 });
  assert.equal((await (await ask("cursor")).arrayBuffer()).byteLength, 128 * 1024);
  assert.equal(await partners.last("cursor").done, "answered", "one that read to the end did not cancel");
});

test("has a status page in the Statuspage form, which stands by itself", async () => {
  partners.set("cursor", { scenario: "error" });
  for (const indicator of ["none", "minor", "major", "critical"]) {
    partners.set(statusPage("cursor"), { scenario: "status_page", indicator });
    const { page: head, status, components, incidents } = await page();
    assert.equal(status.indicator, indicator);
    assert.ok(status.description.length > 0);
    assert.ok(Date.now() - Date.parse(head.updated_at) < 60_000);
    const affected = indicator === "none" ? 0 : 1;
    assert.equal(components.filter((component) => component.status !== "operational").length, affected);
    assert.equal(incidents.length, affected);
  }
});

test("has a status page that is malformed, stale or away", async () => {
  partners.set(statusPage("cursor"), { scenario: "malformed" });
  await assert.rejects(page(), SyntaxError);
  partners.set(statusPage("cursor"), { scenario: "stale" });
  assert.ok(Date.now() - Date.parse((await page()).page.updated_at) > 300 * 24 * 3600_000);
  partners.set(statusPage("cursor"), { scenario: "error", status: 503 });
  assert.equal((await ask(statusPage("cursor"))).status, 503);
});

test("counts by path and keeps what was asked", async () => {
  await ask("cursor", { headers: { accept: "text/x-probe" } });
  await ask("cursor/v1/models?limit=1");
  await ask("cursor/v1/models");
  await page();
  assert.equal(partners.hits("cursor"), 1);
  assert.equal(partners.last("cursor").headers.accept, "text/x-probe");
  assert.deepEqual(partners.allHits(), { cursor: 1, "cursor/v1/models": 2, [statusPage("cursor")]: 1 });
  for (let i = 0; i < 120; i += 1) await (await ask("grok")).text();
  assert.equal(partners.hits("grok"), 120);
  assert.equal(partners.requests("grok").length, 100);
});

test("a name or scenario it does not know is an error", async () => {
  assert.throws(() => partners.url("nobody"), /does not play "nobody"/);
  await assert.rejects(partners.set("cursor", { scenario: "sleepy" }), /no scenario "sleepy"/);
  await assert.rejects(partners.set(statusPage("cursor"), { scenario: "refused" }), /of a partner/);
});
