//! What goes wrong on the way: Stripe slows us down, breaks, or says odd things. Nothing is lost and nothing is hidden.

use billing_sync::backfill::{Begin, ProgressEvent, Stop};
use billing_sync::projection;
use serde_json::json;

use super::harness::assert_alike;
use crate::support::fetching::Fetching;
use crate::support::stripe::Fault;

const STORM: Fault = Fault::TooManyRequests { retry_after: None };

#[tokio::test]
async fn a_storm_of_429_and_500_is_waited_out() {
    let sync = Fetching::without_events(30).await;
    sync.stripe.page_at_most(6);
    for fault in [STORM, Fault::ServerError, Fault::Close] {
        // each read is tried three times before a page is put back
        sync.stripe.fail_next_under("/v1/customers", 3, fault);
        sync.stripe.fail_next_under("/v1/invoice", 2, fault);
    }
    let backfill = sync.backfiller().await.unwrap();
    let run = backfill.begin(Begin::New(None)).await.unwrap();
    let mut waits = 0;
    let report =
        backfill.run(&run, &mut |notice| waits += usize::from(matches!(notice, ProgressEvent::Waits { .. }))).await;
    assert!(report.unwrap().is_complete());
    assert!(waits >= 2, "{waits}");
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}

#[tokio::test]
async fn what_retry_after_says_is_waited() {
    let sync = Fetching::without_events(3).await;
    sync.stripe.fail_next_under("/v1/coupons", 1, Fault::TooManyRequests { retry_after: Some(2) });
    let began = std::time::Instant::now();
    sync.backfill_completely().await;
    assert!(began.elapsed() >= std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    sync.end().await;
}

#[tokio::test]
async fn a_start_that_stripe_does_not_answer_is_a_failure_and_leaves_no_run() {
    let sync = Fetching::without_events(3).await;
    for (fault, says) in [(STORM, "retry later"), (Fault::ServerError, "cannot be reached")] {
        sync.stripe.fail_next_under("/v1/account", 3, fault);
        let Err(stop) = sync.backfiller().await else { panic!("it was told that it may begin") };
        assert!(matches!(stop, Stop::Stripe(_)) && stop.to_string().contains(says), "{stop}");
        sync.stripe.recover();
    }
    sync.stripe.roll_key();
    let mut other = Fetching::alone().await;
    other.turn_to(sync.stripe.clone());
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.backfill_runs").await.as_deref(), Some("0"));
    sync.finish().await;
    other.finish().await;
}

/// The report says which list, the run stays open, and going on reads the rest.
#[tokio::test]
async fn a_list_that_never_answers_is_named_and_can_be_gone_on_with() {
    let sync = Fetching::without_events(16).await;
    sync.stripe.page_at_most(4);
    sync.stripe.fail_next_under("/v1/subscriptions", 1000, Fault::ServerError);
    let report = sync.backfill().await;
    assert!(!report.is_complete());
    let [(list, why)] = &report.counts.failed_lists[..] else { panic!("{report:#?}") };
    assert!(list == "subscriptions" && why.contains("500"), "{list}: {why}");
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.subscriptions").await.as_deref(), Some("0"));
    sync.stripe.recover();
    assert!(!sync.backfill_cut_off(Begin::Resume, usize::MAX).await);
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}

#[tokio::test]
async fn a_list_that_is_not_there_is_named_and_the_rest_is_read() {
    let sync = Fetching::without_events(3).await;
    sync.stripe.fail_next_under("/v1/coupons", 1, Fault::NotFound);
    let report = sync.backfill().await;
    assert!(!report.is_complete());
    assert_eq!(report.counts.unsupported_lists, ["coupons"]);
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("3"));
    sync.end().await;
}

#[tokio::test]
async fn an_empty_page_that_promises_more_is_asked_for_again() {
    let sync = Fetching::without_events(16).await;
    sync.stripe.page_at_most(4);
    sync.stripe.fail_next_under("/v1/customers", 2, Fault::EmptyPage);
    sync.stripe.fail_next_under("/v1/subscriptions", 1, Fault::EmptyPage);
    sync.backfill_completely().await;
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    // one that never ends is named instead of being taken for the end
    sync.stripe.tick(3600);
    sync.stripe.fail_next_under("/v1/customers", 1000, Fault::EmptyPage);
    let report = sync.backfill().await;
    assert!(report.counts.failed_lists[0].1.contains("there is more"), "{report:#?}");
    sync.end().await;
}

#[tokio::test]
async fn a_page_on_which_everything_stands_twice_changes_nothing() {
    let sync = Fetching::without_events(16).await;
    sync.stripe.page_at_most(4);
    for list in ["/v1/customers", "/v1/subscriptions", "/v1/invoice_payments", "/v1/prices"] {
        sync.stripe.fail_next_under(list, 3, Fault::DoubledPage);
    }
    sync.backfill_completely().await;
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}

/// The customer after which the next page was to begin is deleted meanwhile.
#[tokio::test]
async fn a_place_that_is_deleted_meanwhile_is_left_for_its_second() {
    let sync = Fetching::without_events(16).await;
    sync.stripe.page_at_most(4);
    let (stripe, deleted) = (sync.stripe.clone(), std::sync::Mutex::new(false));
    sync.stripe.on_request(move |request| {
        let place = request.query.split('&').find_map(|one| one.strip_prefix("starting_after="));
        if let (true, Some(place)) = (request.path == "/v1/customers", place) {
            let mut deleted = deleted.lock().unwrap();
            if !std::mem::replace(&mut deleted, true) {
                stripe.delete(place);
            }
        }
    });
    sync.backfill_completely().await;
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("16"));
    sync.finish_with_jobs().await;
}

/// An object that makes the mapping panic is left behind by name, and its neighbours are stored.
#[tokio::test]
async fn a_bad_object_is_named_and_left_behind() {
    let mut sync = Fetching::without_events(16).await;
    sync.app.context.project_customer = |id, graph, rules| {
        assert!(id != "cus_5", "a customer that cannot be mapped");
        projection::customer(id, graph, rules)
    };
    let report = sync.backfill().await;
    assert!(!report.is_complete());
    let failed: Vec<&str> = report.counts.failed.iter().map(|(object, _)| object.as_str()).collect();
    assert!(failed.contains(&"customer cus_5"), "{report:#?}");
    assert!(report.counts.failed[0].1.contains("a customer that cannot be mapped"), "{report:#?}");
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("15"));
    sync.finish_with_jobs().await;
}

#[tokio::test]
async fn what_has_no_id_is_named_by_its_place() {
    let sync = Fetching::without_events(3).await;
    let mut odd = sync.stripe.object("cus_1");
    (odd["id"], odd["created"]) = (json!("x".repeat(300)), json!(sync.stripe.now()));
    sync.stripe.without_event(odd);
    let report = sync.backfill().await;
    let [(object, _)] = &report.counts.failed[..] else { panic!("{report:#?}") };
    assert_eq!(object, "customer item 1 of the first page");
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("3"));
    sync.finish_with_jobs().await;
}

#[tokio::test]
async fn a_key_of_another_account_reads_nothing() {
    let sync = Fetching::without_events(4).await;
    sync.backfill_completely().await;
    let rows = sync.all_rows().await;
    sync.stripe.become_another_account();
    let Err(stop) = sync.backfiller().await else { panic!("it was told that it may begin") };
    assert!(stop.to_string().contains("acct_another") && stop.to_string().contains("acct_fake"), "{stop}");
    assert_alike(&sync.all_rows().await, &rows);
    sync.stripe.become_our_account_again();
    sync.end().await;
}
