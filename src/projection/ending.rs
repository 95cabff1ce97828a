//! The end of a subscription, and the start of its next billing period.
//!
//! Owns the grace period. Must not use the current time: an end that has passed is still planned until Stripe has acted
//! on it. PURE; called by the subscription projection.

use time::OffsetDateTime;

use crate::stripe::views::schedule::ScheduleView;
use crate::stripe::views::subscription::SubscriptionView;

/// Result of `cancel_at`, `cancel_at_period_end`, `ended_at` and the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// Whether the subscription will end and has not ended yet.
    pub(super) grace: bool,
    /// When it ended, else when it will end.
    pub(super) end_date: Option<OffsetDateTime>,
    /// When the next billing period begins; `None` if no period follows.
    pub(super) next_cycle_start: Option<OffsetDateTime>,
}

impl Ending {
    /// `schedule` is the one that drives the subscription.
    pub(super) fn of(view: &SubscriptionView, schedule: Option<&ScheduleView>) -> Self {
        let end = planned_end(view).or_else(|| schedule?.end());
        let over = matches!(view.status.as_str(), "canceled" | "incomplete_expired");
        Self {
            grace: !over && view.ended_at.is_none() && end.is_some(),
            end_date: view.ended_at.or(end),
            next_cycle_start: next_cycle_start(view, end).filter(|_| !over),
        }
    }
}

/// The requested end. `cancel_at` comes first: classic billing sets both fields, while flexible billing (2025-06-30)
/// and explicit dates set only `cancel_at`, and Stripe resolves every kind of request to it at once.
fn planned_end(view: &SubscriptionView) -> Option<OffsetDateTime> {
    view.cancel_at.or_else(|| first_period_end(view).filter(|_| view.cancel_at_period_end))
}

/// The earliest period end of all items, because items with different intervals end at different times; before
/// 2025-03-31.basil that of the subscription.
fn first_period_end(view: &SubscriptionView) -> Option<OffsetDateTime> {
    view.items.iter().filter_map(|item| item.current_period_end).min().or(view.current_period_end)
}

/// The period end of the chosen item, unless the subscription ends by then or is `paused`.
fn next_cycle_start(view: &SubscriptionView, end: Option<OffsetDateTime>) -> Option<OffsetDateTime> {
    if view.status == "paused" || view.ended_at.is_some() {
        return None;
    }
    let of_item = view.items.first().and_then(|item| item.current_period_end);
    of_item.or(view.current_period_end).filter(|period_end| end.is_none_or(|end| end > *period_end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;
    use time::Duration;
    use time::macros::datetime;

    /// Ends of the chosen item's period and of an earlier one, in payload text and as a time.
    const PERIOD: i64 = 1_798_761_600;
    const PERIOD_END: OffsetDateTime = datetime!(2027-01-01 0:00 UTC);
    const EARLIER: i64 = PERIOD - 86_400;

    fn ending(fields: &str) -> Ending {
        let text = format!(
            r#"{{"id":"sub_1","customer":"cus_1",{fields},"items":{{"data":[
                {{"id":"si_1","created":1700000000,"current_period_end":{PERIOD}}}]}}}}"#
        );
        Ending::of(&SubscriptionView::read(json(&text)).unwrap(), None)
    }

    fn of(text: &str) -> Ending {
        Ending::of(&SubscriptionView::read(json(text)).unwrap(), None)
    }

    fn at(seconds: i64) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(seconds).ok()
    }

    fn next(fields: &str) -> Option<OffsetDateTime> {
        ending(fields).next_cycle_start
    }

    #[test]
    fn grace_and_end_follow_the_table() {
        // name, Stripe's fields, grace, end; the names are those of the specification's cases
        let cases = [
            ("G1", r#""status":"active","cancel_at_period_end":false,"cancel_at":null"#, false, None),
            ("G2", r#""status":"active","cancel_at_period_end":true,"cancel_at":1798761600"#, true, at(PERIOD)),
            ("G3", r#""status":"active","cancel_at_period_end":true,"cancel_at":null"#, true, at(PERIOD)),
            ("G4", r#""status":"active","cancel_at_period_end":false,"cancel_at":1795000000"#, true, at(1_795_000_000)),
            ("G5", r#""status":"active","cancel_at":1590000000,"canceled_at":1580000000"#, true, at(1_590_000_000)),
            ("G6", r#""status":"trialing","cancel_at_period_end":true,"cancel_at":1798761600"#, true, at(PERIOD)),
            (
                "G7",
                r#""status":"past_due","cancel_at_period_end":true,"cancel_at":1795000000"#,
                true,
                at(1_795_000_000),
            ),
            ("G7", r#""status":"unpaid","cancel_at_period_end":false,"cancel_at":1795000000"#, true, at(1_795_000_000)),
            ("G7", r#""status":"paused","cancel_at":1795000000"#, true, at(1_795_000_000)),
            (
                "G8",
                r#""status":"canceled","cancel_at_period_end":true,"ended_at":1790000000"#,
                false,
                at(1_790_000_000),
            ),
            ("G8", r#""status":"canceled","cancel_at":1795000000,"ended_at":1790000000"#, false, at(1_790_000_000)),
            ("G9", r#""status":"incomplete_expired","ended_at":1790000000"#, false, at(1_790_000_000)),
            ("G10", r#""status":"active","cancel_at_period_end":false,"canceled_at":null"#, false, None),
        ];
        for (name, fields, grace, end_date) in cases {
            let found = ending(fields);
            assert_eq!((found.grace, found.end_date), (grace, end_date), "{name}: {fields}");
        }
    }

    #[test]
    fn an_ended_subscription_has_no_grace_period() {
        let ended = ending(r#""status":"active","cancel_at":1795000000,"ended_at":1790000000"#);
        assert_eq!((ended.grace, ended.end_date, ended.next_cycle_start), (false, at(1_790_000_000), None));
        assert_eq!(next(r#""status":"active","ended_at":1790000000"#), None, "without cancel_at");
        let canceled = ending(r#""status":"canceled","cancel_at":1795000000"#);
        assert_eq!((canceled.grace, canceled.end_date), (false, at(1_795_000_000)), "without ended_at");
    }

    #[test]
    fn the_time_of_the_request_is_never_the_end() {
        let undone = ending(r#""status":"active","cancel_at_period_end":false,"canceled_at":1790000000"#);
        assert_eq!((undone.grace, undone.end_date), (false, None));
    }

    #[test]
    fn a_schedule_that_cancels_ends_the_subscription_unless_an_end_is_set() {
        let text =
            r#"{"status":"active","end_behavior":"cancel","phases":[{"start_date":1790000000,"end_date":1795000000}]}"#;
        let schedule = ScheduleView::read(json(text));
        let end = |fields: &str| {
            let text = format!(r#"{{"id":"sub_1","customer":"cus_1","status":"active",{fields}}}"#);
            let ending = Ending::of(&SubscriptionView::read(json(&text)).unwrap(), Some(&schedule));
            (ending.grace, ending.end_date)
        };
        assert_eq!(end(r#""cancel_at":null"#), (true, at(1_795_000_000)));
        assert_eq!(end(r#""cancel_at":1794000000"#), (true, at(1_794_000_000)));
    }

    #[test]
    fn mixed_intervals_end_with_the_earliest_item() {
        let text = |cancel: bool| {
            format!(
                r#"{{"id":"sub_1","customer":"cus_1","status":"active","cancel_at_period_end":{cancel},"items":{{"data":[
                    {{"id":"si_2","created":1750000000,"current_period_end":{EARLIER}}},
                    {{"id":"si_1","created":1700000000,"current_period_end":{PERIOD}}}]}}}}"#
            )
        };
        assert_eq!(of(&text(true)).end_date, at(EARLIER));
        assert_eq!(of(&text(true)).next_cycle_start, None, "it ends before the chosen item's period does");
        assert_eq!(of(&text(false)).next_cycle_start, at(PERIOD));
    }

    #[test]
    fn the_period_of_the_item_comes_first() {
        let old = format!(
            r#"{{"id":"sub_1","customer":"cus_1","status":"active","cancel_at_period_end":true,
                "current_period_end":{PERIOD},"items":{{"data":[{{"id":"si_1"}}]}}}}"#
        );
        assert_eq!(of(&old).end_date, at(PERIOD), "before basil");
        let next = |fields| ending(fields).next_cycle_start;
        assert_eq!(next(r#""status":"active","current_period_end":1795000000"#), at(PERIOD), "the new one first");
        assert_eq!(of(&old.replace("true", "false")).next_cycle_start, at(PERIOD));
    }

    #[test]
    fn no_cycle_follows_a_pause_or_an_end() {
        for status in ["active", "trialing", "past_due", "unpaid", "incomplete", "dormant"] {
            assert_eq!(next(&format!(r#""status":"{status}""#)), at(PERIOD), "{status}");
        }
        for status in ["canceled", "incomplete_expired", "paused"] {
            assert_eq!(next(&format!(r#""status":"{status}""#)), None, "{status}");
        }
    }

    #[test]
    fn a_cycle_follows_only_if_the_end_comes_after_its_start() {
        let with_end = |end: i64| next(&format!(r#""status":"active","cancel_at":{end}"#));
        assert_eq!(with_end(PERIOD - 1), None);
        assert_eq!(with_end(PERIOD), None, "ends at that instant");
        assert_eq!(with_end(PERIOD + 1), at(PERIOD));
        assert_eq!(at(PERIOD), Some(PERIOD_END));
        assert_eq!(at(EARLIER), Some(PERIOD_END - Duration::DAY));
    }

    #[test]
    fn paused_collection_does_not_stop_the_cycle() {
        assert_eq!(next(r#""status":"active","pause_collection":{"behavior":"void"}"#), at(PERIOD));
    }
}
