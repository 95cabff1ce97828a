//! From webhooks to limits for real subscriptions: several items, seats, changes at a renewal.

use std::time::Duration;

use serde_json::{Value, json};

use super::calls::call;
use super::webhook_sale::{WORKSPACE, changed, day, writing};
use crate::support::app::TestApp;
use crate::support::events::{event, with};

/// An item with its own price, which has this metadata.
fn item(price: &str, quantity: i64, metadata: &Value) -> Value {
    json!({ "id": format!("si_{price}"), "object": "subscription_item", "created": 1_767_225_600, "quantity": quantity,
        "price": { "id": price, "object": "price", "active": true, "currency": "eur", "unit_amount": 100,
            "recurring": { "interval": "month", "interval_count": 1, "usage_type": "licensed" }, "livemode": false,
            "metadata": metadata } })
}

fn base() -> Value {
    item("price_base", 1, &json!({ "limit_words": "100000" }))
}

fn addon() -> Value {
    item("price_addon", 1, &json!({ "limit_words": "5000", "limit_images": "50" }))
}

fn seats(quantity: i64) -> Value {
    item("price_seat", quantity, &json!({ "limit_members_per_unit": "1", "is_plan": "false" }))
}

/// The subscription of the story with these items, in a period that began on that day.
fn with_items(items: &[Value], period: i64) -> Value {
    let start = 1_767_225_600 + day(period);
    let mut items = items.to_vec();
    for item in &mut items {
        item["current_period_start"] = start.into();
        item["current_period_end"] = (start + day(30)).into();
    }
    with(&writing(), json!({ "items": { "object": "list", "data": items, "has_more": false } }))
}

async fn limits(app: &TestApp) -> String {
    let limits =
        "SELECT string_agg(concat_ws(' ', limit_key, included), ', ' ORDER BY limit_key) FROM billing.workspace_limits";
    app.text(limits).await.unwrap_or_default()
}

#[tokio::test]
async fn plan_add_on_and_seats_add_up() {
    let app = TestApp::start().await;
    let all = with_items(&[addon(), base(), seats(25)], 0);
    app.sell(&all).await;
    app.renew().await;
    assert_eq!(limits(&app).await, "images 50, members 25, words 105000");
    let shown =
        "SELECT string_agg(concat_ws(' ', stripe_price_id, quantity, is_plan, includes), ', ' ORDER BY stripe_price_id)
        FROM billing.subscription_items";
    assert_eq!(
        app.text(shown).await.as_deref(),
        Some(
            "price_addon 1 t {\"words\": 5000, \"images\": 50}, price_base 1 f {\"words\": 100000}, \
             price_seat 25 f {\"members\": 25}"
        )
    );
    // 25 people on 25 seats of one member each
    app.execute(
        "INSERT INTO billing.workspaces (id, member_count) VALUES ('550e8400-e29b-41d4-a716-446655440000', 25)",
    )
    .await;
    let mut conn = app.pool.acquire().await.unwrap();
    assert_eq!(call(&mut conn, &format!("consume('{WORKSPACE}', 'members', 25)")).await, Ok(Some(0)));
    drop(conn);
    // one more seat counts at once, and the removed add-on takes only its share
    let more = with_items(&[base(), seats(26)], 0);
    app.deliver_and_drain(&[changed("evt_more", day(3), &all, &more)]).await;
    assert_eq!(limits(&app).await, "images 0, members 26, words 100000", "read before the renewal");
    app.renew().await;
    assert_eq!(limits(&app).await, "images 0, members 26, words 100000");
    app.execute("UPDATE billing.workspaces SET member_count = 27").await;
    let why = "SELECT inactive_reason FROM billing.workspace_billing";
    assert_eq!(app.text(why).await.as_deref(), Some("too_many_members"));
    app.finish().await;
}

/// The event of a downgrade at the end of a period comes 42 seconds after it, with other events in between.
#[tokio::test]
async fn a_downgrade_at_a_renewal_caps_the_carry_over() {
    let small = || item("price_small", 1, &json!({ "limit_words": "10000" }));
    let big = with_items(&[base()], 0);
    let between = with(&big, json!({ "metadata": { "workspace_id": WORKSPACE, "note": "renewing" } }));
    let after = with_items(&[small()], 31);
    let events = [changed("evt_2", day(31) + 20, &big, &between), changed("evt_1", day(31) + 42, &between, &after)];
    for order in [[0, 1], [1, 0]] {
        let app = TestApp::start().await;
        app.sell(&big).await;
        for index in order {
            app.deliver_and_drain(std::slice::from_ref(&events[index])).await;
            app.renew().await;
        }
        assert_eq!(
            app.ledger().await[..2],
            ["02-01 renewed 100000 0 10000", "03-01 renewed 10000 0 10000"],
            "{order:?}"
        );
        app.finish().await;
    }
}

/// The payload contains only some of the items; a read lists them all.
#[tokio::test]
async fn an_event_that_does_not_list_all_items_changes_no_limit() {
    let app = TestApp::start().await;
    let whole = with_items(&[base(), addon()], 0);
    app.sell(&whole).await;
    app.renew().await;
    let mut part = with_items(&[addon()], 0);
    part["items"]["has_more"] = true.into();
    app.deliver_and_drain(&[changed("evt_2", day(3), &whole, &part)]).await;
    app.renew().await;
    assert_eq!(limits(&app).await, "images 50, words 105000");
    let items = "SELECT count(*)::text FROM billing.subscription_items";
    assert_eq!(app.text(items).await.as_deref(), Some("0"), "its items are not known");
    app.finish().await;
}

/// The payload of a new subscription does not list all items: a read is queued at once, and the product gets the error
/// for limits that are not known yet, not the error for missing limits.
#[tokio::test]
async fn limits_not_known_yet_are_refused_with_their_own_code() {
    let mut app = TestApp::start().await;
    app.context = app.context.with_fetches(Duration::ZERO);
    let whole = with_items(&[addon(), base()], 0);
    let mut part = with_items(&[addon()], 0);
    part["items"]["has_more"] = true.into();
    app.sell(&part).await;
    let jobs =
        "SELECT string_agg(concat_ws(' ', kind, object_type, object_id), ', ' ORDER BY object_type) FROM billing.jobs";
    assert_eq!(app.text(jobs).await.as_deref(), Some("fetch price price_addon, fetch subscription sub_1"));
    let mut conn = app.pool.acquire().await.unwrap();
    for function in ["consume", "release", "remaining"] {
        let amount = if function == "remaining" { "" } else { ", 1" };
        let refused = call(&mut conn, &format!("{function}('{WORKSPACE}', 'words'{amount})")).await;
        assert_eq!(refused.unwrap_err().code, "LM008", "{function}");
    }
    drop(conn);
    assert_eq!(limits(&app).await, "");
    app.deliver_and_drain(&[changed("evt_2", day(1), &part, &whole)]).await;
    app.renew().await;
    let mut conn = app.pool.acquire().await.unwrap();
    let missing = call(&mut conn, &format!("consume('{WORKSPACE}', 'seats', 1)")).await;
    assert_eq!(missing.unwrap_err().code, "LM004");
    drop(conn);
    assert_eq!(limits(&app).await, "images 50, words 105000");
    app.finish().await;
}

/// An add-on whose price has an invalid value: the sum of the new subscription was never known. The event that corrects
/// the value makes it known.
#[tokio::test]
async fn an_invalid_value_is_named_until_it_is_corrected_in_stripe() {
    let app = TestApp::start().await;
    let broken = item("price_addon", 1, &json!({ "limit_words": "lots", "limit_images": "50" }));
    app.sell(&with_items(&[base(), broken.clone()], 0)).await;
    app.renew().await;
    assert_eq!(limits(&app).await, "images 50");
    let mut conn = app.pool.acquire().await.unwrap();
    for function in ["consume", "release", "remaining"] {
        let amount = if function == "remaining" { "" } else { ", 1" };
        let refused = call(&mut conn, &format!("{function}('{WORKSPACE}', 'words'{amount})")).await.unwrap_err();
        let invalid = r#"price price_addon: limit_words = "lots""#;
        assert_eq!((refused.code.as_str(), refused.detail.as_deref()), ("LM009", Some(invalid)), "{function}");
    }
    drop(conn);
    app.deliver_and_drain(&[event("evt_2", "price.updated", day(3), &addon()["price"], None)]).await;
    app.renew().await;
    assert_eq!(limits(&app).await, "images 50, words 105000");
    // the amount stays if the value becomes invalid again
    app.deliver_and_drain(&[event("evt_3", "price.updated", day(4), &broken["price"], None)]).await;
    app.renew().await;
    assert_eq!(limits(&app).await, "images 50, words 105000");
    app.finish().await;
}

/// New metadata of an add-on's price changes the sum; the item need not be the plan.
#[tokio::test]
async fn new_price_metadata_of_any_item_counts() {
    let app = TestApp::start().await;
    let all = with_items(&[base(), addon()], 0);
    app.sell(&all).await;
    app.renew().await;
    let mut price = addon()["price"].clone();
    price["metadata"] = json!({ "limit_words": "7000", "limit_images": "unlimited" });
    app.deliver_and_drain(&[event("evt_2", "price.updated", day(3), &price, None)]).await;
    app.renew().await;
    assert_eq!(limits(&app).await, "images, words 107000");
    app.finish().await;
}

/// Most events of a subscription do not change its limits, so no balance is computed for them.
#[tokio::test]
async fn an_event_without_limit_changes_marks_nothing() {
    let app = TestApp::start().await;
    let sub = with_items(&[base(), seats(3)], 0);
    app.sell(&sub).await;
    app.renew().await;
    let marks = "SELECT count(*)::text FROM billing.limit_recalculations";
    let other = with(&sub, json!({ "latest_invoice": "in_7", "metadata": { "workspace_id": WORKSPACE, "a": "b" } }));
    let renewed = with(&with_items(&[base(), seats(3)], 31), json!({ "latest_invoice": "in_8" }));
    let events = [changed("evt_2", day(2), &sub, &other), changed("evt_3", day(31) + 42, &other, &renewed)];
    app.deliver_and_drain(&events).await;
    assert_eq!(app.text(marks).await.as_deref(), Some("0"));
    let quantity = with_items(&[base(), seats(4)], 31);
    app.deliver_and_drain(&[changed("evt_4", day(40), &renewed, &quantity)]).await;
    assert_ne!(app.text(marks).await.as_deref(), Some("0"));
    app.finish().await;
}

/// A schedule changes to the small plan seconds before the renewal of the limits, and its event comes after it. A
/// change by the customer, days after a phase began, counts from its own time.
#[tokio::test]
async fn a_schedule_change_counts_from_its_phase_start_in_any_order() {
    let small = || item("price_small", 1, &json!({ "limit_words": "10000" }));
    let big = with_items(&[base()], 20);
    let after = with_items(&[small()], 20);
    let own = with_items(&[small(), seats(2)], 20);
    let start = 1_767_225_600;
    let phase = |from: i64, price: &str| json!({ "start_date": start + from, "end_date": start + from + day(60), "items": [{ "price": price, "quantity": 1 }] });
    let schedule = json!({ "id": "sub_sched_1", "object": "subscription_schedule", "customer": "cus_1", "status": "active",
        "subscription": "sub_1", "livemode": false, "end_behavior": "release", "current_phase": null,
        "phases": [phase(day(31) - 5, "price_small"), phase(day(20), "price_base")] });
    let events = [
        event("evt_s", "subscription_schedule.created", day(5), &schedule, None),
        changed("evt_2", day(31) + 42, &big, &after),
        changed("evt_3", day(59) + 10, &after, &own),
    ];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        let app = TestApp::start().await;
        app.sell(&big).await;
        for index in order {
            app.deliver_and_drain(std::slice::from_ref(&events[index])).await;
            app.renew().await;
        }
        assert_eq!(
            app.ledger().await[..2],
            ["02-01 renewed 10000 0 10000", "03-01 renewed 10000 0 10000"],
            "{order:?}"
        );
        let since =
            "SELECT string_agg(extract(epoch FROM stated_at - effective_from)::bigint::text, ' ' ORDER BY stated_at)
            FROM billing.subscription_timeline WHERE source <> 'read'";
        assert_eq!(app.text(since).await.as_deref(), Some("0 47 0"), "{order:?}");
        app.finish().await;
    }
}

/// The phase of the base plan began months ago, and its schedule was released since. A manual return to that plan
/// counts from its own time.
#[tokio::test]
async fn a_return_to_the_items_of_an_old_phase_counts_from_its_event() {
    let app = TestApp::start().await;
    let big = || item("price_big", 1, &json!({ "limit_words": "500000" }));
    let (first, upgraded) = (with_items(&[base()], 0), with_items(&[big()], 0));
    let start = 1_767_225_600;
    let schedule = json!({ "id": "sub_sched_1", "object": "subscription_schedule", "customer": "cus_1", "status": "released",
        "released_subscription": "sub_1", "livemode": false, "end_behavior": "release", "current_phase": null,
        "phases": [{ "start_date": start, "end_date": start + day(365), "items": [{ "price": "price_base", "quantity": 1 }] }] });
    app.sell(&first).await;
    let events = [
        event("evt_s", "subscription_schedule.released", day(5), &schedule, None),
        changed("evt_2", day(40), &first, &upgraded),
        changed("evt_3", day(70), &upgraded, &first),
    ];
    app.deliver_and_drain(&events).await;
    app.renew().await;
    let ledger = ["02-01 renewed 100000 0 100000", "03-01 renewed 500000 0 500000", "04-01 renewed 100000 0 100000"];
    assert_eq!(app.ledger().await[..3], ledger);
    let late = "SELECT count(*)::text FROM billing.subscription_timeline WHERE effective_from <> stated_at AND source <> 'read'";
    assert_eq!(app.text(late).await.as_deref(), Some("0"));
    app.finish().await;
}
