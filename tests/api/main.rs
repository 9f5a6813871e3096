//! The real router over `platform::native`: real migrations, frozen clock.
#![cfg(not(target_arch = "wasm32"))]
// Helpers of tests may panic too; clippy's own allowance covers test functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod canary;
mod support;
mod telemetry;

mod backups;
mod bad_input;
mod channels;
mod decisions;
mod docs;
mod house;
mod incidents;
mod keys;
mod limits;
mod login;
mod measuring;
mod registry;
mod repeats;
mod routes;
