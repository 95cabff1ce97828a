//! The lives of subscriptions as Stripe reports them: webhooks, each with the state that the subscription had then.
//!
//! What an event leaves unsaid is what the worker has to find out: since when it counts. Every kind of boundary that
//! `docs/limits.md` names occurs: renewals, phases of schedules, trials, pauses with a planned end, and ends.

use fastrand::Rng;
use serde_json::{Value, json};

use super::life::{BEGIN, Change, DAY, DAYS, Life, PRICES, SEAT, State};
use super::model::months_later;
use crate::support::events::{START, customer, event, previous, subscription, with};

/// A life, and the webhooks that report it with the time of their creation.
pub(super) struct Story {
    pub(super) life: Life,
    pub(super) events: Vec<(i64, Value)>,
}

/// What an event shows for the first time.
#[derive(Debug, Clone)]
enum Shown {
    /// The subscription is this now; it was so since the time of the change.
    Change(Change, How),
    /// The items are in the period that began then.
    Period(i64),
    /// Something that makes no difference to limits.
    Note,
}

/// In which way a change is made, which decides what its event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// By hand: the event is made at once, and names no boundary.
    ByHand,
    /// With the period that begins then.
    AtPeriod,
    /// With the trial that ends then.
    AtTrialEnd,
    /// By a schedule, whose phase begins then.
    ByPhase,
    /// At the time that was planned when collection was paused.
    AsPlanned,
}

/// A subscription in the making.
struct Making<'a> {
    rng: &'a mut Rng,
    now: Change,
    start: i64,
    by_anchor: bool,
    /// Months from here are the periods that Stripe bills; yearly plans have every twelfth.
    anchor: i64,
    months: i64,
    /// The last event was made then: the next change comes after it.
    free: i64,
    changes: Vec<Change>,
    shown: Vec<(i64, Vec<Shown>)>,
    /// When the pauses end that were planned to end.
    resumes: Vec<(i64, i64)>,
    schedules: Vec<(i64, Value)>,
}

/// Whether it is so close to the noon of a day that the test looks while an event is on its way.
fn is_near_noon(at: i64) -> bool {
    (at - BEGIN - DAY / 2 + 300).rem_euclid(DAY) < 600
}

fn away_from_noon(at: i64) -> i64 {
    if is_near_noon(at) { at + 900 } else { at }
}

/// A life of a workspace, which has that id, and its successor where it ends early enough.
pub(super) fn stories(of: (usize, &str), by_anchor: bool, rng: &mut Rng) -> Vec<Story> {
    let workspace = of.0;
    // ends of months are where months are short
    let late = rng.u8(0..3) == 0;
    let start = BEGIN + if late { 30 * DAY + rng.i64(-2 * DAY..DAY) } else { rng.i64(0..120 * DAY) };
    let first = story(&format!("sub_{workspace}_a"), of, start, by_anchor, rng);
    let again = first.life.ended().filter(|end| *end < BEGIN + 600 * DAY).map(|end| end + rng.i64(DAY..40 * DAY));
    let second = again.map(|start| story(&format!("sub_{workspace}_b"), of, start, by_anchor, rng));
    std::iter::once(first).chain(second).collect()
}

/// A life of a workspace from that time on.
fn story(id: &str, of: (usize, &str), start: i64, by_anchor: bool, rng: &mut Rng) -> Story {
    let start = away_from_noon(start);
    let (price, seats) = (PRICES[rng.usize(0..4)], if rng.bool() { 0 } else { rng.i64(1..6) });
    let trial = (rng.u8(0..3) == 0).then(|| match rng.usize(0..6) {
        // seconds before the limits renew
        4 | 5 if !by_anchor => months_later(start, rng.i64(1..3)) - rng.i64(0..6),
        days => start + [7, 14, 30, 61][days % 4] * DAY,
    });
    // by the start, Stripe's own periods may be others than those of the limits
    let anchor = trial.unwrap_or(if by_anchor || rng.u8(0..4) > 0 { start } else { start + rng.i64(1..28) * DAY });
    let state = if trial.is_some() { State::Trial } else { State::Active };
    let now = Change { at: start, lag: 0, state, price, seats, anchor };
    let mut making = Making {
        months: if !by_anchor && rng.u8(0..5) == 0 { 12 } else { 1 },
        rng,
        now: now.clone(),
        start,
        by_anchor,
        anchor,
        free: start,
        changes: vec![now],
        shown: Vec::new(),
        resumes: Vec::new(),
        schedules: Vec::new(),
    };
    if let Some(end) = trial {
        making.end_trial(end);
    }
    while making.now.state != State::Ended && making.free < BEGIN + DAYS * DAY {
        making.go_on();
    }
    making.report(id, of)
}

impl Making<'_> {
    /// The period that it is in at that time began then.
    fn period(&self, at: i64) -> i64 {
        let periods = (0..1200).map(|number| months_later(self.anchor, number * self.months));
        periods.take_while(|period| *period <= at).last().unwrap_or(self.start)
    }

    /// The first period after that time.
    fn next_period(&self, after: i64) -> i64 {
        (0..1200).map(|number| months_later(self.anchor, number * self.months)).find(|period| *period > after).unwrap()
    }

    /// Some seconds before the first renewal of the limits after that time, or then: the event is made after it.
    fn just_before_a_renewal(&mut self, after: i64) -> i64 {
        let by_start = |months| months_later(self.start, months);
        let renewal = (0..1200).map(by_start).find(|at| *at > after).filter(|_| !self.by_anchor);
        renewal.unwrap_or_else(|| self.next_period(after)) - self.rng.i64(0..6)
    }

    /// That time, or a while later where the event of a period may be on its way.
    fn after_the_events_of_a_period(&self, at: i64) -> i64 {
        let at = away_from_noon(at);
        away_from_noon(if at - self.period(at) < 400 { at + 900 } else { at })
    }

    /// Seconds until the event is made.
    fn lag(&mut self) -> i64 {
        self.rng.i64(1..110)
    }

    fn end_trial(&mut self, end: i64) {
        // Stripe pauses a trial that ends without a payment method, where it was asked to
        let state = if self.rng.u8(0..4) == 0 { State::Suspended } else { State::Active };
        let lag = self.lag();
        self.show(Change { at: end, state, ..self.now.clone() }, How::AtTrialEnd, lag);
    }

    /// The next change, with the renewals until then.
    fn go_on(&mut self) {
        let mut at = self.free + self.rng.i64(DAY..110 * DAY);
        let mut next = self.now.clone();
        let mut how = How::ByHand;
        let choice = self.rng.u8(0..28);
        match choice {
            0 => next.state = State::Ended,
            1..=4 => next.state = State::Paused,
            5 => next.state = State::Unpaid,
            6 => next.state = State::PastDue,
            7..=12 => next.price = PRICES[self.rng.usize(0..4)],
            13..=15 => next.seats = self.rng.i64(0..6),
            16..=18 => (next.price, next.seats) = (PRICES[self.rng.usize(0..4)], self.rng.i64(0..3)),
            19..=20 if self.by_anchor => (next.anchor, next.state) = (at, State::Active),
            _ => next.state = State::Active,
        }
        // who was not active for Stripe is so from the event on
        let is_billed = !matches!(self.now.state, State::Unpaid | State::Suspended);
        if !is_billed {
            next.anchor = self.now.anchor;
        }
        let same_state = next.state == self.now.state;
        let same_items = (next.price, next.seats) == (self.now.price, self.now.seats);
        if same_state && same_items && next.anchor == self.now.anchor {
            self.renew_until(at);
            self.free = self.free.max(at);
            return;
        }
        let at_the_period = self.rng.bool();
        match self.rng.u8(0..4) {
            _ if next.anchor != self.now.anchor => how = How::AtPeriod,
            0 if is_billed && (!same_items || next.state == State::Ended) => {
                at = self.next_period(self.free + DAY);
                how = How::AtPeriod;
            }
            1 if is_billed && !same_items && same_state => {
                how = How::ByPhase;
                if at_the_period {
                    at = self.just_before_a_renewal(self.free + DAY);
                }
            }
            _ => {}
        }
        if how == How::ByHand || next.anchor != self.now.anchor || !at_the_period && how == How::ByPhase {
            at = self.after_the_events_of_a_period(at);
        }
        self.renew_until(at - 1);
        let lag = if how == How::ByHand && next.state != State::Ended { 0 } else { self.lag() };
        next.at = at;
        if next.anchor != self.now.anchor {
            (self.anchor, next.anchor) = (at, at);
        }
        let planned = next.state == State::Paused && self.now.state != State::Paused && self.rng.u8(0..3) > 0;
        if how == How::ByPhase {
            self.plan(&next);
        }
        self.show(next.clone(), how, lag);
        if planned {
            let far = at + self.rng.i64(2..80) * DAY;
            let is_close = self.rng.bool();
            let end = if is_close { self.just_before_a_renewal(far) } else { self.after_the_events_of_a_period(far) };
            self.resumes.push((at, end));
            self.renew_until(end - 1);
            let lag = self.lag();
            self.show(Change { at: end, state: State::Active, ..next }, How::AsPlanned, lag);
        }
    }

    /// Makes a schedule some days before its phase begins.
    fn plan(&mut self, next: &Change) {
        let items = |change: &Change| {
            let (prices, quantities) = change.items();
            let items = prices.iter().zip(quantities);
            items.map(|(price, quantity)| json!({ "price": price, "quantity": quantity })).collect::<Vec<_>>()
        };
        let made = (self.free + 1).max(next.at - self.rng.i64(1..20) * DAY);
        let phases = json!([
            { "start_date": made, "end_date": next.at, "items": items(&self.now) },
            { "start_date": next.at, "end_date": next.at + 400 * DAY, "items": items(next) },
        ]);
        self.schedules.push((made, phases));
    }

    /// The events of the periods that begin until that time.
    fn renew_until(&mut self, until: i64) {
        // Stripe does not bill what it has paused
        while self.now.state != State::Suspended {
            let last = self.shown.iter().rev().find_map(|(_, all)| {
                all.iter().find_map(|one| if let Shown::Period(at) = one { Some(*at) } else { None })
            });
            let period = self.next_period(last.unwrap_or(self.start).max(self.start));
            if period > until {
                return;
            }
            let made = period + self.lag();
            self.shown.push((made, vec![Shown::Period(period)]));
            self.free = self.free.max(made);
        }
    }

    fn show(&mut self, change: Change, how: How, lag: i64) {
        let at = change.at;
        let made = at + lag;
        if lag > 2 && self.rng.bool() {
            self.shown.push((at + lag / 2, vec![Shown::Note]));
        }
        let moves = match how {
            How::AtPeriod => change.state != State::Ended,
            How::AtTrialEnd => change.state != State::Suspended,
            _ => false,
        };
        // who resumes enters a period that may have begun long before
        let resumes = self.now.state == State::Suspended && !matches!(change.state, State::Suspended | State::Ended);
        let period = (moves || resumes).then(|| Shown::Period(self.period(at)));
        // somebody clicks twice within a second: only the last one counts. Neither of these plans has a limit that no other has
        let first = ["small", "basic"].into_iter().find(|price| ![change.price, self.now.price].contains(price));
        if let Some(price) = first.filter(|_| lag == 0 && self.rng.u8(0..2) == 0) {
            let first = Change { at, price, ..self.now.clone() };
            self.shown.push((made, vec![Shown::Change(first, how)]));
        }
        self.shown.push((made, period.into_iter().chain([Shown::Change(change.clone(), how)]).collect()));
        if !moves && how != How::ByHand && change.state != State::Ended {
            // the period may begin while the event is on its way
            self.renew_until(made);
        }
        self.free = self.free.max(made);
        self.changes.push(change.clone());
        self.now = change;
    }

    /// The webhooks, in the order of their creation.
    fn report(mut self, id: &str, (workspace, uuid): (usize, &str)) -> Story {
        self.shown.sort_by_key(|(made, _)| *made);
        let payer = format!("cus_{id}");
        let mut object = with(
            &subscription(id, &payer),
            json!({ "created": self.start, "start_date": self.start,
            "metadata": { "workspace_id": uuid } }),
        );
        let mut events = Vec::new();
        let first = self.changes[0].clone();
        self.paint(&mut object, &first, How::ByHand);
        set_period(&mut object, self.start);
        let mut number = 0;
        let mut add = |made: i64, kind: &str, object: &Value, before: Option<Value>, events: &mut Vec<(i64, Value)>| {
            number += 1;
            events.push((made, event(&format!("evt_{id}_{number}"), kind, made - START, object, before)));
        };
        add(self.start, "customer.created", &customer(&payer, id), None, &mut events);
        add(self.start, "customer.subscription.created", &object, None, &mut events);
        for (made, all) in std::mem::take(&mut self.shown) {
            let before = object.clone();
            let mut kind = "customer.subscription.updated";
            for one in all {
                match one {
                    Shown::Note => object["metadata"]["note"] = made.to_string().into(),
                    Shown::Period(at) => set_period(&mut object, at),
                    Shown::Change(change, how) => {
                        self.paint(&mut object, &change, how);
                        if change.state == State::Ended {
                            kind = "customer.subscription.deleted";
                        }
                    }
                }
            }
            let before = (kind != "customer.subscription.deleted").then(|| previous(&before, &object));
            add(made, kind, &object, before, &mut events);
        }
        for (place, (made, phases)) in self.schedules.iter().enumerate() {
            let schedule = json!({ "id": format!("sched_{id}_{place}"), "object": "subscription_schedule", "customer": payer,
                "status": "active", "subscription": id, "livemode": false, "end_behavior": "release",
                "current_phase": null, "phases": phases });
            add(*made, "subscription_schedule.created", &schedule, None, &mut events);
        }
        let life = Life { id: id.to_owned(), workspace, changes: self.changes };
        Story { life, events }
    }

    /// Writes what a change makes of it into the object.
    fn paint(&self, object: &mut Value, change: &Change, how: How) {
        let (prices, quantities) = change.items();
        let start = object["items"]["data"][0]["current_period_start"].clone();
        let items = prices.iter().zip(quantities).map(|(price, quantity)| {
            json!({ "id": if *price == SEAT { "si_seat" } else { "si_plan" }, "object": "subscription_item", "created": self.start,
                "quantity": quantity, "price": price_object(price), "current_period_start": start })
        });
        object["items"]["data"] = items.collect();
        let (status, is_paused) = change.state.status();
        object["status"] = status.into();
        object["billing_cycle_anchor"] = change.anchor.into();
        object["trial_end"] =
            if change.state == State::Trial { self.anchor.into() } else { object["trial_end"].clone() };
        let resumes_at = self.resumes.iter().find(|(at, _)| *at == change.at).map(|(_, end)| *end);
        let pause = json!({ "behavior": "void", "resumes_at": resumes_at });
        object["pause_collection"] = match (is_paused, object["pause_collection"].is_null()) {
            (false, _) => Value::Null,
            (true, false) => object["pause_collection"].clone(),
            (true, true) => pause,
        };
        if change.state == State::Suspended && how == How::AtTrialEnd {
            object["status_details"] = json!({ "paused": { "transitioned_at": change.at,
                "subscription": { "type": "trial_end_without_payment_method" } } });
        }
        object["ended_at"] = if change.state == State::Ended { change.at.into() } else { Value::Null };
    }
}

fn set_period(object: &mut Value, at: i64) {
    for item in object["items"]["data"].as_array_mut().unwrap() {
        item["current_period_start"] = at.into();
        item["current_period_end"] = (at + 31 * DAY).into();
    }
}

/// A price with its limits as metadata: those that the model knows.
fn price_object(price: &str) -> Value {
    let metadata = match price {
        "small" => json!({ "limit_words": "100" }),
        "basic" => json!({ "limit_words": "250" }),
        "big" => json!({ "limit_words": "1000", "limit_images": "9" }),
        "endless" => json!({ "limit_words": "unlimited", "limit_images": "50" }),
        SEAT => json!({ "limit_words_per_unit": "20", "limit_images_per_unit": "2" }),
        _ => panic!("{price}"),
    };
    json!({ "id": price, "object": "price", "active": true, "currency": "eur", "unit_amount": 100, "livemode": false,
        "type": "recurring", "recurring": { "interval": "month", "interval_count": 1, "usage_type": "licensed" },
        "metadata": metadata })
}
