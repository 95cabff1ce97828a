//! What counts as ours.
use std::collections::BTreeSet;
/// Settings of the sync.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// a
    pub livemode: bool,
    /// a
    pub accounts: BTreeSet<String>,
    /// a
    pub past_due_active: bool,
}
