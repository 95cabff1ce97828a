//! The script: who does what and when, how each event is delivered, and what must come of it.
//!
//! Owns every expectation of the demo; that it is a check and not only a show hangs on this file. Dates are fixed and
//! in the past, so that the rows are the same on every run. Must not know HTTP or SQL. PURE.

use serde_json::{Value, json};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::objects::{self, Price};
use super::rows::{ContactRow, Row, SubscriptionRow};
use super::sandbox::{ENDIVE, Event, SUMMER_2024, Sandbox};

const UPDATED: &str = "customer.subscription.updated";

const ADA: &str = "cus_DemoAda";
const ADA_SUB: &str = "sub_DemoAda";
const BO: &str = "cus_DemoBo";
const BO_SUB: &str = "sub_DemoBo";

const CLASSIC: Price = Price { id: "price_DemoClassic", product: "prod_DemoClassic", cents: 900 };
const STARTER: Price = Price { id: "price_DemoStarter", product: "prod_DemoStarter", cents: 1900 };
const TEAM: Price = Price { id: "price_DemoTeam", product: "prod_DemoTeam", cents: 4900 };
const BUSINESS: Price = Price { id: "price_DemoBusiness", product: "prod_DemoBusiness", cents: 9900 };

const SIGN_UP: OffsetDateTime = datetime!(2026-10-29 09:30 UTC);
const TRIAL_END: OffsetDateTime = datetime!(2026-11-05 09:30 UTC);
const PERIOD_END: OffsetDateTime = datetime!(2026-12-05 09:30 UTC);
const BO_LEAVES: OffsetDateTime = datetime!(2026-11-18 14:05 UTC);

/// How an event is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Signed now, with the secret of this run.
    Signed,
    /// The same event once more, with a new signature.
    Again,
    /// Signed with a secret that is not ours.
    Forged,
    /// Truly signed, ten minutes ago.
    Stale,
    /// Without a signature.
    Unsigned,
}

/// What must come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// 200, and the worker settles it so.
    Stored {
        /// The outcome in the outbox.
        outcome: &'static str,
        /// The reason in the outbox.
        reason: Option<&'static str>,
    },
    /// 200: it is there already.
    Known,
    /// 400, with an answer that begins like this.
    Refused(&'static str),
}

/// One request.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) event: Event,
    pub(super) delivery: Delivery,
    pub(super) expected: Expected,
    /// Why it is answered and settled like that, for the reader.
    pub(super) why: &'static str,
}

/// A part of the story: some requests, and what the tables say after them.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) date: &'static str,
    pub(super) title: &'static str,
    pub(super) steps: Vec<Step>,
    pub(super) leaves: Row,
}

/// The whole story, in the order in which it is told.
pub(super) fn acts() -> Vec<Act> {
    let mut sandbox = Sandbox::new(ENDIVE);
    let mut ada = Ada::new();
    let mut acts = vec![
        ada.signs_up(&mut sandbox),
        ada.trial_converts(&mut sandbox),
        ada.upgrades_twice(&mut sandbox),
        ada.is_paused(&mut sandbox),
        ada.is_resumed(&mut sandbox),
        ada.moves_twice(&mut sandbox),
    ];
    let (cancels, captured) = ada.cancels(&mut sandbox);
    acts.extend([cancels, ada.changes_her_mind(&mut sandbox)]);
    acts.extend(bo(&mut sandbox));
    acts.push(ada.strangers(&mut sandbox, captured));
    acts
}

/// Ada's objects at Stripe as they change.
struct Ada {
    customer: Value,
    subscription: Value,
}

impl Ada {
    fn new() -> Self {
        let workspace_id = "5e7a2c1e-90b4-4d0f-8a36-2f1c7d9b4e10";
        let customer = objects::customer(ADA, "Ada Lindqvist", "ada@example.com", SIGN_UP, workspace_id);
        let mut subscription = objects::subscription(ADA_SUB, "si_DemoAda", ADA, &STARTER, (SIGN_UP, TRIAL_END));
        subscription["status"] = json!("trialing");
        subscription["trial_start"] = json!(SIGN_UP.unix_timestamp());
        subscription["trial_end"] = json!(TRIAL_END.unix_timestamp());
        subscription["billing_cycle_anchor"] = json!(TRIAL_END.unix_timestamp());
        objects::item(&mut subscription)["current_trial"] = json!({
            "start_date": SIGN_UP.unix_timestamp(), "end_date": TRIAL_END.unix_timestamp(), "trial_offer": null
        });
        Self { customer, subscription }
    }

    fn signs_up(&self, sandbox: &mut Sandbox) -> Act {
        let customer = sandbox.tell("customer.created", SIGN_UP, &self.customer);
        let subscription = sandbox.tell("customer.subscription.created", SIGN_UP, &self.subscription);
        Act {
            date: "29 Oct 2026",
            title: "Ada signs up, with a trial of seven days",
            steps: vec![
                noticed(subscription, "unknown_customer", "overtakes its customer: no matter"),
                applied(customer, "the customer, known from now on"),
            ],
            leaves: Row::Subscription(SubscriptionRow {
                stripe_status: "trialing".to_owned(),
                is_trial: true,
                next_subscription_cycle_start: Some(TRIAL_END),
                ..on(&STARTER)
            }),
        }
    }

    fn trial_converts(&mut self, sandbox: &mut Sandbox) -> Act {
        let converts = sandbox.update(UPDATED, TRIAL_END, &mut self.subscription, |subscription| {
            subscription["status"] = json!("active");
            subscription["latest_invoice"] = json!("in_DemoAda1");
            let item = objects::item(subscription);
            item["current_trial"] = Value::Null;
            objects::set_period(item, TRIAL_END, PERIOD_END);
        });
        let invoice = objects::invoice("in_DemoAda1", ADA, ADA_SUB, STARTER.cents);
        let paid = sandbox.tell("invoice.paid", TRIAL_END + Duration::minutes(61), &invoice);
        Act {
            date: "5 Nov 2026",
            title: "The trial converts",
            steps: vec![
                applied(converts.clone(), "the first paid month begins"),
                again(converts, "delivered twice, counted once"),
                settled(paid, ("ignored", "unhandled_type"), "kept, no row hangs on it: ignored"),
            ],
            leaves: Row::Subscription(on(&STARTER)),
        }
    }

    /// Both in one second, which is all that Stripe's clock tells: only `previous_attributes` say which came last.
    fn upgrades_twice(&mut self, sandbox: &mut Sandbox) -> Act {
        let at = datetime!(2026-11-09 10:15:20 UTC);
        let mut to = |price| {
            sandbox.update(UPDATED, at, &mut self.subscription, |subscription| {
                objects::set_price(objects::item(subscription), price);
            })
        };
        let team = to(&TEAM);
        let business = to(&BUSINESS);
        Act {
            date: "9 Nov 2026",
            title: "An upgrade to Team and on to Business, within one second",
            steps: vec![
                applied(business, "Team to Business comes first ..."),
                superseded(team, "... then Starter to Team: too late"),
            ],
            leaves: Row::Subscription(on(&BUSINESS)),
        }
    }

    fn is_paused(&mut self, sandbox: &mut Sandbox) -> Act {
        let at = datetime!(2026-11-11 08:00 UTC);
        let paused = sandbox.update(UPDATED, at, &mut self.subscription, |subscription| {
            subscription["pause_collection"] = json!({ "behavior": "void", "resumes_at": null });
        });
        Act {
            date: "11 Nov 2026",
            title: "Payment collection is paused",
            steps: vec![applied(paused, "Stripe stays at active, we do not")],
            leaves: Row::Subscription(SubscriptionRow { active: false, payment_paused: true, ..on(&BUSINESS) }),
        }
    }

    fn is_resumed(&mut self, sandbox: &mut Sandbox) -> Act {
        let at = datetime!(2026-11-13 16:20 UTC);
        let resumed = sandbox.update(UPDATED, at, &mut self.subscription, |subscription| {
            subscription["pause_collection"] = Value::Null;
        });
        Act {
            date: "13 Nov 2026",
            title: "Payment collection is resumed",
            steps: vec![applied(resumed, "usable again")],
            leaves: Row::Subscription(on(&BUSINESS)),
        }
    }

    fn moves_twice(&mut self, sandbox: &mut Sandbox) -> Act {
        let mut moves = |at, address| {
            sandbox.update("customer.updated", at, &mut self.customer, |customer| customer["address"] = address)
        };
        let porto = objects::address("Rua das Flores 12", "4050-265", "Porto", "PT");
        let porto = moves(datetime!(2026-11-14 11:00 UTC), porto);
        let lisbon = objects::address("Rua Augusta 7", "1100-048", "Lisbon", "PT");
        let lisbon = moves(datetime!(2026-11-15 18:45 UTC), lisbon);
        Act {
            date: "15 Nov 2026",
            title: "Ada moves to Porto, then to Lisbon; the news arrives swapped",
            steps: vec![applied(lisbon, "Lisbon, on 15 Nov"), superseded(porto, "Porto, on 14 Nov: superseded")],
            leaves: Row::Contact(in_lisbon()),
        }
    }

    /// The act, and its event, which somebody captures.
    fn cancels(&mut self, sandbox: &mut Sandbox) -> (Act, Event) {
        let at = datetime!(2026-11-16 20:10 UTC);
        let cancels = sandbox.update(UPDATED, at, &mut self.subscription, |subscription| {
            subscription["cancel_at_period_end"] = json!(true);
            subscription["cancel_at"] = json!(PERIOD_END.unix_timestamp());
            subscription["canceled_at"] = json!(at.unix_timestamp());
            subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
        });
        let act = Act {
            date: "16 Nov 2026",
            title: "Ada cancels at the end of the period",
            steps: vec![applied(cancels.clone(), "usable until then: grace period")],
            leaves: Row::Subscription(SubscriptionRow {
                is_grace_period: true,
                end_date: Some(PERIOD_END),
                next_subscription_cycle_start: None,
                ..on(&BUSINESS)
            }),
        };
        (act, cancels)
    }

    fn changes_her_mind(&mut self, sandbox: &mut Sandbox) -> Act {
        let at = datetime!(2026-11-17 07:55 UTC);
        let undone = sandbox.update(UPDATED, at, &mut self.subscription, |subscription| {
            subscription["cancel_at_period_end"] = json!(false);
            subscription["cancel_at"] = Value::Null;
            subscription["canceled_at"] = Value::Null;
            subscription["cancellation_details"]["reason"] = Value::Null;
        });
        Act {
            date: "17 Nov 2026",
            title: "Ada changes her mind",
            steps: vec![applied(undone, "no end is set any more")],
            leaves: Row::Subscription(on(&BUSINESS)),
        }
    }

    /// Nothing of this may be seen in a row.
    fn strangers(&mut self, sandbox: &mut Sandbox, captured: Event) -> Act {
        let at = datetime!(2026-11-19 03:12 UTC);
        let newer = sandbox.tell("customer.subscription.moved", at, &self.subscription);
        let mut forge = |email| {
            sandbox.update("customer.updated", at, &mut self.customer, |customer| customer["email"] = json!(email))
        };
        let forged = forge("mallory@example.net");
        let unsigned = forge("trudy@example.net");
        Act {
            date: "19 Nov 2026",
            title: "What must not become rows",
            steps: vec![
                settled(newer, ("unknown", "unknown_type"), "unheard-of type: kept, not used"),
                refused(forged, Delivery::Forged, "no signature matches", "forged: signed with another secret"),
                refused(unsigned, Delivery::Unsigned, "the stripe-signature header is missing", "not signed at all"),
                refused(captured, Delivery::Stale, "the signature's timestamp", "captured, replayed after 10 min"),
            ],
            leaves: Row::Contact(in_lisbon()),
        }
    }
}

/// Bo's life in two acts: events of two API versions make one row.
fn bo(sandbox: &mut Sandbox) -> [Act; 2] {
    let since = datetime!(2024-07-01 08:00 UTC);
    let period = (since, datetime!(2024-08-01 08:00 UTC));
    let workspace_id = "b1d6f0a3-4c7e-4e58-9d21-6a0e8c35f7d2";
    let customer = objects::customer(BO, "Bo Okafor", "bo@example.com", since, workspace_id);
    let mut subscription = objects::subscription(BO_SUB, "si_DemoBo", BO, &CLASSIC, period);
    let active = SubscriptionRow {
        stripe_subscription_id: BO_SUB.to_owned(),
        trial_ends_at: None,
        next_subscription_cycle_start: Some(period.1),
        ..on(&CLASSIC)
    };

    sandbox.api_version = SUMMER_2024;
    let old_shape = objects::as_in_2024(&subscription);
    let joins = Act {
        date: "1 Jul 2024",
        title: "Bo, a customer of long ago: events as the API of 2024 wrote them",
        steps: vec![
            applied(sandbox.tell("customer.created", since, &customer), "the customer"),
            applied(
                sandbox.tell("customer.subscription.created", since, &old_shape),
                "the period stood elsewhere then",
            ),
        ],
        leaves: Row::Subscription(active.clone()),
    };

    sandbox.api_version = ENDIVE;
    let gone = json!(BO_LEAVES.unix_timestamp());
    subscription["status"] = json!("canceled");
    subscription["canceled_at"] = gone.clone();
    subscription["ended_at"] = gone;
    let item = objects::item(&mut subscription);
    objects::set_period(item, datetime!(2026-11-01 08:00 UTC), datetime!(2026-12-01 08:00 UTC));
    let leaves = Act {
        date: "18 Nov 2026",
        title: "Bo is deleted, and so ends the subscription",
        steps: vec![
            applied(sandbox.tell("customer.deleted", BO_LEAVES, &customer), "the contact stays, with a date"),
            applied(sandbox.tell("customer.subscription.deleted", BO_LEAVES, &subscription), "ended at once"),
        ],
        leaves: Row::Subscription(SubscriptionRow {
            stripe_status: "canceled".to_owned(),
            active: false,
            end_date: Some(BO_LEAVES),
            next_subscription_cycle_start: None,
            ..active
        }),
    };
    [joins, leaves]
}

/// The rows that nothing in the acts may have touched, looked at once more at the end.
pub(super) fn ending() -> Vec<Row> {
    let bo = ContactRow {
        stripe_customer_id: BO.to_owned(),
        name: Some("Bo Okafor".to_owned()),
        email: Some("bo@example.com".to_owned()),
        city: None,
        stripe_deleted_at: Some(BO_LEAVES),
    };
    vec![Row::Subscription(on(&BUSINESS)), Row::Contact(in_lisbon()), Row::Contact(bo)]
}

/// Ada's subscription on an ordinary day of her first paid month.
fn on(price: &Price) -> SubscriptionRow {
    SubscriptionRow {
        stripe_subscription_id: ADA_SUB.to_owned(),
        stripe_status: "active".to_owned(),
        active: true,
        payment_paused: false,
        is_trial: false,
        trial_ends_at: Some(TRIAL_END),
        is_grace_period: false,
        end_date: None,
        next_subscription_cycle_start: Some(PERIOD_END),
        stripe_price_id: Some(price.id.to_owned()),
    }
}

fn in_lisbon() -> ContactRow {
    ContactRow {
        stripe_customer_id: ADA.to_owned(),
        name: Some("Ada Lindqvist".to_owned()),
        email: Some("ada@example.com".to_owned()),
        city: Some("Lisbon".to_owned()),
        stripe_deleted_at: None,
    }
}

fn signed(event: Event, outcome: &'static str, reason: Option<&'static str>, why: &'static str) -> Step {
    Step { event, delivery: Delivery::Signed, expected: Expected::Stored { outcome, reason }, why }
}

fn applied(event: Event, why: &'static str) -> Step {
    signed(event, "applied", None, why)
}

fn noticed(event: Event, reason: &'static str, why: &'static str) -> Step {
    signed(event, "applied", Some(reason), why)
}

fn superseded(event: Event, why: &'static str) -> Step {
    signed(event, "superseded", None, why)
}

fn settled(event: Event, (outcome, reason): (&'static str, &'static str), why: &'static str) -> Step {
    signed(event, outcome, Some(reason), why)
}

fn again(event: Event, why: &'static str) -> Step {
    Step { event, delivery: Delivery::Again, expected: Expected::Known, why }
}

fn refused(event: Event, delivery: Delivery, answer: &'static str, why: &'static str) -> Step {
    Step { event, delivery, expected: Expected::Refused(answer), why }
}
