//! Ada: a trial, an upgrade, a pause, a cancellation that is undone.
//!
//! Owns her events, and her rows after each act. PURE.

use serde_json::{Value, json};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use uuid::{Uuid, uuid};

use super::act::{Act, Delivery, again, applied, noticed, refused, settled, superseded};
use crate::demo::objects::{self, Price};
use crate::demo::rows::{ContactRow, Line, Row, SubscriptionRow, WorkspaceRow};
use crate::demo::sandbox::{Event, Sandbox};

const UPDATED: &str = "customer.subscription.updated";

const ADA: &str = "cus_DemoAda";
pub(crate) const ADA_SUB: &str = "sub_DemoAda";
const ADA_METHOD: &str = "pm_DemoAda";
const WORKSPACE: Uuid = uuid!("5e7a2c1e-90b4-4d0f-8a36-2f1c7d9b4e10");

const STARTER: Price = Price::monthly("price_DemoStarter", "prod_DemoStarter", 1900);
const TEAM: Price = Price::monthly("price_DemoTeam", "prod_DemoTeam", 4900);
const BUSINESS: Price = Price::monthly("price_DemoBusiness", "prod_DemoBusiness", 9900);

const SIGN_UP: OffsetDateTime = datetime!(2026-10-29 09:30 UTC);
const TRIAL_END: OffsetDateTime = datetime!(2026-11-05 09:30 UTC);
const PERIOD_END: OffsetDateTime = datetime!(2026-12-05 09:30 UTC);

/// The current state of Ada's objects in Stripe.
pub(super) struct Ada {
    customer: Value,
    subscription: Value,
}

impl Ada {
    pub(super) fn new() -> Self {
        let customer = objects::customer(ADA, "Ada Lindqvist", "ada@example.com", SIGN_UP, WORKSPACE);
        let mut subscription = objects::subscription(ADA_SUB, "si_DemoAda", ADA, &STARTER, (SIGN_UP, TRIAL_END));
        subscription["status"] = json!("trialing");
        subscription["default_payment_method"] = json!(ADA_METHOD);
        subscription["trial_start"] = json!(SIGN_UP.unix_timestamp());
        subscription["trial_end"] = json!(TRIAL_END.unix_timestamp());
        subscription["billing_cycle_anchor"] = json!(TRIAL_END.unix_timestamp());
        objects::item(&mut subscription)["current_trial"] = json!({
            "start_date": SIGN_UP.unix_timestamp(), "end_date": TRIAL_END.unix_timestamp(), "trial_offer": null
        });
        Self { customer, subscription }
    }

    pub(super) fn signs_up(&self, sandbox: &mut Sandbox) -> Act {
        let method = sandbox.emit("payment_method.attached", SIGN_UP, &objects::sepa_debit(ADA_METHOD, ADA));
        let customer = sandbox.emit("customer.created", SIGN_UP, &self.customer);
        let subscription = sandbox.emit("customer.subscription.created", SIGN_UP, &self.subscription);
        Act {
            date: "29 Oct 2026",
            title: "Ada signs up, with a trial of seven days",
            steps: vec![
                applied(method, "she pays by SEPA debit"),
                noticed(subscription, "unknown_customer", "arrives before its customer: fine"),
                applied(customer, "the customer, now known"),
            ],
            leaves: Row::Subscription(SubscriptionRow {
                stripe_status: "trialing".to_owned(),
                is_trial: true,
                next_subscription_cycle_start: Some(TRIAL_END),
                ..on(&STARTER)
            }),
        }
    }

    pub(super) fn trial_converts(&mut self, sandbox: &mut Sandbox) -> Act {
        let converts = sandbox.update(UPDATED, TRIAL_END, &mut self.subscription, |subscription| {
            subscription["status"] = json!("active");
            subscription["latest_invoice"] = json!("in_DemoAda1");
            let item = objects::item(subscription);
            item["current_trial"] = Value::Null;
            objects::set_period(item, TRIAL_END, PERIOD_END);
        });
        let invoice = objects::invoice("in_DemoAda1", ADA, ADA_SUB, STARTER.cents);
        let paid = sandbox.emit("invoice.paid", TRIAL_END + Duration::minutes(61), &invoice);
        Act {
            date: "5 Nov 2026",
            title: "The trial converts",
            steps: vec![
                applied(converts.clone(), "the first paid month begins"),
                again(converts, "delivered twice, counted once"),
                applied(paid, "paid for the first time"),
            ],
            leaves: Row::Subscription(on(&STARTER)),
        }
    }

    /// Two upgrades in one second, the resolution of Stripe's clock: only `previous_attributes` show which came last.
    pub(super) fn upgrades_twice(&mut self, sandbox: &mut Sandbox) -> Act {
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
            title: "An upgrade to Team, then to Business, within one second",
            steps: vec![
                applied(business, "Team to Business comes first ..."),
                superseded(team, "... then Starter to Team: too late"),
            ],
            leaves: Row::Subscription(on(&BUSINESS)),
        }
    }

    pub(super) fn is_paused(&mut self, sandbox: &mut Sandbox) -> Act {
        let at = datetime!(2026-11-11 08:00 UTC);
        let paused = sandbox.update(UPDATED, at, &mut self.subscription, |subscription| {
            subscription["pause_collection"] = json!({ "behavior": "void", "resumes_at": null });
        });
        Act {
            date: "11 Nov 2026",
            title: "Payment collection is paused",
            steps: vec![applied(paused, "active in Stripe, not usable here")],
            leaves: Row::Subscription(SubscriptionRow { active: false, payment_paused: true, ..on(&BUSINESS) }),
        }
    }

    pub(super) fn is_resumed(&mut self, sandbox: &mut Sandbox) -> Act {
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

    pub(super) fn moves_twice(&mut self, sandbox: &mut Sandbox) -> Act {
        let mut moves = |at, address| {
            sandbox.update("customer.updated", at, &mut self.customer, |customer| customer["address"] = address)
        };
        let porto = objects::address("Rua das Flores 12", "4050-265", "Porto", "PT");
        let porto = moves(datetime!(2026-11-14 11:00 UTC), porto);
        let lisbon = objects::address("Rua Augusta 7", "1100-048", "Lisbon", "PT");
        let lisbon = moves(datetime!(2026-11-15 18:45 UTC), lisbon);
        Act {
            date: "15 Nov 2026",
            title: "Ada moves to Porto, then to Lisbon; the events arrive swapped",
            steps: vec![applied(lisbon, "Lisbon, on 15 Nov"), superseded(porto, "Porto, on 14 Nov: superseded")],
            leaves: Row::Contact(in_lisbon()),
        }
    }

    /// The act, and its event, which an attacker captures.
    pub(super) fn cancels(&mut self, sandbox: &mut Sandbox) -> (Act, Event) {
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

    pub(super) fn changes_her_mind(&mut self, sandbox: &mut Sandbox) -> Act {
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

    /// Events that must not affect any row.
    pub(super) fn strangers(&mut self, sandbox: &mut Sandbox, captured: Event) -> Act {
        let at = datetime!(2026-11-19 03:12 UTC);
        let newer = sandbox.emit("customer.subscription.moved", at, &self.subscription);
        let mut forge = |email| {
            sandbox.update("customer.updated", at, &mut self.customer, |customer| customer["email"] = json!(email))
        };
        let forged = forge("mallory@example.net");
        let unsigned = forge("trudy@example.net");
        Act {
            date: "19 Nov 2026",
            title: "What must not become rows",
            steps: vec![
                settled(newer, ("unknown", "unknown_type"), "unknown type: stored, not used"),
                refused(forged, Delivery::Forged, "no signature matches", "forged: signed with another secret"),
                refused(unsigned, Delivery::Unsigned, "the stripe-signature header is missing", "not signed at all"),
                refused(captured, Delivery::Stale, "the signature's timestamp", "captured, replayed after 10 min"),
            ],
            leaves: Row::Contact(in_lisbon()),
        }
    }
}

/// Her rows at the end.
pub(super) fn ending() -> Vec<Row> {
    let workspace = WorkspaceRow { workspace_id: WORKSPACE, active: true, inactive_reason: None };
    vec![Row::Subscription(on(&BUSINESS)), Row::Contact(in_lisbon()), Row::Workspace(workspace)]
}

/// How her subscription became what it is: date, event, column, value before, value after.
pub(crate) fn history() -> Vec<Line<5>> {
    let lines = [
        ["2026-10-29", "evt_Demo997", "active", "-", "true"],
        ["2026-10-29", "evt_Demo997", "stripe_status", "-", "trialing"],
        ["2026-11-05", "evt_Demo996", "stripe_status", "trialing", "active"],
        ["2026-11-11", "evt_Demo992", "active", "true", "false"],
        ["2026-11-11", "evt_Demo992", "inactive_reason", "-", "payment_paused"],
        ["2026-11-13", "evt_Demo991", "active", "false", "true"],
        ["2026-11-13", "evt_Demo991", "inactive_reason", "payment_paused", "-"],
        ["2026-11-16", "evt_Demo988", "end_date", "-", "2026-12-05"],
        ["2026-11-17", "evt_Demo987", "end_date", "2026-12-05", "-"],
    ];
    lines.map(|line| line.map(ToOwned::to_owned)).into()
}

/// Ada's subscription on an ordinary day of her first paid month.
fn on(price: &Price) -> SubscriptionRow {
    SubscriptionRow {
        trial_ends_at: Some(TRIAL_END),
        payment_type: Some("sepa_debit".to_owned()),
        ..SubscriptionRow::active(ADA_SUB, price, PERIOD_END)
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
