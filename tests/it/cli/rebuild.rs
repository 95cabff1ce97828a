//! `rebuild` recomputes rows from the mirror, with and without `--dry-run`, through the real binary.

use std::process::Output;

use serde_json::json;

use super::{code, json_lines, run, words};
use crate::support::app::TestApp;
use crate::support::events::{customer, event, subscription, with};

/// An app with two customers and their subscriptions, whose rows were changed manually.
async fn with_wrong_rows() -> TestApp {
    let app = TestApp::start().await;
    for (number, id) in ["cus_1", "cus_2"].into_iter().enumerate() {
        let sub = with(&subscription(&format!("sub_{id}"), id), json!({ "default_payment_method": "pm_unseen" }));
        app.deliver(&event(&format!("evt_c{number}"), "customer.created", 0, &customer(id, "Ada"), None)).await;
        app.deliver(&event(&format!("evt_s{number}"), "customer.subscription.created", 1, &sub, None)).await;
    }
    app.drain().await;
    app.execute(
        "UPDATE billing.subscriptions SET stripe_status = 'canceled', active = false, inactive_reason = 'canceled';
        UPDATE billing.billing_contacts SET email = 'wrong@example.com' WHERE stripe_customer_id = 'cus_2';
        DELETE FROM billing.pricing_plans",
    )
    .await;
    app
}

fn rebuild(app: &TestApp, arguments: &[&str], key: &[(&str, &str)]) -> Output {
    let environment: Vec<_> =
        [("DATABASE_URL", app.database.url.as_str())].into_iter().chain(key.iter().copied()).collect();
    run(&[&["rebuild"], arguments].concat(), &environment)
}

#[tokio::test]
async fn a_dry_run_prints_each_field_and_writes_nothing() {
    let app = with_wrong_rows().await;
    let before = app.rows().await;
    let output = rebuild(&app, &["--dry-run"], &[]);
    let printed = words(&output.stdout);
    assert_eq!(code(&output), 0, "{printed}");
    for part in [
        "subscriptions sub_cus_1 active: false -> true inactive_reason: canceled -> null stripe_status: canceled -> active",
        "billing_contacts cus_2 email: changed",
        "pricing_plans price_basic (new)",
        "3 objects processed, 4 rows would be changed",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(!printed.contains("example.com"), "no personal data: {printed}");
    assert_eq!(app.rows().await, before);
    assert_eq!(app.text("SELECT count(*)::text FROM billing.rebuild_runs").await.as_deref(), Some("0"));
    app.finish().await;
}

#[tokio::test]
async fn a_rebuild_fixes_the_rows_and_a_second_finds_nothing() {
    let app = with_wrong_rows().await;
    let printed = words(&rebuild(&app, &["--json"], &[]).stdout);
    assert!(printed.contains(r#""name":"sub_cus_2""#), "{printed}");
    let healthy = "SELECT string_agg(concat_ws(' ', active, stripe_status), ',') FROM billing.subscriptions";
    assert_eq!(app.text(healthy).await.as_deref(), Some("t active,t active"));
    assert_eq!(app.text("SELECT count(*)::text FROM billing.pricing_plans").await.as_deref(), Some("1"));
    let again = words(&rebuild(&app, &[], &[]).stdout);
    assert!(again.contains(" 0 rows changed"), "{again}");
    let why = "SELECT causes::text FROM billing.row_changes ORDER BY id DESC LIMIT 1";
    assert_eq!(app.text(why).await.as_deref(), Some("{rebuild}"));
    app.finish().await;
}

#[tokio::test]
async fn only_the_named_customers_are_rebuilt() {
    let app = with_wrong_rows().await;
    let output = rebuild(&app, &["--customer", "cus_2"], &[]);
    assert_eq!(code(&output), 0);
    let active = "SELECT string_agg(stripe_subscription_id, ',' ORDER BY stripe_subscription_id) FROM billing.subscriptions WHERE active";
    assert_eq!(app.text(active).await.as_deref(), Some("sub_cus_2"));
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_customer_is_a_failure_and_nothing_is_rebuilt() {
    let app = with_wrong_rows().await;
    let before = app.rows().await;
    let output = rebuild(&app, &["--customer", "cus_2", "--customer", "cus_unknown"], &[]);
    assert_eq!(code(&output), 1);
    assert!(words(&output.stderr).contains("no event or read of cus_unknown is stored"), "{}", words(&output.stderr));
    assert_eq!(app.rows().await, before);
    app.finish().await;
}

#[tokio::test]
async fn with_a_key_it_requests_data_that_events_omit() {
    let app = with_wrong_rows().await;
    assert_eq!(app.text("SELECT count(*)::text FROM billing.jobs").await.as_deref(), Some("0"), "without a key");
    let printed = words(&rebuild(&app, &[], &[("STRIPE_SECRET_KEY", "sk_test_x")]).stdout);
    assert!(printed.contains("`serve` will fetch 3 objects from Stripe"), "{printed}");
    let asked =
        "SELECT string_agg(object_type || ' ' || object_id, ',' ORDER BY object_type, object_id) FROM billing.jobs";
    let expected = "payment_method pm_unseen,price price_basic,price price_basic,product prod_1";
    assert_eq!(app.text(asked).await.as_deref(), Some(expected));
    app.finish().await;
}

#[tokio::test]
async fn a_stopped_rebuild_resumes_where_it_was() {
    let app = with_wrong_rows().await;
    app.execute("INSERT INTO billing.rebuild_runs (position, objects) VALUES ('cus_1', 1)").await;
    let output = rebuild(&app, &[], &[]);
    assert!(words(&output.stderr).contains("resuming after 1 object;"), "{}", words(&output.stderr));
    let active = "SELECT string_agg(stripe_subscription_id, ',' ORDER BY stripe_subscription_id) FROM billing.subscriptions WHERE active";
    assert_eq!(app.text(active).await.as_deref(), Some("sub_cus_2"), "cus_1 was done before");
    rebuild(&app, &["--restart"], &[]);
    assert_eq!(app.text(active).await.as_deref(), Some("sub_cus_1,sub_cus_2"));
    app.finish().await;
}

#[tokio::test]
async fn bad_arguments_and_a_missing_schema_are_usage_errors() {
    let app = TestApp::start().await;
    assert_eq!(code(&rebuild(&app, &["--restart", "--customer", "cus_1"], &[])), 2);
    app.execute(
        "DELETE FROM billing.schema_migrations WHERE version = (SELECT max(version) FROM billing.schema_migrations)",
    )
    .await;
    let output = rebuild(&app, &[], &[]);
    assert_eq!(code(&output), 2);
    assert!(words(&output.stderr).contains("billing-sync migrate"), "{}", words(&output.stderr));
    app.finish().await;
}

/// A change as JSON has the same fields for every table.
#[tokio::test]
async fn each_change_is_one_line_of_json() {
    let app = with_wrong_rows().await;
    let output = rebuild(&app, &["--dry-run", "--json"], &[]);
    let mut lines = json_lines(&output);
    let summary = lines.pop().unwrap();
    assert_eq!((&summary["summary"]["objects"], &summary["summary"]["rows_changed"]), (&json!(3), &json!(4)));
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line["table"].is_string() && line["changes"].is_object()), "{lines:?}");
    assert!(lines.iter().any(|line| line["changes"]["email"] == "changed"), "{lines:?}");
    app.finish().await;
}
