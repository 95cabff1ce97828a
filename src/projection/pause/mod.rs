//! The status `paused`: its start, reason and end; and a pause that a schedule plans.
//!
//! Must not use the current time: a pause or resume that is due stays planned until Stripe has acted on it. The pause
//! of collection (`pause_collection`), which does not change the status, is not owned here. PURE; called by the
//! subscription projection.

use time::OffsetDateTime;

use crate::domain::subscription::InactiveReason;
use crate::stripe::views::schedule::{PlannedPauseView, ScheduleView};
use crate::stripe::views::subscription::SubscriptionView;

/// Result of `status_details.paused` and the schedule's `pause_schedules`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pause {
    /// Stripe's reason; only while the status is `paused`.
    pub(super) reason: Option<String>,
    /// When the status became `paused`; only while it is.
    pub(super) since: Option<OffsetDateTime>,
    /// When the schedule will pause it; `None` while it is paused.
    pub(super) next: Option<OffsetDateTime>,
    /// When the schedule will resume it: from the current pause, else from the planned one.
    pub(super) resumes_at: Option<OffsetDateTime>,
}

impl Pause {
    /// `schedule` is the one that drives the subscription.
    pub(super) fn of(view: &SubscriptionView, schedule: Option<&ScheduleView>) -> Self {
        let pauses = schedule.map(|schedule| schedule.pauses.as_slice()).unwrap_or_default();
        match view.status.as_str() {
            // Stripe may keep the details of a past pause, so they count only with this status
            "paused" => Self {
                reason: view.pause_reason.clone(),
                since: view.paused_at,
                next: None,
                resumes_at: pauses.iter().filter(|pause| may_have_paused(pause)).filter_map(planned_resume).min(),
            },
            // an ended subscription cannot be paused
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
    /// `system` and unknown reasons add nothing to the status.
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

/// Whether the pause is still planned.
fn is_planned(pause: &PlannedPauseView) -> bool {
    matches!(pause.pause_status.as_deref(), Some("scheduled") | None)
}

/// Whether a paused subscription may be paused by this entry: not by a failed or a planned one.
fn may_have_paused(pause: &PlannedPauseView) -> bool {
    matches!(pause.pause_status.as_deref(), Some("succeeded") | None)
}

/// The planned resume time; `None` if it has resumed or failed to. An attempt that waits for its payment is still
/// planned.
fn planned_resume(pause: &PlannedPauseView) -> Option<OffsetDateTime> {
    let status = pause.resume_status.as_deref();
    pause.resume_at.filter(|_| matches!(status, Some("scheduled" | "pending" | "requires_action") | None))
}

#[cfg(test)]
mod tests;
