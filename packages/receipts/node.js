// Node reads the file itself: its fetch knows no file: addresses.
import { readFileSync } from "node:fs";
import { initSync } from "./devskyy_receipts.js";

initSync({ module: readFileSync(new URL("devskyy_receipts_bg.wasm", import.meta.url)) });

export { verify_receipt, what_if } from "./devskyy_receipts.js";
