//! Which events count here, and what they mean. Read by `serve`, used by the worker and the projection.

use std::collections::BTreeSet;

use super::error::Problem;
use super::parse;
use super::settings;
use super::source::Source;
use super::stripe;

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

/// What the months of limits are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalAnchor {
    /// The subscription's `start_date`, for ever.
    SubscriptionStart,
    /// Its `billing_cycle_anchor`, a change of which is a renewal.
    BillingCycle,
}

impl RenewalAnchor {
    /// As in the setting and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SubscriptionStart => "subscription_start",
            Self::BillingCycle => "billing_cycle",
        }
    }
}

/// Settings of the sync.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// `BILLING_SYNC_LIVEMODE`, else as the key's prefix says, else false: whether live events are synced, or test events.
    pub livemode: bool,
    /// `BILLING_SYNC_ACCOUNTS`, default none: connected accounts whose events are synced beside our own.
    pub accounts: BTreeSet<String>,
    /// `BILLING_SYNC_OWN_ACCOUNT`, default none: the id of our own account, where no API key tells it.
    pub own_account: Option<String>,
    /// `BILLING_SYNC_PAST_DUE_ACTIVE`, default true: whether `past_due` subscriptions are active.
    pub past_due_active: bool,
    /// `BILLING_SYNC_RENEWAL_ANCHOR`, default `subscription_start`: what the months of limits are counted from.
    pub renewal_anchor: RenewalAnchor,
    /// `BILLING_SYNC_CONFIRM`, default ambiguous: when a read confirms what events have told.
    pub confirm: Confirm,
}

impl SyncConfig {
    /// Reads the settings of the sync.
    pub fn read(source: &mut Source) -> Option<Self> {
        let livemode = livemode(source);
        let accounts = source.optional(&settings::ACCOUNTS, parse::accounts);
        let own_account = source.optional(&settings::OWN_ACCOUNT, parse::account);
        let past_due_active = source.value(&settings::PAST_DUE_ACTIVE, parse::boolean);
        let renewal_anchor = source.value(&settings::RENEWAL_ANCHOR, parse::renewal_anchor);
        let confirm = source.value(&settings::CONFIRM, parse::confirm);
        Some(Self {
            confirm: confirm?,
            renewal_anchor: renewal_anchor?,
            livemode: livemode?,
            accounts: accounts?.unwrap_or_default(),
            own_account: own_account?,
            past_due_active: past_due_active?,
        })
    }
}

/// The mode that is set and the mode of the key must agree: reads of the one would answer for events of the other.
fn livemode(source: &mut Source) -> Option<bool> {
    let set = source.optional(&settings::LIVEMODE, parse::boolean)?;
    let of_key = stripe::of_key(source);
    if let (Some(set), Some(of_key)) = (set, of_key)
        && set != of_key
    {
        let names = format!("{}, {}", settings::LIVEMODE.name, settings::STRIPE_SECRET_KEY.name);
        let mode = if of_key { "live" } else { "test" };
        let wrong = format!("the first is {set}, and the key is of {mode} mode");
        source.problem(Problem::new(names, wrong, "use a key of the other mode, or leave the first out"));
        return None;
    }
    Some(set.or(of_key).unwrap_or(false))
}
