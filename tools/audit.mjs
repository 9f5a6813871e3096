// `make audit`: is anything we depend on known to be unsafe, withdrawn or given up? Asks the advisory databases of
// RustSec (crates) and of npm (development tools), which are elsewhere and change without us: so no part of `make test`.
// Exit code 0: both answered and know of nothing. 1: something is known. 3: a database did not answer, so nobody knows.
import { spawnSync } from "node:child_process";

const CLEAN = 0;
const FOUND = 1;
const NOT_ASKED = 3;
const LEVELS = ["critical", "high", "moderate", "low", "info"];
// What cargo-deny says when it could not look whether a crate's version was withdrawn (yanked).
const NO_INDEX = ["index-failure", "index-cache-load-failure"];

class NotAsked extends Error {}

const results = [audit("Crates (RustSec)", crates), audit("npm packages", packages)];
if (results.includes(NOT_ASKED)) console.log("\nNot everything could be asked: this audit says nothing about what was left out.");
process.exitCode = results.includes(FOUND) ? FOUND : Math.max(...results);

function audit(what, ask) {
  console.log(`\n${what}`);
  try {
    const found = ask();
    for (const line of found) console.log(`  ${line}`);
    console.log(found.length > 0 ? `  ${found.length} known` : "  nothing is known against any of them");
    return found.length > 0 ? FOUND : CLEAN;
  } catch (error) {
    if (!(error instanceof NotAsked)) throw error;
    console.log(`  NOT CHECKED: the advisory database did not answer.\n${error.message.trim().replace(/^/gm, "    ")}`);
    return NOT_ASKED;
  }
}

/** The sum that ends a check is written only if the database was fetched in this run and read. A copy of an earlier run
 *  does not do: cargo-deny ends without a sum then. */
function crates() {
  const { text, lines } = run(process.env.CARGO_DENY ?? "cargo-deny", ["--format", "json", "check", "advisories"], "stderr");
  const entries = lines.map(parsed).filter((entry) => entry?.fields);
  const summary = entries.find(({ type }) => type === "summary")?.fields.advisories;
  const words = entries.map(({ fields }) => fields.message).filter((message) => message !== undefined);
  if (summary === undefined) throw new NotAsked(words.join("\n") || text);
  const told = entries.filter(({ type }) => type === "diagnostic").map(({ fields }) => fields);
  const unread = told.filter(({ code }) => NO_INDEX.includes(code));
  if (unread.length > 0) throw new NotAsked(unread.map(({ message }) => message).join("\n"));
  const found = told
    .filter(({ severity }) => ["error", "warning"].includes(severity))
    .map(({ code, message, advisory, graphs }) => {
      const { name, version } = graphs?.[0]?.Krate ?? {};
      return [`${code}:`, name, version, message, advisory?.id].filter(Boolean).join(" ");
    });
  if (found.length < summary.errors) throw new Error(`cargo-deny counts ${summary.errors} errors and tells ${found.length}:\n${text}`);
  return found;
}

/** npm writes a report only if the registry answered; else a message, or nothing, and the same exit code as for a finding. */
function packages() {
  const { text, lines } = run("npm", ["audit", "--json"], "stdout");
  const report = parsed(lines.join("\n"));
  const counts = report?.metadata?.vulnerabilities;
  if (report?.auditReportVersion === undefined || typeof counts?.total !== "number") throw new NotAsked(report?.message ?? text);
  const found = Object.values(report.vulnerabilities)
    .sort((a, b) => LEVELS.indexOf(a.severity) - LEVELS.indexOf(b.severity))
    .map(({ name, severity, range, via }) => `${severity}: ${name} ${range} ${via.map((cause) => cause.title ?? `through ${cause}`).join("; ")}`);
  if (found.length < counts.total) throw new Error(`npm counts ${counts.total} and tells ${found.length}:\n${text}`);
  return found;
}

function run(command, args, stream) {
  const result = spawnSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 1 << 28 });
  if (result.error) throw new Error(`cannot run ${command}: ${result.error.message} (use \`make audit\`)`);
  return { text: result.stderr + result.stdout, lines: result[stream].split("\n") };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
