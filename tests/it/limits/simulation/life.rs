//! Generated histories of subscriptions over two years: the states of each, with their start times.

use fastrand::Rng;

pub(super) const DAY: i64 = 86_400;

/// 2027-01-01T00:00:00Z: the two years have a 29 February.
pub(super) const BEGIN: i64 = 1_798_761_600;
pub(super) const DAYS: i64 = 730;

/// State of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Trial,
    Active,
    PastDue,
    Unpaid,
    Paused,
    /// Status `paused`, not only a pause of collection.
    Suspended,
    Ended,
}

impl State {
    /// Whether the product may use it.
    pub(super) fn is_active(self) -> bool {
        matches!(self, Self::Trial | Self::Active | Self::PastDue)
    }

    /// Stripe's status, and whether collection is paused.
    pub(super) fn status(self) -> (&'static str, bool) {
        match self {
            Self::Trial => ("trialing", false),
            Self::Active => ("active", false),
            Self::PastDue => ("past_due", false),
            Self::Unpaid => ("unpaid", false),
            Self::Paused => ("active", true),
            Self::Suspended => ("paused", false),
            Self::Ended => ("canceled", false),
        }
    }
}

/// State of the subscription from a time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: i64,
    /// Seconds until its event is created.
    pub(super) lag: i64,
    pub(super) state: State,
    /// The price of its plan.
    pub(super) price: &'static str,
    /// The quantity of a second item, whose price has limits per unit; 0: there is no such item.
    pub(super) seats: i64,
    pub(super) anchor: i64,
}

impl Change {
    /// Prices and quantities of the items.
    pub(super) fn items(&self) -> (Vec<&'static str>, Vec<i64>) {
        let seats = (self.seats > 0).then_some((SEAT, self.seats));
        seats.into_iter().chain([(self.price, 1)]).unzip()
    }
}

/// A subscription of a workspace, with its changes in the order of their times, which all differ.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) id: String,
    pub(super) workspace: usize,
    pub(super) changes: Vec<Change>,
}

/// The price of the second item.
pub(super) const SEAT: &str = "a_seat";

pub(super) const PRICES: [&str; 4] = ["small", "basic", "big", "endless"];

/// A subscription that begins within the first months, and a successor in the same workspace if it ends early enough.
pub(super) fn lives(workspace: usize, by_anchor: bool, rng: &mut Rng) -> Vec<Life> {
    let mut start = BEGIN + rng.i64(0..120 * DAY);
    if rng.u8(0..3) == 0 {
        // near the ends of months
        start = BEGIN + 30 * DAY + rng.i64(-2 * DAY..DAY);
    }
    let mut lives = vec![life(format!("sub_{workspace}_a"), workspace, start, by_anchor, rng)];
    if let Some(end) = lives[0].changes.last().filter(|change| change.state == State::Ended).map(|change| change.at)
        && end < BEGIN + 600 * DAY
    {
        let again = end + rng.i64(DAY..40 * DAY);
        lives.push(life(format!("sub_{workspace}_b"), workspace, again, by_anchor, rng));
    }
    lives
}

fn life(id: String, workspace: usize, start: i64, by_anchor: bool, rng: &mut Rng) -> Life {
    let price = PRICES[rng.usize(0..4)];
    let seats = if rng.bool() { 0 } else { rng.i64(1..6) };
    let mut now = Change { at: start, lag: 0, state: State::Active, price, seats, anchor: start };
    let mut changes = Vec::new();
    if by_anchor && rng.bool() {
        let trial = start + [7, 14, 30, 61][rng.usize(0..4)] * DAY;
        changes.push(Change { state: State::Trial, anchor: trial, ..now.clone() });
        now = Change { at: trial, anchor: trial, ..now };
    }
    changes.push(now.clone());
    while now.at < BEGIN + DAYS * DAY {
        let mut at = now.at + rng.i64(1..120 * DAY);
        if !by_anchor && rng.u8(0..4) == 0 {
            // exactly at a renewal by the subscription's start
            let start_only = Life { id: String::new(), workspace, changes: vec![changes[0].clone()] };
            let renewals = super::model::renewals(&start_only, false, at);
            at = renewals.last().map_or(at, |(renewal, _)| *renewal).max(now.at + 1);
        }
        let mut next = Change { at, lag: if rng.bool() { 0 } else { rng.i64(1..120) }, ..now.clone() };
        match rng.u8(0..24) {
            0 => next.state = State::Ended,
            1..=3 => next.state = State::Paused,
            4 => next.state = State::Unpaid,
            5 => next.state = State::PastDue,
            6..=9 => next.price = PRICES[rng.usize(0..4)],
            20..=21 => next.seats = rng.i64(0..6),
            22 => (next.price, next.seats) = (PRICES[rng.usize(0..4)], rng.i64(0..3)),
            10..=11 if by_anchor => (next.anchor, next.state) = (at, State::Active),
            12 if by_anchor => next.anchor = at + rng.i64(1..25) * DAY,
            _ => next.state = State::Active,
        }
        changes.push(next.clone());
        if next.state == State::Ended {
            break;
        }
        now = next;
    }
    // an event is created before the next change; otherwise it would be the newer one
    for index in 1..changes.len() {
        let gap = changes[index].at - changes[index - 1].at;
        changes[index - 1].lag = changes[index - 1].lag.min(gap - 1);
    }
    Life { id, workspace, changes }
}
