//! Decisions: what the rules say of a question, and why.

pub mod appraisal;
pub mod chance;
pub mod estimate;
pub mod evidence;
pub mod measurement;
pub mod policy;
pub mod present_value;
pub mod priority;
pub mod ranking;
pub mod strategy;
pub mod success;
