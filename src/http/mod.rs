//! HTTP: one file per group of routes, each parse -> one call -> render.
//!
//! - [`middleware`]: the ordered stack every request goes through.
//! - [`route`]: what a row of the route table says.
//! - [`problem`]: the one mapping from errors to status codes.

pub mod app;
pub mod boards;
pub mod body;
pub mod middleware;
pub mod problem;
pub mod reply;
pub mod route;
mod strict;

pub mod config;
pub mod decisions;
pub mod docs;
pub mod health;
pub mod info;
pub mod ingest;
pub mod login;
pub mod metrics;
pub mod openapi;
pub mod partnerships;
pub mod readiness;
pub mod registry;
pub mod status;
pub mod users;

pub use app::{App, Cx, Endpoint};
pub use body::{Body, MAX_BODY_BYTES, Request};
pub use reply::Reply;
