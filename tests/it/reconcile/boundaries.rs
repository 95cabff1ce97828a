//! The compared seconds, and the changes of the watermark.

use std::time::Duration;

use billing_sync::reconcile::run::Since;
use serde_json::json;

use super::{BEHIND, FOUND, at, compare, compare_since, compared, leave, set_watermark, text, watermark};
use crate::support::stripe::Epoch;

#[tokio::test]
async fn an_event_up_to_an_hour_before_the_watermark_is_found() {
    // the watermark, relative to the event's second, and whether the event is listed
    for (watermark, is_found) in [(0.0, true), (0.9, true), (3600.0, true), (3600.9, true), (3601.0, false)] {
        let sync = compared().await;
        sync.stripe.tick(7200);
        sync.stripe.customer(json!({ "name": "Bo" }));
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let second = sync.stripe.now() as f64;
        sync.stripe.tick(7200);
        set_watermark(&sync, second + watermark).await;
        let found = compare(&sync).await;
        assert_eq!((found.stats.compared, found.stats.inserted() == 1), (u64::from(is_found), is_found), "{watermark}");
        leave(sync).await;
    }
}

#[tokio::test]
async fn a_complete_listing_moves_the_watermark_to_its_start() {
    let sync = compared().await;
    assert_eq!(watermark(&sync).await, Some(sync.stripe.now() - BEHIND));
    sync.stripe.tick(500);
    let stripe = sync.stripe.clone();
    let asked = std::sync::atomic::AtomicBool::new(false);
    let began = sync.stripe.now();
    // the listing takes long
    sync.stripe.on_request(move |request| {
        if request.path == "/v1/events" && asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            stripe.tick(100);
        }
    });
    let found = compare(&sync).await;
    assert_eq!(watermark(&sync).await, Some(began - BEHIND));
    assert_eq!((found.until, found.watermark), (at(began - BEHIND), Some(at(began - BEHIND))));
    sync.finish().await;
}

#[tokio::test]
async fn the_watermark_never_moves_back() {
    let sync = compared().await;
    let ahead = sync.stripe.now() + 50;
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    set_watermark(&sync, ahead as f64).await;
    compare(&sync).await;
    assert_eq!(watermark(&sync).await, Some(ahead));
    sync.finish().await;
}

#[tokio::test]
async fn webhooks_do_not_move_the_watermark_past_missed_events() {
    let sync = compared().await;
    let before = watermark(&sync).await;
    sync.stripe.tick(2 * 3600);
    sync.stripe.customer(json!({ "name": "missed" }));
    sync.stripe.tick(2 * 3600);
    let mark = sync.stripe.mark();
    sync.stripe.customer(json!({ "name": "delivered" }));
    sync.app.deliver_all(&sync.stripe.events_since(mark), Epoch::Endive).await;
    sync.settle().await;
    assert_eq!(watermark(&sync).await, before);
    assert_eq!(compare(&sync).await.stats.inserted(), 1);
    sync.settle().await;
    sync.finish().await;
}

#[tokio::test]
async fn a_listing_that_starts_after_the_watermark_does_not_move_it() {
    let sync = compared().await;
    let before = watermark(&sync).await;
    sync.stripe.tick(3600);
    sync.stripe.customer(json!({ "name": "early" }));
    sync.stripe.tick(3600);
    sync.stripe.customer(json!({ "name": "late" }));
    let found = compare_since(&sync, Some(Since::Ago(Duration::from_mins(10)))).await.unwrap();
    assert_eq!((found.stats.inserted(), watermark(&sync).await), (1, before), "{found:?}");
    // the next comparison also covers the skipped time
    assert_eq!(compare(&sync).await.stats.inserted(), 1);
    assert_eq!(watermark(&sync).await, Some(sync.stripe.now() - BEHIND));
    sync.stripe.tick(60);
    let since = at(before.unwrap());
    let found = compare_since(&sync, Some(Since::At(since))).await.unwrap();
    assert_eq!((found.from, found.watermark), (since, Some(at(sync.stripe.now() - BEHIND))));
    assert_eq!(text(&sync, FOUND).await.split(' ').next(), Some("2"));
    leave(sync).await;
}
