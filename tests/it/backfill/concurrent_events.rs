//! A backfill beside the service: events arrive before, during and after the page with the same object.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::json;

use super::harness::{assert_alike, shop};
use crate::support::fetching::Fetching;
use crate::support::stripe::{Epoch, Event};
use crate::support::writing::{rename, writer};

const NAMES: &str = "SELECT string_agg(DISTINCT name, ' ') FROM billing.billing_contacts";

#[tokio::test]
async fn an_older_page_does_not_overwrite_an_event() {
    let sync = Fetching::without_accounts().await;
    let customer = sync.stripe.customer(json!({ "name": "Before" }));
    sync.stripe.tick(3600);
    sync.stripe.update(&customer, json!({ "name": "After" }));
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    // the list is a stale copy without the update
    sync.stripe.serve_stale(5);
    sync.stripe.tick(2);
    sync.backfill_completely().await;
    assert!(sync.stripe.served().iter().any(|one| one.path == "/v1/customers"));
    assert_eq!(sync.app.text(NAMES).await.as_deref(), Some("After"));
    sync.end().await;
}

#[tokio::test]
async fn an_event_overwrites_an_older_page() {
    let sync = Fetching::without_accounts().await;
    let customer = sync.stripe.customer(json!({ "name": "Before" }));
    sync.stripe.tick(3600);
    let mark = sync.stripe.mark();
    sync.stripe.update(&customer, json!({ "name": "After" }));
    sync.stripe.serve_stale(5);
    sync.stripe.tick(2);
    sync.backfill_completely().await;
    assert_eq!(sync.app.text(NAMES).await.as_deref(), Some("Before"));
    sync.emit(mark, Epoch::Endive, &["customer.updated"]).await;
    sync.settle().await;
    assert_eq!(sync.app.text(NAMES).await.as_deref(), Some("After"));
    sync.end().await;
}

/// Runs a backfill while objects change at Stripe. Their events are processed at once, or only after all pages.
async fn backfill_beside_events(events_first: bool) {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 24);
    sync.stripe.page_at_most(4);
    let (stripe, app) = (sync.stripe.clone(), &sync.app);
    let (occurred, number) = (std::sync::Arc::new(Mutex::new(Vec::<Event>::new())), Mutex::new(0));
    let happened = std::sync::Arc::clone(&occurred);
    let mark = Mutex::new(stripe.mark());
    sync.stripe.on_request(move |request| {
        if !request.query.contains("limit=") {
            return;
        }
        let mut number = number.lock().unwrap();
        *number += 1;
        let one = |prefix: &str| format!("{prefix}_{}", *number % 20 + 1);
        let alive: BTreeSet<String> =
            stripe.truth().into_iter().filter(|(_, one)| one["ended_at"].is_null()).map(|(id, _)| id).collect();
        match *number % 3 {
            0 => stripe.update(&one("cus"), json!({ "name": format!("Live {number}") })),
            1 if alive.contains(&one("sub")) => stripe.pause_collection(&one("sub")),
            _ if alive.contains(&one("sub")) => {
                stripe.update(&one("sub"), json!({ "metadata": { "n": number.to_string() } }));
            }
            _ => {}
        }
        stripe.tick(1);
        let mut mark = mark.lock().unwrap();
        happened.lock().unwrap().extend(stripe.events_since(*mark));
        *mark = stripe.mark();
    });
    let writer = writer(app, &sync.stripe);
    let worker = async {
        // enough rounds for the whole backfill and its end
        for round in 0..40 {
            // the product changes customers too
            if round % 4 == 0 {
                rename(app, &writer, &format!("cus_{}", round % 20 + 1), &format!("Product {round}")).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            let events = std::mem::take(&mut *occurred.lock().unwrap());
            let events: Vec<_> = events.iter().map(|event| event.json(Epoch::Endive)).collect();
            app.enqueue(events.iter()).await;
            app.drain().await;
        }
    };
    if events_first {
        let (report, ()) = tokio::join!(sync.backfill(), worker);
        assert!(report.is_complete(), "{report:#?}");
    } else {
        sync.backfill_completely().await;
        worker.await;
    }
    sync.settle().await;
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.finish().await;
}

#[tokio::test]
async fn events_between_pages_end_in_the_correct_rows() {
    backfill_beside_events(true).await;
}

#[tokio::test]
async fn events_after_all_pages_end_in_the_correct_rows() {
    backfill_beside_events(false).await;
}
