//! A backfill beside the service: events arrive before, during and after the page that shows the same object.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::json;

use super::harness::{assert_alike, shop};
use crate::support::fetching::Fetching;
use crate::support::stripe::{Epoch, Event};

const NAMES: &str = "SELECT string_agg(DISTINCT name, ' ') FROM billing.billing_contacts";

/// A page that is older than an event changes nothing about it.
#[tokio::test]
async fn an_event_stands_against_a_page_that_was_asked_for_before_it() {
    let sync = Fetching::alone().await;
    let customer = sync.stripe.customer(json!({ "name": "Before" }));
    sync.stripe.tick(3600);
    sync.stripe.update(&customer, json!({ "name": "After" }));
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    // the list is that of a copy which has not heard of it yet
    sync.stripe.serve_stale(5);
    sync.stripe.tick(2);
    sync.backfill_completely().await;
    assert!(sync.stripe.served().iter().any(|one| one.path == "/v1/customers"));
    assert_eq!(sync.app.text(NAMES).await.as_deref(), Some("After"));
    sync.end().await;
}

/// And one that comes after such a page has its say, too.
#[tokio::test]
async fn an_event_that_comes_after_an_older_page_has_its_say() {
    let sync = Fetching::alone().await;
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

/// While pages are read, things happen at Stripe: their events are processed at once, or only when all is over.
async fn beside(events_first: bool) {
    let sync = Fetching::alone().await;
    shop(&sync.stripe, 24);
    sync.stripe.page_at_most(4);
    let (stripe, app) = (sync.stripe.clone(), &sync.app);
    let (told, number) = (std::sync::Arc::new(Mutex::new(Vec::<Event>::new())), Mutex::new(0));
    let happened = std::sync::Arc::clone(&told);
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
    let worker = async {
        // as many rounds as the backfill lasts, and one after it
        for _ in 0..40 {
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            let events = std::mem::take(&mut *told.lock().unwrap());
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
async fn events_that_come_while_pages_are_read_and_pages_that_come_after_them_end_in_the_truth() {
    beside(true).await;
}

#[tokio::test]
async fn events_that_come_only_after_all_pages_end_in_the_truth() {
    beside(false).await;
}
