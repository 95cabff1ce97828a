//! The subscription schedule: planned changes and the planned end of a subscription.
//!
//! Must not know pricing plans. PURE.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::reader::{Reader, reference};
use crate::stripe::json::Json;

/// The fields read from a subscription schedule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduleView {
    /// End of the current phase; `None` before the first phase and after the last.
    pub current_phase_end: Option<OffsetDateTime>,
    /// `phases`, in the order of their start.
    pub phases: Vec<PhaseView>,
    /// Whether `end_behavior` is `cancel`: the subscription ends with the last phase.
    pub ends: bool,
    /// `pause_schedules`: planned and past pauses, since 2026-09-30.endive.
    pub pauses: Vec<PlannedPauseView>,
    /// Whether `status` is `active` or `not_started`: the schedule still drives its subscription.
    pub drives: bool,
    /// Whether `status` is `not_started`: its first phase has not begun.
    pub is_to_start: bool,
}

/// The fields read from a phase.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhaseView {
    /// `start_date`.
    pub start: Option<OffsetDateTime>,
    /// `end_date`.
    pub end: Option<OffsetDateTime>,
    /// The prices of its `items` (in very old payloads their `plan`), sorted, each once: the list itself has no order.
    pub price_ids: BTreeSet<String>,
    /// The price of each item with its quantity, if present.
    pub items: Vec<(String, Option<i64>)>,
}

/// The fields read from an element of `pause_schedules`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedPauseView {
    /// `pause.pause_at`.
    pub pause_at: Option<OffsetDateTime>,
    /// `pause.status.type`: `scheduled`, `succeeded` or `error`.
    pub pause_status: Option<String>,
    /// `resume.resume_at`; `None` if it resumes only on request.
    pub resume_at: Option<OffsetDateTime>,
    /// `resume.status.type`: `scheduled`, `pending`, `requires_action`, `succeeded` or `error`.
    pub resume_status: Option<String>,
}

impl ScheduleView {
    /// Reads a schedule.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        let mut phases: Vec<PhaseView> =
            reader.elements(json.get("phases")).into_iter().map(|phase| PhaseView::read(phase, &mut reader)).collect();
        phases.sort_by_key(|phase| phase.start);
        let status = json.get("status").text();
        Self {
            current_phase_end: reader.instant(json.get("current_phase").get("end_date")),
            phases,
            pauses: pauses(json.get("pause_schedules"), &mut reader),
            ends: json.get("end_behavior").text().as_deref() == Some("cancel"),
            is_to_start: status.as_deref() == Some("not_started"),
            drives: status.is_none_or(|status| ["active", "not_started"].contains(&status.as_str())),
        }
    }

    /// The phase after the current one; the first phase of a schedule that has not started.
    pub fn next_phase(&self) -> Option<&PhaseView> {
        let follows = |phase: &&PhaseView| match self.current_phase_end {
            Some(end) => phase.start.is_some_and(|start| start >= end),
            None => self.is_to_start && phase.start.is_some(),
        };
        self.phases.iter().find(follows)
    }

    /// End of the last phase, if the subscription ends with it.
    pub fn end(&self) -> Option<OffsetDateTime> {
        self.phases.iter().filter_map(|phase| phase.end).max().filter(|_| self.ends)
    }
}

fn pauses(list: Json<'_>, reader: &mut Reader) -> Vec<PlannedPauseView> {
    let read = |entry: Json<'_>, reader: &mut Reader| {
        let (pause, resume) = (reader.members(entry.get("pause")), reader.members(entry.get("resume")));
        PlannedPauseView {
            pause_at: reader.instant(pause.get("pause_at")),
            pause_status: reader.text(pause.get("status").get("type")),
            resume_at: reader.instant(resume.get("resume_at")),
            resume_status: reader.text(resume.get("status").get("type")),
        }
    };
    reader.elements(list).into_iter().map(|entry| read(entry, reader)).collect()
}

impl PhaseView {
    fn read(phase: Json<'_>, reader: &mut Reader) -> Self {
        // `plans` in versions before 2020-08-27
        let items = [phase.get("items"), phase.get("plans")].into_iter().find_map(Json::array).unwrap_or_default();
        let price = |item: Json<'_>| reference(item.get("price")).or_else(|| reference(item.get("plan")));
        let item = |item: Json<'_>| Some((price(item)?, item.get("quantity").integer()));
        let mut items: Vec<_> = items.into_iter().filter_map(item).collect();
        items.sort();
        Self {
            start: reader.instant(phase.get("start_date")),
            end: reader.instant(phase.get("end_date")),
            price_ids: items.iter().map(|(price_id, _)| price_id.clone()).collect(),
            items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn read(text: &str) -> ScheduleView {
        ScheduleView::read(json(text))
    }

    const PHASES: &str = r#""current_phase":{"start_date":1767225600,"end_date":1769904000},"phases":[
        {"start_date":1772323200,"end_date":1775001600,"items":[{"price":"price_3"}]},
        {"start_date":1767225600,"end_date":1769904000,"items":[{"price":"price_1"}]},
        {"start_date":1769904000,"end_date":1772323200,"items":[{"price":{"id":"price_2"}}]}]"#;

    fn next(text: &str) -> Option<Vec<String>> {
        read(text).next_phase().map(|phase| phase.price_ids.iter().cloned().collect())
    }

    #[test]
    fn the_next_phase_follows_the_current_one_in_time() {
        assert_eq!(next(&format!("{{{PHASES}}}")), Some(vec!["price_2".to_owned()]));
        let last = PHASES.replace(r#""end_date":1769904000},"phases""#, r#""end_date":1775001600},"phases""#);
        assert_eq!(next(&format!("{{{last}}}")), None, "nothing follows the last phase");
    }

    #[test]
    fn before_the_start_the_first_phase_is_next() {
        let without = PHASES
            .replace(r#""current_phase":{"start_date":1767225600,"end_date":1769904000}"#, r#""current_phase":null"#);
        let of = |status: &str| next(&format!(r#"{{"status":"{status}",{without}}}"#));
        assert_eq!(of("not_started"), Some(vec!["price_1".to_owned()]));
        for status in ["active", "completed", "released", "canceled"] {
            assert_eq!(of(status), None, "{status}");
        }
    }

    #[test]
    fn the_prices_of_a_phase_are_found_in_every_api_version() {
        let prices = |items: &str| {
            next(&format!(r#"{{"status":"not_started","phases":[{{"start_date":1767225600,{items}}}]}}"#))
        };
        let both = Some(vec!["price_1".to_owned(), "price_2".to_owned()]);
        assert_eq!(prices(r#""items":[{"price":"price_2"},{"price":{"id":"price_1"}}]"#), both);
        assert_eq!(prices(r#""items":[{"price":{"id":"price_1","deleted":true}},{"plan":"price_2"}]"#), both);
        assert_eq!(prices(r#""plans":[{"plan":"price_1"},{"plan":{"id":"price_2"}}]"#), both, "before 2020-08-27");
        assert_eq!(prices(r#""items":[]"#), Some(vec![]));
    }

    #[test]
    fn the_end_behavior_decides_the_end() {
        assert_eq!(read(&format!("{{{PHASES}}}")).end(), None);
        let ends = read(&format!(r#"{{"end_behavior":"cancel",{PHASES}}}"#));
        assert_eq!(ends.end().map(OffsetDateTime::unix_timestamp), Some(1_775_001_600));
    }

    #[test]
    fn a_schedule_that_was_released_drives_nothing() {
        assert!(read(r#"{"status":"active"}"#).drives);
        assert!(!read(r#"{"status":"released"}"#).drives);
        assert!(!read(r#"{"status":"canceled"}"#).drives);
    }
}
