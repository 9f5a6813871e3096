//! Who is calling, and what he may do.

pub mod api_key;
pub mod bootstrap;
pub mod caller;
pub mod password;
pub mod permission;
pub mod token;
pub mod verifier;
