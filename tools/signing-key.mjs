// Prints a fresh production signing key, for:
//   node tools/signing-key.mjs | npx wrangler secret put SIGNING_KEY
import { newSigningKey } from "./keys.mjs";

process.stdout.write(newSigningKey("ed25519"));
