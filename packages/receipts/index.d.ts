export { verify_receipt, what_if } from "./devskyy_receipts.js";
