//! A backfill reads everything with few requests, including objects that lists omit.

use billing_sync::backfill::RunSelection;
use billing_sync::verify::compare::Selection;
use billing_sync::verify::customer::WriteMode;
use serde_json::json;
use time::OffsetDateTime;

use super::harness::{assert_alike, shop};
use crate::support::fetching::Fetching;
use crate::support::stripe::{Epoch, Fault};

/// Number of customers; `make soak` sets more.
fn customers() -> usize {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
    let soak = std::env::var("SOAK_CUSTOMERS").ok();
    soak.and_then(|text| text.parse().ok()).unwrap_or(250)
}

#[tokio::test]
async fn the_rows_of_a_backfill_are_those_of_all_events() {
    let sync = Fetching::without_events(customers()).await;
    let report = sync.backfill_completely().await;
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    assert_eq!(report.projected, 0, "the pages have already written all rows");
    sync.end().await;
}

/// 250 customers are three pages. Other requests are for single objects that lists omit, and for the key check.
#[tokio::test]
async fn no_customer_is_fetched_individually() {
    let sync = Fetching::without_events(250).await;
    sync.backfill_completely().await;
    let served = sync.stripe.served();
    let singles: Vec<&str> = (served.iter().map(|request| request.path.as_str()))
        .filter(|path| path.starts_with("/v1/customers/") || path.starts_with("/v1/subscriptions/"))
        .collect();
    assert_eq!(singles, Vec::<&str>::new());
    // each split adds at most one request, and at most four pages are read concurrently
    let pages = |path: &str| served.iter().filter(|request| request.path == path).count();
    assert!((3..=6).contains(&pages("/v1/customers")), "{}", pages("/v1/customers"));
    assert!((3..=6).contains(&pages("/v1/subscriptions")), "{}", pages("/v1/subscriptions"));
    assert!(served.iter().filter(|request| request.path == "/v1/customers").all(|one| one.query.contains("limit=100")));
    sync.end().await;
}

#[tokio::test]
async fn a_second_backfill_changes_nothing() {
    let sync = Fetching::without_events(40).await;
    sync.backfill_completely().await;
    let rows = sync.all_rows().await;
    sync.stripe.tick(3600);
    let report = sync.backfill_completely().await;
    assert_eq!((report.counts.changes, report.projected), (0, 0));
    assert_alike(&sync.all_rows().await, &rows);
    assert_eq!(
        sync.app.text("SELECT count(*)::text FROM billing.backfill_runs WHERE finished_at IS NULL").await.as_deref(),
        Some("0")
    );
    sync.end().await;
}

/// Lists omit deleted objects, so every unlisted customer is fetched.
#[tokio::test]
async fn undelivered_deletions_are_found() {
    let sync = Fetching::without_events(12).await;
    sync.backfill_completely().await;
    let customer = |name: &str| {
        sync.stripe.truth().into_values().find(|one| one["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (gone, stays) = (customer("Customer 0"), customer("Customer 4"));
    sync.stripe.delete(&gone);
    let price = sync.stripe.truth().into_values().find(|one| one["object"] == "coupon").unwrap()["id"].clone();
    sync.stripe.delete(price.as_str().unwrap());
    sync.stripe.tick(3600);
    let mark = sync.stripe.served().len();
    sync.backfill_completely().await;
    let asked: Vec<String> = sync.stripe.served()[mark..].iter().map(|request| request.path.clone()).collect();
    assert!(asked.contains(&format!("/v1/customers/{gone}")) && !asked.contains(&format!("/v1/customers/{stays}")));
    let deleted =
        "SELECT string_agg(stripe_customer_id, ' ') FROM billing.billing_contacts WHERE stripe_deleted_at IS NOT NULL";
    assert_eq!(sync.app.text(deleted).await, Some(gone));
    assert_eq!(sync.app.text("SELECT valid::text FROM billing.coupons").await.as_deref(), Some("false"));
    sync.end().await;
}

#[tokio::test]
async fn since_reads_only_objects_created_later() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 20);
    let later = sync.stripe.now();
    shop(&sync.stripe, 10);
    let backfill = sync.backfiller().await.unwrap();
    let since = OffsetDateTime::from_unix_timestamp(later).unwrap();
    let run = backfill.begin(RunSelection::New(Some(since))).await.unwrap();
    assert!(backfill.run(&run, &mut |_| {}).await.unwrap().is_complete());
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("10"));
    // the catalogue is complete: later customers may have bought older plans
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.pricing_plans").await.as_deref(), Some("4"));
    sync.end().await;
}

#[tokio::test]
async fn a_backfill_matches_events_of_older_api_versions() {
    for epoch in [Epoch::V2020, Epoch::V2022, Epoch::Basil] {
        let sync = Fetching::without_accounts().await;
        shop(&sync.stripe, 16);
        sync.deliver_all(epoch).await;
        sync.settle().await;
        let from_events = sync.all_rows().await;
        sync.stripe.tick(3600);
        sync.backfill_completely().await;
        assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
        assert_eq!(from_events.len(), sync.all_rows().await.len());
        sync.end().await;
    }
}

#[tokio::test]
async fn manual_changes_of_rows_are_fixed() {
    let sync = Fetching::without_events(16).await;
    sync.backfill_completely().await;
    let rows = sync.all_rows().await;
    sync.app
        .execute(
            "UPDATE billing.subscriptions SET stripe_status = 'unpaid', active = false, inactive_reason = 'unpaid';
            UPDATE billing.billing_contacts SET email = 'x@example.com'; DELETE FROM billing.pricing_plans",
        )
        .await;
    sync.stripe.tick(3600);
    sync.backfill_completely().await;
    assert_alike(&sync.all_rows().await, &rows);
    sync.end().await;
}

#[tokio::test]
async fn a_dry_run_reports_what_would_be_written_and_writes_nothing() {
    let sync = Fetching::without_events(24).await;
    let reported = sync.drift(Selection::All(None), WriteMode::No).await;
    assert_eq!(sync.app.rows().await, Vec::<String>::new());
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.stripe_objects").await.as_deref(), Some("0"));
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.jobs").await.as_deref(), Some("0"));
    sync.backfill_completely().await;
    let written = "SELECT 'billing_contacts ' || stripe_customer_id FROM billing.billing_contacts
        UNION ALL SELECT 'subscriptions ' || stripe_subscription_id FROM billing.subscriptions
        UNION ALL SELECT 'coupons ' || stripe_coupon_id FROM billing.coupons ORDER BY 1";
    let written: Vec<String> = sqlx::query_scalar(written).fetch_all(&sync.app.pool).await.unwrap();
    let reported: Vec<String> =
        reported.into_iter().filter(|row| !row.starts_with('p') && !row.starts_with("ch")).collect();
    assert_alike(&reported, &written);
    assert_eq!(sync.drift(Selection::All(None), WriteMode::No).await, Vec::<String>::new());
    sync.end().await;
}

#[tokio::test]
async fn connected_accounts_that_are_synced_are_read_too() {
    let mut sync = Fetching::without_accounts().await;
    sync.app.context.sync.accounts = ["acct_1".to_owned()].into();
    shop(&sync.stripe, 4);
    sync.backfill_completely().await;
    let accounts = "SELECT string_agg(DISTINCT '<' || account || '>', '') FROM billing.subscriptions";
    assert_eq!(sync.app.text(accounts).await.as_deref(), Some("<><acct_1>"));
    let asked = sync.stripe.served().iter().filter(|one| one.account.as_deref() == Some("acct_1")).count();
    assert!(asked >= 9, "{asked}");
    sync.end().await;
}

#[tokio::test]
async fn known_objects_on_a_test_clock_are_read_individually() {
    let sync = Fetching::without_accounts().await;
    let clock = sync.stripe.test_clock(sync.stripe.now() + 1000);
    let customer = sync.stripe.customer(json!({ "name": "Clock", "test_clock": clock }));
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    sync.app.execute("UPDATE billing.billing_contacts SET name = 'wrong'").await;
    sync.stripe.tick(3600);
    sync.backfill_completely().await;
    assert_eq!(sync.app.text("SELECT name FROM billing.billing_contacts").await.as_deref(), Some("Clock"));
    assert!(sync.stripe.served().iter().any(|one| one.path == format!("/v1/customers/{customer}")));
    sync.end().await;
}

/// The backfill reads the objects of events that Stripe no longer lists.
#[tokio::test]
async fn only_a_complete_backfill_closes_the_gap_in_the_events() {
    let sync = Fetching::without_events(3).await;
    sync.app
        .execute(
            "INSERT INTO billing.reconcile_state (account, compared_until, gap_since, gap_until)
            VALUES ('', '2025-03-01Z', '2025-01-01Z', '2025-02-01Z')",
        )
        .await;
    let gap = "SELECT gap_since::date::text FROM billing.reconcile_state";
    sync.stripe.fail_next_under("/v1/disputes", 1, Fault::NotFound);
    assert!(!sync.backfill().await.is_complete());
    assert_eq!(sync.app.text(gap).await.as_deref(), Some("2025-01-01"));
    let backfill = sync.backfiller().await.unwrap();
    let run = backfill.begin(RunSelection::New(Some(OffsetDateTime::UNIX_EPOCH))).await.unwrap();
    assert!(backfill.run(&run, &mut |_| {}).await.unwrap().is_complete());
    assert_eq!(sync.app.text(gap).await.as_deref(), Some("2025-01-01"));
    sync.stripe.tick(3600);
    sync.backfill_completely().await;
    assert_eq!(sync.app.text(gap).await, None);
    sync.end().await;
}

/// A debit failed, and the next one is pending: lists contain only the pending one.
#[tokio::test]
async fn failed_debits_of_unpaid_invoices_are_read() {
    let sync = Fetching::without_events(2).await;
    let bank = sync.stripe.sepa_debit("3000");
    sync.stripe.attach(&bank, "cus_1");
    // with its own payment method the subscription needs no other read of its latest invoice
    sync.stripe.update("sub_1", json!({ "default_payment_method": bank }));
    let invoice = sync.stripe.bill("sub_1", 1000);
    sync.stripe.charge_failed(&invoice, &bank, "insufficient_funds");
    sync.stripe.tick(600);
    sync.stripe.charge_pending(&invoice, &bank);
    // the payment intent does not contain the error either
    let mut intent = sync.stripe.truth().into_values().find(|one| one["object"] == "payment_intent").unwrap();
    intent["last_payment_error"] = json!(null);
    sync.stripe.without_event(intent);
    sync.stripe.tick(600);
    sync.backfill_completely().await;
    let failed = "SELECT sepa_payment_failed::text FROM billing.subscriptions WHERE stripe_subscription_id = 'sub_1'";
    assert_eq!(sync.app.text(failed).await.as_deref(), Some("true"));
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    sync.end().await;
}
