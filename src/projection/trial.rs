//! The trial of a subscription: the older kind, which the subscription has, or a trial offer, which its item has.
//!
//! Must not know the present: a trial whose end has passed runs until Stripe says that it is over. PURE; called by the
//! subscription projection.

use time::OffsetDateTime;

use crate::stripe::views::subscription::SubscriptionView;

/// What `trial_start`, `trial_end` and the `current_trial` of the item that counts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trial {
    /// It runs.
    pub(super) runs: bool,
    /// When it began; only while it runs.
    pub(super) started_at: Option<OffsetDateTime>,
    /// When it ends or ended.
    pub(super) ends_at: Option<OffsetDateTime>,
}

impl Trial {
    /// The offer's dates come first: those of the subscription may be of an older trial, and stay for ever.
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
