// Makes an npm package of what wasm-pack left in pkg/: adds packages/receipts/, and a package.json of one import that
// works in Node and in a browser. Prints what it weighs. Run by `make pkg`.
import { copyFileSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const SOURCES = fileURLToPath(new URL("../packages/receipts", import.meta.url));
const PACKAGE = fileURLToPath(new URL("../pkg", import.meta.url));

const own = readdirSync(SOURCES);
for (const name of own) copyFileSync(join(SOURCES, name), join(PACKAGE, name));

const path = join(PACKAGE, "package.json");
// Of its fields those that Cargo.toml says.
const { version, license } = JSON.parse(readFileSync(path, "utf8"));
const made = readdirSync(PACKAGE).filter((name) => name.startsWith("devskyy_receipts"));
const manifest = {
  name: "devskyy-receipts",
  version,
  description: "Checks receipts of decisions of a DevSkyy Orchestration API, and asks them \"what if\", offline.",
  license,
  type: "module",
  engines: { node: ">=22" },
  exports: { ".": { types: "./index.d.ts", node: "./node.js", default: "./browser.js" } },
  types: "./index.d.ts",
  files: [...new Set([...made, ...own])].sort(),
};
writeFileSync(path, `${JSON.stringify(manifest, null, 2)}\n`);

const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;
let [all, gzipped] = [0, 0];
for (const name of manifest.files.filter((name) => /\.(js|wasm)$/.test(name))) {
  const bytes = readFileSync(join(PACKAGE, name));
  const small = gzipSync(bytes, { level: 9 }).length;
  console.log(`${name.padEnd(28)} ${kilobytes(bytes.length).padStart(10)} ${kilobytes(small).padStart(10)} gzipped`);
  all += bytes.length;
  gzipped += small;
}
console.log(`${"pkg/".padEnd(28)} ${kilobytes(all).padStart(10)} ${kilobytes(gzipped).padStart(10)} gzipped`);
