//! From webhooks to limits: the changes that the worker marks, in any order of arrival.

use std::time::Duration;

use billing_sync::jobs::triggers;
use serde_json::json;

use super::calls::call;
use super::webhook_sale::{WORKSPACE, changed, day, limited, writing};
use crate::support::app::TestApp;
use crate::support::events::{event, with};

/// The open period: amount included, spillover and usage.
const BALANCE: &str = "SELECT concat_ws(' ', included, spillover, used) FROM billing.subscription_limits
    WHERE limit_key = 'words'";

#[tokio::test]
async fn a_webhook_creates_the_limit_and_all_periods_since() {
    let app = TestApp::start().await;
    app.sell(&writing()).await;
    assert_eq!(app.ledger().await, Vec::<String>::new(), "the worker does not renew");
    app.renew().await;
    let ledger = app.ledger().await;
    assert!(ledger.len() >= 10, "the story began on the first of January: {ledger:?}");
    assert_eq!(ledger[0], "02-01 renewed 1000 0 1000");
    assert_eq!(app.text(BALANCE).await.as_deref(), Some("1000 1000 0"));
    app.finish().await;
}

#[tokio::test]
async fn the_last_change_of_a_second_counts_in_any_arrival_order() {
    let active = writing();
    let paused = with(&active, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    // ids sort opposite to the true order, so that a choice by id would fail
    let (pause, resume) = (changed("evt_2", day(30), &active, &paused), changed("evt_1", day(30), &paused, &active));
    let (other, again) = (changed("evt_8", day(40), &active, &paused), changed("evt_7", day(50), &paused, &active));
    for order in
        [[&pause, &resume, &other, &again], [&again, &resume, &other, &pause], [&resume, &other, &pause, &again]]
    {
        let app = TestApp::start().await;
        app.sell(&active).await;
        for event in order {
            app.deliver_and_drain(std::slice::from_ref(event)).await;
            app.renew().await;
        }
        let ledger = app.ledger().await;
        assert_eq!(ledger[0], "02-01 renewed 1000 0 1000", "it was resumed: {order:#?}");
        assert_eq!(ledger[1], "03-01 renewed 1000 0 1000");
        app.finish().await;
    }
}

#[tokio::test]
async fn a_late_pause_corrects_the_periods_it_covers() {
    let app = TestApp::start().await;
    let active = writing();
    let paused = with(&active, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    app.sell(&active).await;
    app.renew().await;
    assert_eq!(app.ledger().await[1], "03-01 renewed 1000 0 1000");
    let (pause, resume) = (changed("evt_p", day(40), &active, &paused), changed("evt_r", day(70), &paused, &active));
    app.deliver_and_drain(&[resume]).await;
    app.renew().await;
    assert_eq!(app.ledger().await[1], "03-01 renewed 1000 0 1000");
    app.deliver_and_drain(&[pause]).await;
    app.renew().await;
    let ledger = app.ledger().await;
    assert_eq!(ledger[..3], ["02-01 renewed 1000 0 1000", "03-01 inactive 1000 0 0", "04-01 renewed 1000 0 1000"]);
    let corrected = "SELECT string_agg(to_char(period_end AT TIME ZONE 'UTC', 'MM-DD'), ' ')
        FROM billing.limit_renewals WHERE corrected_at IS NOT NULL";
    // the period of March no longer has spillover
    assert_eq!(app.text(corrected).await.as_deref(), Some("03-01 04-01"));
    app.finish().await;
}

#[tokio::test]
async fn price_metadata_changes_the_limits_of_its_subscriptions() {
    let app = TestApp::start().await;
    let sub = writing();
    app.sell(&sub).await;
    app.renew().await;
    let price = |limits| limited(&sub, &limits)["items"]["data"][0]["price"].clone();
    let price_event = |id: &str, second, limits| event(id, "price.updated", day(second), &price(limits), None);
    app.deliver_and_drain(&[price_event("evt_3", 3, json!({ "limit_words": "1500", "limit_images": "7" }))]).await;
    app.renew().await;
    let limits =
        "SELECT string_agg(concat_ws(' ', limit_key, included), ', ' ORDER BY limit_key) FROM billing.workspace_limits";
    assert_eq!(app.text(limits).await.as_deref(), Some("images 7, words 1500"));
    // an unknown product may still have the limit that the price has lost
    app.deliver_and_drain(&[price_event("evt_4", 4, json!({ "limit_words": "1500" }))]).await;
    app.renew().await;
    assert_eq!(app.text(limits).await.as_deref(), Some("images 7, words 1500"));
    let product = json!({ "id": "prod_1", "object": "product", "name": "Writing", "active": true, "livemode": false,
        "metadata": {} });
    app.deliver_and_drain(&[event("evt_5", "product.created", day(5), &product, None)]).await;
    app.renew().await;
    assert_eq!(app.text(limits).await.as_deref(), Some("images 0, words 1500"));
    app.finish().await;
}

/// A release without limits wrote the row, or an old process still runs beside the new ones.
#[tokio::test]
async fn missing_limits_are_created_without_an_event() {
    let app = TestApp::start().await;
    app.sell(&writing()).await;
    app.renew().await;
    let before = app.ledger().await;
    app.execute("TRUNCATE billing.subscription_limits, billing.limit_renewals, billing.limit_recalculations").await;
    let queued = triggers::missing_limits(&mut app.pool.acquire().await.unwrap()).await.unwrap();
    assert_eq!(queued, 1);
    app.drain().await;
    app.renew().await;
    assert_eq!(app.ledger().await, before);
    let again = triggers::missing_limits(&mut app.pool.acquire().await.unwrap()).await.unwrap();
    assert_eq!(again, 0);
    app.finish().await;
}

/// The product locks the balance in an open transaction of any length.
#[tokio::test]
async fn an_open_product_transaction_does_not_block_the_worker() {
    let mut app = TestApp::start().await;
    // a worker that waits for a lock would reach its timeout of two seconds and fail the attempt
    app.context.config.max_attempts = 1;
    let sub = writing();
    app.sell(&sub).await;
    app.renew().await;
    let mut product = app.pool.begin().await.unwrap();
    let left = call(&mut product, &format!("consume('{WORKSPACE}', 'words', 100)")).await;
    assert_eq!(left, Ok(Some(1900)));
    let smaller = limited(&sub, &json!({ "limit_words": "500" }));
    let smaller = with(&smaller, json!({ "cancel_at_period_end": true }));
    let price = smaller["items"]["data"][0]["price"].clone();
    let events = [changed("evt_5", day(200), &sub, &smaller), event("evt_6", "price.updated", day(201), &price, None)];
    tokio::time::timeout(Duration::from_secs(20), app.deliver_and_drain(&events)).await.expect("the worker is blocked");
    assert_eq!(app.fate("evt_5").await, "done applied -");
    assert!(app.metric("billing_sync_attempts_failed_total{result=\"transient\"}").abs() < f64::EPSILON);
    // the scheduler cannot lock the balance either, and skips it
    app.renew().await;
    assert_eq!(app.text(BALANCE).await.as_deref(), Some("1000 1000 0"));
    product.commit().await.unwrap();
    app.renew().await;
    // the spillover stays unchanged until the next renewal
    assert_eq!(app.text(BALANCE).await.as_deref(), Some("500 1000 100"));
    app.finish().await;
}
