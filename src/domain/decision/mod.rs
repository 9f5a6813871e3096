//! Decisions: what the rules say of a question, and why.
//!
//! - [`conclusion`]: from a question, its evidence and a policy to an answer.
//! - [`appraisal`], [`strategy`], [`choice`]: the three kinds of question.
//! - [`policy`]: the rules as data. [`evidence`]: the facts.
//! - [`weigh`], [`ranking`], [`chance`]: comparing options, and how stable it is.
//! - [`receipt`]: what is signed and can be recomputed. [`quality`]: whether
//!   the engine was right.

pub mod appraisal;
pub mod chance;
pub mod choice;
pub mod conclusion;
pub mod estimate;
pub mod evidence;
pub mod measurement;
pub mod plan;
pub mod policy;
pub mod present_value;
pub mod priority;
pub mod quality;
pub mod ranking;
pub mod receipt;
pub mod strategy;
pub mod success;
pub mod timeframe;
pub mod weigh;
