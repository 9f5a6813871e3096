//! Decisions: what the rules say of a question, and why.

pub mod appraisal;
pub mod chance;
pub mod estimate;
pub mod ranking;
pub mod receipt;
