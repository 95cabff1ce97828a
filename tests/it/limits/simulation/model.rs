//! A simple model of the limits of one subscription: changes are processed one by one, in the order of their times.
//! Does not use SQL, batches, marks or corrections.

use std::collections::BTreeMap;

use time::{Month, OffsetDateTime};

use super::life::{Change, DAY, Life, State};

/// A closed period of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) outcome: &'static str,
    pub(super) included: Option<i64>,
    pub(super) spillover: i64,
    pub(super) used: Use,
    pub(super) spilled_over: i64,
    pub(super) expired: i64,
}

/// The open period, after the closed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) start: i64,
    /// `None`: there are no more renewals.
    pub(super) end: Option<i64>,
    pub(super) included: Option<i64>,
    pub(super) spillover: i64,
    pub(super) used: Use,
}

/// A limit: its closed periods, and the open one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) closed: Vec<Closed>,
    pub(super) open: Open,
}

/// The usage of a period, and the part of it that was taken from the bonus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) all: i64,
    pub(super) of_bonus: i64,
}

/// The sum over all items for a key; the outer `None` means that no item has the key, the inner one unlimited.
#[expect(clippy::option_option, reason = "a missing limit differs from an unlimited one")]
pub(super) fn included(of: &Change, key: &str) -> Option<Option<i64>> {
    let seats = (of.seats > 0).then_some(of.seats * if key == "words" { 20 } else { 2 });
    match (plan_includes(of.price, key), seats) {
        (Some(None), _) => Some(None),
        (None, None) => None,
        (plan, seats) => Some(Some(plan.flatten().unwrap_or(0) + seats.unwrap_or(0))),
    }
}

#[expect(clippy::option_option, reason = "a missing limit differs from an unlimited one")]
fn plan_includes(price: &str, key: &str) -> Option<Option<i64>> {
    match (price, key) {
        ("small", "words") => Some(Some(100)),
        ("basic", "words") => Some(Some(250)),
        ("big", "words") => Some(Some(1000)),
        ("endless", "words") => Some(None),
        ("big", "images") => Some(Some(9)),
        ("endless", "images") => Some(Some(50)),
        _ => None,
    }
}

/// The time this many months after the anchor: on its day, or on the last day of a shorter month.
pub(super) fn months_later(anchor: i64, months: i64) -> i64 {
    let anchor = OffsetDateTime::from_unix_timestamp(anchor).unwrap();
    let month = i64::from(anchor.year()) * 12 + i64::from(u8::from(anchor.month())) - 1 + months;
    let year = i32::try_from(month / 12).unwrap();
    let month = Month::try_from(u8::try_from(month % 12).unwrap() + 1).unwrap();
    let day = anchor.day().min(month.length(year));
    let first = anchor.replace_day(1).unwrap().replace_year(year).unwrap().replace_month(month).unwrap();
    first.replace_day(day).unwrap().unix_timestamp()
}

fn next_month(anchor: i64, after: i64) -> i64 {
    (0..1200).map(|months| months_later(anchor, months)).find(|at| *at > after).unwrap()
}

/// The renewals of a subscription until its end or the horizon, and whether each is an anchor.
pub(super) fn renewals(life: &Life, by_anchor: bool, horizon: i64) -> Vec<(i64, bool)> {
    let start = life.changes[0].at;
    let last = life.ended().map_or(horizon, |end| end.min(horizon));
    let (mut base, mut awaited) = (start, None);
    let mut changes = life.changes.iter().filter(|change| by_anchor && change.at <= last).peekable();
    let mut now = start;
    let mut found = Vec::new();
    let mut known = None;
    loop {
        while let Some(change) = changes.next_if(|change| change.at <= now) {
            if known.replace(change.anchor) == Some(change.anchor) {
                continue;
            }
            if change.anchor <= change.at {
                if change.anchor > start && found.last().is_none_or(|(at, _)| *at < change.anchor) {
                    found.push((change.anchor, true));
                }
                (base, awaited) = (change.anchor, None);
            } else {
                awaited = Some(change.anchor);
            }
        }
        let month = next_month(base, now);
        let next = awaited.map_or(month, |anchor: i64| anchor.min(month));
        // a change before it may set another anchor
        if let Some(change) = changes.peek().filter(|change| change.at <= next) {
            now = change.at;
            if now == next {
                // both at once: the pending anchor comes first
                let is_anchor = awaited == Some(next);
                found.push((next, is_anchor));
                if is_anchor {
                    (base, awaited) = (next, None);
                }
            }
            continue;
        }
        if next > last {
            return found;
        }
        let is_anchor = awaited == Some(next);
        found.push((next, is_anchor));
        if is_anchor {
            (base, awaited) = (next, None);
        }
        now = next;
    }
}

impl Life {
    /// The state just before this time; for earlier times the first state.
    pub(super) fn before(&self, at: i64) -> &Change {
        self.changes.iter().rev().find(|change| change.at < at).unwrap_or(&self.changes[0])
    }

    /// The changes until this time.
    fn until(&self, horizon: i64) -> Self {
        let changes = self.changes.iter().filter(|change| change.at <= horizon).cloned().collect();
        Self { changes, ..self.clone() }
    }

    fn exactly(&self, at: i64) -> Option<&Change> {
        self.changes.iter().find(|change| change.at == at)
    }

    pub(super) fn ended(&self) -> Option<i64> {
        self.changes.iter().find(|change| change.state == State::Ended).map(|change| change.at)
    }
}

/// The account of a limit at `horizon`, computed from the usage of each period (by its start); `None` if the
/// subscription never had this limit.
pub(super) fn account(
    life: &Life,
    by_anchor: bool,
    key: &str,
    used: &BTreeMap<i64, Use>,
    horizon: i64,
) -> Option<Account> {
    // future changes have no effect
    let life = &life.until(horizon);
    let had = life.changes.iter().find(|change| included(change, key).is_some())?;
    let renewals = renewals(life, by_anchor, horizon);
    let begin = renewals.iter().map(|(at, _)| *at).rfind(|at| *at <= had.at).unwrap_or(life.changes[0].at);
    let mut open = Open { start: begin, end: None, included: None, spillover: 0, used: Use::default() };
    let mut closed = Vec::new();
    for (end, is_anchor) in renewals.into_iter().filter(|(at, _)| *at > begin) {
        let state = life.before(end);
        let includes = included(state, key).unwrap_or(Some(0));
        let outcome = match state.state {
            State::Paused | State::Suspended | State::Unpaid | State::Ended => "inactive",
            State::Trial if is_anchor => "trial_end",
            State::Active | State::PastDue | State::Trial => "renewed",
        };
        let used = used.get(&open.start).copied().unwrap_or_default();
        let left = includes.map_or(0, |includes| (includes + open.spillover - (used.all - used.of_bonus)).max(0));
        let mut spilled_over = includes.map_or(0, |includes| left.min(includes));
        // a plan change exactly at the renewal counts for the new period
        if let Some(Some(cap)) = life.exactly(end).map(|change| included(change, key).unwrap_or(Some(0))) {
            spilled_over = spilled_over.min(cap);
        }
        if outcome != "renewed" {
            spilled_over = 0;
        }
        let (start, spillover) = (open.start, open.spillover);
        closed.push(Closed {
            start,
            end,
            outcome,
            included: includes,
            spillover,
            used,
            spilled_over,
            expired: left - spilled_over,
        });
        (open.start, open.spillover) = (end, spilled_over);
    }
    open.used = used.get(&open.start).copied().unwrap_or_default();
    open.included = included(life.before(horizon + 1), key).unwrap_or(Some(0));
    if life.ended().is_none() {
        let far = horizon + 100 * DAY;
        open.end = self::renewals(life, by_anchor, far).into_iter().map(|(at, _)| at).find(|at| *at > open.start);
    }
    Some(Account { closed, open })
}

/// The amount that `consume` must grant without the bonus; `None` is unlimited.
pub(super) fn left_of_plan(open: &Open) -> Option<i64> {
    open.included.map(|included| (included + open.spillover - (open.used.all - open.used.of_bonus)).max(0))
}
