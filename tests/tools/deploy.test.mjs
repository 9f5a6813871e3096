// tools/deploy.mjs against a stand-in for wrangler: an executable of that name, first on PATH, which keeps
// the state of a small make-believe account in a file and notes how it was called.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const PLACEHOLDERS = `
database_id = "00000000-0000-0000-0000-000000000000"
id = "00000000000000000000000000000000"
`;

const FAKE_WRANGLER = `#!/usr/bin/env node
const fs = require("node:fs");
const file = process.env.FAKE_ACCOUNT;
const account = JSON.parse(fs.readFileSync(file, "utf8"));
const args = process.argv.slice(2);
account.calls.push(args.filter((arg) => !arg.startsWith("/")).join(" "));

const at = args.indexOf("--secrets-file");
const commands = {
  "whoami --json": () => {
    if (!account.accounts) { console.log('{"loggedIn": false}'); process.exit(1); }
    console.log(JSON.stringify({ loggedIn: true, accounts: account.accounts }));
  },
  "d1 list": () => console.log(JSON.stringify(account.databases)),
  "d1 create": () => account.databases.push({ name: args[2], uuid: "11111111-2222-3333-4444-555555555555" }),
  "kv namespace": () => {
    if (args[2] === "list") console.log(JSON.stringify(account.namespaces));
    else account.namespaces.push({ title: args[3], id: "0123456789abcdef0123456789abcdef" });
  },
  "r2 bucket": () => {
    if (args[2] === "create") account.buckets.push(args[3]);
    else if (!account.buckets.includes(args[3])) { console.error("The specified bucket does not exist."); process.exit(1); }
  },
  "d1 migrations": () => {},
  "secret list": () => {
    if (!account.secrets) { console.error('Worker "devskyy-orchestration" not found.'); process.exit(1); }
    console.log(JSON.stringify(Object.keys(account.secrets).map((name) => ({ name, type: "secret_text" }))));
  },
  "deploy": () => {
    if (account.deployFails) { console.error("no"); process.exit(1); }
    account.secrets = { ...account.secrets, ...(at < 0 ? {} : JSON.parse(fs.readFileSync(args[at + 1], "utf8"))) };
    account.secretsFile = at < 0 ? null : { path: args[at + 1], mode: fs.statSync(args[at + 1]).mode & 0o777 };
    fs.writeFileSync(process.env.WRANGLER_OUTPUT_FILE_PATH,
      '{"type":"wrangler-session"}\\n{"type":"deploy","targets":["https://devskyy-orchestration.example.workers.dev","schedule: * * * * *"]}\\n');
  },
};
const name = Object.keys(commands).find((known) => args.join(" ").startsWith(known));
process.on("exit", () => fs.writeFileSync(file, JSON.stringify(account)));
commands[name]();
`;

/** A folder with a wrangler.toml, the fake wrangler and its account. */
function setUp(account = {}, config = PLACEHOLDERS) {
  const folder = mkdtempSync(join(tmpdir(), "deploy-test-"));
  after(() => rmSync(folder, { recursive: true }));
  const at = (name) => join(folder, name);
  writeFileSync(at("wrangler"), FAKE_WRANGLER);
  chmodSync(at("wrangler"), 0o755);
  writeFileSync(at("wrangler.toml"), config);
  const initial = { accounts: [{ id: "a", name: "A" }], databases: [], namespaces: [], buckets: [], calls: [], ...account };
  writeFileSync(at("account.json"), JSON.stringify(initial));

  return {
    config: () => readFileSync(at("wrangler.toml"), "utf8"),
    account: () => JSON.parse(readFileSync(at("account.json"), "utf8")),
    change: (changes) => writeFileSync(at("account.json"), JSON.stringify({ ...JSON.parse(readFileSync(at("account.json"), "utf8")), ...changes })),
    deploy: (env = {}) =>
      spawnSync(process.execPath, [join(PROJECT, "tools/deploy.mjs")], {
        cwd: folder,
        encoding: "utf8",
        env: { PATH: folder + delimiter + process.env.PATH, FAKE_ACCOUNT: at("account.json"), ...env },
      }),
  };
}

test("a new account gets a database, a namespace, secrets and the Worker, in that order", () => {
  const world = setUp();
  const run = world.deploy();
  assert.equal(run.status, 0, run.stdout + run.stderr);
  const { calls, secrets, secretsFile } = world.account();
  assert.deepEqual(calls, [
    "whoami --json",
    "d1 list --json",
    "d1 create devskyy",
    "d1 list --json",
    "kv namespace list",
    "kv namespace create devskyy-orchestration-kv",
    "kv namespace list",
    "r2 bucket info devskyy-backups",
    "r2 bucket create devskyy-backups",
    "d1 migrations apply devskyy --remote",
    "secret list --format json",
    "deploy --secrets-file",
  ]);
  assert.match(world.config(), /^database_id = "11111111-2222-3333-4444-555555555555"$/m);
  assert.match(world.config(), /^id = "0123456789abcdef0123456789abcdef"$/m);

  assert.match(secrets.SIGNING_KEY, /^ed25519:[A-Za-z0-9_-]{43}$/);
  assert.equal(Buffer.from(secrets.CHANNEL_KEY, "base64").length, 32);
  assert.equal(secrets.BOOTSTRAP_ADMIN_USERNAME, "admin");
  assert.match(secrets.BOOTSTRAP_ADMIN_PASSWORD, /^[A-Za-z0-9_-]{24}$/);
  assert.equal(secretsFile.mode, 0o600);
  assert.throws(() => readFileSync(secretsFile.path), { code: "ENOENT" }, "the secrets stay on disk");

  assert.match(run.stdout, /curl https:\/\/devskyy-orchestration\.example\.workers\.dev\/api\/v1\/auth\/login/);
  assert.ok(run.stdout.includes(secrets.BOOTSTRAP_ADMIN_PASSWORD));
  for (const name of ["SIGNING_KEY", "CHANNEL_KEY"]) assert.ok(!run.stdout.includes(secrets[name]), `${name} is printed`);
});

test("a second run only migrates and deploys, and shows no password", () => {
  const world = setUp();
  world.deploy();
  const before = world.account();
  world.change({ calls: [] });
  const run = world.deploy();
  assert.equal(run.status, 0, run.stderr);
  assert.deepEqual(world.account().calls, ["whoami --json", "r2 bucket info devskyy-backups", "d1 migrations apply devskyy --remote", "secret list --format json", "deploy"]);
  assert.deepEqual(world.account().secrets, before.secrets);
  assert.ok(!run.stdout.includes(before.secrets.BOOTSTRAP_ADMIN_PASSWORD));
});

test("what exists on the account is found, not made again", () => {
  const uuid = "99999999-2222-3333-4444-555555555555";
  const world = setUp({ databases: [{ name: "other", uuid: "x" }, { name: "devskyy", uuid }] });
  assert.equal(world.deploy().status, 0);
  assert.ok(world.config().includes(uuid));
  assert.ok(!world.account().calls.includes("d1 create devskyy"));
});

test("after a failed deploy the next run goes on from there", () => {
  const world = setUp({ deployFails: true });
  const failed = world.deploy();
  assert.equal(failed.status, 1);
  assert.match(failed.stderr, /`wrangler deploy` failed/);
  assert.ok(!failed.stdout.includes("First administrator"), "a login that does not exist is shown");

  world.change({ deployFails: false, calls: [] });
  const run = world.deploy();
  assert.equal(run.status, 0, run.stderr);
  assert.ok(!world.account().calls.includes("d1 create devskyy"));
  assert.ok(run.stdout.includes(world.account().secrets.BOOTSTRAP_ADMIN_PASSWORD));
});

test("an administrator removed on purpose does not come back", () => {
  const world = setUp({ secrets: { SIGNING_KEY: "k", CHANNEL_KEY: "c" } });
  const run = world.deploy();
  assert.equal(run.status, 0, run.stderr);
  assert.deepEqual(world.account().secrets, { SIGNING_KEY: "k", CHANNEL_KEY: "c" });
  assert.match(run.stdout, /No first administrator is set/);
});

test("a Worker from before there were channels gets their key, and no other secret", () => {
  const world = setUp({ secrets: { SIGNING_KEY: "k" } });
  const run = world.deploy();
  assert.equal(run.status, 0, run.stderr);
  assert.deepEqual(Object.keys(world.account().secrets), ["SIGNING_KEY", "CHANNEL_KEY"]);
  assert.equal(world.account().secrets.SIGNING_KEY, "k");
  assert.match(run.stdout, /made CHANNEL_KEY/);
});

test("the secret made is that of the slot that signs, and one slot's key never stands in for the other's", () => {
  const second = `${PLACEHOLDERS}SIGNING_KEY_ACTIVE = "2"\n`;
  const fresh = setUp({}, second);
  assert.equal(fresh.deploy().status, 0);
  assert.deepEqual(Object.keys(fresh.account().secrets), ["SIGNING_KEY_2", "CHANNEL_KEY", "BOOTSTRAP_ADMIN_USERNAME", "BOOTSTRAP_ADMIN_PASSWORD"]);

  const rotated = setUp({ secrets: { SIGNING_KEY: "k", SIGNING_KEY_2: "k" } }, second);
  assert.equal(rotated.deploy().status, 0);
  assert.deepEqual(Object.keys(rotated.account().secrets), ["SIGNING_KEY", "SIGNING_KEY_2", "CHANNEL_KEY"]);

  const empty = setUp({ secrets: { SIGNING_KEY: "k" } }, second);
  const run = empty.deploy();
  assert.equal(run.status, 1);
  assert.match(run.stderr, /has slot 2 sign, but the Worker has SIGNING_KEY and no SIGNING_KEY_2/);
  assert.ok(!empty.account().calls.includes("deploy"));

  const unknown = setUp({}, `${PLACEHOLDERS}SIGNING_KEY_ACTIVE = "3"\n`);
  assert.match(unknown.deploy().stderr, /must be "1" or "2"/);
});

test("the first administrator's name and password can be given", () => {
  const world = setUp();
  const run = world.deploy({ BOOTSTRAP_ADMIN_USERNAME: "ada", BOOTSTRAP_ADMIN_PASSWORD: "it's a long one" });
  assert.equal(run.status, 0, run.stderr);
  assert.equal(world.account().secrets.BOOTSTRAP_ADMIN_USERNAME, "ada");
  assert.ok(run.stdout.includes(`-d '{"username":"ada","password":"it'\\''s a long one"}'`), run.stdout);
});

test("without a login nothing is touched", () => {
  const world = setUp({ accounts: null });
  const run = world.deploy();
  assert.equal(run.status, 1);
  assert.match(run.stderr, /wrangler login/);
  assert.deepEqual(world.account().calls, ["whoami --json"]);
  assert.equal(world.config(), PLACEHOLDERS);
});

test("with several accounts one has to be named", () => {
  const accounts = [{ id: "a", name: "A" }, { id: "b", name: "B" }];
  const world = setUp({ accounts });
  const run = world.deploy();
  assert.equal(run.status, 1);
  assert.match(run.stderr, /CLOUDFLARE_ACCOUNT_ID/);
  assert.equal(world.deploy({ CLOUDFLARE_ACCOUNT_ID: "b" }).status, 0);
});

test("wrangler.toml still has the placeholders that the script looks for, or real ids", () => {
  const toml = readFileSync(join(PROJECT, "wrangler.toml"), "utf8");
  assert.match(toml, /^database_id = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"$/m);
  assert.match(toml, /^id = "[0-9a-f]{32}"$/m);
  assert.match(toml, /^SIGNING_KEY_ACTIVE = "[12]"$/m);
  assert.match(toml, /^name = "devskyy-orchestration"$/m);
  assert.match(toml, /^database_name = "devskyy"$/m);
  assert.match(toml, /^bucket_name = "devskyy-backups"$/m);
});
