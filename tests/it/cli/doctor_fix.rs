//! `doctor --fix`: changes of webhook endpoints at Stripe.

use std::process::Output;

use billing_sync::client::API_VERSION;
use billing_sync::stripe::catalogue;
use serde_json::{Value, json};

use super::doctor_endpoints::{stripe_now, with_an_event};
use super::{code, json_lines, migrated, run, words};
use crate::support::cluster::TestDatabase;
use crate::support::stripe::{FakeStripe, Fault};

const URL: &str = "https://billing.example.com/webhooks/stripe";
const POST: &str = "/v1/webhook_endpoints";

fn fix(database: &TestDatabase, stripe: &FakeStripe, write_key: &str, arguments: &[&str]) -> Output {
    fix_with(database, stripe, write_key, arguments, &[])
}

fn fix_with(
    database: &TestDatabase,
    stripe: &FakeStripe,
    write_key: &str,
    arguments: &[&str],
    more: &[(&str, &str)],
) -> Output {
    let base = stripe.base();
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
        ("STRIPE_API_BASE", base.as_str()),
        ("STRIPE_SECRET_KEY", stripe.key()),
        ("STRIPE_WRITE_KEY", write_key),
    ];
    run(&[&["doctor", "--fix"], arguments].concat(), &[&environment, more].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_event_types_are_added_after_a_confirmation() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    let fix = |key: &str, arguments: &[&str]| fix(&database, &stripe, key, arguments);
    let types = ["issuing_card.created", "price.created"].map(str::to_owned);
    let ours = stripe.webhook_endpoint(URL, &types, json!({}));
    for (key, arguments, why) in [
        ("", &["--yes"][..], "--fix changes webhook endpoints at Stripe, which needs STRIPE_WRITE_KEY"),
        (stripe.write_key(), &[], "needs a confirmation, and there is no terminal to ask on: add --yes"),
        (stripe.write_key(), &["--yes", "--endpoint-url", "billing.example.com"], "--endpoint-url"),
        (stripe.write_key(), &["--yes", "--embedded"], "cannot be used with"),
    ] {
        let output = fix(key, arguments);
        let errors = words(&output.stderr);
        assert!(code(&output) == 2 && errors.contains(why), "{why}: {errors}");
    }
    assert_eq!(stripe.writes(), []);

    let output = fix(stripe.write_key(), &["--yes"]);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text} {}", words(&output.stderr));
    let count = catalogue::subscribed().count() - 1;
    for part in [
        "This changes webhook endpoints at Stripe (test mode):".to_owned(),
        format!("{ours} {URL} also sends {count} event types: all of charge, charge.dispute,"),
        "Not verified: whether STRIPE_WRITE_KEY belongs to the account of the stored data".to_owned(),
        format!("Added {count} event types to {ours}."),
        format!("ok endpoints {ours} {URL} sends all event types that rows need"),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    let enabled = stripe.stored(&ours)["enabled_events"].clone();
    let enabled: Vec<&str> = enabled.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!((&enabled[..2], enabled.len()), (&["issuing_card.created", "price.created"][..], count + 2));
    assert_eq!(stripe.writes().len(), 1);

    let output = fix(stripe.write_key(), &["--yes", "--json"]);
    assert_eq!(json_lines(&output)[0], json!({ "fix": "endpoints", "changes": 0 }));
    assert_eq!(stripe.writes().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_endpoints_the_operator_names_one() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    let types = ["price.created".to_owned()];
    let (one, other) = (
        stripe.webhook_endpoint(URL, &types, json!({})),
        stripe.webhook_endpoint("https://other.example", &types, json!({})),
    );
    let output = fix(&database, &stripe, stripe.write_key(), &["--yes"]);
    let errors = words(&output.stderr);
    assert!(code(&output) == 2 && errors.contains(&one) && errors.contains("with --endpoint-url"), "{errors}");
    assert_eq!(stripe.writes(), []);
    let output = fix(&database, &stripe, stripe.write_key(), &["--yes", "--json", "--endpoint-url", URL]);
    let lines = json_lines(&output);
    assert_eq!((&lines[0]["endpoint"], &lines[0]["url"]), (&json!(one), &json!(URL)));
    assert_eq!(lines[0]["added"].as_array().unwrap().len(), catalogue::subscribed().count() - 1);
    assert_eq!(stripe.stored(&other)["enabled_events"], json!(types));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_of_connect_is_no_endpoint_of_the_account() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    let fix = |url: &str| {
        let arguments = ["--yes", "--json", "--endpoint-url", url];
        let accounts = [("BILLING_SYNC_ACCOUNTS", "acct_1")];
        let output = fix_with(&database, &stripe, stripe.write_key(), &arguments, &accounts);
        json_lines(&output).remove(0)
    };
    let connect = stripe.webhook_endpoint(URL, &["*".to_owned()], json!({ "application": "ca_1" }));
    let line = fix(URL);
    assert!(line["created"] == true && line["url"] == URL, "{line}");
    assert_eq!(fix(URL), json!({ "fix": "endpoints", "changes": 0 }));
    // an endpoint of Connect at another URL gets the types, and no endpoint of the account is created there
    let other = "https://connect.example";
    stripe.set_endpoint(&connect, "url", json!(other));
    stripe.set_endpoint(&connect, "enabled_events", json!(["price.created"]));
    let line = fix(other);
    assert_eq!((&line["endpoint"], &line["url"]), (&json!(connect), &json!(other)));
    assert_eq!(fix(other), json!({ "fix": "endpoints", "changes": 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_changed_without_a_question_while_the_account_of_the_key_is_unknown() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    stripe.webhook_endpoint(URL, &["price.created".to_owned()], json!({}));
    stripe.fail_next_under("/v1/account", 100, Fault::ServerError);
    let output = fix(&database, &stripe, stripe.write_key(), &["--yes"]);
    let errors = words(&output.stderr);
    let expected = "could not check whether STRIPE_WRITE_KEY belongs to the account of the stored data";
    assert!(code(&output) == 2 && errors.contains(expected) && errors.contains("nothing was changed"), "{errors}");
    assert_eq!(stripe.writes(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_created_once_and_its_secret_is_printed_once() {
    let ((database, _conn), stripe) = (migrated().await, stripe_now().await);
    // the answer is lost: the repeated request has the same idempotency key
    stripe.fail_next_of("POST", POST, 1, Fault::CloseAfterEffect);
    let output = fix(&database, &stripe, stripe.write_key(), &["--yes", "--endpoint-url", URL]);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text} {}", words(&output.stderr));
    assert!(text.contains(&format!("a new endpoint with the URL {URL} sends all")), "{text}");
    assert_eq!(text.matches("whsec_of_we_1").count(), 1, "{text}");
    assert!(text.contains("Set STRIPE_WEBHOOK_SECRET to it, or add it to that setting after a comma"), "{text}");
    assert!(text.contains(&format!("ok endpoints we_1 {URL} sends all event types")), "{text}");
    assert!(!words(&output.stderr).contains("whsec"), "{}", words(&output.stderr));
    let created = stripe.stored("we_1");
    assert_eq!(created["api_version"], API_VERSION);
    assert_eq!(created["enabled_events"], json!(catalogue::subscribed().collect::<Vec<_>>()));
    assert_eq!(stripe.effects().len(), 1);

    let other = "https://other.example/webhooks/stripe";
    let output = fix(&database, &stripe, stripe.write_key(), &["--yes", "--json", "--endpoint-url", other]);
    let expected = json!({ "fix": "endpoints", "endpoint": "we_2", "url": other, "created": true,
        "signing_secret": "whsec_of_we_2" });
    assert_eq!(json_lines(&output)[0], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_stripe_refuses_is_a_failure_with_its_fix() {
    let (app, stripe) = with_an_event().await;
    let ours = stripe.webhook_endpoint(URL, &["price.created".to_owned()], json!({}));
    let fix = || {
        let output = fix(&app.database, &stripe, stripe.write_key(), &["--yes"]);
        (code(&output), words(&output.stderr), words(&output.stdout))
    };
    stripe.forbid_writes(&[POST], "rak_webhook_write");
    let (status, errors, text) = fix();
    let expected = format!("error: the event types of {ours} were not changed: stripe refuses STRIPE_WRITE_KEY (403");
    assert!(status == 1 && errors.contains(&expected), "{errors}");
    assert!(errors.contains("the permission Webhook Endpoints (write)") && text.contains("warn endpoints"), "{errors}");
    stripe.permit_all();
    stripe.fail_next_of("POST", POST, 1, Fault::BadRequest { code: "parameter_invalid" });
    let (status, errors, _) = fix();
    assert!(status == 1 && errors.contains("were not changed: stripe refuses the request (400"), "{errors}");
    assert!(
        errors.contains("make the change in the Stripe dashboard") && !errors.contains("run this again"),
        "{errors}"
    );
    stripe.forbid(&[POST], "rak_webhook_read");
    let (status, errors, _) = fix();
    assert!(status == 2 && errors.contains("STRIPE_WRITE_KEY may not read webhook endpoints"), "{errors}");
    stripe.permit_all();
    stripe.write_key_belongs_to_another_account();
    let (status, errors, _) = fix();
    assert!(status == 2 && errors.contains("STRIPE_WRITE_KEY belongs to another account or mode"), "{errors}");
    assert_eq!((stripe.effects(), stripe.stray_writes()), (Vec::new(), 0));
    app.finish().await;
}
