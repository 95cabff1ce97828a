//! The phases of a subscription's life, from the changes of its row. PURE.

use serde::Deserialize;
use time::OffsetDateTime;

use crate::admin::life::{Life, Usability, UsabilityChange};
use crate::cli::explain::verdict::meaning;

/// What a subscription is during a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It exists at Stripe, but its row does not exist yet, or the changes that are shown begin later.
    NotRecorded,
    Trial,
    Active,
    /// Active until the end that is set.
    Grace,
    /// The subscription or its payment collection is paused.
    Paused,
    /// Inactive for another reason, such as an unpaid invoice.
    Inactive,
    Ended,
}

/// A time during which a subscription is of one kind, for one reason. It lasts until the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) kind: Kind,
    /// Set if it is inactive.
    pub(super) reason: Option<String>,
    pub(super) from: OffsetDateTime,
    /// The causes of its beginning, as in `row_changes`.
    pub(super) causes: Vec<String>,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NotRecorded => "not recorded",
            Self::Trial => "trial",
            Self::Active => "active",
            Self::Grace => "grace period",
            Self::Paused => "paused",
            Self::Inactive => "inactive",
            Self::Ended => "ended",
        }
    }

    fn of(state: &Usability) -> Self {
        match state.inactive_reason.as_deref() {
            None if state.is_grace_period => Self::Grace,
            None if state.is_trial => Self::Trial,
            None => Self::Active,
            Some("canceled" | "ended" | "incomplete_expired") => Self::Ended,
            Some("payment_paused" | "paused" | "pause_requested" | "trial_end_without_payment_method") => Self::Paused,
            Some(_) => Self::Inactive,
        }
    }
}

impl Phase {
    /// The kind and the reason in words.
    pub(super) fn text(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{}: {}", self.kind.name(), meaning(reason)),
            None => self.kind.name().to_owned(),
        }
    }
}

/// The phases that begin before `until`, in order.
///
/// The current row is known, and each change contains the values before it, so the phases are found from the last one
/// back to the first: also if older changes are missing.
pub(super) fn phases(life: &Life, until: OffsetDateTime) -> Vec<Phase> {
    let mut phases = Vec::new();
    let mut state = Some(life.now.clone());
    for (change, from) in life.changes.iter().zip(in_order(&life.changes)).rev() {
        let Some(after) = state else { break };
        let (kind, reason) = (Kind::of(&after), after.inactive_reason.clone());
        phases.push(Phase { kind, reason, from, causes: change.causes.clone() });
        state = before(after, change);
    }
    let first = phases.last().map_or(until, |phase| phase.from);
    if let Some(from) = life.started_at.filter(|start| *start < first) {
        phases.push(Phase { kind: Kind::NotRecorded, reason: None, from, causes: Vec::new() });
    }
    phases.reverse();
    phases.retain(|phase| phase.from < until);
    // of several changes at one time the last one counts
    let has_length = |at: usize| phases.get(at + 1).is_none_or(|next| next.from > phases[at].from);
    let mut phases: Vec<Phase> = (0..phases.len()).filter(|at| has_length(*at)).map(|at| phases[at].clone()).collect();
    phases.dedup_by(|next, phase| next.kind == phase.kind && next.reason == phase.reason);
    phases
}

/// The times of the changes. A late event changes the row after the changes before it, although it is older.
fn in_order(changes: &[UsabilityChange]) -> Vec<OffsetDateTime> {
    let mut latest = OffsetDateTime::UNIX_EPOCH;
    let time = |change: &UsabilityChange| {
        latest = latest.max(change.at);
        latest
    };
    changes.iter().map(time).collect()
}

/// The changed columns, each with the value before and after.
#[derive(Deserialize)]
struct Changes {
    active: Option<(Option<bool>, Option<bool>)>,
    inactive_reason: Option<(Option<String>, Option<String>)>,
    is_trial: Option<(Option<bool>, Option<bool>)>,
    is_grace_period: Option<(Option<bool>, Option<bool>)>,
}

/// The state before a change. `None` if the change created the row.
fn before(after: Usability, change: &UsabilityChange) -> Option<Usability> {
    let changes: Changes = serde_json::from_str(&change.changes).ok()?;
    Some(Usability {
        active: changes.active.map_or(Some(after.active), |(before, _)| before)?,
        inactive_reason: changes.inactive_reason.map_or(after.inactive_reason, |(before, _)| before),
        is_trial: changes.is_trial.map_or(Some(after.is_trial), |(before, _)| before)?,
        is_grace_period: changes.is_grace_period.map_or(Some(after.is_grace_period), |(before, _)| before)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-10-29 09:30 UTC);
    const END: OffsetDateTime = datetime!(2026-12-05 09:30 UTC);

    fn day(day: u8) -> OffsetDateTime {
        START.replace_date(time::Date::from_calendar_date(2026, time::Month::November, day).unwrap())
    }

    fn change(at: OffsetDateTime, cause: &str, changes: &Value) -> UsabilityChange {
        UsabilityChange { at, causes: vec![cause.to_owned()], changes: changes.to_string() }
    }

    /// A trial, paid, paused, resumed.
    fn life() -> Life {
        let created = json!({ "active": [null, true], "is_trial": [null, true], "is_grace_period": [null, false] });
        Life {
            stripe_subscription_id: "sub_1".to_owned(),
            started_at: Some(START),
            now: Usability { active: true, inactive_reason: None, is_trial: false, is_grace_period: false },
            changes: vec![
                change(START, "evt_1", &created),
                change(day(5), "evt_2", &json!({ "is_trial": [true, false] })),
                change(
                    day(11),
                    "evt_3",
                    &json!({ "active": [true, false], "inactive_reason": [null, "payment_paused"] }),
                ),
                change(
                    day(13),
                    "evt_4",
                    &json!({ "active": [false, true], "inactive_reason": ["payment_paused", null] }),
                ),
            ],
        }
    }

    fn kinds(life: &Life, until: OffsetDateTime) -> Vec<(Kind, OffsetDateTime)> {
        phases(life, until).iter().map(|phase| (phase.kind, phase.from)).collect()
    }

    #[test]
    fn each_change_begins_a_phase() {
        let expected = [(Kind::Trial, START), (Kind::Active, day(5)), (Kind::Paused, day(11)), (Kind::Active, day(13))];
        assert_eq!(kinds(&life(), END), expected);
        let paused = phases(&life(), END).remove(2);
        assert_eq!(
            (paused.text().as_str(), paused.causes),
            ("paused: payment collection is paused", vec!["evt_3".to_owned()])
        );
        assert_eq!(kinds(&life(), day(11)), expected[..2], "a change at the end is not shown");
        assert_eq!(kinds(&life(), START), []);
    }

    #[test]
    fn the_time_before_the_first_known_change_is_not_recorded() {
        let mut late = life();
        late.started_at = Some(START - time::Duration::days(90));
        late.changes.drain(..2);
        let expected =
            [(Kind::NotRecorded, START - time::Duration::days(90)), (Kind::Paused, day(11)), (Kind::Active, day(13))];
        assert_eq!(kinds(&late, END), expected);
        late.changes.clear();
        assert_eq!(kinds(&late, END), expected[..1], "no change is known");
    }

    #[test]
    fn a_late_event_counts_from_the_change_that_it_made() {
        let mut late = life();
        late.changes[3].at = day(7);
        assert_eq!(kinds(&late, END), [(Kind::Trial, START), (Kind::Active, day(5))], "the pause has no length");
    }

    #[test]
    fn a_grace_period_ends_with_the_subscription() {
        let mut ended = life();
        ended.now = Usability { active: false, inactive_reason: Some("canceled".to_owned()), ..ended.now };
        ended.changes.push(change(day(16), "evt_5", &json!({ "is_grace_period": [false, true] })));
        ended.changes.push(change(
            day(20),
            "evt_6",
            &json!({ "active": [true, false], "inactive_reason": [null, "canceled"], "is_grace_period": [true, false] }),
        ));
        assert_eq!(kinds(&ended, END)[4..], [(Kind::Grace, day(16)), (Kind::Ended, day(20))]);
    }

    /// Every reason that the table may contain.
    #[test]
    fn every_reason_has_its_kind() {
        let kind = |reason: &str| {
            Kind::of(&Usability {
                active: false,
                inactive_reason: Some(reason.to_owned()),
                is_trial: true,
                is_grace_period: true,
            })
        };
        for (expected, reasons) in [
            (Kind::Ended, &["canceled", "ended", "incomplete_expired"][..]),
            (Kind::Paused, &["payment_paused", "paused", "pause_requested", "trial_end_without_payment_method"]),
            (
                Kind::Inactive,
                &[
                    "first_payment_failure",
                    "final_payment_failure",
                    "past_due",
                    "unpaid",
                    "incomplete",
                    "unknown_status",
                ],
            ),
        ] {
            assert!(reasons.iter().all(|reason| kind(reason) == expected), "{expected:?}");
        }
    }
}
