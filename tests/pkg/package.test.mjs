// The built npm package, as somebody who installed it has it.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const PACKAGE = fileURLToPath(new URL("../../pkg", import.meta.url));
const NAMES = ["verify_receipt", "what_if"];

// Two copies: Node keeps one instance of each file that is imported.
const folder = mkdtempSync(join(tmpdir(), "receipts-"));
after(() => rmSync(folder, { recursive: true }));
const served = join(folder, "served");
for (const copy of [join(folder, "node_modules/devskyy-receipts"), served]) cpSync(PACKAGE, copy, { recursive: true });
writeFileSync(join(folder, "user.mjs"), 'export * from "devskyy-receipts";\n');

const kept = JSON.parse(readFileSync(new URL("../receipts.json", import.meta.url), "utf8"));

/** Both functions answer as the host does, to the last bit; what is no receipt is an error that says so. */
function answer(receipts) {
  assert.deepEqual(Object.keys(receipts).sort(), NAMES);
  assert.ok(kept.cases.length >= 5);
  for (const { record, changes, what_if } of kept.cases) {
    const verified = JSON.parse(receipts.verify_receipt(JSON.stringify(record), JSON.stringify(kept.keys)));
    assert.equal(verified.valid, true, JSON.stringify(verified));
    assert.equal(receipts.what_if(JSON.stringify(record), JSON.stringify(changes)), what_if);
    const forged = { ...record, receipt: { ...record.receipt, confidence: 0.123 } };
    const found = JSON.parse(receipts.verify_receipt(JSON.stringify(forged), JSON.stringify(kept.keys)));
    assert.deepEqual(found.checks.filter(({ passed }) => !passed).map(({ name }) => name), ["signature", "recomputation"]);
  }
  for (const name of NAMES) {
    assert.throws(() => receipts[name]("no JSON", "{}"), (error) => error instanceof Error && error.message.length > 0, name);
  }
}

test("Node imports it by its name", async () => {
  answer(await import(pathToFileURL(join(folder, "user.mjs"))));
});

// The way of a browser, with a server that is a function.
test("a page imports it without a bundler", async (t) => {
  const asked = [];
  t.mock.method(globalThis, "fetch", async (url) => {
    asked.push(String(url));
    return new Response(readFileSync(new URL(url)), { headers: { "content-type": "application/wasm" } });
  });
  answer(await import(pathToFileURL(join(served, "browser.js"))));
  // For itself, and for nothing else.
  assert.deepEqual(asked, [String(pathToFileURL(join(served, "devskyy_receipts_bg.wasm")))]);
});

test("every file it names is there", () => {
  const { exports, files } = JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8"));
  const named = [...Object.values(exports["."]).map((path) => path.replace("./", "")), "LICENSE", "README.md"];
  for (const name of [...files, ...named]) assert.ok(readFileSync(join(PACKAGE, name)).length > 0, name);
  // LICENSE is packed without being named.
  assert.deepEqual(named.filter((name) => name !== "LICENSE" && !files.includes(name)), []);
});
