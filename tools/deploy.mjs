// From a Cloudflare account to a running Worker: `make deploy`. Each step looks first and skips what is
// there, so the script can be run again after a failure and for every later release.
// What it does with wrangler, a person can do by hand: README, "Deployment".
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newPassword, newSigningKey } from "./keys.mjs";

const CONFIG = "wrangler.toml";
const WORKER = "devskyy-orchestration";
const DATABASE = "devskyy";
const NAMESPACE = "devskyy-orchestration-kv";
// What wrangler.toml holds until the real ids are known.
const NO_DATABASE_ID = "00000000-0000-0000-0000-000000000000";
const NO_NAMESPACE_ID = "00000000000000000000000000000000";

class Stop extends Error {}

try {
  checkAccount();
  createDatabase();
  createNamespace();
  step("Migrations");
  wrangler(["d1", "migrations", "apply", DATABASE, "--remote"], { show: true });
  const secrets = missingSecrets();
  const url = deployWith(secrets);
  sayHowToLogIn(url, secrets);
} catch (error) {
  if (!(error instanceof Stop)) throw error;
  console.error(`\n${error.message}`);
  process.exitCode = 1;
}

function checkAccount() {
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

function createDatabase() {
  step("D1 database");
  if (!readFileSync(CONFIG, "utf8").includes(NO_DATABASE_ID)) return done(`its id is in ${CONFIG}`);
  const find = () => JSON.parse(wrangler(["d1", "list", "--json"]).stdout).find(({ name }) => name === DATABASE)?.uuid;
  const id = find() ?? (wrangler(["d1", "create", DATABASE]), find());
  remember(NO_DATABASE_ID, id, "database");
}

function createNamespace() {
  step("KV namespace");
  if (!readFileSync(CONFIG, "utf8").includes(NO_NAMESPACE_ID)) return done(`its id is in ${CONFIG}`);
  const find = () => JSON.parse(wrangler(["kv", "namespace", "list"]).stdout).find(({ title }) => title === NAMESPACE)?.id;
  const id = find() ?? (wrangler(["kv", "namespace", "create", NAMESPACE]), find());
  remember(NO_NAMESPACE_ID, id, "namespace");
}

/** Written at once: should a later step fail, the next run goes on from here. */
function remember(placeholder, id, what) {
  if (!/^[0-9a-f-]{32,36}$/.test(id ?? "")) throw new Stop(`wrangler created the ${what} but does not list it.`);
  writeFileSync(CONFIG, readFileSync(CONFIG, "utf8").replace(placeholder, id));
  done(`${id}, written to ${CONFIG} (commit it)`);
}

/** The secrets this deploy has to bring: all of them the first time, none later. */
function missingSecrets() {
  step("Secrets");
  const list = wrangler(["secret", "list", "--format", "json"], { mayFail: true });
  // A Worker that does not exist yet has no list.
  if (list.status !== 0 && !/not found|does not exist/i.test(list.stdout + list.stderr)) failed(list);
  const present = list.status === 0 ? JSON.parse(list.stdout).map(({ name }) => name) : [];

  if (present.includes("SIGNING_KEY")) {
    // The first administrator's secrets matter only until he has been created and may be deleted after
    // that, so a Worker that is set up does not get them anew: a login printed now would not work.
    done("SIGNING_KEY is there");
    if (!present.includes("BOOTSTRAP_ADMIN_PASSWORD")) {
      console.log("  No first administrator is set. If nobody can log in yet: `npx wrangler secret put` BOOTSTRAP_ADMIN_USERNAME and BOOTSTRAP_ADMIN_PASSWORD.");
    }
    return {};
  }
  const candidates = {
    SIGNING_KEY: () => newSigningKey("ed25519"),
    BOOTSTRAP_ADMIN_USERNAME: () => process.env.BOOTSTRAP_ADMIN_USERNAME || "admin",
    BOOTSTRAP_ADMIN_PASSWORD: () => process.env.BOOTSTRAP_ADMIN_PASSWORD || newPassword(),
  };
  const missing = Object.entries(candidates).filter(([name]) => !present.includes(name));
  done(`made ${missing.map(([name]) => name).join(", ")}`);
  return Object.fromEntries(missing.map(([name, make]) => [name, make()]));
}

/** Deploys with the secrets in the same upload, so that no version runs without them. Returns the Worker's URL. */
function deployWith(secrets) {
  step("Deploy");
  const folder = mkdtempSync(join(tmpdir(), "deploy-")); // only we may read it (mode 0700)
  try {
    const report = join(folder, "report.ndjson");
    const args = ["deploy"];
    if (Object.keys(secrets).length > 0) {
      const file = join(folder, "secrets.json");
      writeFileSync(file, JSON.stringify(secrets), { mode: 0o600 });
      args.push("--secrets-file", file);
    }
    wrangler(args, { show: true, env: { WRANGLER_OUTPUT_FILE_PATH: report } });
    const lines = readFileSync(report, "utf8").trim().split("\n").map((line) => JSON.parse(line));
    const targets = lines.find(({ type }) => type === "deploy")?.targets ?? [];
    return targets.find((target) => target.startsWith("https://")) ?? `https://${WORKER}.YOUR-SUBDOMAIN.workers.dev`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function sayHowToLogIn(url, { BOOTSTRAP_ADMIN_USERNAME: username, BOOTSTRAP_ADMIN_PASSWORD: password }) {
  console.log(`\nDeployed: ${url}\n  curl ${url}/api/v1/orchestration/health`);
  if (password === undefined) return;
  const login = JSON.stringify({ username, password }).replaceAll("'", "'\\''");
  console.log(`
First administrator: ${username} / ${password}
Keep the password now: it is shown this once and cannot be read back from Cloudflare.
  curl ${url}/api/v1/auth/login -H 'content-type: application/json' -d '${login}'`);
}

// ---- running wrangler ----------------------------------------------------------------------------

/** `show`: on the user's own terminal, where wrangler may also ask something. Otherwise the output is ours to read. */
function wrangler(args, { show = false, mayFail = false, env = {} } = {}) {
  const result = spawnSync("wrangler", args, {
    stdio: show ? "inherit" : ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  if (result.error) throw new Stop(`Cannot start wrangler (${result.error.message}). Use \`make deploy\`.`);
  if (result.status !== 0 && !mayFail) failed(result, args);
  return result;
}

function failed({ stdout, stderr }, args = ["secret", "list"]) {
  const command = args.join(" ").replace(/ --.*/, ""); // without options: one is the path of a file that is gone
  throw new Stop(`\`wrangler ${command}\` failed; run \`make deploy\` again once that is solved.\n${stdout ?? ""}${stderr ?? ""}`);
}

function step(name) {
  console.log(`\n${name}`);
}

function done(text) {
  console.log(`  ${text}`);
}
