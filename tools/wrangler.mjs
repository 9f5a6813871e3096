// What the scripts that work on a Cloudflare account share: running wrangler, and stopping with a plain word.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

export const CONFIG = "wrangler.toml";

/** An end that the user can do something about: its message is all he needs to see. */
export class Stop extends Error {}

/** Runs the script's work; a Stop is told without a trace of calls, and the exit code is 1. */
export async function orStop(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    console.error(`\n${error.message}`);
    process.exitCode = 1;
  }
}

export function checkAccount() {
  step("Account");
  const whoami = wrangler(["whoami", "--json"], { mayFail: true });
  if (whoami.status !== 0) {
    if (!/"loggedIn":\s*false/.test(whoami.stdout)) failed(whoami, ["whoami"]);
    throw new Stop("Not logged in to Cloudflare. Run `npx wrangler login`, or set CLOUDFLARE_API_TOKEN, and try again.");
  }
  const { accounts = [] } = JSON.parse(whoami.stdout);
  const isChosen = process.env.CLOUDFLARE_ACCOUNT_ID || /^account_id\s*=/m.test(readFileSync(CONFIG, "utf8"));
  if (accounts.length > 1 && !isChosen) {
    const list = accounts.map(({ id, name }) => `  ${id}  ${name}`).join("\n");
    throw new Stop(`This login has several accounts:\n${list}\nSet CLOUDFLARE_ACCOUNT_ID to one of them and try again.`);
  }
  done("logged in");
}

/**
 * `show`: on the user's own terminal, where wrangler may also ask something. Otherwise the output is ours to read.
 * `input`: what wrangler reads; a secret goes this way, as arguments can be seen by everybody on the machine.
 */
export function wrangler(args, { show = false, mayFail = false, input, env = {} } = {}) {
  const result = spawnSync("wrangler", args, {
    stdio: show ? "inherit" : [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    input,
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  if (result.error) throw new Stop(`Cannot start wrangler (${result.error.message}). Use the make target.`);
  if (result.status !== 0 && !mayFail) failed(result, args);
  return result;
}

export function failed({ stdout, stderr }, args) {
  const command = args.join(" ").replace(/ --.*/, ""); // without options: one is the path of a file that is gone
  throw new Stop(`\`wrangler ${command}\` failed; run the same again once that is solved.\n${stdout ?? ""}${stderr ?? ""}`);
}

export function step(name) {
  console.log(`\n${name}`);
}

export function done(text) {
  console.log(`  ${text}`);
}
