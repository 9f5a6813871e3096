//! DevSkyy Orchestration API: how each external AI partner is doing, measured,
//! scored and explained, served at the edge on Cloudflare Workers.
//!
//! The map of the crate, from the outside in; imports go downwards only:
//!
//! - [`entry`]: wiring. The Worker's events and object shells on wasm32, the
//!   same application on the host.
//! - [`routes`]: EVERY ROUTE, one table.
//! - [`http`]: parse, one call into the domain or a store, render.
//! - [`jobs`]: EVERY CRON JOB, one table.
//! - [`auth`]: who is calling and what he may do.
//! - [`backup`]: writing, checking and restoring sets of backups.
//! - [`objects`]: EVERY DURABLE OBJECT: its commands and its brain.
//! - [`store`]: SQL by table, over `platform::Database`.
//! - [`config`]: variables of the Worker, parsed once.
//! - [`log`]: ECS log lines.
//! - [`domain`]: the rules: pure functions of (state, command, now).
//! - [`platform`]: the outside world, one body for Cloudflare, one for the host.
//!
//! Without the feature `worker` it is the rules alone, which `make pkg` packs
//! for Node and browsers.

#[cfg(feature = "worker")]
pub mod auth;
#[cfg(feature = "worker")]
pub mod backup;
#[cfg(feature = "worker")]
pub mod config;
pub mod domain;
pub mod entry;
#[cfg(feature = "worker")]
pub mod http;
#[cfg(feature = "worker")]
pub mod jobs;
#[cfg(feature = "worker")]
pub mod log;
#[cfg(feature = "worker")]
pub mod objects;
#[cfg(feature = "worker")]
pub mod platform;
#[cfg(feature = "worker")]
pub mod routes;
#[cfg(feature = "worker")]
pub mod store;
