//! Bo: a customer since 2024, with events of two API versions, who is deleted.
//!
//! Owns his events, and his rows after each act. PURE.

use serde_json::json;
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::{Uuid, uuid};

use super::act::{Act, applied, noticed};
use crate::demo::objects::{self, Price};
use crate::demo::rows::{ContactRow, Row, SubscriptionRow, WorkspaceRow};
use crate::demo::sandbox::{ENDIVE, SUMMER_2024, Sandbox};

const BO: &str = "cus_DemoBo";
const BO_SUB: &str = "sub_DemoBo";
const WORKSPACE: Uuid = uuid!("b1d6f0a3-4c7e-4e58-9d21-6a0e8c35f7d2");

const CLASSIC: Price = Price::monthly("price_DemoClassic", "prod_DemoClassic", 900);

const LEAVES: OffsetDateTime = datetime!(2026-11-18 14:05 UTC);

/// Bo's two acts: events of two API versions make one row.
pub(super) fn acts(sandbox: &mut Sandbox) -> [Act; 2] {
    let since = datetime!(2024-07-01 08:00 UTC);
    let period = (since, datetime!(2024-08-01 08:00 UTC));
    let customer = objects::customer(BO, "Bo Okafor", "bo@example.com", since, WORKSPACE);
    let mut subscription = objects::subscription(BO_SUB, "si_DemoBo", BO, &CLASSIC, period);
    let active = SubscriptionRow::active(BO_SUB, &CLASSIC, period.1);

    sandbox.api_version = SUMMER_2024;
    let old_shape = objects::as_in_2024(&subscription);
    let joins = Act {
        date: "1 Jul 2024",
        title: "Bo, an old customer: events in the API version of 2024",
        steps: vec![
            applied(sandbox.emit("customer.created", since, &customer), "the customer"),
            applied(sandbox.emit("customer.subscription.created", since, &old_shape), "the period is in another field"),
        ],
        leaves: Row::Subscription(active.clone()),
    };

    sandbox.api_version = ENDIVE;
    let gone = json!(LEAVES.unix_timestamp());
    subscription["status"] = json!("canceled");
    subscription["canceled_at"] = gone.clone();
    subscription["ended_at"] = gone;
    let item = objects::item(&mut subscription);
    objects::set_period(item, datetime!(2026-11-01 08:00 UTC), datetime!(2026-12-01 08:00 UTC));
    // with an API key, the sync would now fetch the customer's subscriptions, in case an event is lost
    let customer_deleted = sandbox.emit("customer.deleted", LEAVES, &customer);
    let leaves = Act {
        date: "18 Nov 2026",
        title: "Bo is deleted, which ends the subscription",
        steps: vec![
            noticed(customer_deleted, "needs_fetch", "the contact stays, with a date"),
            applied(sandbox.emit("customer.subscription.deleted", LEAVES, &subscription), "ended at once"),
        ],
        leaves: Row::Subscription(SubscriptionRow {
            stripe_status: "canceled".to_owned(),
            active: false,
            end_date: Some(LEAVES),
            next_subscription_cycle_start: None,
            ..active
        }),
    };
    [joins, leaves]
}

/// His rows at the end.
pub(super) fn ending() -> Vec<Row> {
    let contact = ContactRow {
        stripe_customer_id: BO.to_owned(),
        name: Some("Bo Okafor".to_owned()),
        email: Some("bo@example.com".to_owned()),
        city: None,
        stripe_deleted_at: Some(LEAVES),
    };
    let workspace =
        WorkspaceRow { workspace_id: WORKSPACE, active: false, inactive_reason: Some("canceled".to_owned()) };
    vec![Row::Contact(contact), Row::Workspace(workspace)]
}
