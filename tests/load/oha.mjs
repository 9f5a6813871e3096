// Runs oha, the load tool, and returns every single request it made: percentiles of several runs can then be
// taken from all of their requests together, where averaging them would be wrong.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

process.removeAllListeners("warning"); // node:sqlite announces itself as experimental
const { DatabaseSync } = await import("node:sqlite");

// The Makefile says which version and where; without it, the one in .tools.
const OHA = process.env.OHA ?? installed();
export const ohaVersion = () => (OHA === undefined ? "missing" : execFileSync(OHA, ["--version"], { encoding: "utf8" }).trim().split(" ")[1]);

function installed() {
  const tools = fileURLToPath(new URL("../../.tools", import.meta.url));
  const folder = existsSync(tools) ? readdirSync(tools).find((name) => name.startsWith("oha-")) : undefined;
  return folder && join(tools, folder, "bin/oha");
}

/**
 * @param options.urls         one, or several to choose from at random for each request
 * @param options.perSecond    requests a second in all; without it, each connection asks as soon as it was answered
 * @returns { requests: [{ path, ms, status }], failed, reasons, seconds }
 */
export async function load({ urls, seconds, connections, perSecond, method = "GET", headers = {}, body }) {
  if (OHA === undefined || !existsSync(OHA)) throw new Error("oha, the load tool, is not installed: run this through make");
  const folder = mkdtempSync(join(tmpdir(), "load-"));
  try {
    const database = join(folder, "requests.db");
    const report = join(folder, "report.json");
    const args = ["--no-tui", "--output-format", "json", "--output", report, "--db-url", database];
    // One thread of its own: the runtime has one too, and a machine of two cores can give each its own.
    args.push("--worker-threads", "1", "-z", `${seconds}s`, "-w", "-c", String(connections), "-m", method);
    // With a rate, a request counts from when it should have been sent: waiting for a free connection is
    // part of its time, or a stall would hide the requests it held up.
    if (perSecond) args.push("-q", String(perSecond), "--latency-correction");
    for (const [name, value] of Object.entries(headers)) args.push("-H", `${name}: ${value}`);
    if (body !== undefined) {
      writeFileSync(join(folder, "body"), body);
      args.push("-D", join(folder, "body"));
    }
    if (urls.length === 1) args.push(urls[0]);
    else {
      writeFileSync(join(folder, "urls"), `${urls.join("\n")}\n`);
      args.push("--urls-from-file", join(folder, "urls"));
    }
    await run(args, seconds + 60);
    return read(database, JSON.parse(readFileSync(report, "utf8")));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(args, limitSeconds) {
  return new Promise((resolve, reject) => {
    const tool = spawn(OHA, args, { stdio: ["ignore", "ignore", "pipe"] });
    let complaints = "";
    tool.stderr.on("data", (chunk) => (complaints += chunk));
    const limit = setTimeout(() => tool.kill("SIGKILL"), limitSeconds * 1_000);
    tool.on("error", reject);
    tool.on("close", (code, signal) => {
      clearTimeout(limit);
      if (code === 0) resolve();
      else reject(new Error(`oha ended with ${signal ?? code}: ${complaints.trim()}`));
    });
  });
}

function read(file, report) {
  const database = new DatabaseSync(file, { readOnly: true });
  const requests = database.prepare("SELECT url AS path, duration * 1000 AS ms, status FROM oha").all();
  database.close();
  // The rest got no answer at all.
  const unanswered = Object.entries(report.errorDistribution);
  const refused = requests.filter(({ status }) => status < 200 || status > 299);
  const reasons = new Map(unanswered);
  for (const { status } of refused) reasons.set(`status ${status}`, (reasons.get(`status ${status}`) ?? 0) + 1);
  return {
    requests,
    failed: refused.length + unanswered.reduce((sum, [, count]) => sum + count, 0),
    reasons: Object.fromEntries(reasons),
    seconds: report.summary.total,
  };
}

/** Several runs as one. */
export function together(runs) {
  const reasons = {};
  for (const run of runs) for (const [reason, count] of Object.entries(run.reasons)) reasons[reason] = (reasons[reason] ?? 0) + count;
  const total = (field) => runs.reduce((sum, run) => sum + run[field], 0);
  return { requests: runs.flatMap(({ requests }) => requests), failed: total("failed"), reasons, seconds: total("seconds") };
}

/** What the numbers say; times in milliseconds, exact, over all requests that were answered. */
export function describe({ requests, failed, reasons, seconds }) {
  const times = Float64Array.from(requests, ({ ms }) => ms).sort();
  // Nearest rank.
  const at = (q) => (times.length === 0 ? NaN : times[Math.max(0, Math.ceil(q * times.length) - 1)]);
  const unanswered = failed - requests.filter(({ status }) => status < 200 || status > 299).length;
  const sent = requests.length + unanswered;
  return {
    sent,
    perSecond: requests.length / seconds,
    mean: times.reduce((sum, ms) => sum + ms, 0) / times.length,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
    failedShare: sent === 0 ? 1 : failed / sent,
    failed,
    reasons,
  };
}
