//! Which events count here, and what they mean. Read by `serve`, used by the worker and the projection.

use std::collections::BTreeSet;

use super::parse;
use super::settings;
use super::source::Source;

/// When a read of Stripe's API confirms what events have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// Where the order of events could not be told.
    Ambiguous,
    /// After every event.
    Always,
    /// Never.
    Never,
}

/// Settings of the sync.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// `BILLING_SYNC_LIVEMODE`, default false: whether live events are synced, or test events.
    pub livemode: bool,
    /// `BILLING_SYNC_ACCOUNTS`, default none: connected accounts whose events are synced beside our own.
    pub accounts: BTreeSet<String>,
    /// `BILLING_SYNC_PAST_DUE_ACTIVE`, default true: whether `past_due` subscriptions are active.
    pub past_due_active: bool,
    /// `BILLING_SYNC_CONFIRM`, default ambiguous: when a read confirms what events have told.
    pub confirm: Confirm,
}

impl SyncConfig {
    /// Reads the settings of the sync.
    pub fn read(source: &mut Source) -> Option<Self> {
        let livemode = source.value(&settings::LIVEMODE, parse::boolean);
        let accounts = source.optional(&settings::ACCOUNTS, parse::accounts);
        let past_due_active = source.value(&settings::PAST_DUE_ACTIVE, parse::boolean);
        let confirm = source.value(&settings::CONFIRM, parse::confirm);
        Some(Self {
            confirm: confirm?,
            livemode: livemode?,
            accounts: accounts?.unwrap_or_default(),
            past_due_active: past_due_active?,
        })
    }
}
