//! Strategies.

/// What a catalogue's formulas may speak of: all partnerships.
pub const SIGNALS: &[&str] = &[
    "known",
    "score_gap",
    "spread",
    "availability_gap",
    "kpi_gap",
    "delivery_gap",
    "budget_spent",
    "incidents",
    "cost_share",
    "time_share",
];

/// The same of the option's target.
pub const TARGET_SIGNALS: &[&str] = &[
    "target.score_gap",
    "target.availability_gap",
    "target.latency_gap",
    "target.kpi_gap",
    "target.delivery_gap",
    "target.budget_spent",
    "target.incidents",
];
