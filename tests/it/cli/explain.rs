//! `explain`: why a row is as it is, through the real binary.

use serde_json::{Value, json};

use super::{code, run, words};
use crate::support::app::TestApp;
use crate::support::events::{customer, event, subscription, update, with};

/// A subscription that was made and then paused; what it says about `id`.
async fn explained(id: &str, arguments: &[&str]) -> (TestApp, String) {
    let app = TestApp::start().await;
    let active = subscription("sub_1", "cus_1");
    let paused = with(&active, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    app.deliver_and_drain(&[
        event("evt_c", "customer.created", 0, &customer("cus_1", "Ada"), None),
        event("evt_s", "customer.subscription.created", 1, &active, None),
    ])
    .await;
    app.deliver_and_drain(&[update("evt_p", "customer.subscription.updated", 9, &active, &paused)]).await;
    app.deliver_and_drain(&[event("evt_late", "customer.subscription.updated", 5, &active, None)]).await;
    let output = run(&[&["explain", id], arguments].concat(), &[("DATABASE_URL", &app.database.url)]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    (app, String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn why_a_subscription_is_inactive_is_one_command() {
    let (app, said) = explained("sub_1", &[]).await;
    let at_once = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "customer.subscription.created of sub_1: applied",
        "evt_p, made 2026-01-01 00:00:09 subscriptions changed by evt_p active: true -> false inactive_reason: null -> payment_paused",
        "customer.subscription.updated of sub_1: superseded",
        "subscriptions now active: false",
        "inactive_reason: payment_paused",
    ] {
        assert!(at_once.contains(part), "{part}: {said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    app.finish().await;
}

#[tokio::test]
async fn a_customer_is_told_with_its_subscriptions_and_without_personal_data() {
    let (app, said) = explained("cus_1", &[]).await;
    assert!(said.contains("billing_contacts now") && said.contains("subscriptions now"), "{said}");
    assert!(said.contains("evt_c") && said.contains("evt_p"), "{said}");
    assert!(!said.contains("Ada") && !said.contains("billing@example.com") && !said.contains("Berlin"), "{said}");
    app.finish().await;
}

#[tokio::test]
async fn a_change_without_an_event_says_when_it_was() {
    let (app, _) = explained("sub_1", &[]).await;
    app.execute("UPDATE billing.subscriptions SET currency = 'xxx'").await;
    assert_eq!(code(&run(&["rebuild"], &[("DATABASE_URL", &app.database.url)])), 0);
    let output = run(&["explain", "sub_1"], &[("DATABASE_URL", &app.database.url)]);
    let said = String::from_utf8(output.stdout).unwrap();
    let at = "SELECT to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM billing.row_changes
        WHERE causes = '{rebuild}'";
    let expected = format!("{}  subscriptions changed by rebuild", app.text(at).await.unwrap());
    assert!(said.lines().any(|line| line == expected), "{expected}: {said}");
    app.finish().await;
}

#[tokio::test]
async fn an_event_is_told_with_what_it_changed() {
    let (app, said) = explained("evt_p", &["--json"]).await;
    let steps: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["event", "change"], "{said}");
    assert_eq!(steps[0]["outcome"], "applied");
    assert_eq!(steps[1]["changes"]["payment_paused"], json!([false, true]));
    app.finish().await;
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_a_failure_that_says_what_may_be_wrong() {
    let app = TestApp::start().await;
    let output = run(&["explain", "sub_unknown"], &[("DATABASE_URL", &app.database.url)]);
    assert_eq!(code(&output), 1);
    assert!(words(&output.stderr).contains("nothing is known of sub_unknown"), "{}", words(&output.stderr));
    app.finish().await;
}
