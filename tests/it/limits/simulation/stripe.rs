//! Histories of subscriptions as Stripe reports them: webhooks, each with the state of the subscription at that time.
//!
//! Events do not contain the time from which a change counts, so the worker must derive it. Every kind of boundary in
//! `docs/limits.md` occurs: renewals, phases of schedules, trials, pauses with a planned end, and ends.

use fastrand::Rng;
use serde_json::{Value, json};

use super::life::{BEGIN, Change, DAY, DAYS, Life, PRICES, SEAT, State};
use super::model::months_later;
use crate::support::events::{START, customer, event, previous, subscription, with};

/// A history, and its webhooks with their creation times.
pub(super) struct Story {
    pub(super) life: Life,
    pub(super) events: Vec<(i64, Value)>,
}

/// News in an event.
#[derive(Debug, Clone)]
enum Shown {
    /// The new state of the subscription, in effect since the time of the change.
    Change(Change, Cause),
    /// The items are in the period that began at this time.
    Period(i64),
    /// A change without effect on limits.
    Note,
}

/// The cause of a change, which determines the content of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// By hand: the event is created at once and contains no boundary.
    ByHand,
    /// With the period that begins at this time.
    AtPeriod,
    /// With the trial that ends at this time.
    AtTrialEnd,
    /// By a schedule whose phase begins at this time.
    ByPhase,
    /// At the end that was planned with the pause of collection.
    AsPlanned,
}

/// Builds the history of a subscription and its webhooks.
struct Builder<'a> {
    rng: &'a mut Rng,
    now: Change,
    start: i64,
    by_anchor: bool,
    /// Stripe bills in months from here on, yearly plans in every twelfth.
    anchor: i64,
    months: i64,
    /// Time of the last event; the next change comes after it.
    last_event: i64,
    changes: Vec<Change>,
    shown: Vec<(i64, Vec<Shown>)>,
    /// Start and planned end of each pause.
    resumes: Vec<(i64, i64)>,
    schedules: Vec<(i64, Value)>,
}

/// Whether an event may still be on its way when the test compares at noon.
fn is_near_noon(at: i64) -> bool {
    (at - BEGIN - DAY / 2 + 300).rem_euclid(DAY) < 600
}

fn away_from_noon(at: i64) -> i64 {
    if is_near_noon(at) { at + 900 } else { at }
}

/// A subscription of a workspace with this id, and a successor if it ends early enough.
pub(super) fn stories(of: (usize, &str), by_anchor: bool, rng: &mut Rng) -> Vec<Story> {
    let workspace = of.0;
    // near the ends of months
    let late = rng.u8(0..3) == 0;
    let start = BEGIN + if late { 30 * DAY + rng.i64(-2 * DAY..DAY) } else { rng.i64(0..120 * DAY) };
    let first = story(&format!("sub_{workspace}_a"), of, start, by_anchor, rng);
    let successor = first.life.ended().filter(|end| *end < BEGIN + 600 * DAY).map(|end| end + rng.i64(DAY..40 * DAY));
    let second = successor.map(|start| story(&format!("sub_{workspace}_b"), of, start, by_anchor, rng));
    std::iter::once(first).chain(second).collect()
}

/// A subscription of a workspace from this time on.
fn story(id: &str, of: (usize, &str), start: i64, by_anchor: bool, rng: &mut Rng) -> Story {
    let start = away_from_noon(start);
    let (price, seats) = (PRICES[rng.usize(0..4)], if rng.bool() { 0 } else { rng.i64(1..6) });
    let trial = (rng.u8(0..3) == 0).then(|| match rng.usize(0..6) {
        // seconds before the limits renew
        4 | 5 if !by_anchor => months_later(start, rng.i64(1..3)) - rng.i64(0..6),
        days => start + [7, 14, 30, 61][days % 4] * DAY,
    });
    // by subscription start, the periods of Stripe and of the limits may differ
    let anchor = trial.unwrap_or(if by_anchor || rng.u8(0..4) > 0 { start } else { start + rng.i64(1..28) * DAY });
    let state = if trial.is_some() { State::Trial } else { State::Active };
    let now = Change { at: start, lag: 0, state, price, seats, anchor };
    let mut builder = Builder {
        months: if !by_anchor && rng.u8(0..5) == 0 { 12 } else { 1 },
        rng,
        now: now.clone(),
        start,
        by_anchor,
        anchor,
        last_event: start,
        changes: vec![now],
        shown: Vec::new(),
        resumes: Vec::new(),
        schedules: Vec::new(),
    };
    if let Some(end) = trial {
        builder.end_trial(end);
    }
    while builder.now.state != State::Ended && builder.last_event < BEGIN + DAYS * DAY {
        builder.add_change();
    }
    builder.report(id, of)
}

impl Builder<'_> {
    /// The start of the period at this time.
    fn period(&self, at: i64) -> i64 {
        let periods = (0..1200).map(|number| months_later(self.anchor, number * self.months));
        periods.take_while(|period| *period <= at).last().unwrap_or(self.start)
    }

    /// The start of the first period after this time.
    fn next_period(&self, after: i64) -> i64 {
        (0..1200).map(|number| months_later(self.anchor, number * self.months)).find(|period| *period > after).unwrap()
    }

    /// Up to 5 seconds before the first renewal of the limits after this time; the event is created after the renewal.
    fn just_before_a_renewal(&mut self, after: i64) -> i64 {
        let by_start = |months| months_later(self.start, months);
        let renewal = (0..1200).map(by_start).find(|at| *at > after).filter(|_| !self.by_anchor);
        renewal.unwrap_or_else(|| self.next_period(after)) - self.rng.i64(0..6)
    }

    /// This time, or later if the event of a period may still be on its way.
    fn after_the_events_of_a_period(&self, at: i64) -> i64 {
        let at = away_from_noon(at);
        away_from_noon(if at - self.period(at) < 400 { at + 900 } else { at })
    }

    /// Seconds until the event is created.
    fn lag(&mut self) -> i64 {
        self.rng.i64(1..110)
    }

    fn end_trial(&mut self, end: i64) {
        // Stripe pauses a trial that ends without a payment method, if so configured
        let state = if self.rng.u8(0..4) == 0 { State::Suspended } else { State::Active };
        let lag = self.lag();
        self.show(Change { at: end, state, ..self.now.clone() }, Cause::AtTrialEnd, lag);
    }

    /// Adds the next change, with the renewals before it.
    fn add_change(&mut self) {
        let mut at = self.last_event + self.rng.i64(DAY..110 * DAY);
        let mut next = self.now.clone();
        let mut cause = Cause::ByHand;
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
        // a subscription that Stripe did not bill becomes active with the event
        let is_billed = !matches!(self.now.state, State::Unpaid | State::Suspended);
        if !is_billed {
            next.anchor = self.now.anchor;
        }
        let same_state = next.state == self.now.state;
        let same_items = (next.price, next.seats) == (self.now.price, self.now.seats);
        if same_state && same_items && next.anchor == self.now.anchor {
            self.renew_until(at);
            self.last_event = self.last_event.max(at);
            return;
        }
        let at_the_period = self.rng.bool();
        match self.rng.u8(0..4) {
            _ if next.anchor != self.now.anchor => cause = Cause::AtPeriod,
            0 if is_billed && (!same_items || next.state == State::Ended) => {
                at = self.next_period(self.last_event + DAY);
                cause = Cause::AtPeriod;
            }
            1 if is_billed && !same_items && same_state => {
                cause = Cause::ByPhase;
                if at_the_period {
                    at = self.just_before_a_renewal(self.last_event + DAY);
                }
            }
            _ => {}
        }
        if cause == Cause::ByHand || next.anchor != self.now.anchor || !at_the_period && cause == Cause::ByPhase {
            at = self.after_the_events_of_a_period(at);
        }
        self.renew_until(at - 1);
        let lag = if cause == Cause::ByHand && next.state != State::Ended { 0 } else { self.lag() };
        next.at = at;
        if next.anchor != self.now.anchor {
            (self.anchor, next.anchor) = (at, at);
        }
        let planned = next.state == State::Paused && self.now.state != State::Paused && self.rng.u8(0..3) > 0;
        if cause == Cause::ByPhase {
            self.plan(&next);
        }
        self.show(next.clone(), cause, lag);
        if planned {
            let far = at + self.rng.i64(2..80) * DAY;
            let is_close = self.rng.bool();
            let end = if is_close { self.just_before_a_renewal(far) } else { self.after_the_events_of_a_period(far) };
            self.resumes.push((at, end));
            self.renew_until(end - 1);
            let lag = self.lag();
            self.show(Change { at: end, state: State::Active, ..next }, Cause::AsPlanned, lag);
        }
    }

    /// Adds a schedule, created some days before its phase begins.
    fn plan(&mut self, next: &Change) {
        let items = |change: &Change| {
            let (prices, quantities) = change.items();
            let items = prices.iter().zip(quantities);
            items.map(|(price, quantity)| json!({ "price": price, "quantity": quantity })).collect::<Vec<_>>()
        };
        let made = (self.last_event + 1).max(next.at - self.rng.i64(1..20) * DAY);
        let phases = json!([
            { "start_date": made, "end_date": next.at, "items": items(&self.now) },
            { "start_date": next.at, "end_date": next.at + 400 * DAY, "items": items(next) },
        ]);
        self.schedules.push((made, phases));
    }

    /// Adds the events of the periods that begin until this time.
    fn renew_until(&mut self, until: i64) {
        // Stripe does not bill a paused subscription
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
            self.last_event = self.last_event.max(made);
        }
    }

    fn show(&mut self, change: Change, cause: Cause, lag: i64) {
        let at = change.at;
        let made = at + lag;
        if lag > 2 && self.rng.bool() {
            self.shown.push((at + lag / 2, vec![Shown::Note]));
        }
        let moves = match cause {
            Cause::AtPeriod => change.state != State::Ended,
            Cause::AtTrialEnd => change.state != State::Suspended,
            _ => false,
        };
        // a resumed subscription enters a period that may have begun long before
        let resumes = self.now.state == State::Suspended && !matches!(change.state, State::Suspended | State::Ended);
        let period = (moves || resumes).then(|| Shown::Period(self.period(at)));
        // two plan changes within a second: only the last one counts. The keys of these plans occur in all other plans
        // too
        let first = ["small", "basic"].into_iter().find(|price| ![change.price, self.now.price].contains(price));
        if let Some(price) = first.filter(|_| lag == 0 && self.rng.u8(0..2) == 0) {
            let first = Change { at, price, ..self.now.clone() };
            self.shown.push((made, vec![Shown::Change(first, cause)]));
        }
        self.shown.push((made, period.into_iter().chain([Shown::Change(change.clone(), cause)]).collect()));
        if !moves && cause != Cause::ByHand && change.state != State::Ended {
            // the period may begin before the event is created
            self.renew_until(made);
        }
        self.last_event = self.last_event.max(made);
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
        self.apply_change(&mut object, &first, Cause::ByHand);
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
                    Shown::Change(change, cause) => {
                        self.apply_change(&mut object, &change, cause);
                        if change.state == State::Ended {
                            kind = "customer.subscription.deleted";
                        }
                    }
                }
            }
            let before = (kind != "customer.subscription.deleted").then(|| previous(&before, &object));
            add(made, kind, &object, before, &mut events);
        }
        for (number, (made, phases)) in self.schedules.iter().enumerate() {
            let schedule = json!({ "id": format!("sched_{id}_{number}"), "object": "subscription_schedule", "customer": payer,
                "status": "active", "subscription": id, "livemode": false, "end_behavior": "release",
                "current_phase": null, "phases": phases });
            add(*made, "subscription_schedule.created", &schedule, None, &mut events);
        }
        let life = Life { id: id.to_owned(), workspace, changes: self.changes };
        Story { life, events }
    }

    /// Writes a change into the object.
    fn apply_change(&self, object: &mut Value, change: &Change, cause: Cause) {
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
        if change.state == State::Suspended && cause == Cause::AtTrialEnd {
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

/// A price with the limits of the model as metadata.
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
