//! The account of an event: `context` of an organization's endpoint, our own account by its id, and accounts that
//! replace customers (Accounts v2).

use billing_sync::reconcile::Reconcile;
use billing_sync::reconcile::run::Run;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::support::app::TestApp;
use crate::support::events::{customer, event, subscription, with};
use crate::support::fetching::{Fetching, MARGIN, client};
use crate::support::stripe::Epoch;

fn of(id: &str, customer_id: &str, fields: Value) -> Value {
    with(&event(id, "customer.created", 0, &customer(customer_id, "Ada"), None), fields)
}

const CONTACTS: &str = "SELECT coalesce(string_agg(account || '/' || stripe_customer_id, ' ' ORDER BY 1), '')
    FROM (SELECT account, stripe_customer_id FROM billing.billing_contacts ORDER BY 1, 2) AS t";

#[tokio::test]
async fn the_context_names_the_account_of_an_event() {
    let app = TestApp::start().await;
    let cases = [
        (json!({ "context": "acct_x" }), "done ignored account_not_synced"),
        (json!({ "context": "org_1/acct_x" }), "done ignored account_not_synced"),
        (json!({ "context": "org_1" }), "done ignored account_not_synced"),
        (json!({ "context": "acct_platform/acct_x", "account": "acct_x" }), "done ignored account_not_synced"),
        (json!({ "context": null }), "done applied -"),
        (json!({ "context": "" }), "done applied -"),
        (json!({ "context": "acct_known" }), "done applied -"),
        (json!({ "context": "org_1/acct_known" }), "done applied -"),
        (json!({ "context": "acct_platform/acct_known", "account": "acct_known" }), "done applied -"),
    ];
    for (number, (fields, expected)) in cases.iter().enumerate() {
        let (id, customer) = (format!("evt_{number}"), format!("cus_{number}"));
        app.deliver_and_drain(&[of(&id, &customer, fields.clone())]).await;
        assert_eq!(app.fate(&id).await, *expected, "{fields}");
    }
    let expected = "/cus_4 /cus_5 acct_known/cus_6 acct_known/cus_7 acct_known/cus_8";
    assert_eq!(app.text(CONTACTS).await.as_deref(), Some(expected));
    let reasons = app.metric("billing_sync_event_reasons_total{reason=\"account_not_synced\"}");
    assert!((reasons - 4.0).abs() < f64::EPSILON, "{reasons}");
    app.finish().await;
}

#[tokio::test]
async fn our_account_id_is_recognized_and_earlier_events_recover() {
    let mut app = TestApp::start().await;
    let before = [
        of("evt_1", "cus_1", json!({ "context": "org_1/acct_ours" })),
        of("evt_2", "cus_2", json!({ "account": "acct_ours" })),
        of("evt_3", "cus_3", json!({ "context": "acct_x" })),
    ];
    app.deliver_and_drain(&before).await;
    assert_eq!(app.text(CONTACTS).await.as_deref(), Some(""));
    // after the setting, the next event that names the account makes the earlier events pending again
    app.context.sync.own_account = Some("acct_ours".to_owned());
    app.deliver_and_drain(&[of("evt_4", "cus_4", json!({ "context": "acct_ours" }))]).await;
    app.drain().await;
    assert_eq!(app.text(CONTACTS).await.as_deref(), Some("/cus_1 /cus_2 /cus_4"));
    assert_eq!(app.fate("evt_3").await, "done ignored account_not_synced");
    // from now on every process stores these events as ours, also without the setting
    app.context.sync.own_account = None;
    app.deliver_and_drain(&[of("evt_5", "cus_5", json!({ "context": "acct_ours", "account": "acct_ours" }))]).await;
    assert_eq!(app.text(CONTACTS).await.as_deref(), Some("/cus_1 /cus_2 /cus_4 /cus_5"));
    let named = "SELECT count(*)::text FROM billing.outbox WHERE account = 'acct_ours'";
    assert_eq!(app.text(named).await.as_deref(), Some("0"));
    app.finish().await;
}

/// Events as an organization's endpoint gets them: each names our own account.
async fn deliver_with_context(sync: &Fetching, context: &str) {
    for one in sync.stripe.events() {
        sync.app.deliver(&with(&one.json(Epoch::Endive), json!({ "context": context }))).await;
    }
}

#[tokio::test]
async fn the_account_of_the_key_is_ours_and_earlier_events_recover() {
    let sync = Fetching::start().await;
    sync.sell();
    deliver_with_context(&sync, "org_1/acct_fake").await;
    sync.app.drain().await;
    assert_eq!(sync.app.text(CONTACTS).await.as_deref(), Some(""), "our account is not known yet");
    sync.pass_the_margin();
    let reconcile = Reconcile {
        pool: sync.app.pool.clone(),
        api: Arc::new(client(&sync.app, &sync.stripe)),
        connected: std::collections::BTreeSet::new(),
        margin: MARGIN,
        metrics: sync.app.context.metrics.clone(),
    };
    let never = CancellationToken::new();
    Run::new(&reconcile, None, &never).account("", None, &mut |_| ()).await.unwrap();
    sync.settle().await;
    assert_eq!(sync.app.text(CONTACTS).await.as_deref(), Some("/cus_1"));
    sync.finish().await;
}

#[tokio::test]
async fn a_key_of_another_account_does_not_set_our_account() {
    let sync = Fetching::start().await;
    sync.sell();
    sync.deliver_all(Epoch::Endive).await;
    sync.app.drain().await;
    sync.pass_the_margin();
    sync.stripe.become_another_account();
    sync.fetch().await;
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.own_accounts").await.as_deref(), Some("0"));
    sync.stripe.become_our_account_again();
    let mut sync = sync;
    sync.restart();
    sync.settle().await;
    assert_eq!(sync.app.text("SELECT account_id FROM billing.own_accounts").await.as_deref(), Some("acct_fake"));
    sync.finish().await;
}

/// A subscription of Accounts v2.
fn of_account(id: &str) -> Value {
    with(&subscription(id, "x"), json!({ "customer": null, "customer_account": "acct_buyer" }))
}

#[tokio::test]
async fn a_subscription_of_an_account_has_its_row_and_no_contact() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[event("evt_1", "customer.subscription.created", 0, &of_account("sub_1"), None)]).await;
    assert_eq!(app.fate("evt_1").await, "done applied customer_account");
    let row = "SELECT concat_ws(' ', stripe_customer_id, stripe_status, active) FROM billing.subscriptions";
    assert_eq!(app.text(row).await.as_deref(), Some("acct_buyer active t"));
    assert_eq!(app.text(CONTACTS).await.as_deref(), Some(""));
    let orphans = "SELECT count(*)::text FROM billing.orphans WHERE kind = 'subscription_without_customer'";
    assert_eq!(app.text(orphans).await.as_deref(), Some("0"), "no customer object can arrive for an account");
    let update = with(&of_account("sub_1"), json!({ "status": "past_due" }));
    app.deliver_and_drain(&[event("evt_2", "customer.subscription.updated", 5, &update, None)]).await;
    assert_eq!(app.text(row).await.as_deref(), Some("acct_buyer past_due t"));
    app.finish().await;
}

#[tokio::test]
async fn objects_of_an_account_are_never_dead_events() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[event("evt_0", "customer.subscription.created", 0, &of_account("sub_1"), None)]).await;
    let objects = [
        ("invoice.paid", "invoice", "in_1"),
        ("payment_intent.succeeded", "payment_intent", "pi_1"),
        ("charge.failed", "charge", "ch_1"),
        ("checkout.session.completed", "checkout.session", "cs_1"),
        ("payment_method.attached", "payment_method", "pm_1"),
        ("customer.discount.created", "discount", "di_1"),
        ("subscription_schedule.created", "subscription_schedule", "sub_sched_1"),
        ("promotion_code.created", "promotion_code", "promo_1"),
    ];
    for (event_type, object_type, id) in objects {
        for (number, account) in [json!("acct_buyer"), Value::Null].into_iter().enumerate() {
            let object = json!({ "id": id, "object": object_type, "customer": null, "customer_account": account,
                "created": 1, "subscription": "sub_1", "metadata": {} });
            let event_id = format!("evt_{object_type}_{number}");
            app.deliver_and_drain(&[event(&event_id, event_type, 1, &object, None)]).await;
            assert!(
                app.fate(&event_id).await.starts_with("done "),
                "{event_type} {account}: {}",
                app.fate(&event_id).await
            );
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_subscription_without_a_customer_in_old_versions_is_read() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    sync.stripe.update(&sale.subscription, json!({ "customer": null, "customer_account": "acct_buyer" }));
    sync.pass_the_margin();
    sync.emit(0, Epoch::V2024, &["customer.subscription.updated"]).await;
    sync.app.drain().await;
    let fate = "SELECT concat_ws(' ', state, outcome, reason) FROM billing.outbox";
    assert_eq!(sync.app.text(fate).await.as_deref(), Some("done ignored customer_account"));
    sync.settle().await;
    let row = "SELECT concat_ws(' ', stripe_customer_id, stripe_status) FROM billing.subscriptions";
    assert_eq!(sync.app.text(row).await.as_deref(), Some("acct_buyer active"));
    sync.finish().await;
}

#[tokio::test]
async fn events_ignored_by_a_wrong_mode_are_processed_once_corrected() {
    let mut app = TestApp::start().await;
    let mut live = event("evt_live", "customer.created", 0, &customer("cus_1", "Ada"), None);
    live["livemode"] = json!(true);
    app.deliver_and_drain(&[live, event("evt_test", "customer.created", 0, &customer("cus_2", "Bo"), None)]).await;
    assert_eq!(app.fate("evt_live").await, "done ignored livemode_mismatch");
    // a restart
    app.context.sync.livemode = true;
    app.context.watch = Arc::default();
    app.drain().await;
    assert_eq!(app.fate("evt_live").await, "done applied -");
    assert_eq!(app.fate("evt_test").await, "done applied -", "applied events stay applied");
    app.finish().await;
}
