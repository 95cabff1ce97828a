//! Which events are synced, and how they are interpreted. Read by `serve`, used by the worker and the projection.

use std::collections::BTreeSet;

use super::error::Problem;
use super::parse::{self, Expected, Parsed};
use super::settings;
use super::source::Source;
use super::stripe;

/// When a read of Stripe's API confirms events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// If the order of events is ambiguous.
    Ambiguous,
    /// After every event.
    Always,
    /// Never.
    Never,
}

/// Date from which limit periods are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalAnchor {
    /// The subscription's `start_date`, which never changes.
    SubscriptionStart,
    /// The subscription's `billing_cycle_anchor`; a change of it is a renewal.
    BillingCycle,
}

impl RenewalAnchor {
    /// The word in the setting and in the database.
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
    /// `BILLING_SYNC_LIVEMODE`, otherwise the mode of the key, otherwise false: whether live or test events are synced.
    pub livemode: bool,
    /// `BILLING_SYNC_ACCOUNTS`, default none: connected accounts that are synced in addition to the own account.
    pub accounts: BTreeSet<String>,
    /// `BILLING_SYNC_OWN_ACCOUNT`, default none: the id of the own account, if no API key can read it.
    pub own_account: Option<String>,
    /// `BILLING_SYNC_PAST_DUE_ACTIVE`, default true: whether `past_due` subscriptions are active.
    pub past_due_active: bool,
    /// `BILLING_SYNC_RENEWAL_ANCHOR`, default `subscription_start`: date from which limit periods are counted.
    pub renewal_anchor: RenewalAnchor,
    /// `BILLING_SYNC_CONFIRM`, default ambiguous: when a read confirms events.
    pub confirm: Confirm,
}

impl SyncConfig {
    /// Reads the settings of the sync.
    pub fn read(source: &mut Source) -> Option<Self> {
        let livemode = livemode(source);
        let accounts = source.optional(&settings::ACCOUNTS, parse::accounts);
        let own_account = source.optional(&settings::OWN_ACCOUNT, parse::account);
        let past_due_active = source.value(&settings::PAST_DUE_ACTIVE, parse::boolean);
        let renewal_anchor = source.value(&settings::RENEWAL_ANCHOR, renewal_anchor);
        let confirm = source.value(&settings::CONFIRM, confirm);
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

/// Reads the mode. The setting and the keys must agree, because a key reads and writes only objects of its own mode.
fn livemode(source: &mut Source) -> Option<bool> {
    let set = source.optional(&settings::LIVEMODE, parse::boolean)?;
    let mut found = set.map(|set| (settings::LIVEMODE.name, set));
    for key in [&settings::STRIPE_SECRET_KEY, &settings::STRIPE_WRITE_KEY] {
        match (found, stripe::of_key(source, key)) {
            (Some((name, mode)), Some(of_key)) if mode != of_key => {
                let word = |mode: bool| if mode { "live" } else { "test" };
                let wrong = format!("the first is of {} mode, and the key is of {} mode", word(mode), word(of_key));
                let names = format!("{name}, {}", key.name);
                source.problem(Problem::new(names, wrong, "use a key of the other mode, or change the first"));
                return None;
            }
            (None, Some(of_key)) => found = Some((key.name, of_key)),
            _ => {}
        }
    }
    Some(found.is_some_and(|(_, mode)| mode))
}

/// Parses when reads confirm events.
fn confirm(text: &str) -> Parsed<Confirm> {
    match text.trim().to_lowercase().as_str() {
        "ambiguous" => Ok(Confirm::Ambiguous),
        "always" => Ok(Confirm::Always),
        "never" => Ok(Confirm::Never),
        _ => Err(Expected::new("ambiguous, always or never")),
    }
}

/// Parses the date from which limit periods are counted.
fn renewal_anchor(text: &str) -> Parsed<RenewalAnchor> {
    match text.trim().to_lowercase().as_str() {
        "subscription_start" => Ok(RenewalAnchor::SubscriptionStart),
        "billing_cycle" => Ok(RenewalAnchor::BillingCycle),
        _ => Err(Expected::new("subscription_start or billing_cycle")),
    }
}
