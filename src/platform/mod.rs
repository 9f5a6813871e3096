//! The outside world, in two bodies with the same methods, as `std` does it
//! for operating systems: `cloudflare` on wasm32, `native` on the host.
//!
//! Everything above names `platform::Database`, `platform::Objects` and so on
//! and does not know which body it has. The native body keeps the limits of
//! the real platform (bound parameters, KV write rate) and can inject faults.
//!
//! This layer knows nothing of the project: no tables, no routes, no rules.

pub mod error;
pub mod fetch;
pub mod sql;

#[cfg(target_arch = "wasm32")]
mod cloudflare;
#[cfg(target_arch = "wasm32")]
pub use cloudflare::*;

#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(not(target_arch = "wasm32"))]
pub use native::{
    Assets, Bucket, Clock, Database, Headers, KeyValue, Log, ObjectStorage, Objects, Outbound,
    Platform, Random, Vars,
};

pub use error::{Error, ErrorKind};

/// One page of the names in a bucket.
#[derive(Debug, Default)]
pub struct Listing {
    pub keys: Vec<String>,
    /// For the page after this one; `None`: this is the last.
    pub cursor: Option<String>,
}

/// A file served beside the Worker.
pub struct Asset {
    pub content_type: String,
    pub bytes: Vec<u8>,
}

/// How long one D1 call may take before the caller gets an answer.
///
/// D1 is one primary with real hiccups, some of tens of seconds; a client is
/// better served by a clear 503 than by a connection that hangs.
pub const DATABASE_DEADLINE_MS: u32 = 5_000;

/// How long one call of a Durable Object may take. An object that probes
/// waits for its partners, 10 s by default, so this is longer.
pub const OBJECT_DEADLINE_MS: u32 = 25_000;
