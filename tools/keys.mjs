// Fresh random secrets, in the forms the Worker reads, and the two slots of its signing keys.
import { createHash, createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import { renameSync, rmSync, writeFileSync } from "node:fs";

/** The secret of each slot, and the variable that says which slot signs. */
export const SLOTS = { 1: "SIGNING_KEY", 2: "SIGNING_KEY_2" };
export const ACTIVE = "SIGNING_KEY_ACTIVE";

/** A signing key: 32 random bytes, after the word that says where it may be used. */
export function newSigningKey(scheme) {
  return `${scheme}:${randomBytes(32).toString("base64url")}`;
}

/** The `kid` of a signing key, as in its tokens and in the JWKS (RFC 7638); undefined where it is no key. */
export function kidOf(signingKey) {
  const seed = Buffer.from(/^(?:dev|ed25519):([A-Za-z0-9_-]{43})=?$/.exec(signingKey?.trim() ?? "")?.[1] ?? "", "base64url");
  if (seed.length !== 32) return undefined;
  // RFC 8410: an Ed25519 private key in PKCS #8 is this prefix and the seed.
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  const { x } = createPublicKey(createPrivateKey({ key: der, format: "der", type: "pkcs8" })).export({ format: "jwk" });
  return createHash("sha256").update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest("base64url");
}

/** What seals the secrets of notification channels: 32 random bytes in base64. */
export function newChannelKey() {
  return randomBytes(32).toString("base64");
}

/** 24 characters that need no quoting in a shell, a URL or JSON: 18 random bytes, 144 bits. */
export function newPassword() {
  return randomBytes(18).toString("base64url");
}

/** What a line `SIGNING_KEY_ACTIVE = "…"` of wrangler.toml says; undefined where there is none. */
export function activeSlot(toml) {
  return new RegExp(`^${ACTIVE}\\s*=\\s*"([^"]*)"`, "m").exec(toml)?.[1];
}

/** A reader finds the old file or the new one, whole, whenever this is interrupted. */
export function replaceFile(path, text, mode) {
  const next = `${path}.${process.pid}.new`;
  try {
    writeFileSync(next, text, { flag: "wx", mode });
    renameSync(next, path);
  } catch (error) {
    rmSync(next, { force: true });
    throw error;
  }
}
