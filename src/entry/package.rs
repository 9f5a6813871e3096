//! The npm package `devskyy-receipts`: what may be done with a receipt away
//! from the service. It asks nobody for anything, so it works offline.
//!
//! The comments on the functions become those of its `.d.ts`.

use crate::domain::decision::receipt;
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

/// Checks a receipt against the keys of a JWKS, both JSON texts. Returns a
/// JSON text, `{"valid": boolean, "checks": [{"name": string, "passed":
/// boolean, "detail": string}]}`; throws where there is nothing to check.
#[wasm_bindgen]
pub fn verify_receipt(receipt: &str, jwks: &str) -> Result<String, JsError> {
    receipt::verify_receipt(receipt, jwks).map_err(|error| JsError::new(&error))
}

/// The decision of a receipt once more with these changes, both JSON texts.
/// Returns a JSON text; throws where nothing can be computed.
#[wasm_bindgen]
pub fn what_if(receipt: &str, changes: &str) -> Result<String, JsError> {
    receipt::what_if_text(receipt, changes).map_err(|error| JsError::new(&error))
}
