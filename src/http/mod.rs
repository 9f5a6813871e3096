//! HTTP: one file per group of routes, each parse -> one call -> render.
//!
//! - [`middleware`]: the ordered stack every request goes through.
//! - [`route`]: what a row of the route table says.
//! - [`problem`]: the one mapping from errors to status codes.

pub mod app;
pub mod boards;
pub mod body;
pub mod conditional;
pub mod idempotency;
pub mod limiter;
pub mod middleware;
pub mod pages;
pub mod problem;
pub mod reply;
pub mod route;
pub mod samples;
mod strict;
pub mod telemetry;

pub mod activity;
pub mod alert_policies;
pub mod backups;
pub mod channels;
pub mod config;
pub mod decisions;
pub mod docs;
pub mod health;
pub mod incidents;
pub mod info;
pub mod ingest;
pub mod keys;
pub mod login;
pub mod maintenance;
pub mod metrics;
mod narrator;
pub mod openapi;
pub mod partnerships;
pub mod policies;
pub mod rate_limits;
pub mod readiness;
pub mod registry;
pub mod slos;
pub mod status;
pub mod users;

pub use app::{App, Cx, Endpoint};
pub use body::{Body, MAX_BODY_BYTES, Request};
pub use reply::Reply;
