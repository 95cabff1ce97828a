//! A backfill that is cut off goes on where it was, and two of them do not get in each other's way.

use std::collections::BTreeMap;

use billing_sync::backfill::{Begin, Stop};

use super::harness::assert_alike;
use crate::support::fetching::Fetching;

/// The pages that were asked for, each with how often.
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

/// Cut off after its first page, its second, and so on to the last one, as by a kill: what was stored is committed, what
/// was under way is lost. Once with one page at a time, where nothing but that page may be asked for twice.
#[tokio::test]
async fn a_backfill_that_is_cut_off_at_any_page_goes_on_without_a_gap() {
    let sync = Fetching::without_events(24).await;
    sync.stripe.page_at_most(7);
    sync.backfill_completely().await;
    let truth = sync.all_rows().await;
    let mut boundaries = 0;
    loop {
        sync.forget_backfills().await;
        let mark = sync.stripe.served().len();
        if !sync.backfill_cut_off(Begin::New(None), boundaries + 1).await {
            break;
        }
        boundaries += 1;
        assert!(!sync.backfill_cut_off(Begin::Resume, usize::MAX).await);
        assert_alike(&sync.all_rows().await, &truth);
        let repeated: Vec<(String, usize)> = pages(&sync, mark).into_iter().filter(|(_, times)| *times > 1).collect();
        // four pages are at work at most
        assert!(repeated.len() <= 4 && repeated.iter().all(|(_, times)| *times == 2), "{boundaries}: {repeated:?}");
    }
    assert!(boundaries > 15, "{boundaries}");
    sync.end().await;
}

#[tokio::test]
async fn a_backfill_that_is_taken_over_stops_and_the_other_one_finishes() {
    let sync = Fetching::without_events(24).await;
    sync.stripe.page_at_most(3);
    let (first, second) = (sync.backfiller().await.unwrap(), sync.backfiller().await.unwrap());
    let run = first.begin(Begin::New(None)).await.unwrap();
    assert!(second.begin(Begin::New(None)).await.is_err(), "there is one already");
    let same_run = second.begin(Begin::Resume).await.unwrap();
    assert_eq!(same_run.id, run.id);
    let (mut deaf, mut too) = (|_| {}, |_| {});
    let (relieved, finished) = tokio::join!(first.run(&run, &mut deaf), second.run(&same_run, &mut too));
    assert!(matches!(relieved, Err(Stop::LeaseLost)), "{relieved:?}");
    assert!(finished.unwrap().is_complete());
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}

/// Not even the page that it is at.
#[tokio::test]
async fn who_was_relieved_stores_nothing_any_more() {
    let sync = Fetching::without_events(8).await;
    let (first, second) = (sync.backfiller().await.unwrap(), sync.backfiller().await.unwrap());
    let run = first.begin(Begin::New(None)).await.unwrap();
    second.begin(Begin::Resume).await.unwrap();
    let relieved = first.run(&run, &mut |_| {}).await;
    assert!(matches!(relieved, Err(Stop::LeaseLost)), "{relieved:?}");
    assert_eq!(sync.app.text("SELECT sum(pages)::text FROM billing.backfill_ranges").await.as_deref(), Some("0"));
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.stripe_objects").await.as_deref(), Some("0"));
    sync.end().await;
}

/// Whoever gives the open one up and begins anew does no harm to what both write.
#[tokio::test]
async fn two_backfills_that_write_at_once_end_in_the_same_rows() {
    let sync = Fetching::without_events(40).await;
    sync.stripe.page_at_most(5);
    let (first, second) = (sync.backfiller().await.unwrap(), sync.backfiller().await.unwrap());
    let run = first.begin(Begin::New(None)).await.unwrap();
    let restart = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        second.abandon().await.unwrap();
        let run = second.begin(Begin::New(None)).await.unwrap();
        second.run(&run, &mut |_| {}).await
    };
    let mut deaf = |_| {};
    let (first, second) = tokio::join!(first.run(&run, &mut deaf), restart);
    assert!(matches!(first, Err(Stop::LeaseLost)), "{first:?}");
    let second = second.unwrap();
    assert!(second.is_complete(), "{second:#?}");
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}
