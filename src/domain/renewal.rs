//! What a batch of renewals came to.

/// What was done for one outcome and limit key.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewed {
    /// `renewed`, `inactive` or `trial_end`.
    pub outcome: String,
    /// `words`, `images` …
    pub limit_key: String,
    /// Periods that were closed.
    pub renewals: i64,
    /// Closed periods that came out otherwise than they were recorded.
    pub corrections: i64,
    /// What spilled over in them.
    pub spilled_over: i64,
    /// What expired in them.
    pub expired: i64,
    /// Of each closed period, the seconds from its end to now.
    pub latenesses: Vec<f64>,
}
