// Tables, and the facts of the machine without which no figure means anything.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { ohaVersion } from "./oha.mjs";

export function machine() {
  const require = (name) => JSON.parse(readFileSync(new URL(`../../node_modules/${name}/package.json`, import.meta.url), "utf8")).version;
  return [
    `${availableParallelism()} cores (${cpus()[0].model.trim()}), shared by the load tool and the runtime; load average before the run ${loadavg()[0].toFixed(1)}`,
    `Node ${process.versions.node}, workerd ${require("workerd")}, miniflare ${require("miniflare")}, oha ${ohaVersion()}`,
  ];
}

/** Starts to watch the cores; the function it returns tells what share of their time they were idle. */
export function watchCores() {
  const read = () => cpus().reduce(([idle, all], { times }) => [idle + times.idle, all + Object.values(times).reduce((a, b) => a + b)], [0, 0]);
  const [idleBefore, allBefore] = read();
  return () => {
    const [idle, all] = read();
    return (idle - idleBefore) / (all - allBefore);
  };
}

/** The revision that was measured, where git knows it. */
export function revision() {
  try {
    const git = (...args) => execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    return `${git("rev-parse", "--short", "HEAD")}${git("status", "--porcelain", "--", "src", "Cargo.lock") ? " with changes" : ""}`;
  } catch {
    return "unknown";
  }
}

/** Columns as wide as they must be; the first to the left, the others to the right. */
export function table(head, rows) {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  const line = (row) => row.map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join("  ").trimEnd();
  return [line(head), widths.map((width) => "-".repeat(width)).join("  "), ...rows.map(line)].join("\n");
}

/** Prints the text and keeps it under tests/load/results. */
export function publish(name, text) {
  const folder = new URL("results/", import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL(name, folder), `${text}\n`);
  console.log(`\n${text}\n\nWritten to tests/load/results/${name}.`);
}

/** A positive number from the environment. */
export function setting(name, otherwise) {
  const value = Number(process.env[name] ?? otherwise);
  if (!(value > 0)) throw new Error(`${name}: a number above 0 expected, got "${process.env[name]}"`);
  return value;
}

export const integer = (value) => Math.round(value).toLocaleString("en-US");
export const ms = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(1));
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.001 ? 3 : 2)} %`;
