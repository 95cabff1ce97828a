//! Concurrent comparisons.

use std::time::Duration;

use billing_sync::reconcile::run::Run;
use tokio_util::sync::CancellationToken;

use super::{BEHIND, FOUND, compare_since, compared, customers, leave, reconcile, text, watermark};

#[tokio::test]
async fn two_concurrent_comparisons_store_each_event_once() {
    let sync = compared().await;
    customers(&sync, 250);
    sync.stripe.tick(60);
    let (one, other) = tokio::join!(compare_since(&sync, None), compare_since(&sync, None));
    assert_eq!(one.unwrap().stats.inserted() + other.unwrap().stats.inserted(), 250);
    assert!(text(&sync, FOUND).await.starts_with("250 of "));
    assert_eq!(watermark(&sync).await, Some(sync.stripe.now() - BEHIND));
    leave(sync).await;
}

#[tokio::test]
async fn of_many_replicas_only_one_lists_the_events() {
    let sync = compared().await;
    let asked = sync.served("/v1/events");
    let never = CancellationToken::new();
    let replicas: Vec<_> = (0..5).map(|_| reconcile(&sync)).collect();
    let rounds = replicas.iter().map(|replica| {
        let never = never.clone();
        async move {
            let mut run = Run::new(replica, None, &never);
            run.account("", Some(Duration::from_millis(1)), &mut |_| ()).await.unwrap().is_some()
        }
    });
    let mut did = 0;
    for round in rounds {
        did += usize::from(round.await);
    }
    assert!(did >= 1);
    // with the interval of the service no replica is due
    let mut run = Run::new(&replicas[0], None, &never);
    assert_eq!(run.account("", super::LONG, &mut |_| ()).await.unwrap(), None);
    assert_eq!(sync.served("/v1/events") - asked, did * 5, "88 types are five requests");
    sync.finish().await;
}
