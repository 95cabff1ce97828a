//! `doctor`: the line `endpoints`, which compares the webhook endpoints at Stripe with what rows need.

use billing_sync::base::clock;
use billing_sync::client::API_VERSION;
use billing_sync::stripe::catalogue;
use serde_json::{Value, json};

use super::{code, json_lines, migrated, run, words};
use crate::support::app::TestApp;
use crate::support::cluster::TestDatabase;
use crate::support::stripe::{Epoch, FakeStripe, Fault};

const URL: &str = "https://billing.example.com/webhooks/stripe";

fn all_types() -> Vec<String> {
    catalogue::subscribed().collect()
}

/// A fake Stripe whose clock is right within a minute, and still is after a minute passes there.
pub(super) async fn stripe_now() -> FakeStripe {
    let stripe = FakeStripe::start().await;
    stripe.set_clock(clock::now().unix_timestamp() - 40);
    stripe
}

/// A service that has processed an event of a fake Stripe.
pub(super) async fn with_an_event() -> (TestApp, FakeStripe) {
    let (app, stripe) = (TestApp::start().await, stripe_now().await);
    stripe.customer(json!({ "name": "Ada" }));
    app.deliver_all(&stripe.events(), Epoch::Endive).await;
    app.drain().await;
    // Stripe may not list a more recent event yet, even in the right account
    stripe.tick(60);
    (app, stripe)
}

/// The exit code, and the report in one line.
fn report(database: &TestDatabase, stripe: &FakeStripe, arguments: &[&str], more: &[(&str, &str)]) -> (i32, String) {
    let base = stripe.base();
    let environment = [
        &[
            ("DATABASE_URL", database.url.as_str()),
            ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
            ("STRIPE_API_BASE", base.as_str()),
            ("STRIPE_SECRET_KEY", stripe.key()),
        ],
        more,
    ]
    .concat();
    let output = run(&[&["doctor"], arguments].concat(), &environment);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains("http")), "{text}");
    (code(&output), words(&output.stdout))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_compares_the_endpoint_with_what_rows_need() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    let report = |arguments: &[&str]| report(&database, &stripe, arguments, &[]);
    let (status, text) = report(&[]);
    assert!(status == 0 && text.contains("warn endpoints no enabled webhook endpoint at Stripe sends"), "{text}");
    let (status, text) = report(&["--endpoint-url", URL]);
    let expected = format!("FAIL endpoints Stripe has no webhook endpoint with the URL {URL}");
    assert!(status == 1 && text.contains(&expected) && text.contains("fix: correct --endpoint-url"), "{text}");

    let ours = stripe.webhook_endpoint(URL, &all_types(), json!({ "api_version": API_VERSION }));
    // another product's endpoint, which sends nothing that rows need
    stripe.webhook_endpoint("https://other.example", &["issuing_card.created".to_owned()], json!({}));
    let complete = format!("ok endpoints {ours} {URL} sends all event types that rows need, in API version");
    let (status, text) = report(&[]);
    assert!(status == 0 && text.contains(&format!("{complete} {API_VERSION}")), "{text}");

    // superfluous types are no fault; every page is read
    let few = ["customer.created", "issuing_card.created"].map(str::to_owned);
    let other = stripe.webhook_endpoint("https://few.example", &few, json!({}));
    stripe.page_at_most(1);
    let (status, text) = report(&[]);
    assert!(status == 0 && text.contains(&complete) && !text.contains(&other), "{text}");
    // the complete one may be that of another service
    let others = "1 other endpoint sends only some of the types (https://few.example): if it leads to this service, \
                  check it with --endpoint-url";
    assert!(text.contains(others), "{text}");
    let (status, text) = report(&["--endpoint-url", "https://few.example/"]);
    let count = all_types().len() - 1;
    let missing = format!("warn endpoints {other} https://few.example does not send {count} event types");
    assert!(
        status == 0 && text.contains(&missing) && text.contains("all of charge, charge.dispute, checkout.session"),
        "{text}"
    );
    assert!(
        text.contains("subscription_schedule; customer.deleted, customer.updated fix: `billing-sync doctor --fix`"),
        "{text}"
    );

    let set = |field: &str, value: Value| stripe.set_endpoint(&ours, field, value);
    set("enabled_events", json!(["price.created", "price.updated"]));
    let (_, text) = report(&[]);
    let several = format!("2 webhook endpoints send events that rows need, but none sends all types: {other}");
    assert!(text.contains(&several) && text.contains("fix: run `billing-sync doctor --endpoint-url"), "{text}");
    set("enabled_events", json!(["*"]));
    set("api_version", json!("2019-12-03"));
    let (_, text) = report(&[]);
    let old =
        format!("warn endpoints {ours} {URL} sends events of API version 2019-12-03: it is older than 2020-08-27");
    assert!(text.contains(&old) && text.contains("Stripe cannot change the API version of an endpoint"), "{text}");
    set("api_version", json!("2027-03-31.fennel"));
    assert!(report(&[]).1.contains("it is newer than 2026-10-28.endive, the newest that this release"));
    set("api_version", Value::Null);
    let default = "rows need, in the default API version of the account, which Stripe's API does not show";
    assert!(report(&[]).1.contains(default));
    set("livemode", json!(true));
    let (status, text) = report(&[]);
    assert!(status == 1 && text.contains("is for live mode, but STRIPE_SECRET_KEY for test mode"), "{text}");
    set("livemode", json!(false));
    set("status", json!("disabled"));
    let (status, text) = report(&[]);
    assert!(status == 0 && text.contains(&format!("warn endpoints {ours} {URL} is disabled at Stripe")), "{text}");
    let (status, text) = report(&["--endpoint-url", URL]);
    assert!(status == 1 && text.contains(&format!("FAIL endpoints {ours} {URL} is disabled at Stripe")), "{text}");
    assert_eq!(stripe.writes(), [], "doctor without --fix changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_checks_endpoints_of_connect_only_if_accounts_are_synced() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    stripe.webhook_endpoint(URL, &["*".to_owned()], json!({}));
    let with_accounts = || report(&database, &stripe, &[], &[("BILLING_SYNC_ACCOUNTS", "acct_1")]);
    let (status, text) = with_accounts();
    assert!(status == 0 && text.contains("warn endpoints no enabled webhook endpoint of Connect at Stripe"), "{text}");
    let create = "fix: create an endpoint of Connect in the Stripe dashboard";
    assert!(text.contains(create) && !text.contains("doctor --fix"), "{text}");
    let few = ["price.created".to_owned()];
    let connect = stripe.webhook_endpoint("https://connect.example", &few, json!({ "application": "ca_1" }));
    let (_, text) = with_accounts();
    assert!(
        text.contains(&format!("warn endpoints {connect} https://connect.example (Connect) does not send")),
        "{text}"
    );
    let (_, text) = report(&database, &stripe, &[], &[]);
    assert!(!text.contains(&connect), "{text}");
    // an endpoint of Connect is replaced in the dashboard, too
    stripe.set_endpoint(&connect, "enabled_events", json!(["*"]));
    stripe.set_endpoint(&connect, "api_version", json!("2019-12-03"));
    let (_, text) = with_accounts();
    let replace = "Stripe cannot change the API version of an endpoint: create an endpoint of Connect";
    assert!(text.contains("of API version 2019-12-03") && text.contains(replace), "{text}");
    assert!(!text.contains("doctor --fix"), "{text}");
    stripe.set_endpoint(&connect, "api_version", Value::Null);
    assert!(with_accounts().1.contains("the default API version of each account, which Stripe's API does not show"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_the_default_version_of_the_account_in_the_last_event() {
    let (app, stripe) = with_an_event().await;
    let ours = stripe.webhook_endpoint(URL, &["*".to_owned()], json!({}));
    let report = || report(&app.database, &stripe, &[], &[]).1;
    let text = report();
    let fine = "in the default API version of the account; the last processed event has 2026-10-28.endive";
    assert!(text.contains(&format!("ok endpoints {ours} {URL} sends all")) && text.contains(fine), "{text}");
    sqlx::raw_sql("UPDATE billing.outbox SET api_version = '2019-12-03'").execute(&app.pool).await.unwrap();
    let text = report();
    let old = "and the last processed event has 2019-12-03: it is older than 2020-08-27";
    assert!(text.contains(&format!("warn endpoints {ours} {URL} sends events of the default")), "{text}");
    assert!(text.contains(old) && text.contains("fix: create an endpoint with another URL"), "{text}");
    // a version of its own is what counts
    stripe.set_endpoint(&ours, "api_version", json!(API_VERSION));
    assert!(report().contains(&format!("ok endpoints {ours} {URL} sends all")));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_an_endpoint_of_each_kind_by_its_url() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    let report = |accounts: &[(&str, &str)]| report(&database, &stripe, &["--endpoint-url", URL], accounts);
    let accounts = &[("BILLING_SYNC_ACCOUNTS", "acct_1")];
    let all = ["*".to_owned()];
    let connect = stripe.webhook_endpoint(URL, &all, json!({ "application": "ca_1" }));
    let (status, text) = report(accounts);
    let missing = format!("FAIL endpoints Stripe has no webhook endpoint with the URL {URL} for events of the account");
    assert!(status == 1 && text.contains(&missing), "{text}");
    assert!(text.contains(&format!("ok endpoints {connect} {URL} (Connect) sends all")), "{text}");
    let ours = stripe.webhook_endpoint(URL, &all, json!({}));
    let (status, text) = report(accounts);
    assert!(status == 0 && text.contains(&format!("ok endpoints {ours} {URL} sends all")), "{text}");
    assert!(text.contains(&format!("ok endpoints {connect} {URL} (Connect) sends all")), "{text}");
    let (_, text) = report(&[]);
    assert!(!text.contains(&connect), "{text}");
    // the URL of an endpoint of Connect: that of the account has another one
    stripe.set_endpoint(&ours, "url", json!("https://ours.example"));
    let (status, text) = report(accounts);
    assert!(status == 0 && text.contains(&format!("ok endpoints {ours} https://ours.example sends all")), "{text}");
    assert!(text.contains(&format!("ok endpoints {connect} {URL} (Connect) sends all")), "{text}");
    // no endpoint of Connect has the URL: it is found by its event types
    stripe.set_endpoint(&ours, "url", json!(URL));
    stripe.set_endpoint(&connect, "url", json!("https://connect.example"));
    let (status, text) = report(accounts);
    assert!(status == 0 && text.contains(&format!("ok endpoints {ours} {URL} sends all")), "{text}");
    assert!(text.contains(&format!("ok endpoints {connect} https://connect.example (Connect) sends all")), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_reports_why_endpoints_cannot_be_read() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    let report = || report(&database, &stripe, &[], &[]);
    stripe.forbid(&["/v1/webhook_endpoints"], "rak_webhook_read");
    let (status, text) = report();
    let expected = "ok endpoints not checked: this key may not read webhook endpoints (403, invalid_request_error): give it \
                    the permission Webhook Endpoints (read; rak_webhook_read) in the Stripe dashboard";
    assert!(status == 0 && text.contains(expected), "{text}");
    stripe.permit_all();
    stripe.fail_next_under("/v1/webhook_endpoints", 1, Fault::TooManyRequests { retry_after: Some(60) });
    let (status, text) = report();
    let expected = "warn endpoints the webhook endpoints could not be read: stripe asks to retry later fix: try again";
    assert!(status == 0 && text.contains(expected), "{text}");
    stripe.fail_next_under("/v1/webhook_endpoints", 100, Fault::EmptyPage);
    let (status, text) = report();
    assert!(status == 0 && text.contains("warn endpoints no enabled webhook endpoint"), "{text}");
    stripe.recover();
    stripe.roll_key();
    let base = stripe.base();
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
        ("STRIPE_API_BASE", base.as_str()),
        ("STRIPE_SECRET_KEY", "sk_test_fake"),
    ];
    let output = run(&["doctor", "--json"], &environment);
    let lines = json_lines(&output);
    assert_eq!(code(&output), 1);
    // the line `stripe` is the failure
    assert!(lines.iter().all(|line| line["check"] != "endpoints"), "{lines:?}");
}
