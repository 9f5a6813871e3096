// Fresh random secrets, in the forms the Worker reads.
import { randomBytes } from "node:crypto";

/** A signing key: 32 random bytes, after the word that says where it may be used. */
export function newSigningKey(scheme) {
  return `${scheme}:${randomBytes(32).toString("base64url")}`;
}

/** 24 characters that need no quoting in a shell, a URL or JSON: 18 random bytes, 144 bits. */
export function newPassword() {
  return randomBytes(18).toString("base64url");
}
