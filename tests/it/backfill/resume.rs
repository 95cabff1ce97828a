//! An interrupted backfill resumes where it was, and two backfills do not disturb each other.

use std::collections::BTreeMap;

use billing_sync::backfill::{RunSelection, Stop};

use super::harness::assert_alike;
use crate::support::fetching::Fetching;

/// The requested pages, with the number of requests.
fn pages(sync: &Fetching, mark: usize) -> BTreeMap<String, usize> {
    let mut pages = BTreeMap::new();
    for request in &sync.stripe.served()[mark..] {
        if request.query.contains("limit=") && !request.path.starts_with("/v1/events") {
            *pages.entry(format!("{}?{}", request.path, request.query)).or_default() += 1;
        }
    }
    pages
}

impl Fetching {
    async fn forget_backfills(&self) {
        self.app.forget_everything().await;
        self.app.execute("TRUNCATE billing.backfill_runs, billing.backfill_ranges, billing.backfill_failures").await;
    }
}

/// Interrupts the backfill, as a kill does, after its first page, its second, and so on. Stored pages are committed;
/// only the pages in flight may be requested twice.
#[tokio::test]
async fn a_backfill_interrupted_at_any_page_resumes_without_a_gap() {
    let sync = Fetching::without_events(24).await;
    sync.stripe.page_at_most(7);
    sync.backfill_completely().await;
    let truth = sync.all_rows().await;
    let mut boundaries = 0;
    loop {
        sync.forget_backfills().await;
        let mark = sync.stripe.served().len();
        if !sync.backfill_interrupted(RunSelection::New(None), boundaries + 1).await {
            break;
        }
        boundaries += 1;
        assert!(!sync.backfill_interrupted(RunSelection::Resume, usize::MAX).await);
        assert_alike(&sync.all_rows().await, &truth);
        let repeated: Vec<(String, usize)> = pages(&sync, mark).into_iter().filter(|(_, times)| *times > 1).collect();
        // at most four pages are in flight
        assert!(repeated.len() <= 4 && repeated.iter().all(|(_, times)| *times == 2), "{boundaries}: {repeated:?}");
    }
    assert!(boundaries > 15, "{boundaries}");
    sync.end().await;
}

#[tokio::test]
async fn a_backfill_that_is_taken_over_stops_and_the_other_finishes() {
    let sync = Fetching::without_events(24).await;
    sync.stripe.page_at_most(3);
    let (first, second) = (sync.backfiller().await.unwrap(), sync.backfiller().await.unwrap());
    let run = first.begin(RunSelection::New(None)).await.unwrap();
    assert!(second.begin(RunSelection::New(None)).await.is_err(), "there is an unfinished run");
    let same_run = second.begin(RunSelection::Resume).await.unwrap();
    assert_eq!(same_run.id, run.id);
    let (mut ignore, mut ignore_too) = (|_| {}, |_| {});
    let (lease_lost, finished) = tokio::join!(first.run(&run, &mut ignore), second.run(&same_run, &mut ignore_too));
    assert!(matches!(lease_lost, Err(Stop::LeaseLost)), "{lease_lost:?}");
    assert!(finished.unwrap().is_complete());
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}

/// The page in flight is not stored either.
#[tokio::test]
async fn nothing_is_stored_after_the_lease_is_lost() {
    let sync = Fetching::without_events(8).await;
    let (first, second) = (sync.backfiller().await.unwrap(), sync.backfiller().await.unwrap());
    let run = first.begin(RunSelection::New(None)).await.unwrap();
    second.begin(RunSelection::Resume).await.unwrap();
    let lease_lost = first.run(&run, &mut |_| {}).await;
    assert!(matches!(lease_lost, Err(Stop::LeaseLost)), "{lease_lost:?}");
    assert_eq!(sync.app.text("SELECT sum(pages)::text FROM billing.backfill_ranges").await.as_deref(), Some("0"));
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.stripe_objects").await.as_deref(), Some("0"));
    sync.end().await;
}

/// A second process abandons the unfinished run and starts a new one while the first still writes.
#[tokio::test]
async fn two_concurrent_backfills_end_in_the_same_rows() {
    let sync = Fetching::without_events(40).await;
    sync.stripe.page_at_most(5);
    let (first, second) = (sync.backfiller().await.unwrap(), sync.backfiller().await.unwrap());
    let run = first.begin(RunSelection::New(None)).await.unwrap();
    let restart = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        second.abandon().await.unwrap();
        let run = second.begin(RunSelection::New(None)).await.unwrap();
        second.run(&run, &mut |_| {}).await
    };
    let mut ignore = |_| {};
    let (first, second) = tokio::join!(first.run(&run, &mut ignore), restart);
    assert!(matches!(first, Err(Stop::LeaseLost)), "{first:?}");
    let second = second.unwrap();
    assert!(second.is_complete(), "{second:#?}");
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}
