//! A backfill from localstripe, and its webhooks.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::sleep;

use super::localstripe::{KEY, Localstripe};
use crate::support::app::{SECRET, TestApp};

pub(super) fn backfill(app: &TestApp, stripe: &Localstripe, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing-sync"));
    command.arg("backfill").args(arguments).env_clear().kill_on_drop(true).stdin(Stdio::null());
    command.env("DATABASE_URL", &app.database.url).env("STRIPE_SECRET_KEY", KEY);
    command.env("STRIPE_API_BASE", stripe.base()).env("BILLING_SYNC_STRIPE_RATE", "1000");
    // with a staleness margin, events of the last seconds would win over the reads
    command.env("BILLING_SYNC_READ_MARGIN", "0s");
    command
}

const SOLD: &str = "
    SELECT string_agg(DISTINCT concat_ws(' ', c.default_payment_method, c.default_payment_card_number_last_four_digits,
        s.stripe_status, s.active, s.stripe_price_id, p.product_name, p.price_in_euro, p.billing_interval, l.included), ', ')
    FROM billing.billing_contacts AS c
    JOIN billing.subscriptions AS s ON s.billing_contact_id = c.id
    JOIN billing.pricing_plans AS p ON p.id = s.pricing_plan_id
    JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id";

const EXPECTED: &str = "card 4242 active t pro Writing 10.00 month 5000";

#[tokio::test]
#[ignore = "needs localstripe: make test-foreign"]
async fn customers_are_read_and_unsupported_lists_reported() {
    let (app, stripe) = (TestApp::start().await, Localstripe::start().await);
    // more than a page
    stripe.sell(110).await;
    let output = backfill(&app, &stripe, &["--json"]).output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = &report["summary"];
    assert_eq!(report["unsupported_lists"], json!(["disputes", "payments", "sessions"]), "{report:#}");
    assert_eq!((&report["failed_lists"], &report["failed"]), (&json!([]), &json!([])), "{report:#}");
    assert!(printed.contains("the server at STRIPE_API_BASE has no list of disputes"), "{printed}");
    assert_eq!(app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("110"));
    assert_eq!(app.text("SELECT count(*)::text FROM billing.subscriptions").await.as_deref(), Some("110"));
    assert_eq!(app.text(SOLD).await.as_deref(), Some(EXPECTED));
    app.finish().await;
}

#[tokio::test]
#[ignore = "needs localstripe: make test-foreign"]
async fn signed_webhooks_are_stored_and_a_backfill_completes_them() {
    let (app, stripe) = (TestApp::start().await, Localstripe::start().await);
    let url = format!("http://{}/webhooks/stripe", app.webhooks);
    stripe.post("/_config/webhooks/ours", json!({ "url": url, "secret": SECRET })).await;
    stripe.sell(3).await;
    // each event is sent once, a second after it happened
    let stored = "SELECT count(*)::text FROM billing.outbox WHERE type = 'customer.subscription.created'";
    for _ in 0..100 {
        if app.text(stored).await.as_deref() == Some("3") {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(1)).await;
    app.drain().await;
    assert_eq!(app.text("SELECT count(*)::text FROM billing.subscriptions").await.as_deref(), Some("3"));
    let dead = "SELECT count(*)::text FROM billing.outbox WHERE state = 'dead'";
    assert_eq!(app.text(dead).await.as_deref(), Some("0"));
    let output = backfill(&app, &stripe, &[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "unsupported lists fail the command");
    assert_eq!(app.text(SOLD).await.as_deref(), Some(EXPECTED));
    app.finish().await;
}
