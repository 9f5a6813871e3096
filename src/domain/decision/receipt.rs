//! Receipts of decisions: checked, and asked "what if", by anybody.
//!
//! A STUB, and the only one: the npm package, `verify-receipt` and their tests
//! stand on these two signatures and on the shape of the report.

const NOT_THERE_YET: &str = "receipts are not there yet";

/// Checks a receipt against the keys of a JWKS. The report, whether the
/// receipt is good or not: `{"valid": bool, "checks": [{"name": string,
/// "passed": bool, "detail": string}]}`. An error: one of the two texts is not
/// what it should be, and nothing was checked.
pub fn verify_receipt(_receipt: &str, _jwks: &str) -> Result<String, String> {
    Err(NOT_THERE_YET.to_owned())
}

/// The decision of a receipt once more, with these changes.
pub fn what_if(_receipt: &str, _changes: &str) -> Result<String, String> {
    Err(NOT_THERE_YET.to_owned())
}
