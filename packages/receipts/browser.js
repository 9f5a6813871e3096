// Whoever imports this waits until it is ready, so there is nothing to start by hand.
import init from "./devskyy_receipts.js";

await init();

export { verify_receipt, what_if } from "./devskyy_receipts.js";
