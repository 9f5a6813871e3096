// A fresh signing key: `make rotate-signing-key`, for .dev.vars or, with ENVIRONMENT=production, for the deployed Worker.
// It goes into the slot that does not sign. The key that signs is never touched: nobody can read it back to keep a copy.
import { readFileSync, statSync } from "node:fs";
import { parseEnv } from "node:util";
import { ACTIVE, SLOTS, activeSlot, kidOf, newSigningKey, replaceFile } from "./keys.mjs";
import { CONFIG, Stop, checkAccount, done, orStop, step, wrangler } from "./wrangler.mjs";

const LOCAL = ".dev.vars";
// As long as an access token lives (src/auth/token.rs), and as the JWKS may be kept (its max-age).
const TOKEN_MINUTES = 15;
const JWKS_MINUTES = 5;

const { ENVIRONMENT: environment = "", NOW: now = "" } = process.env;

await orStop(() => {
  if (environment === "production") return rotateDeployed();
  if (["", "development"].includes(environment)) return rotateLocal();
  throw new Stop(`ENVIRONMENT is "production" or not given, not "${environment}".`);
});

// ---- .dev.vars -----------------------------------------------------------------------------------

/** One write: the new key signs as soon as the server has read it. */
function rotateLocal() {
  const text = readOrStop(LOCAL, "Run `make secrets` first: it makes the file with its first key.");
  const vars = parseEnv(text);
  const active = known(vars[ACTIVE] ?? slotOfConfig(), LOCAL);
  const next = other(active);
  const key = newSigningKey("dev");
  replaceFile(LOCAL, setVariables(text, { [SLOTS[next]]: key, [ACTIVE]: next }), 0o600);
  console.log(`Slot ${next} signs now, slot ${active} still verifies:`);
  console.log(`  ${SLOTS[next].padEnd(13)}  kid ${kidOf(key)}  (new)`);
  console.log(`  ${SLOTS[active].padEnd(13)}  kid ${kidOf(vars[SLOTS[active]]) ?? "- (no readable key: correct or delete this line of .dev.vars)"}`);
  // wrangler reads the file when it starts and does not watch it.
  console.log(`Restart a running \`make dev\`. Tokens signed with the old key are good until they expire, within ${TOKEN_MINUTES} minutes.`);
}

function setVariables(text, values) {
  for (const [name, value] of Object.entries(values)) {
    const line = new RegExp(`^(\\s*(?:export\\s+)?)${name}\\s*=.*$`, "gm");
    const set = `${name}="${value}"`;
    if (line.test(text)) text = text.replace(line, (_, start) => start + set);
    else text += `${text === "" || text.endsWith("\n") ? "" : "\n"}${set}\n`;
  }
  return text;
}

// ---- the deployed Worker -------------------------------------------------------------------------

/**
 * First the secret, then wrangler.toml. Wherever this is interrupted, the deployed version signs with the slot it signed
 * with before, and a key that another run overwrites has signed nothing. Which slot that is says Cloudflare and not
 * wrangler.toml, which is ahead of it until the deploy.
 */
function rotateDeployed() {
  const config = readOrStop(CONFIG, "Run this in the project's folder.");
  const wanted = known(slotOfConfig(), CONFIG);
  if (activeSlot(config) === undefined) throw new Stop(`${CONFIG} has no line ${ACTIVE} = "1" under [vars].`);
  checkAccount();

  step("What is deployed");
  const { active, filled, minutes } = deployed();
  const next = other(active);
  done(`slot ${active} signs`);
  if (wanted === next && filled.includes(SLOTS[next])) {
    throw new Stop(`${CONFIG} has slot ${next} sign already, and a key is in it: nothing was changed.
Either a rotation was begun and \`make deploy\` is all that is left of it, or your ${CONFIG} is out of date:
then set ${ACTIVE} = "${active}" in it and run this again.`);
  }
  if (filled.includes(SLOTS[next]) && minutes < TOKEN_MINUTES && now !== "1") {
    throw new Stop(`The last change of the deployed Worker is ${minutes} minutes old. If it was a rotation, tokens signed by
slot ${next} are still in use, and a new key there would end them: nothing was changed.
Wait until it is ${TOKEN_MINUTES} minutes old, or say NOW=1 (the slot's key has leaked, or that change was no rotation).`);
  }

  step("A new key");
  const key = newSigningKey("ed25519");
  wrangler(["secret", "put", SLOTS[next]], { input: key });
  done(`in slot ${next} (${SLOTS[next]}), kid ${kidOf(key)}`);
  if (wanted !== next) {
    replaceFile(CONFIG, config.replace(new RegExp(`^${ACTIVE}\\s*=.*$`, "m"), `${ACTIVE} = "${next}"`), statSync(CONFIG).mode & 0o777);
  }
  done(`${CONFIG}: ${ACTIVE} = "${next}" (commit it)`);

  console.log(`
Both keys are in /.well-known/jwks.json now, and slot ${active} goes on signing. What is left:
  1. Wait ${JWKS_MINUTES} minutes: so long others may keep the list of keys they have.
  2. make deploy: slot ${next} signs from then on.
Tokens signed by slot ${active} are good until they expire, within ${TOKEN_MINUTES} minutes of that deploy; logins go on.
The key in slot ${active} stays valid until the next rotation overwrites it.`);
}

/** Which slot signs in the version that serves, which secrets it has, and how old the last change is. */
function deployed() {
  const status = wrangler(["deployments", "status", "--json"], { mayFail: true });
  if (status.status !== 0) {
    throw new Stop(`Cloudflare does not say what is deployed. If nothing is: \`make deploy\` makes the first key.\n${status.stdout}${status.stderr}`);
  }
  const deployment = JSON.parse(status.stdout);
  const versions = deployment.versions.map(({ version_id: id }) => JSON.parse(wrangler(["versions", "view", id, "--json"]).stdout).resources.bindings);
  const slots = versions.map((bindings) => bindings.find(({ name }) => name === ACTIVE)?.text ?? "1");
  if (new Set(slots).size !== 1) {
    throw new Stop("Several versions are deployed and sign with different slots. Finish that deployment first (`make deploy`).");
  }
  return {
    active: known(slots[0], "the deployed version"),
    filled: versions.flat().filter(({ type }) => type === "secret_text").map(({ name }) => name),
    minutes: Math.floor((Date.now() - Date.parse(deployment.created_on)) / 60_000),
  };
}

// ---- both ----------------------------------------------------------------------------------------

function readOrStop(path, hint) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    throw new Stop(`There is no ${path}. ${hint}`);
  }
}

function slotOfConfig() {
  return activeSlot(readOrStop(CONFIG, "Run this in the project's folder.")) ?? "1";
}

function known(slot, where) {
  if (!(slot in SLOTS)) throw new Stop(`${ACTIVE} must be "1" or "2", and in ${where} it is neither.`);
  return slot;
}

function other(slot) {
  return slot === "1" ? "2" : "1";
}
