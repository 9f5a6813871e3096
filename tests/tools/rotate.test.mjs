// tools/rotate-signing-key.mjs: on a .dev.vars of its own, and against a stand-in for wrangler (an executable of that
// name, first on PATH) that plays a deployed Worker: its secrets, and what the serving versions were deployed with.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseEnv } from "node:util";
import { kidOf, newSigningKey } from "../../tools/keys.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const HOUR_MS = 3_600_000;
const config = (slot) => `[vars]\n# Which signs.\nSIGNING_KEY_ACTIVE = "${slot}"\nPUBLIC_HEALTH = "true"\n`;

const FAKE_WRANGLER = `#!/usr/bin/env node
const fs = require("node:fs");
const file = process.env.FAKE_ACCOUNT;
const account = JSON.parse(fs.readFileSync(file, "utf8"));
const args = process.argv.slice(2);
account.calls.push(args.join(" "));
const fail = (text) => { console.error(text); process.exitCode = 1; };
const commands = {
  "whoami --json": () => console.log(JSON.stringify({ loggedIn: true, accounts: [{ id: "a", name: "A" }] })),
  "deployments status --json": () => {
    if (!account.deployment) return fail("This Worker does not exist on your account. [code: 10007]");
    const versions = account.deployment.slots.map((slot, i) => ({ version_id: "version-" + i, percentage: 100 }));
    console.log(JSON.stringify({ created_on: account.deployment.created_on, versions }));
  },
  "versions view": () => {
    const slot = account.deployment.slots[Number(args[2].split("-")[1])];
    const plain = slot ? [{ type: "plain_text", name: "SIGNING_KEY_ACTIVE", text: slot }] : [];
    const secrets = Object.keys(account.secrets).map((name) => ({ type: "secret_text", name }));
    console.log(JSON.stringify({ resources: { bindings: [...plain, ...secrets] } }));
  },
  "secret put": () => {
    if (account.putFails) return fail("no");
    account.secrets[args[2]] = fs.readFileSync(0, "utf8");
    account.deployment.created_on = new Date().toISOString(); // a new secret is a new deployment
  },
};
process.on("exit", () => fs.writeFileSync(file, JSON.stringify(account)));
commands[Object.keys(commands).find((known) => args.join(" ").startsWith(known))]();
`;

function setUp({ toml = config("1"), vars, account } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "rotate-test-"));
  after(() => rmSync(folder, { recursive: true }));
  const at = (name) => join(folder, name);
  writeFileSync(at("wrangler"), FAKE_WRANGLER);
  chmodSync(at("wrangler"), 0o755);
  writeFileSync(at("wrangler.toml"), toml);
  if (vars !== undefined) writeFileSync(at(".dev.vars"), vars, { mode: 0o644 });
  const deployment = { slots: ["1"], created_on: new Date(Date.now() - HOUR_MS).toISOString() };
  const initial = { calls: [], secrets: { SIGNING_KEY: "the one that signs" }, deployment, ...account };
  writeFileSync(at("account.json"), JSON.stringify(initial));
  const readAccount = () => JSON.parse(readFileSync(at("account.json"), "utf8"));
  return {
    at,
    files: () => readdirSync(folder).sort(),
    config: () => readFileSync(at("wrangler.toml"), "utf8"),
    vars: () => readFileSync(at(".dev.vars"), "utf8"),
    account: readAccount,
    change: (changes) => writeFileSync(at("account.json"), JSON.stringify({ ...readAccount(), ...changes })),
    /** As `wrangler deploy` would: what wrangler.toml says is what is deployed. */
    deploy: (minutesAgo) =>
      writeFileSync(at("account.json"), JSON.stringify({
        ...readAccount(),
        deployment: {
          slots: [/SIGNING_KEY_ACTIVE = "(.)"/.exec(readFileSync(at("wrangler.toml"), "utf8"))[1]],
          created_on: new Date(Date.now() - minutesAgo * 60_000).toISOString(),
        },
      })),
    rotate: (env = {}) => {
      const run = spawnSync(process.execPath, [join(PROJECT, "tools/rotate-signing-key.mjs")], {
        cwd: folder,
        encoding: "utf8",
        env: { PATH: folder + delimiter + process.env.PATH, FAKE_ACCOUNT: at("account.json"), ...env },
      });
      const secrets = [...Object.values(readAccount().secrets), ...(existsSync(at(".dev.vars")) ? Object.values(parseEnv(readFileSync(at(".dev.vars"), "utf8"))) : [])];
      for (const key of secrets.filter((value) => /^(dev|ed25519):/.test(value))) {
        assert.ok(!(run.stdout + run.stderr).includes(key.split(":")[1]), "a key is printed");
        assert.ok(!readAccount().calls.some((call) => call.includes(key.split(":")[1])), "a key is an argument");
      }
      return run;
    },
  };
}

const PRODUCTION = { ENVIRONMENT: "production" };

test("kids are those of the Worker: the key of RFC 8037, appendix A", () => {
  assert.equal(kidOf("dev:nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
  for (const bad of [undefined, "", "dev:", "dev:AAAA", "hs256:nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"]) assert.equal(kidOf(bad), undefined);
});

describe("locally", () => {
  const first = newSigningKey("dev");
  const VARS = `# mine\nSIGNING_KEY="${first}"\nSIGNING_KEY_ACTIVE="1"\n\nBOOTSTRAP_ADMIN_PASSWORD='it is $1 = "mine"'\n`;

  test("a fresh key goes into the other slot and signs, and nothing else changes", () => {
    const world = setUp({ vars: VARS });
    const run = world.rotate();
    assert.equal(run.status, 0, run.stderr);
    const vars = parseEnv(world.vars());
    assert.equal(vars.SIGNING_KEY, first);
    assert.match(vars.SIGNING_KEY_2, /^dev:[A-Za-z0-9_-]{43}$/);
    assert.equal(world.vars(), `${VARS.replace('ACTIVE="1"', 'ACTIVE="2"')}SIGNING_KEY_2="${vars.SIGNING_KEY_2}"\n`);
    for (const key of [first, vars.SIGNING_KEY_2]) assert.ok(run.stdout.includes(kidOf(key)), run.stdout);
    assert.equal(statSync(world.at(".dev.vars")).mode & 0o777, 0o600);
    assert.deepEqual(world.files(), [".dev.vars", "account.json", "wrangler", "wrangler.toml"], "nothing is left over");
    assert.deepEqual([world.account().calls, world.config()], [[], config("1")], "production is not touched");

    // And back: the first key is the one that goes.
    assert.equal(world.rotate({ ENVIRONMENT: "development" }).status, 0);
    const next = parseEnv(world.vars());
    assert.deepEqual([next.SIGNING_KEY_ACTIVE, next.SIGNING_KEY_2], ["1", vars.SIGNING_KEY_2]);
    assert.notEqual(next.SIGNING_KEY, first);
  });

  test("without a slot of its own .dev.vars has that of wrangler.toml", () => {
    const world = setUp({ toml: config("2"), vars: `SIGNING_KEY_2=${first}` });
    assert.equal(world.rotate().status, 0);
    const vars = parseEnv(world.vars());
    assert.equal(vars.SIGNING_KEY_ACTIVE, "1");
    assert.equal(vars.SIGNING_KEY_2, first);
    assert.match(vars.SIGNING_KEY, /^dev:/);
  });

  test("what makes no sense is said and not touched", () => {
    assert.match(setUp().rotate().stderr, /no \.dev\.vars.*make secrets/);
    const odd = setUp({ vars: 'SIGNING_KEY_ACTIVE="3"\n' });
    assert.match(odd.rotate().stderr, /must be "1" or "2"/);
    assert.equal(odd.vars(), 'SIGNING_KEY_ACTIVE="3"\n');
    const typo = setUp({ vars: VARS });
    const run = typo.rotate({ ENVIRONMENT: "prod" });
    assert.equal(run.status, 1);
    assert.match(run.stderr, /not "prod"/);
    assert.equal(typo.vars(), VARS);
    const broken = setUp({ vars: 'SIGNING_KEY="rubbish"\n' });
    assert.match(broken.rotate().stdout, /SIGNING_KEY +kid - \(no readable key/);
  });
});

describe("in production", () => {
  test("a fresh key goes into the slot that does not sign, then wrangler.toml is written", () => {
    const world = setUp();
    const run = world.rotate(PRODUCTION);
    assert.equal(run.status, 0, run.stderr);
    const { calls, secrets } = world.account();
    assert.deepEqual(calls, ["whoami --json", "deployments status --json", "versions view version-0 --json", "secret put SIGNING_KEY_2"]);
    assert.equal(secrets.SIGNING_KEY, "the one that signs");
    assert.match(secrets.SIGNING_KEY_2, /^ed25519:[A-Za-z0-9_-]{43}$/);
    assert.equal(world.config(), config("2"));
    assert.ok(run.stdout.includes(kidOf(secrets.SIGNING_KEY_2)));
    assert.match(run.stdout, /Wait 5 minutes[^]*make deploy[^]*within 15 minutes/);
  });

  test("a rotation that waits for its deploy is not begun again", () => {
    const world = setUp();
    world.rotate(PRODUCTION);
    const before = world.account().secrets;
    for (const env of [PRODUCTION, { ...PRODUCTION, NOW: "1" }]) {
      const again = world.rotate(env);
      assert.equal(again.status, 1);
      assert.match(again.stderr, /nothing was changed[^]*`make deploy` is all that is left/);
    }
    assert.deepEqual(world.account().secrets, before);
    assert.equal(world.config(), config("2"));
  });

  test("after the deploy the next rotation overwrites the old key, once its tokens have ended", () => {
    const world = setUp();
    world.rotate(PRODUCTION);
    const second = world.account().secrets.SIGNING_KEY_2;
    world.deploy(14);
    const early = world.rotate(PRODUCTION);
    assert.equal(early.status, 1);
    assert.match(early.stderr, /14 minutes old[^]*NOW=1/);
    assert.equal(world.account().secrets.SIGNING_KEY, "the one that signs");
    world.deploy(15);
    assert.equal(world.rotate(PRODUCTION).status, 0);
    assert.match(world.account().secrets.SIGNING_KEY, /^ed25519:/);
    assert.equal(world.account().secrets.SIGNING_KEY_2, second, "the key that signs");
    assert.equal(world.config(), config("1"));
    world.deploy(0);
    assert.equal(world.rotate({ ...PRODUCTION, NOW: "1" }).status, 0, "a leaked key is overwritten at once");
    assert.notEqual(world.account().secrets.SIGNING_KEY_2, second);
  });

  test("interrupted at any step, it can be run again", () => {
    const world = setUp({ account: { putFails: true } });
    const failed = world.rotate(PRODUCTION);
    assert.equal(failed.status, 1);
    assert.match(failed.stderr, /`wrangler secret put SIGNING_KEY_2` failed/);
    assert.equal(world.config(), config("1"), "wrangler.toml comes after the key");
    world.change({ putFails: false });
    assert.equal(world.rotate(PRODUCTION).status, 0);

    // The key was put and wrangler.toml was not written: the key has signed nothing and may be replaced.
    writeFileSync(world.at("wrangler.toml"), config("1"));
    const put = world.account().secrets;
    assert.match(world.rotate(PRODUCTION).stderr, /0 minutes old/);
    assert.equal(world.rotate({ ...PRODUCTION, NOW: "1" }).status, 0);
    assert.equal(world.account().secrets.SIGNING_KEY, put.SIGNING_KEY, "the key that signs");
    assert.equal(world.config(), config("2"));
  });

  test("after a rollback the slot that really signs is kept", () => {
    // Rolled back to a version from before the rotation, which has no second key.
    const world = setUp({ toml: config("2") });
    assert.equal(world.rotate(PRODUCTION).status, 0);
    assert.equal(world.account().secrets.SIGNING_KEY, "the one that signs");
    assert.match(world.account().secrets.SIGNING_KEY_2, /^ed25519:/);
    assert.equal(world.config(), config("2"));
  });

  test("nothing is touched where it is not clear what signs", () => {
    const deployment = (slots) => ({ slots, created_on: new Date(0).toISOString() });
    for (const [what, account, toml] of [
      [/make deploy/, { deployment: null }],
      [/Several versions/, { deployment: deployment(["1", "2"]) }],
      [/in the deployed version it is neither/, { deployment: deployment(["one"]) }],
      [/in wrangler\.toml it is neither/, {}, config("")],
      [/has no line SIGNING_KEY_ACTIVE/, {}, "[vars]\n"],
    ]) {
      const world = setUp({ account, toml });
      const run = world.rotate(PRODUCTION);
      assert.equal(run.status, 1, run.stdout);
      assert.match(run.stderr, what);
      assert.deepEqual(world.account().secrets, { SIGNING_KEY: "the one that signs" });
      assert.equal(world.config(), toml ?? config("1"));
    }
    // Two versions that agree, one deployed before the variable was there.
    const agreeing = setUp({ account: { deployment: deployment(["1", null]) } });
    assert.equal(agreeing.rotate(PRODUCTION).status, 0);
  });
});
