//! What a subscription will be charged for next: an update that waits for its payment, else its schedule.
//!
//! PURE; called by the subscription projection.

use crate::stripe::views::schedule::ScheduleView;
use crate::stripe::views::subscription::SubscriptionView;

/// The price that the subscription will change to.
pub(super) fn price(view: &SubscriptionView, schedule: Option<&ScheduleView>) -> Option<String> {
    // it takes effect as soon as it is paid, which comes before any later phase
    view.pending_price_id.clone().or_else(|| schedule?.next_price().map(str::to_owned))
}
