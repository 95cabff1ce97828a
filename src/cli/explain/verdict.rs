//! The first lines of an explanation: may the subscription be used, since when and why; what became of an event. PURE.

use time::OffsetDateTime;

use super::writes::Causes;
use crate::admin::explain::{Discard, StepKind};
use crate::admin::subscription_state::{StateChange, SubscriptionState};
use crate::base::text::in_utc;

/// Whether a subscription may be used, in one sentence, without its name.
pub(super) fn of_subscription(state: &SubscriptionState, meanings: &Causes) -> String {
    if state.active {
        let since = since(state.activity.as_ref());
        let why = state.activity.as_ref().and_then(|change| by(change, meanings));
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        return format!("active{since}{why}{}", outlook(state));
    }
    let reason = state.inactive_reason.as_deref().unwrap_or_default();
    // the members of a workspace are the product's, so the history of the subscription does not contain this change
    if reason == TOO_MANY_MEMBERS {
        return format!("inactive: {}", meaning(reason));
    }
    let why = state.reason.as_ref().and_then(|change| by(change, meanings));
    let why = why.map(|why| format!(", {why}")).unwrap_or_default();
    let later = match (&state.activity, &state.reason) {
        (Some(activity), Some(reason)) if reason.at > activity.at => format!(" since {}", in_utc(reason.at)),
        _ => String::new(),
    };
    format!("inactive{}: {}{later}{why}", since(state.activity.as_ref()), meaning(reason))
}

const TOO_MANY_MEMBERS: &str = "too_many_members";

fn since(change: Option<&StateChange>) -> String {
    change.map(|change| format!(" since {}", in_utc(change.at))).unwrap_or_default()
}

/// The causes of a change.
fn by(change: &StateChange, meanings: &Causes) -> Option<String> {
    let causes: Vec<&str> = change.causes.iter().map(|cause| meanings.get(cause).unwrap_or(cause).as_str()).collect();
    (!causes.is_empty()).then(|| causes.join(", "))
}

/// What happens next to an active subscription.
fn outlook(state: &SubscriptionState) -> String {
    let next = [
        state.trial_ends_at.filter(|_| state.is_trial).map(|at| format!("the trial ends {}", in_utc(at))),
        state.end_date.map(|at| format!("it ends {}", in_utc(at))),
        state.next_subscription_cycle_start.filter(|_| !state.is_trial).map(|at| format!("it renews {}", in_utc(at))),
    ];
    next.into_iter().flatten().fold(String::new(), |text, next| text + "; " + &next)
}

/// What an `inactive_reason` means.
pub(super) fn meaning(reason: &str) -> &str {
    match reason {
        "payment_paused" => "payment collection is paused",
        "paused" => "it is paused",
        "pause_requested" => "it was paused by a request",
        "trial_end_without_payment_method" => "its trial ended without a payment method",
        "first_payment_failure" => "the first payment of a renewal failed",
        "final_payment_failure" => "the last payment attempt failed",
        "past_due" => "a payment is past due",
        "unpaid" => "an invoice is unpaid",
        "incomplete" => "its first payment is incomplete",
        "incomplete_expired" => "its first payment was not made in time",
        "canceled" => "it is canceled",
        "ended" => "it has ended",
        "unknown_status" => "its status is not known to this release",
        TOO_MANY_MEMBERS => "the workspace has more members than the plan includes",
        "no_subscription" => "it has no subscription",
        "workspace_deleted" => "the workspace was deleted",
        other => other,
    }
}

/// What became of an event, and what it changed.
pub(super) fn of_event(event: &StepKind, at: OffsetDateTime, changed_rows: usize) -> String {
    let StepKind::Event { state, outcome, reason, attempts, last_error, discard, .. } = event else {
        return String::new();
    };
    let at = in_utc(at);
    let error = last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let why = reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
    let rows = match changed_rows {
        0 => "it changed no row".to_owned(),
        1 => "it changed 1 row".to_owned(),
        count => format!("it changed {count} rows"),
    };
    if let Some(discard) = discard {
        let error = last_error.as_ref().map(|error| format!("; its last error: {error}")).unwrap_or_default();
        return format!("discarded at {at} {}{error}", of_discard(discard));
    }
    match (state.as_str(), outcome.as_deref()) {
        ("pending", _) if *attempts == 0 => format!("pending; due {at}"),
        ("pending", _) => format!("pending after {attempts} failed attempts; the next one is due {at}{error}"),
        ("dead", _) => format!("dead since {at} after {attempts} failed attempts{error}"),
        (_, Some("superseded")) => format!("superseded at {at}: a newer state of the object was known; {rows}"),
        (_, Some(outcome)) => format!("{outcome} at {at}{why}; {rows}"),
        (state, None) => format!("{state} since {at}{why}; {rows}"),
    }
}

/// Who discarded an event, and why.
pub(super) fn of_discard(discard: &Discard) -> String {
    format!("by {} (database role {}): {}", discard.by, discard.database_role, discard.reason)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    const FIRST: OffsetDateTime = datetime!(2026-10-29 09:30 UTC);
    const LATER: OffsetDateTime = datetime!(2026-11-11 10:42 UTC);

    fn change(at: OffsetDateTime, causes: &[&str]) -> StateChange {
        StateChange { at, causes: causes.iter().map(|cause| (*cause).to_owned()).collect() }
    }

    fn active() -> SubscriptionState {
        SubscriptionState {
            id: Uuid::nil(),
            stripe_subscription_id: "sub_1".to_owned(),
            workspace_id: None,
            active: true,
            inactive_reason: None,
            is_trial: false,
            trial_ends_at: None,
            end_date: None,
            next_subscription_cycle_start: None,
            plan: None,
            is_current: true,
            activity: Some(change(FIRST, &["evt_1"])),
            reason: None,
        }
    }

    fn said(state: &SubscriptionState) -> String {
        of_subscription(state, &Causes::new())
    }

    #[test]
    fn an_active_subscription_says_since_when_and_what_comes_next() {
        assert_eq!(said(&active()), "active since 2026-10-29 09:30:00 (evt_1)");
        let trial = SubscriptionState { is_trial: true, trial_ends_at: Some(LATER), ..active() };
        assert_eq!(said(&trial), "active since 2026-10-29 09:30:00 (evt_1); the trial ends 2026-11-11 10:42:00");
        let renews = SubscriptionState { next_subscription_cycle_start: Some(LATER), ..active() };
        assert_eq!(said(&renews), "active since 2026-10-29 09:30:00 (evt_1); it renews 2026-11-11 10:42:00");
        let ends = SubscriptionState { end_date: Some(LATER), activity: None, ..active() };
        assert_eq!(said(&ends), "active; it ends 2026-11-11 10:42:00");
    }

    #[test]
    fn an_inactive_subscription_names_the_reason_its_time_and_its_event() {
        let paused = SubscriptionState {
            active: false,
            inactive_reason: Some("payment_paused".to_owned()),
            activity: Some(change(LATER, &["evt_2"])),
            reason: Some(change(LATER, &["evt_2"])),
            ..active()
        };
        assert_eq!(said(&paused), "inactive since 2026-11-11 10:42:00: payment collection is paused, evt_2");
        let canceled = SubscriptionState {
            inactive_reason: Some("canceled".to_owned()),
            activity: Some(change(FIRST, &["evt_2"])),
            reason: Some(change(LATER, &["evt_3"])),
            ..paused.clone()
        };
        let expected = "inactive since 2026-10-29 09:30:00: it is canceled since 2026-11-11 10:42:00, evt_3";
        assert_eq!(said(&canceled), expected);
        let crowded = SubscriptionState { inactive_reason: Some(TOO_MANY_MEMBERS.to_owned()), ..paused };
        assert_eq!(said(&crowded), "inactive: the workspace has more members than the plan includes");
    }

    #[test]
    fn a_change_at_stripe_is_named_by_what_it_is() {
        let meanings = Causes::from([("write:7".to_owned(), "write subscription.cancel by user".to_owned())]);
        let state = SubscriptionState { activity: Some(change(FIRST, &["write:7"])), ..active() };
        let expected = "active since 2026-10-29 09:30:00 (write subscription.cancel by user)";
        assert_eq!(of_subscription(&state, &meanings), expected);
    }

    #[test]
    fn every_end_of_an_event_has_its_sentence() {
        let event = |state: &str, outcome: Option<&str>, attempts: i32, error: Option<&str>| StepKind::Event {
            event_id: "evt_1".to_owned(),
            account: String::new(),
            customer_id: None,
            event_type: "customer.updated".to_owned(),
            object_id: None,
            created: FIRST,
            state: state.to_owned(),
            outcome: outcome.map(str::to_owned),
            reason: None,
            attempts,
            last_error: error.map(str::to_owned),
            discard: (outcome == Some("ignored")).then(|| Discard {
                by: "ada".to_owned(),
                database_role: "service".to_owned(),
                reason: "a test event".to_owned(),
            }),
        };
        for (event, rows, expected) in [
            (event("done", Some("applied"), 0, None), 2, "applied at 2026-11-11 10:42:00; it changed 2 rows"),
            (
                event("done", Some("superseded"), 0, None),
                0,
                "superseded at 2026-11-11 10:42:00: a newer state of the object was known; it changed no row",
            ),
            (
                event("done", Some("ignored"), 12, Some("a cause")),
                0,
                "discarded at 2026-11-11 10:42:00 by ada (database role service): a test event; its last error: a cause",
            ),
            (event("pending", None, 0, None), 0, "pending; due 2026-11-11 10:42:00"),
            (
                event("pending", None, 3, Some("a cause")),
                0,
                "pending after 3 failed attempts; the next one is due 2026-11-11 10:42:00: a cause",
            ),
            (
                event("dead", None, 12, Some("a cause")),
                0,
                "dead since 2026-11-11 10:42:00 after 12 failed attempts: a cause",
            ),
        ] {
            assert_eq!(of_event(&event, LATER, rows), expected);
        }
    }
}
