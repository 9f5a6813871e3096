//! The rules: pure functions of (state, command, now). Nothing here asks for
//! the time, for randomness, for a database or for a status code.

pub mod alert;
pub mod backup;
pub mod decision;
pub mod deliverable;
pub mod delivery;
pub mod digest;
pub mod exposition;
pub mod hex;
pub mod histogram;
pub mod id;
pub mod incident;
pub mod kpi;
pub mod maintenance;
pub mod metrics;
pub mod observation;
pub mod partnership;
pub mod probe_url;
pub mod rate_limit;
pub mod readiness;
pub mod rollup;
pub mod score;
pub mod seal;
pub mod seed;
pub mod settings;
pub mod simulation;
pub mod slo;
pub mod statistics;
pub mod status_page;
pub mod telemetry;
pub mod time;
pub mod validation;
pub mod verdict;
