//! Wiring, and nothing else: hands routes, jobs and object brains to the
//! platform. Everything is imported here and nobody imports this.

#[cfg(all(target_arch = "wasm32", feature = "worker"))]
mod worker;

#[cfg(all(target_arch = "wasm32", not(feature = "worker")))]
mod package;

#[cfg(all(not(target_arch = "wasm32"), feature = "worker"))]
pub mod native;
