// From a Cloudflare account to a running Worker: `make deploy`. Each step looks first and skips what is
// there, so the script can be run again after a failure and for every later release.
// What it does with wrangler, a person can do by hand: README, "Deployment".
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ACTIVE, SLOTS, activeSlot, newChannelKey, newPassword, newSigningKey } from "./keys.mjs";
import { CONFIG, Stop, checkAccount, done, failed, orStop, step, wrangler } from "./wrangler.mjs";

const WORKER = "devskyy-orchestration";
const DATABASE = "devskyy";
const NAMESPACE = "devskyy-orchestration-kv";
const BUCKET = "devskyy-backups";
// What wrangler.toml holds until the real ids are known.
const NO_DATABASE_ID = "00000000-0000-0000-0000-000000000000";
const NO_NAMESPACE_ID = "00000000000000000000000000000000";

await orStop(() => {
  checkAccount();
  createDatabase();
  createNamespace();
  createBucket();
  step("Migrations");
  wrangler(["d1", "migrations", "apply", DATABASE, "--remote"], { show: true });
  const secrets = missingSecrets();
  const url = deployWith(secrets);
  sayHowToLogIn(url, secrets);
});

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

/** A bucket is bound by its name, so there is no id to remember. */
function createBucket() {
  step("R2 bucket");
  if (wrangler(["r2", "bucket", "info", BUCKET], { mayFail: true }).status === 0) return done(`${BUCKET} is there`);
  wrangler(["r2", "bucket", "create", BUCKET]);
  done(`${BUCKET} created`);
}

/** Written at once: should a later step fail, the next run goes on from here. */
function remember(placeholder, id, what) {
  if (!/^[0-9a-f-]{32,36}$/.test(id ?? "")) throw new Stop(`wrangler created the ${what} but does not list it.`);
  writeFileSync(CONFIG, readFileSync(CONFIG, "utf8").replace(placeholder, id));
  done(`${id}, written to ${CONFIG} (commit it)`);
}

/** The secrets this deploy has to bring: all of them the first time, later what a new version asks for. */
function missingSecrets() {
  step("Secrets");
  const list = wrangler(["secret", "list", "--format", "json"], { mayFail: true });
  // A Worker that does not exist yet has no list.
  if (list.status !== 0 && !/not found|does not exist/i.test(list.stdout + list.stderr)) failed(list, ["secret", "list"]);
  const present = list.status === 0 ? JSON.parse(list.stdout).map(({ name }) => name) : [];

  // Its loss costs the secrets of all channels, so one that is there stays for ever.
  const channelKey = present.includes("CHANNEL_KEY") ? {} : { CHANNEL_KEY: newChannelKey() };
  const signing = SLOTS[slotThatSigns()];
  if (present.includes(signing)) {
    // The first administrator's secrets matter only until he has been created and may be deleted after
    // that, so a Worker that is set up does not get them anew: a login printed now would not work.
    done(`${signing} is there${"CHANNEL_KEY" in channelKey ? ", made CHANNEL_KEY" : ""}`);
    if (!present.includes("BOOTSTRAP_ADMIN_PASSWORD")) {
      console.log("  No first administrator is set. If nobody can log in yet: `npx wrangler secret put` BOOTSTRAP_ADMIN_USERNAME and BOOTSTRAP_ADMIN_PASSWORD.");
    }
    return channelKey;
  }
  const others = Object.values(SLOTS).filter((name) => present.includes(name));
  if (others.length > 0) {
    // A fresh key made here would sign at once, before anybody who keeps our public keys can know it.
    throw new Stop(`${CONFIG} has slot ${slotThatSigns()} sign, but the Worker has ${others.join()} and no ${signing}.
Set ${ACTIVE} in ${CONFIG} to the slot that has a key, or put one there: node tools/signing-key.mjs | npx wrangler secret put ${signing}`);
  }
  const candidates = {
    [signing]: () => newSigningKey("ed25519"),
    CHANNEL_KEY: newChannelKey,
    BOOTSTRAP_ADMIN_USERNAME: () => process.env.BOOTSTRAP_ADMIN_USERNAME || "admin",
    BOOTSTRAP_ADMIN_PASSWORD: () => process.env.BOOTSTRAP_ADMIN_PASSWORD || newPassword(),
  };
  const missing = Object.entries(candidates).filter(([name]) => !present.includes(name));
  done(`made ${missing.map(([name]) => name).join(", ")}`);
  return Object.fromEntries(missing.map(([name, make]) => [name, make()]));
}

function slotThatSigns() {
  const slot = activeSlot(readFileSync(CONFIG, "utf8")) ?? "1";
  if (!(slot in SLOTS)) throw new Stop(`${ACTIVE} in ${CONFIG} must be "1" or "2".`);
  return slot;
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
