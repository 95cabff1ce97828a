//! The status `paused`: since when, why, and until when; and a pause that a schedule plans.
//!
//! Must not know the present: a pause or its end that is due while Stripe has not acted on it stays planned. The pause of
//! collection (`pause_collection`), which leaves the status as it is, is not owned here. PURE; called by the subscription
//! projection.

use time::OffsetDateTime;

use crate::domain::subscription::InactiveReason;
use crate::stripe::views::schedule::{PlannedPauseView, ScheduleView};
use crate::stripe::views::subscription::SubscriptionView;

/// What `status_details.paused` and the schedule's `pause_schedules` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pause {
    /// Stripe's reason; only while the status is `paused`.
    pub(super) reason: Option<String>,
    /// When the status became `paused`; only while it is.
    pub(super) since: Option<OffsetDateTime>,
    /// When the schedule will pause it; none while it is paused.
    pub(super) next: Option<OffsetDateTime>,
    /// When the schedule will resume it: from the pause that holds, else from the planned one.
    pub(super) resumes_at: Option<OffsetDateTime>,
}

impl Pause {
    /// `schedule` is the one that drives the subscription.
    pub(super) fn of(view: &SubscriptionView, schedule: Option<&ScheduleView>) -> Self {
        let pauses = schedule.map(|schedule| schedule.pauses.as_slice()).unwrap_or_default();
        match view.status.as_str() {
            // Stripe may leave the details of a pause that is over
            "paused" => Self {
                reason: view.pause_reason.clone(),
                since: view.paused_at,
                next: None,
                resumes_at: pauses.iter().filter(|pause| holds(pause)).filter_map(planned_resume).min(),
            },
            // nothing is paused any more
            "canceled" | "incomplete_expired" => Self::default(),
            _ => {
                let planned = pauses.iter().filter(|pause| is_planned(pause));
                let next = planned.filter(|pause| pause.pause_at.is_some()).min_by_key(|pause| pause.pause_at);
                let resumes_at = next.and_then(planned_resume);
                Self { next: next.and_then(|pause| pause.pause_at), resumes_at, ..Self::default() }
            }
        }
    }

    /// Why a subscription with the status `paused` is not active.
    ///
    /// `system` and what is new in Stripe say no more than the status does.
    pub(super) fn inactive_reason(view: &SubscriptionView) -> InactiveReason {
        match view.pause_reason.as_deref() {
            Some("pause_requested") => InactiveReason::PauseRequested,
            Some("trial_end_without_payment_method") => InactiveReason::TrialEndWithoutPaymentMethod,
            Some("first_payment_failure") => InactiveReason::FirstPaymentFailure,
            Some("final_payment_failure") => InactiveReason::FinalPaymentFailure,
            _ => InactiveReason::Paused,
        }
    }
}

/// Whether Stripe has yet to make the pause.
fn is_planned(pause: &PlannedPauseView) -> bool {
    matches!(pause.pause_status.as_deref(), Some("scheduled") | None)
}

/// Whether a subscription that is paused may be so by this pause: not by one that failed or is to come.
fn holds(pause: &PlannedPauseView) -> bool {
    matches!(pause.pause_status.as_deref(), Some("succeeded") | None)
}

/// When it resumes, where it has neither resumed nor failed to. An attempt that waits for its payment is still planned.
fn planned_resume(pause: &PlannedPauseView) -> Option<OffsetDateTime> {
    let status = pause.resume_status.as_deref();
    pause.resume_at.filter(|_| matches!(status, Some("scheduled" | "pending" | "requires_action") | None))
}

#[cfg(test)]
mod tests;
