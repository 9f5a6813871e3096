//! Wiring, and nothing else: hands routes, jobs and object brains to the
//! platform. Everything is imported here and nobody imports this.

#[cfg(target_arch = "wasm32")]
mod worker;

#[cfg(not(target_arch = "wasm32"))]
pub mod native;
