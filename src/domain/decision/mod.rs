//! Decisions: what the rules say of a question, and why.

pub mod appraisal;
