//! Pauses of a subscription by its fields and its schedule.

use super::*;
use crate::stripe::json::json;

const EARLY: i64 = 1_790_000_000;
const LATE: i64 = 1_792_000_000;

fn at(seconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

/// The pause of a subscription with this status and these `pause_schedules`.
fn pause(status: &str, details: &str, schedules: &str) -> Pause {
    let text = format!(r#"{{"id":"sub_1","customer":"cus_1","status":"{status}","status_details":{details}}}"#);
    let view = SubscriptionView::read(json(&text)).unwrap();
    let text = format!(r#"{{"status":"active","pause_schedules":{schedules}}}"#);
    Pause::of(&view, Some(&ScheduleView::read(json(&text))))
}

/// One element of `pause_schedules`: time and status of the pause and of the resume.
fn entry(pause: (i64, &str), resume: Option<(i64, &str)>) -> String {
    let resume = resume.map_or("null".to_owned(), |(at, status)| {
        format!(r#"{{"resume_at":{at},"settings":{{}},"status":{{"type":"{status}"}}}}"#)
    });
    let (at, status) = pause;
    format!(
        r#"{{"key":"k","pause":{{"pause_at":{at},"settings":null,"status":{{"type":"{status}"}}}},"resume":{resume}}}"#
    )
}

fn details(reason: &str) -> String {
    format!(r#"{{"paused":{{"type":"subscription","transitioned_at":{EARLY},"subscription":{{"type":"{reason}"}}}}}}"#)
}

#[test]
fn start_and_reason_are_set_only_during_a_pause() {
    let paused = pause("paused", &details("pause_requested"), "[]");
    assert_eq!((paused.reason.as_deref(), paused.since), (Some("pause_requested"), at(EARLY)));
    for status in ["active", "past_due", "canceled", "trialing"] {
        assert_eq!(pause(status, &details("pause_requested"), "[]"), Pause::default(), "{status}");
    }
    assert_eq!(pause("paused", "null", "[]"), Pause::default(), "before 2026-09-30.endive");
    assert_eq!(pause("paused", &details("moonlight"), "[]").reason.as_deref(), Some("moonlight"), "new in Stripe");
}

#[test]
fn a_subscription_resumes_at_the_end_of_its_current_pause() {
    let resumes = |schedules: &str| pause("paused", "null", schedules).resumes_at;
    for (status, expected) in [
        ("scheduled", at(LATE)),
        ("pending", at(LATE)),
        ("requires_action", at(LATE)),
        ("succeeded", None),
        ("error", None),
        ("postponed", None),
    ] {
        let schedules = format!("[{}]", entry((EARLY, "succeeded"), Some((LATE, status))));
        assert_eq!(resumes(&schedules), expected, "{status}");
        let failed = format!("[{}]", entry((EARLY, "error"), Some((LATE, status))));
        assert_eq!(resumes(&failed), None, "a pause that failed, {status}");
    }
    assert_eq!(resumes(&format!("[{}]", entry((EARLY, "succeeded"), None))), None, "until it is resumed manually");
    assert_eq!(resumes("null"), None);
    let over = entry((EARLY - 9, "succeeded"), Some((EARLY - 5, "succeeded")));
    let holding = entry((EARLY, "succeeded"), Some((LATE, "scheduled")));
    assert_eq!(resumes(&format!("[{over},{holding}]")), at(LATE), "not by one that is over");
}

#[test]
fn the_earliest_planned_pause_counts() {
    let (first, second) = (
        entry((EARLY, "scheduled"), Some((EARLY + 9, "scheduled"))),
        entry((LATE, "scheduled"), Some((LATE + 9, "scheduled"))),
    );
    for schedules in [format!("[{first},{second}]"), format!("[{second},{first}]")] {
        let planned = pause("active", "null", &schedules);
        assert_eq!((planned.next, planned.resumes_at), (at(EARLY), at(EARLY + 9)));
        let paused = pause("paused", "null", &schedules);
        assert_eq!((paused.next, paused.resumes_at), (None, None), "a paused subscription is not paused again");
        assert_eq!(pause("canceled", "null", &schedules), Pause::default());
    }
    let done = entry((EARLY, "succeeded"), Some((LATE, "succeeded")));
    assert_eq!(pause("active", "null", &format!("[{done}]")), Pause::default());
    let failed = entry((EARLY, "error"), Some((LATE, "scheduled")));
    assert_eq!(pause("active", "null", &format!("[{failed}]")), Pause::default());
}

#[test]
fn known_reasons_are_kept_and_others_become_paused() {
    use InactiveReason as R;
    for (reason, expected) in [
        ("pause_requested", R::PauseRequested),
        ("trial_end_without_payment_method", R::TrialEndWithoutPaymentMethod),
        ("first_payment_failure", R::FirstPaymentFailure),
        ("final_payment_failure", R::FinalPaymentFailure),
        ("system", R::Paused),
        ("moonlight", R::Paused),
    ] {
        let text =
            format!(r#"{{"id":"sub_1","customer":"cus_1","status":"paused","status_details":{}}}"#, details(reason));
        let view = SubscriptionView::read(json(&text)).unwrap();
        assert_eq!(Pause::inactive_reason(&view), expected, "{reason}");
        assert_eq!(view.notes.is_empty(), reason != "moonlight", "{reason}");
    }
}
