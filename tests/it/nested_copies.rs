//! Nested objects: a copy of another time or scope never changes a row of an object that arrived by itself.
//! A *carrier* is an object that contains such a copy.

use std::collections::BTreeSet;

use billing_sync::verify::compare::Selection;
use billing_sync::verify::customer::WriteMode;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::app::TestApp;
use crate::support::events::{START, customer, event, price, subscription, with};
use crate::support::fetching::Fetching;
use crate::support::stripe::Epoch;

/// Paths of copies: the carrier's type, the path, and the type of the nested object. A segment `*` stands for an array.
/// The last paths do not exist in Stripe's API.
const COPY_PATHS: [(&str, &str, &str); 41] = [
    ("charge", "source", "card"),
    ("checkout.session", "discounts.*.coupon", "coupon"),
    ("checkout.session", "discounts.*.promotion_code", "promotion_code"),
    ("checkout.session", "line_items.data.*.price", "price"),
    ("checkout.session", "line_items.data.*.discounts.*.discount", "discount"),
    ("checkout.session", "total_details.breakdown.discounts.*.discount", "discount"),
    ("discount", "coupon", "coupon"),
    ("discount", "promotion_code", "promotion_code"),
    ("discount", "source.coupon", "coupon"),
    ("invoice", "discount", "discount"),
    ("invoice", "discounts.*", "discount"),
    ("invoice", "total_discount_amounts.*.discount", "discount"),
    ("invoice", "lines.data.*.discounts.*", "discount"),
    ("invoice", "lines.data.*.discount_amounts.*.discount", "discount"),
    ("invoice", "lines.data.*.price", "price"),
    ("invoice", "lines.data.*.plan", "plan"),
    ("invoice", "lines.data.*.pricing.price_details.price", "price"),
    ("payment_intent", "source", "card"),
    ("payment_intent", "last_payment_error.payment_method", "payment_method"),
    ("payment_intent", "last_payment_error.source", "card"),
    ("promotion_code", "coupon", "coupon"),
    ("promotion_code", "promotion.coupon", "coupon"),
    ("subscription", "pending_update.discount", "discount"),
    ("subscription", "pending_update.discounts.*", "discount"),
    ("subscription", "pending_update.subscription_items.*.price", "price"),
    ("subscription", "pending_update.subscription_items.*.plan", "plan"),
    ("subscription", "pending_update.subscription_items.*.discounts.*", "discount"),
    ("subscription_schedule", "default_settings.default_payment_method", "payment_method"),
    ("subscription_schedule", "phases.*.default_payment_method", "payment_method"),
    ("subscription_schedule", "phases.*.coupon", "coupon"),
    ("subscription_schedule", "phases.*.discounts.*.coupon", "coupon"),
    ("subscription_schedule", "phases.*.discounts.*.discount", "discount"),
    ("subscription_schedule", "phases.*.items.*.discounts.*.coupon", "coupon"),
    ("subscription_schedule", "phases.*.items.*.price", "price"),
    ("subscription_schedule", "phases.*.items.*.plan", "plan"),
    ("subscription_schedule", "phases.*.plans.*.plan", "plan"),
    ("subscription_schedule", "phases.*.add_invoice_items.*.price", "price"),
    ("invoice", "frobnicated.discount", "discount"),
    ("charge", "frobnicated.card", "card"),
    ("subscription", "frobnicated.*.coupon", "coupon"),
    ("customer", "frobnicated.payment_method", "payment_method"),
];

const API_VERSIONS: [&str; 3] = ["2020-08-27", "2024-06-20", "2026-10-28.endive"];

/// State `number`, of four, of a nested object.
fn nested(object_type: &str, number: usize) -> Value {
    let number_ = i64::try_from(number).unwrap();
    let digits = ["4242", "1881", "0005", "7777"][number];
    match object_type {
        "coupon" => {
            json!({ "id": "SAVE", "object": "coupon", "created": START - 100 + number_ * 60, "duration": "forever",
            "percent_off": 10 + number, "valid": number.is_multiple_of(2), "livemode": false, "name": digits })
        }
        "discount" => {
            json!({ "id": "di_1", "object": "discount", "customer": "cus_1", "start": START, "subscription": null,
            "end": START + 1_000_000 + number_, "coupon": { "id": "SAVE" }, "source": { "type": "coupon", "coupon": "SAVE" } })
        }
        "card" => json!({ "id": "card_1", "object": "card", "customer": "cus_1", "brand": "Visa", "last4": digits }),
        "payment_method" => json!({ "id": "pm_1", "object": "payment_method", "customer": "cus_2", "type": "card",
            "created": START, "card": { "brand": "visa", "last4": digits } }),
        "promotion_code" => {
            json!({ "id": "promo_1", "object": "promotion_code", "created": START, "coupon": { "id": "SAVE" } })
        }
        "plan" => {
            json!({ "id": "plan_1", "object": "plan", "created": START, "amount": 1000 + number_, "currency": "eur",
            "active": number.is_multiple_of(2), "product": "prod_1", "interval": "month" })
        }
        _ => {
            with(&price("price_1", 1000 + number_), json!({ "created": START, "metadata": { "limit_words": digits } }))
        }
    }
}

/// A carrier with this value at the path.
fn carrier(object_type: &str, path: &str, value: &Value) -> Value {
    let object = match object_type {
        "subscription" => subscription("sub_9", "cus_9"),
        // the discount belongs to a subscription, not to the customer; the subscription does not reference it
        "discount" => json!({ "id": "di_9", "customer": "cus_9", "subscription": "sub_9" }),
        "customer" => customer("cus_9", "Bea"),
        "subscription_schedule" => json!({ "id": "sub_sched_9", "customer": "cus_9", "status": "active" }),
        "charge" => {
            json!({ "id": "ch_9", "customer": "cus_1", "status": "succeeded", "amount": 100, "created": START })
        }
        "invoice" => json!({ "id": "in_9", "customer": "cus_1", "status": "paid", "amount_paid": 100 }),
        "payment_intent" => json!({ "id": "pi_9", "customer": "cus_1", "status": "requires_payment_method" }),
        "checkout.session" => json!({ "id": "cs_9", "customer": "cus_1", "status": "complete", "created": START }),
        _ => json!({ "id": "promo_9", "created": START }),
    };
    let mut carrier = with(&object, json!({ "object": object_type, "livemode": false }));
    let segments: Vec<&str> = path.split('.').collect();
    let inside = segments[1..].iter().rev().fold(value.clone(), |inside, segment| match *segment {
        "*" => json!([inside]),
        key => json!({ key: inside }),
    });
    carrier[segments[0]] = inside;
    carrier
}

/// The type of the event that contains a carrier.
fn event_type(carrier: &str) -> &'static str {
    match carrier {
        "charge" => "charge.refunded",
        "checkout.session" => "checkout.session.completed",
        "customer" => "customer.updated",
        "discount" => "customer.discount.updated",
        "invoice" => "invoice.paid",
        "payment_intent" => "payment_intent.payment_failed",
        "promotion_code" => "promotion_code.updated",
        "subscription" => "customer.subscription.updated",
        _ => "subscription_schedule.updated",
    }
}

/// Event of a nested object itself: object type, event, and the state afterwards.
type OwnChange = (&'static str, &'static str, usize);

/// First events: every object is created by an event of its own.
const BEGIN: [OwnChange; 7] = [
    ("coupon", "created", 0),
    ("discount", "created", 0),
    ("card", "created", 0),
    ("payment_method", "attached", 0),
    ("price", "created", 0),
    ("plan", "created", 0),
    ("promotion_code", "created", 0),
];

fn own() -> impl Strategy<Value = OwnChange> {
    let updated = |kind| (Just(kind), Just("updated"), 0..4_usize);
    let deleted = |kind| (Just(kind), Just("deleted"), 0..4_usize);
    prop_oneof![
        updated("coupon"),
        updated("discount"),
        updated("card"),
        updated("payment_method"),
        updated("price"),
        updated("plan"),
        deleted("coupon"),
        deleted("discount"),
        deleted("card"),
        deleted("price"),
        (Just("coupon"), Just("created"), 0..4_usize),
        (Just("payment_method"), Just("detached"), 0..4_usize),
        // with its discount, and without
        (Just("customer"), Just("updated"), 0..2_usize),
    ]
}

fn own_event(id: &str, (object_type, what, state): OwnChange, second: i64) -> Value {
    let family = match object_type {
        "discount" => "customer.discount",
        "card" => "customer.source",
        other => other,
    };
    let object = if object_type == "customer" { payer("cus_1", state == 0) } else { nested(object_type, state) };
    event(id, &format!("{family}.{what}"), second, &object, None)
}

/// A customer with a card of the old kind and perhaps a discount, or with a payment method.
fn payer(id: &str, has_discount: bool) -> Value {
    let discount = if has_discount { nested("discount", 0) } else { Value::Null };
    let by_method = json!({ "invoice_settings": { "default_payment_method": "pm_1" }, "default_source": null });
    let by_card = json!({ "default_source": "card_1", "discount": discount });
    with(&customer(id, "Ada"), if id == "cus_2" { by_method } else { by_card })
}

/// Carrier type, event type and path of a copy.
type Path = (&'static str, &'static str, &'static str);

#[derive(Debug, Clone)]
struct History {
    own: Vec<(i64, OwnChange)>,
    /// Second, path, state, API version.
    carriers: Vec<(i64, Path, usize, &'static str)>,
    arrival: Vec<usize>,
    batch_size: usize,
}

fn history() -> impl Strategy<Value = History> {
    let carriers =
        prop::collection::vec((20..600_i64, select(&COPY_PATHS[..]), 0..4_usize, select(&API_VERSIONS[..])), 6..16);
    (prop::collection::vec((1..60_i64, own()), 1..8), carriers, 1..7_usize).prop_flat_map(
        |(own, carriers, batch_size)| {
            let all: Vec<usize> = (0..own.len() + carriers.len() + BEGIN.len() + 3).collect();
            (Just(own), Just(carriers), Just(all).prop_shuffle(), Just(batch_size))
                .prop_map(|(own, carriers, arrival, batch_size)| History { own, carriers, arrival, batch_size })
        },
    )
}

impl History {
    /// The events of the objects themselves, and of the customers and the subscription that reference them.
    fn own_events(&self) -> Vec<Value> {
        let named = json!({ "default_payment_method": "pm_1" });
        let mut events: Vec<Value> = BEGIN.iter().map(|own| own_event(&format!("evt_{}", own.0), *own, 0)).collect();
        events.push(event("evt_cus_1", "customer.created", 0, &payer("cus_1", true), None));
        events.push(event("evt_cus_2", "customer.created", 0, &payer("cus_2", false), None));
        let of_both = with(&subscription("sub_1", "cus_2"), named);
        events.push(event("evt_sub_1", "customer.subscription.created", 0, &of_both, None));
        let mut second = 10;
        for (number, (seconds, own)) in self.own.iter().enumerate() {
            second += seconds;
            events.push(own_event(&format!("evt_own_{number}"), *own, second));
        }
        events
    }

    /// The carriers with the nested objects, or with only their ids.
    fn carrier_events(&self, shows: bool) -> Vec<Value> {
        let carriers = self.carriers.iter().enumerate();
        let events = carriers.map(|(number, (second, (object_type, path, nested_type), state, api_version))| {
            let object = nested(nested_type, *state);
            // the session's own row reads the coupon inside these; without `object` they are no nested objects
            let is_read = *object_type == "checkout.session"
                && ["discounts.*.promotion_code", "total_details.breakdown.discounts.*.discount"].contains(path);
            let bare = if is_read { with(&object, json!({ "object": null })) } else { object["id"].clone() };
            let carrier = carrier(object_type, path, if shows { &object } else { &bare });
            let id = format!("evt_carrier_{number}");
            with(&event(&id, event_type(object_type), *second, &carrier, None), json!({ "api_version": api_version }))
        });
        events.collect()
    }
}

async fn rows_after(app: &mut TestApp, events: &[&Value], batch_size: usize) -> Vec<String> {
    app.forget_everything().await;
    app.context.config.batch_size = batch_size;
    for some in events.chunks(batch_size) {
        app.enqueue(some.iter().copied()).await;
        app.worker().drain(&CancellationToken::new()).await.unwrap();
    }
    app.rows().await
}

/// The law: for any copies in any order of arrival, the rows equal those of the same carriers with only ids.
#[tokio::test]
async fn carriers_never_change_a_row_of_an_object_that_was_seen() {
    let mut app = TestApp::start().await;
    let mut runner = TestRunner::deterministic();
    let mut shown = BTreeSet::new();
    for _ in 0..80 {
        let history = history().new_tree(&mut runner).unwrap().current();
        shown.extend(history.carriers.iter().map(|(_, path, ..)| *path));
        let (own, bare, full) = (history.own_events(), history.carrier_events(false), history.carrier_events(true));
        let expected = rows_after(&mut app, &own.iter().chain(&bare).collect::<Vec<_>>(), 100).await;
        let all: Vec<&Value> = own.iter().chain(&full).collect();
        let arrived: Vec<&Value> = history.arrival.iter().map(|index| all[*index]).collect();
        let ambiguous_before = app.metric("billing_sync_order_ambiguous_total");
        let found = rows_after(&mut app, &arrived, history.batch_size).await;
        assert_eq!(found, expected, "{history:#?}");
        let ambiguous = app.metric("billing_sync_order_ambiguous_total") - ambiguous_before;
        // the order of two carriers of one second is ambiguous itself; the order of their copies is not
        let seconds: BTreeSet<_> = history.carriers.iter().map(|(second, (kind, ..), ..)| (second, kind)).collect();
        assert!(
            ambiguous < 1.0 || seconds.len() < history.carriers.len(),
            "a copy made the order ambiguous: {history:#?}"
        );
    }
    assert_eq!(shown.len(), COPY_PATHS.len(), "every path was used");
    app.finish().await;
}

/// A copy is used for an object that never arrived by itself. The chosen copy does not depend on the order of arrival.
#[tokio::test]
async fn a_copy_represents_an_object_that_was_never_seen() {
    let mut app = TestApp::start().await;
    let carriers: Vec<Value> = [(1, 40), (2, 20), (0, 60)]
        .iter()
        .map(|(state, second)| {
            let carrier = carrier("promotion_code", "coupon", &nested("coupon", *state));
            event(&format!("evt_{second}"), "promotion_code.updated", *second, &carrier, None)
        })
        .collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let order: Vec<&Value> = order.iter().map(|index| &carriers[*index]).collect();
        rows_after(&mut app, &order, 1).await;
        let percent = app.text("SELECT discount_percentage::text FROM billing.coupons").await;
        assert_eq!(percent.as_deref(), Some("12"), "the coupon with this id now was created last");
    }
    let own = own_event("evt_own", ("coupon", "updated", 1), 5);
    app.deliver_and_drain(&[own]).await;
    let percent = app.text("SELECT discount_percentage::text FROM billing.coupons").await;
    assert_eq!(percent.as_deref(), Some("11"), "its own event wins, however old");
    app.finish().await;
}

/// A deleted coupon stays deleted, although carriers still contain it.
#[tokio::test]
async fn a_copy_does_not_revive_a_deleted_object() {
    let app = TestApp::start().await;
    let shown = carrier("promotion_code", "coupon", &nested("coupon", 2));
    app.deliver_and_drain(&[
        own_event("evt_1", ("coupon", "created", 0), 0),
        own_event("evt_2", ("coupon", "deleted", 0), 5),
        event("evt_3", "promotion_code.updated", 50, &shown, None),
    ])
    .await;
    let row = "SELECT concat_ws(' ', valid, discount_percentage, stripe_deleted_at IS NOT NULL) FROM billing.coupons";
    assert_eq!(app.text(row).await.as_deref(), Some("f 10 t"));
    app.finish().await;
}

/// Later events with older copies do not undo what `verify --fix` wrote.
#[tokio::test]
async fn a_fix_by_a_read_survives_older_copies() {
    let sync = Fetching::without_accounts().await;
    let sale = sync.sell();
    let stripe = &sync.stripe;
    let (coupon, invoice) = (stripe.coupon("SAVE", 20.0), stripe.bill(&sale.subscription, 1000));
    let discount = stripe.discount(&sale.customer, &coupon);
    stripe.discount_invoice(&invoice, &coupon);
    sync.deliver_all(Epoch::V2024).await;
    sync.pass_the_margin();
    sync.settle().await;
    // no event reports the end of the discount
    stripe.tick(60);
    stripe.end_discount(&discount);
    stripe.tick(3600);
    let named = Selection::Named(vec![sale.customer.clone()]);
    assert!(!sync.drift(named.clone(), WriteMode::Yes("verify")).await.is_empty());
    sync.settle().await;
    let put_right = sync.app.rows().await;
    let ended = "SELECT active_discount FROM billing.billing_contacts";
    assert_eq!(sync.app.text(ended).await, None);
    let second = stripe.now() - START + 60;
    for (number, (object_type, path, nested_type)) in COPY_PATHS.iter().enumerate() {
        let id = match *nested_type {
            "discount" => discount.as_str(),
            "coupon" => coupon.as_str(),
            _ => continue,
        };
        let own = json!({ "id": id, "customer": sale.customer, "coupon": { "id": coupon } });
        let object = carrier(object_type, path, &with(&nested(nested_type, 0), own));
        // an invoice and a charge without a subscription: they create no row of their own
        if ["charge", "invoice", "promotion_code"].contains(object_type) {
            sync.app.deliver(&event(&format!("evt_{number}"), event_type(object_type), second, &object, None)).await;
        }
    }
    stripe.tick(3600);
    sync.settle().await;
    assert_eq!(sync.app.rows().await, put_right);
    assert_eq!(sync.drift(named, WriteMode::No).await, Vec::<String>::new());
    sync.finish().await;
}

/// A discount with a narrower scope than the customer is not the customer's own, and a deleted one never returns.
#[tokio::test]
async fn only_a_discount_without_narrower_scope_is_the_customers() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[event("evt_0", "customer.created", 0, &customer("cus_1", "Ada"), None)]).await;
    let active = "SELECT active_discount FROM billing.billing_contacts";
    let plain = nested("discount", 0);
    for (second, scope) in
        (1..).zip(["subscription", "subscription_item", "invoice", "invoice_item", "checkout_session"])
    {
        let id = format!("di_{scope}");
        let discount = with(&plain, json!({ "id": id, scope: "x_1" }));
        let created = event(&format!("evt_{scope}"), "customer.discount.created", second, &discount, None);
        app.deliver_and_drain(&[created]).await;
        assert_eq!(app.text(active).await, None, "{scope}");
    }
    app.deliver_and_drain(&[event("evt_own", "customer.discount.created", 10, &plain, None)]).await;
    assert_eq!(app.text(active).await.as_deref(), Some("SAVE"));
    app.deliver_and_drain(&[event("evt_end", "customer.discount.deleted", 20, &plain, None)]).await;
    let late = with(&customer("cus_1", "Ada"), json!({ "discount": plain }));
    app.deliver_and_drain(&[event("evt_late", "customer.updated", 30, &late, None)]).await;
    assert_eq!(app.text(active).await, None, "a deleted discount does not return");
    let other = with(&plain, json!({ "id": "di_2" }));
    app.deliver_and_drain(&[event("evt_2", "customer.discount.created", 40, &other, None)]).await;
    assert_eq!(app.text(active).await.as_deref(), Some("SAVE"), "another discount");
    let without = with(&customer("cus_1", "Ada"), json!({ "discount": null }));
    app.deliver_and_drain(&[event("evt_3", "customer.updated", 50, &without, None)]).await;
    assert_eq!(app.text(active).await, None, "null on the newest customer");
    app.finish().await;
}
