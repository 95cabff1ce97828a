//! Result of a batch of renewals.

/// Counts of a batch for one outcome and limit key.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewed {
    /// `renewed`, `inactive` or `trial_end`.
    pub outcome: String,
    /// `words`, `images` …
    pub limit_key: String,
    /// Periods that were closed.
    pub renewals: i64,
    /// Closed periods whose recorded result was corrected.
    pub corrections: i64,
    /// Amount that these periods carried over.
    pub spilled_over: i64,
    /// Amount that expired in these periods.
    pub expired: i64,
    /// Seconds from the end of each closed period to now.
    pub delays: Vec<f64>,
}
