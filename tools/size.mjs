// How much a deploy would upload. 2 MB gzipped is our own limit, two thirds of Cloudflare's 3 MB (free plan):
// the whole script is loaded before the first request of a new isolate is answered.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const LIMIT_BYTES = 2_000_000;

const folder = mkdtempSync(join(tmpdir(), "size-"));
try {
  // wrangler writes what it did as lines of JSON to this file; its printed text is for people and may change.
  const report = join(folder, "report.ndjson");
  const dryRun = spawnSync("wrangler", ["deploy", "--dry-run", "--outdir", join(folder, "out")], {
    env: { ...process.env, WRANGLER_OUTPUT_FILE_PATH: report },
    encoding: "utf8",
  });
  if (dryRun.status !== 0) throw new Error(`wrangler deploy --dry-run failed:\n${dryRun.stdout}${dryRun.stderr}`);

  const deploy = readFileSync(report, "utf8").trim().split("\n").map((line) => JSON.parse(line)).find((entry) => entry.type === "deploy");
  const { raw_bytes, gzip_bytes } = deploy.bundle_size;
  const kB = (bytes) => `${(bytes / 1000).toFixed(0)} kB`;
  console.log(`Upload: ${kB(raw_bytes)}, gzipped ${kB(gzip_bytes)} of the ${kB(LIMIT_BYTES)} we allow.`);
  if (gzip_bytes >= LIMIT_BYTES) {
    console.error("The Worker has grown past the limit.");
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
