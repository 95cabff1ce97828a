//! Faults during a backfill: rate limits, errors and odd answers of Stripe. No data is lost, and every failure is
//! reported.

use billing_sync::backfill::{RunSelection, Stop};
use billing_sync::projection;
use serde_json::json;

use super::harness::assert_alike;
use crate::support::fetching::Fetching;
use crate::support::stripe::Fault;

const RATE_LIMITED: Fault = Fault::TooManyRequests { retry_after: None };

#[tokio::test]
async fn many_429_and_500_answers_are_retried() {
    let sync = Fetching::without_events(30).await;
    sync.stripe.page_at_most(6);
    for fault in [RATE_LIMITED, Fault::ServerError, Fault::Close] {
        // each read is tried three times, so a page is retried for each fault before it is answered
        sync.stripe.fail_next_under("/v1/customers", 3, fault);
        sync.stripe.fail_next_under("/v1/invoice", 2, fault);
    }
    sync.backfill_completely().await;
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}

#[tokio::test]
async fn retry_after_is_respected() {
    let sync = Fetching::without_events(3).await;
    sync.stripe.fail_next_under("/v1/coupons", 1, Fault::TooManyRequests { retry_after: Some(2) });
    let began = std::time::Instant::now();
    sync.backfill_completely().await;
    assert!(began.elapsed() >= std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    sync.end().await;
}

#[tokio::test]
async fn a_start_without_an_answer_fails_and_leaves_no_run() {
    let sync = Fetching::without_events(3).await;
    for (fault, expected) in [
        (RATE_LIMITED, "retry later"),
        (
            Fault::ServerError,
            "a server that is not Stripe's API answered 500; nothing was read: correct STRIPE_API_BASE",
        ),
    ] {
        sync.stripe.fail_next_under("/v1/account", 3, fault);
        let Err(stop) = sync.backfiller().await else { panic!("the backfill may begin") };
        assert!(matches!(stop, Stop::Stripe(_)) && stop.to_string().contains(expected), "{stop}");
        sync.stripe.recover();
    }
    sync.stripe.roll_key();
    let mut other = Fetching::without_accounts().await;
    other.turn_to(sync.stripe.clone());
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.backfill_runs").await.as_deref(), Some("0"));
    sync.finish().await;
    other.finish().await;
}

/// The report names the list, the run stays unfinished, and resuming it reads the rest.
#[tokio::test]
async fn a_list_that_never_answers_is_reported_and_can_be_resumed() {
    let sync = Fetching::without_events(16).await;
    sync.stripe.page_at_most(4);
    sync.stripe.fail_next_under("/v1/subscriptions", 1000, Fault::ServerError);
    let report = sync.backfill().await;
    assert!(!report.is_complete());
    let [(list, why)] = &report.counts.failed_lists[..] else { panic!("{report:#?}") };
    assert!(list == "subscriptions" && why.contains("500"), "{list}: {why}");
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.subscriptions").await.as_deref(), Some("0"));
    sync.stripe.recover();
    assert!(!sync.backfill_interrupted(RunSelection::Resume, usize::MAX).await);
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}

#[tokio::test]
async fn an_unsupported_list_is_reported_and_the_rest_is_read() {
    let sync = Fetching::without_events(3).await;
    sync.stripe.fail_next_under("/v1/coupons", 1, Fault::NotFound);
    let report = sync.backfill().await;
    assert!(!report.is_complete());
    assert_eq!(report.counts.unsupported_lists, ["coupons"]);
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("3"));
    sync.end().await;
}

#[tokio::test]
async fn an_empty_page_with_has_more_is_requested_again() {
    let sync = Fetching::without_events(16).await;
    sync.stripe.page_at_most(4);
    sync.stripe.fail_next_under("/v1/customers", 2, Fault::EmptyPage);
    sync.stripe.fail_next_under("/v1/subscriptions", 1, Fault::EmptyPage);
    sync.backfill_completely().await;
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    // endless empty pages are reported, not taken for the end of the list
    sync.stripe.tick(3600);
    sync.stripe.fail_next_under("/v1/customers", 1000, Fault::EmptyPage);
    let report = sync.backfill().await;
    assert!(report.counts.failed_lists[0].1.contains("no further object"), "{report:#?}");
    sync.end().await;
}

#[tokio::test]
async fn duplicated_objects_on_a_page_change_nothing() {
    let sync = Fetching::without_events(16).await;
    sync.stripe.page_at_most(4);
    for list in ["/v1/customers", "/v1/subscriptions", "/v1/invoice_payments", "/v1/prices"] {
        sync.stripe.fail_next_under(list, 3, Fault::DoubledPage);
    }
    sync.backfill_completely().await;
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}

/// The customer that is the cursor of the next page is deleted meanwhile.
#[tokio::test]
async fn a_deleted_cursor_object_is_replaced_by_its_second() {
    let sync = Fetching::without_events(16).await;
    sync.stripe.page_at_most(4);
    let (stripe, deleted) = (sync.stripe.clone(), std::sync::Mutex::new(false));
    sync.stripe.on_request(move |request| {
        let cursor = request.query.split('&').find_map(|one| one.strip_prefix("starting_after="));
        if let (true, Some(cursor)) = (request.path == "/v1/customers", cursor) {
            let mut deleted = deleted.lock().unwrap();
            if !std::mem::replace(&mut deleted, true) {
                stripe.delete(cursor);
            }
        }
    });
    sync.backfill_completely().await;
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("16"));
    sync.finish_with_jobs().await;
}

/// An object that makes the mapping panic is reported and skipped; its neighbours are stored.
#[tokio::test]
async fn a_bad_object_is_reported_and_skipped() {
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
async fn an_object_without_an_id_is_named_by_its_position() {
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
    let Err(stop) = sync.backfiller().await else { panic!("the backfill may begin") };
    assert!(stop.to_string().contains("acct_another") && stop.to_string().contains("acct_fake"), "{stop}");
    assert_alike(&sync.all_rows().await, &rows);
    sync.stripe.become_our_account_again();
    sync.end().await;
}
