//! Computes the time from which the reported state of a subscription counts.
//!
//! Stripe's event comes seconds after the boundary that it reports: a plan that changes at a renewal, a trial that
//! ends, a pause that is over. The balance left at the end of a period depends on the state just before that end, so
//! these seconds matter. If the event names its boundary, the change counts from there, else from the event's creation.
//! PURE. Called by the fold. Changes made by a schedule are dated later, by the facts of the schedule.

use time::OffsetDateTime;

use super::report::Report;
use crate::stripe::json::Json;
use crate::stripe::views::item::{bought, listed};
use crate::stripe::views::subscription::SubscriptionView;

/// The boundary from which the reported state counts; `None` if the report names none, and the state counts from the
/// report.
pub(super) fn boundary(view: &SubscriptionView, report: Report<'_>) -> Option<OffsetDateTime> {
    let is_over = matches!(view.status.as_str(), "canceled" | "incomplete_expired");
    if let Some(ended_at) = view.ended_at.filter(|at| is_over && (*at <= report.at || report.is_read())) {
        return Some(ended_at);
    }
    if report.is_read() {
        // its version is older than its content, so a state that shows a period cannot be from before that period
        return view.period_start().filter(|start| *start > report.at);
    }
    let before = report.previous;
    let was = |status: &str| before.get("status").text().as_deref() == Some(status);
    let trial_end = view.trial_end.filter(|_| was("trialing") && view.status != "trialing");
    let paused_at = view.paused_at.filter(|_| !before.get("status").is_null() && view.status == "paused");
    let resumed_at = instant(before.get("pause_collection").get("resumes_at")).filter(|_| !view.payment_paused);
    // a subscription that resumes, or is paid at last, may enter a period that began long before
    let was_inactive = ["paused", "unpaid", "incomplete"].into_iter().any(was);
    let is_new = |start: &OffsetDateTime| !was_inactive && old_period_start(before).is_some_and(|old| old < *start);
    let renewed_at = view.period_start().filter(is_new);
    let boundaries = [trial_end, paused_at, resumed_at, renewed_at].into_iter().flatten();
    // a future boundary is not the cause: a subscription that resumes before the planned time resumes now
    boundaries.filter(|at| *at <= report.at).max()
}

/// Whether the event changed prices or quantities of the items.
pub(super) fn changes_items(view: &SubscriptionView, report: Report<'_>) -> bool {
    let before = report.previous.get("items").get("data");
    !before.is_null() && bought(&listed(before)) != bought(&view.items)
}

/// The start of the previous period, if the event moved it.
fn old_period_start(before: Json<'_>) -> Option<OffsetDateTime> {
    let items = listed(before.get("items").get("data"));
    let of_items = items.into_iter().filter_map(|item| item.current_period_start);
    of_items.chain(instant(before.get("current_period_start"))).max()
}

fn instant(value: Json<'_>) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(value.integer()?).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::stripe::json::json;

    /// The boundary, and 42 seconds later.
    const BOUNDARY: OffsetDateTime = datetime!(2026-03-01 10:00 UTC);
    const LATE: OffsetDateTime = datetime!(2026-03-01 10:00:42 UTC);
    const T: i64 = BOUNDARY.unix_timestamp();

    /// Seconds from the boundary to the report, for a subscription with these fields that had `before` before.
    fn seconds(source: &str, fields: &str, before: &str) -> i64 {
        let object = format!(r#"{{"id":"sub_1","customer":"cus_1",{fields}}}"#);
        let view = SubscriptionView::read(json(&object)).unwrap();
        let previous = json(before);
        let report = Report { at: LATE, source, previous, all_items: Json::NULL };
        (LATE - boundary(&view, report).unwrap_or(LATE)).whole_seconds()
    }

    fn of_event(fields: &str, before: &str) -> i64 {
        seconds("evt_1", fields, before)
    }

    fn items(starts: &[i64]) -> String {
        let items: Vec<String> = starts.iter().map(|start| format!(r#"{{"current_period_start":{start}}}"#)).collect();
        format!(r#""items":{{"data":[{}]}}"#, items.join(","))
    }

    #[test]
    fn a_change_at_a_renewal_counts_from_the_new_period() {
        let (old, new) = (items(&[T - 100_000]), items(&[T]));
        let active = r#""status":"active""#;
        assert_eq!(of_event(&format!("{active},{new}"), &format!("{{{old}}}")), 42);
        let before_basil = format!(r#"{active},"current_period_start":{T}"#);
        assert_eq!(of_event(&before_basil, &format!(r#"{{"current_period_start":{}}}"#, T - 100_000)), 42);
        // monthly and yearly: the one that was renewed last
        let (old, new) = (items(&[T - 9_000_000, T - 100_000]), items(&[T - 9_000_000, T]));
        assert_eq!(of_event(&format!("{active},{new}"), &format!("{{{old}}}")), 42);
    }

    #[test]
    fn a_change_within_a_period_counts_from_its_event() {
        let active = format!(r#""status":"active",{}"#, items(&[T - 100_000]));
        for before in ["{}", "null", r#"{"metadata":{}}"#, &format!("{{{}}}", items(&[T - 100_000]))] {
            assert_eq!(of_event(&active, before), 0, "{before}");
        }
        let upside_down = format!("{{{}}}", items(&[T]));
        assert_eq!(of_event(&active, &upside_down), 0, "a period does not go back");
        let to_come = format!(r#""status":"active",{}"#, items(&[T + 1000]));
        assert_eq!(of_event(&to_come, &format!("{{{}}}", items(&[T]))), 0);
    }

    #[test]
    fn a_trial_a_pause_and_an_end_count_from_their_own_times() {
        let ends = format!(r#""trial_end":{T}"#);
        assert_eq!(of_event(&format!(r#""status":"active",{ends}"#), r#"{"status":"trialing"}"#), 42);
        assert_eq!(of_event(&format!(r#""status":"paused",{ends}"#), r#"{"status":"trialing"}"#), 42);
        assert_eq!(of_event(&format!(r#""status":"active",{ends}"#), r#"{"status":"past_due"}"#), 0);
        let resumes = format!(r#"{{"pause_collection":{{"behavior":"void","resumes_at":{T}}}}}"#);
        assert_eq!(of_event(r#""status":"active""#, &resumes), 42);
        assert_eq!(
            of_event(r#""status":"active","pause_collection":{"behavior":"void"}"#, &resumes),
            0,
            "another pause"
        );
        let by_hand = format!(r#"{{"pause_collection":{{"resumes_at":{}}}}}"#, T + 1000);
        assert_eq!(of_event(r#""status":"active""#, &by_hand), 0, "before the planned time");
        let paused = format!(r#""status":"paused","status_details":{{"paused":{{"transitioned_at":{T}}}}}"#);
        assert_eq!(of_event(&paused, r#"{"status":"active"}"#), 42);
        assert_eq!(of_event(&paused, r#"{"metadata":{}}"#), 0, "it was paused already");
        let ended = format!(r#""status":"canceled","ended_at":{T}"#);
        assert_eq!((of_event(&ended, "null"), seconds("read", &ended, "null")), (42, 42));
    }

    /// A yearly plan, resumed with its old anchor: its current period began within the pause.
    #[test]
    fn an_activation_counts_from_its_event() {
        let active = format!(r#""status":"active",{}"#, items(&[T]));
        let was = |status: &str| format!(r#"{{"status":"{status}",{}}}"#, items(&[T - 9_000_000]));
        for status in ["paused", "unpaid", "incomplete"] {
            assert_eq!(of_event(&active, &was(status)), 0, "{status}");
        }
        assert_eq!(of_event(&active, &was("trialing")), 42);
        assert_eq!(of_event(&active, &was("past_due")), 42);
    }

    #[test]
    fn only_prices_and_quantities_are_changes_of_items() {
        let changes = |items: &str, before: &str| {
            let object = format!(r#"{{"id":"sub_1","customer":"cus_1","status":"active","items":{{"data":{items}}}}}"#);
            let view = SubscriptionView::read(json(&object)).unwrap();
            let previous = json(before);
            changes_items(&view, Report { at: LATE, source: "evt_1", previous, all_items: Json::NULL })
        };
        let items = r#"[{"price":"a","quantity":2},{"price":"b"}]"#;
        assert!(!changes(items, "{}"));
        assert!(!changes(items, r#"{"items":{"data":[{"price":"b"},{"price":"a","quantity":2}]}}"#));
        assert!(changes(items, r#"{"items":{"data":[{"price":"b"},{"price":"a","quantity":3}]}}"#));
        assert!(changes(items, r#"{"items":{"data":[{"price":"b"}]}}"#));
    }

    #[test]
    fn a_read_counts_at_least_from_its_period() {
        let shows = |start: i64| seconds("read", &format!(r#""status":"active",{}"#, items(&[start])), "null");
        assert_eq!(shows(T), 0);
        assert_eq!(shows(T + 60), -18, "read at 10:01:42, less the margin of a minute");
    }
}
