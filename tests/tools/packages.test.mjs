// package.json: a package that nothing uses, and one that is used without being named, are errors.
// (cargo-machete does the same for the crates.)
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const { devDependencies, optionalDependencies, ...rest } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
const makefile = readFileSync(join(PROJECT, "Makefile"), "utf8");
const scripts = ["tools", "tests"]
  .flatMap((folder) => readdirSync(join(PROJECT, folder), { recursive: true }).map((name) => join(PROJECT, folder, name)))
  .filter((path) => path.endsWith(".mjs"))
  .map((path) => readFileSync(path, "utf8"));
// Statements at the start of a line, so that no text about imports counts.
const IMPORT = /^(?:import .*from |\} from |const .* = await import\()"([^"./][^"]*)"/gm;
const imported = new Set(scripts.flatMap((text) => [...text.matchAll(IMPORT)].map(([, name]) => name)));

/** Started by make or by a script, imported by a script, or copied from. */
function isUsed(name) {
  const { bin = {} } = JSON.parse(readFileSync(join(PROJECT, "node_modules", name, "package.json"), "utf8"));
  const commands = typeof bin === "string" ? [name] : Object.keys(bin);
  return (
    imported.has(name) ||
    makefile.includes(`node_modules/${name}/`) ||
    commands.some((command) => makefile.includes(`$(NPM_BIN)/${command} `) || scripts.some((text) => text.includes(`spawnSync("${command}"`)))
  );
}

test("every package is used", () => {
  assert.deepEqual(Object.keys(devDependencies).filter((name) => !isUsed(name)), []);
  // Each brings a Node for one kind of machine.
  for (const name of Object.keys(optionalDependencies)) assert.match(name, /^node-(bin-)?(darwin|linux)-(arm64|x64)$/);
  assert.equal(rest.dependencies, undefined, "nothing of it is deployed");
});

test("every package that a script imports is named", () => {
  assert.deepEqual([...imported].filter((name) => !name.startsWith("node:") && !(name in devDependencies)), []);
});
