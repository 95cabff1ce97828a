//! The trial of a subscription: the older kind, on the subscription, or a trial offer, on its item.
//!
//! Must not use the current time: a trial whose end has passed runs until Stripe reports its end. PURE; called by the
//! subscription projection.

use time::OffsetDateTime;

use crate::stripe::views::subscription::SubscriptionView;

/// Result of `trial_start`, `trial_end` and the `current_trial` of the plan's item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trial {
    /// Whether the trial is running.
    pub(super) runs: bool,
    /// Start of the trial; only while it is running.
    pub(super) started_at: Option<OffsetDateTime>,
    /// End of the trial, planned or past.
    pub(super) ends_at: Option<OffsetDateTime>,
}

impl Trial {
    /// The offer's dates come first: those of the subscription may belong to an older trial, because Stripe keeps them.
    pub(super) fn of(view: &SubscriptionView) -> Self {
        let offer = view.items.first().and_then(|item| item.current_trial.as_ref());
        let trialing = view.status == "trialing";
        let running = view.running_offer();
        Self {
            runs: trialing || running.is_some(),
            started_at: running.and_then(|offer| offer.start).or(view.trial_start.filter(|_| trialing)),
            ends_at: offer.and_then(|offer| offer.end).or(view.trial_end),
        }
    }
}

#[cfg(test)]
mod tests;
