// tools/audit.mjs against stand-ins for cargo-deny and npm, which write what the real ones were seen to write.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const AUDIT = fileURLToPath(new URL("../../tools/audit.mjs", import.meta.url));

const lines = (...entries) => entries.map((entry) => JSON.stringify(entry)).join("\n");
const summary = (errors) => ({ fields: { advisories: { errors, helps: 0, notes: 0, warnings: 0 } }, type: "summary" });
const diagnostic = (fields) => ({ fields, type: "diagnostic" });
const DENY = {
  clean: { stderr: lines(summary(0)), status: 0 },
  found: {
    stderr: lines(
      diagnostic({
        advisory: { id: "RUSTSEC-2026-9999", package: "url", title: "Made up" },
        code: "vulnerability",
        graphs: [{ Krate: { name: "url", version: "2.5.8" } }],
        message: "Made up",
        severity: "error",
      }),
      summary(1),
    ),
    status: 1,
  },
  unreachable: {
    stderr: lines({ fields: { level: "ERROR", message: "failed to fetch advisory database: Could not resolve host" }, type: "log" }),
    status: 1,
  },
  withoutIndex: {
    stderr: lines(diagnostic({ code: "index-failure", message: "unable to check for yanked crates", severity: "warning" }), summary(0)),
    status: 0,
  },
  silent: { stderr: "", status: 0 },
};
const report = (vulnerabilities) => ({
  auditReportVersion: 2,
  vulnerabilities,
  metadata: { vulnerabilities: { total: Object.keys(vulnerabilities).length } },
});
const NPM = {
  clean: { stdout: JSON.stringify(report({}), null, 2), status: 0 },
  found: {
    stdout: JSON.stringify(report({ left: { name: "left", severity: "high", range: "<2", via: [{ title: "Made up too" }] } }), null, 2),
    status: 1,
  },
  unreachable: { stdout: JSON.stringify({ message: "405 Method Not Allowed", statusCode: 405 }, null, 2), status: 1 },
  offline: { stdout: "", stderr: "npm error code ENOTFOUND", status: 1 },
  silent: { stdout: "", status: 0 },
};

function audit(deny, npm) {
  const folder = mkdtempSync(join(tmpdir(), "audit-test-"));
  after(() => rmSync(folder, { recursive: true }));
  for (const [name, { stdout = "", stderr = "", status }] of [["cargo-deny", deny], ["npm", npm]]) {
    const script = `#!/usr/bin/env node
process.stdout.write(${JSON.stringify(stdout)});
process.stderr.write(${JSON.stringify(stderr)});
process.exitCode = ${status};
`;
    writeFileSync(join(folder, name), script);
    chmodSync(join(folder, name), 0o755);
  }
  return spawnSync(process.execPath, [AUDIT], {
    encoding: "utf8",
    env: { PATH: folder + delimiter + process.env.PATH },
  });
}

test("when both databases answered and know of nothing, it says so", () => {
  const run = audit(DENY.clean, NPM.clean);
  assert.equal(run.status, 0, run.stdout + run.stderr);
  assert.equal(run.stdout.match(/nothing is known against any of them/g).length, 2);
});

test("what is known is listed", () => {
  const run = audit(DENY.found, NPM.found);
  assert.equal(run.status, 1, run.stderr);
  assert.match(run.stdout, /vulnerability: url 2\.5\.8 Made up RUSTSEC-2026-9999/);
  assert.match(run.stdout, /high: left <2 Made up too/);
  assert.doesNotMatch(run.stdout, /nothing is known/);
});

test("a database that does not answer is never reported as an all-clear", () => {
  for (const [deny, npm, why] of [
    [DENY.unreachable, NPM.clean, /failed to fetch advisory database/],
    [DENY.withoutIndex, NPM.clean, /unable to check for yanked crates/],
    [DENY.silent, NPM.clean, /Crates/],
    [DENY.clean, NPM.unreachable, /405 Method Not Allowed/],
    [DENY.clean, NPM.offline, /ENOTFOUND/],
    [DENY.clean, NPM.silent, /npm/],
    [DENY.unreachable, NPM.unreachable, /405/],
  ]) {
    const run = audit(deny, npm);
    assert.equal(run.status, 3, run.stdout + run.stderr);
    assert.match(run.stdout, why);
    assert.match(run.stdout, /NOT CHECKED: the advisory database did not answer/);
    const answered = [deny, npm].filter((tool) => tool === DENY.clean || tool === NPM.clean).length;
    assert.equal((run.stdout.match(/nothing is known/g) ?? []).length, answered);
  }
  const both = audit(DENY.found, NPM.unreachable);
  assert.equal(both.status, 1, "what is known counts more than what is not");
  assert.match(both.stdout, /NOT CHECKED/);
});
