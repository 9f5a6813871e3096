// Makes .dev.vars, the secrets and settings of the local server, unless it is there.
// The administrator's login is printed by the run that makes it and by no other.
import { writeFileSync } from "node:fs";
import { newChannelKey, newPassword, newSigningKey } from "./keys.mjs";

const username = "admin";
const password = newPassword();
const vars = {
  SIGNING_KEY: newSigningKey("dev"),
  SIGNING_KEY_ACTIVE: "1", // its own: the slot in wrangler.toml is that of production
  CHANNEL_KEY: newChannelKey(),
  BOOTSTRAP_ADMIN_USERNAME: username,
  BOOTSTRAP_ADMIN_PASSWORD: password,
  ENVIRONMENT: "development",
  ALLOW_LOOPBACK_PROBES: "true",
  CORS_ALLOWED_ORIGINS: "http://127.0.0.1:8787",
};
const text = Object.entries(vars).map(([name, value]) => `${name}="${value}"\n`).join("");

try {
  // "wx" fails when the file is there: two runs at once cannot overwrite each other's password.
  writeFileSync(".dev.vars", text, { flag: "wx", mode: 0o600 });
  console.log(`Made .dev.vars. First administrator: ${username} / ${password} (shown this once; it stays in .dev.vars)`);
} catch (error) {
  if (error.code !== "EEXIST") throw error;
}
