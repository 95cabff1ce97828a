//! The subscription schedule: what a subscription will become, and whether it ends.
//!
//! Must not know pricing plans. PURE.

use time::OffsetDateTime;

use super::reader::{Reader, reference};
use crate::stripe::json::Json;

/// What we read of a subscription schedule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduleView {
    /// When the phase that runs now ends; none before the first and after the last.
    pub current_phase_end: Option<OffsetDateTime>,
    /// `phases`, in the order of their start.
    pub phases: Vec<PhaseView>,
    /// `end_behavior` is `cancel`: the subscription ends with the last phase.
    pub ends: bool,
    /// `pause_schedules`: pauses that are planned or were made, since 2026-09-30.endive.
    pub pauses: Vec<PlannedPauseView>,
    /// `status` is `active` or `not_started`: it still drives its subscription.
    pub drives: bool,
}

/// What we read of one phase.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhaseView {
    /// `start_date`.
    pub start: Option<OffsetDateTime>,
    /// `end_date`.
    pub end: Option<OffsetDateTime>,
    /// Price of its first item (in very old payloads `plan`).
    pub price_id: Option<String>,
}

/// What we read of one element of `pause_schedules`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedPauseView {
    /// `pause.pause_at`.
    pub pause_at: Option<OffsetDateTime>,
    /// `pause.status.type`: `scheduled`, `succeeded` or `error`.
    pub pause_status: Option<String>,
    /// `resume.resume_at`; none where it resumes only when it is told to.
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
            drives: status.is_none_or(|status| ["active", "not_started"].contains(&status.as_str())),
        }
    }

    /// The price of the phase that follows the one that runs now.
    pub fn next_price(&self) -> Option<&str> {
        let end = self.current_phase_end?;
        let next = self.phases.iter().find(|phase| phase.start.is_some_and(|start| start >= end))?;
        next.price_id.as_deref()
    }

    /// When the last phase ends, where the subscription ends with it.
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
        let first = items.first().copied().unwrap_or(Json::NULL);
        Self {
            start: reader.instant(phase.get("start_date")),
            end: reader.instant(phase.get("end_date")),
            price_id: reference(first.get("price")).or_else(|| reference(first.get("plan"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ScheduleView {
        ScheduleView::read(Json::parse(text).unwrap())
    }

    const PHASES: &str = r#""current_phase":{"start_date":1767225600,"end_date":1769904000},"phases":[
        {"start_date":1772323200,"end_date":1775001600,"items":[{"price":"price_3"}]},
        {"start_date":1767225600,"end_date":1769904000,"items":[{"price":"price_1"}]},
        {"start_date":1769904000,"end_date":1772323200,"items":[{"price":{"id":"price_2"}}]}]"#;

    #[test]
    fn the_next_price_is_of_the_phase_that_follows_whatever_the_order_of_the_list() {
        assert_eq!(read(&format!("{{{PHASES}}}")).next_price(), Some("price_2"));
        assert_eq!(
            read(r#"{"current_phase":null,"phases":[{"start_date":1,"items":[{"price":"p"}]}]}"#).next_price(),
            None
        );
        let last = PHASES.replace(r#""end_date":1769904000},"phases""#, r#""end_date":1775001600},"phases""#);
        assert_eq!(read(&format!("{{{last}}}")).next_price(), None, "nothing follows the last phase");
    }

    #[test]
    fn it_ends_with_the_last_phase_only_where_it_says_so() {
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
