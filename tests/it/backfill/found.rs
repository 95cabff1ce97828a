//! What a backfill finds: everything, in few requests, and what lists do not have.

use billing_sync::backfill::Begin;
use billing_sync::verify::compare::Selection;
use billing_sync::verify::customer::WriteMode;
use serde_json::json;
use time::OffsetDateTime;

use super::harness::{assert_alike, shop};
use crate::support::fetching::Fetching;
use crate::support::stripe::{Epoch, Fault};

/// `make soak` has more.
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
    assert_eq!(report.projected, 0, "the pages have written all rows already");
    sync.end().await;
}

/// 250 customers are three pages; the rest are single objects that lists do not carry, and the look at the key.
#[tokio::test]
async fn few_requests_are_made_and_none_for_single_customers() {
    let sync = Fetching::without_events(250).await;
    sync.backfill_completely().await;
    let served = sync.stripe.served();
    let singles: Vec<&str> = (served.iter().map(|request| request.path.as_str()))
        .filter(|path| path.starts_with("/v1/customers/") || path.starts_with("/v1/subscriptions/"))
        .collect();
    assert_eq!(singles, Vec::<&str>::new());
    // each cut of a range adds one request at most, and there are four pages at work at most
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

/// Lists omit what was deleted, so every customer that no page named is read.
#[tokio::test]
async fn what_was_deleted_while_nobody_listened_is_found() {
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
async fn only_what_was_created_later_is_read_where_that_is_asked_for() {
    let sync = Fetching::alone().await;
    shop(&sync.stripe, 20);
    let later = sync.stripe.now();
    shop(&sync.stripe, 10);
    let backfill = sync.backfiller().await.unwrap();
    let since = OffsetDateTime::from_unix_timestamp(later).unwrap();
    let run = backfill.begin(Begin::New(Some(since))).await.unwrap();
    assert!(backfill.run(&run, &mut |_| {}).await.unwrap().is_complete());
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("10"));
    // the catalogue is whole: whoever came later may have bought what was there before
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.pricing_plans").await.as_deref(), Some("4"));
    sync.end().await;
}

#[tokio::test]
async fn what_events_told_in_old_shapes_is_told_by_a_backfill_again() {
    for epoch in [Epoch::V2020, Epoch::V2022, Epoch::Basil] {
        let sync = Fetching::alone().await;
        shop(&sync.stripe, 16);
        sync.deliver_all(epoch).await;
        sync.settle().await;
        let told = sync.all_rows().await;
        sync.stripe.tick(3600);
        sync.backfill_completely().await;
        assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
        assert_eq!(told.len(), sync.all_rows().await.len());
        sync.end().await;
    }
}

#[tokio::test]
async fn what_somebody_changed_in_a_row_by_hand_is_mended() {
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
async fn a_trial_run_tells_what_a_backfill_would_write_and_writes_nothing() {
    let sync = Fetching::without_events(24).await;
    let told = sync.drift(Selection::All(None), WriteMode::No).await;
    assert_eq!(sync.app.rows().await, Vec::<String>::new());
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.stripe_objects").await.as_deref(), Some("0"));
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.jobs").await.as_deref(), Some("0"));
    sync.backfill_completely().await;
    let written = "SELECT 'billing_contacts ' || stripe_customer_id FROM billing.billing_contacts
        UNION ALL SELECT 'subscriptions ' || stripe_subscription_id FROM billing.subscriptions
        UNION ALL SELECT 'coupons ' || stripe_coupon_id FROM billing.coupons ORDER BY 1";
    let written: Vec<String> = sqlx::query_scalar(written).fetch_all(&sync.app.pool).await.unwrap();
    let told: Vec<String> = told.into_iter().filter(|row| !row.starts_with('p') && !row.starts_with("ch")).collect();
    assert_alike(&told, &written);
    assert_eq!(sync.drift(Selection::All(None), WriteMode::No).await, Vec::<String>::new());
    sync.end().await;
}

#[tokio::test]
async fn connected_accounts_that_are_synced_are_read_too() {
    let mut sync = Fetching::alone().await;
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
async fn objects_on_a_test_clock_are_in_no_list_and_are_read_where_they_are_known() {
    let sync = Fetching::alone().await;
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

/// What Stripe no longer lists as events was read as objects.
#[tokio::test]
async fn a_complete_backfill_closes_the_gap_in_the_events_and_no_other_does() {
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
    let run = backfill.begin(Begin::New(Some(OffsetDateTime::UNIX_EPOCH))).await.unwrap();
    assert!(backfill.run(&run, &mut |_| {}).await.unwrap().is_complete());
    assert_eq!(sync.app.text(gap).await.as_deref(), Some("2025-01-01"));
    sync.stripe.tick(3600);
    sync.backfill_completely().await;
    assert_eq!(sync.app.text(gap).await, None);
    sync.end().await;
}

/// A debit failed, and the next one is on its way: lists have only that one.
#[tokio::test]
async fn the_failed_debits_of_what_is_still_owed_are_read() {
    let sync = Fetching::without_events(2).await;
    let bank = sync.stripe.sepa_debit("3000");
    sync.stripe.attach(&bank, "cus_1");
    // with a method of its own nothing else asks for its latest invoice
    sync.stripe.update("sub_1", json!({ "default_payment_method": bank }));
    let invoice = sync.stripe.bill("sub_1", 1000);
    sync.stripe.charge_failed(&invoice, &bank, "insufficient_funds");
    sync.stripe.tick(600);
    sync.stripe.charge_pending(&invoice, &bank);
    // nor does the payment itself remember
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
