//! Confirms: reads that settle an ambiguous order of events or an overdue change.

use billing_sync::config::sync::Confirm;
use billing_sync::jobs::triggers;
use serde_json::{Value, json};

use crate::support::fetching::{Fetching, Sale};
use crate::support::stripe::Epoch;

const NAME: &str = "SELECT name FROM billing.billing_contacts";
const CONFIRMS: &str = "SELECT count(*)::text FROM billing.jobs WHERE kind = 'confirm'";

/// Delivers changes of one second whose order is ambiguous: the events have no `previous_attributes`, and ids have no
/// order.
async fn make_order_ambiguous(sync: &Fetching) -> Sale {
    let sale = sync.sell();
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    sync.stripe.tick(60);
    let mark = sync.stripe.mark();
    for name in ["Grace", "Edith", "Zoe"] {
        sync.stripe.update(&sale.customer, json!({ "name": name }));
    }
    for event in sync.stripe.events_since(mark) {
        let mut event = event.json(Epoch::Endive);
        event["data"].as_object_mut().unwrap().remove("previous_attributes");
        sync.app.deliver(&event).await;
    }
    sync.app.drain().await;
    sale
}

#[tokio::test]
async fn only_a_read_later_than_the_second_settles_an_ambiguous_order() {
    let sync = Fetching::start().await;
    let sale = make_order_ambiguous(&sync).await;
    let path = format!("/v1/customers/{}", sale.customer);
    assert_eq!(sync.app.text(CONFIRMS).await.as_deref(), Some("1"));
    // the margin, plus one second for the request: the version of the read is exactly the ambiguous second
    sync.stripe.tick(11);
    sync.wake_jobs().await;
    sync.fetch().await;
    assert_eq!(sync.served(&path), 1);
    assert_eq!(sync.app.text(CONFIRMS).await.as_deref(), Some("1"), "the read is too early");
    assert_eq!(
        sync.app.text("SELECT attempts::text FROM billing.jobs").await.as_deref(),
        Some("0"),
        "an early read is no failure"
    );
    sync.stripe.tick(1);
    sync.settle().await;
    assert_eq!(sync.served(&path), 2);
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Zoe"));
    sync.finish().await;
}

#[tokio::test]
async fn nothing_is_confirmed_when_switched_off() {
    let sync = Fetching::start_with(Confirm::Never).await;
    make_order_ambiguous(&sync).await;
    assert_eq!(sync.app.text(CONFIRMS).await.as_deref(), Some("0"));
    assert!(sync.app.metric("billing_sync_order_ambiguous_total") >= 1.0, "the ambiguity is counted");
    sync.finish().await;
}

#[tokio::test]
async fn confirm_always_reads_each_object_once() {
    let sync = Fetching::start_with(Confirm::Always).await;
    let sale = sync.sell();
    for name in ["Grace", "Edith"] {
        sync.stripe.tick(1);
        sync.stripe.update(&sale.customer, json!({ "name": name }));
    }
    sync.deliver_all(Epoch::Endive).await;
    sync.app.drain().await;
    let of_customer = "SELECT count(*)::text FROM billing.jobs WHERE kind = 'confirm' AND object_type = 'customer'";
    assert_eq!(sync.app.text(of_customer).await.as_deref(), Some("1"), "three events, one read");
    sync.pass_the_margin();
    sync.settle().await;
    assert_eq!(sync.served(&format!("/v1/customers/{}", sale.customer)), 1);
    assert!(sync.served(&format!("/v1/subscriptions/{}", sale.subscription)) >= 1);
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Edith"));
    sync.finish().await;
}

#[tokio::test]
async fn an_overdue_trial_is_confirmed_at_most_once_an_hour() {
    let sync = Fetching::start().await;
    let customer = sync.stripe.customer(json!({}));
    let price = sync.stripe.price(&sync.stripe.product(json!({})), 1000, json!({}));
    let trial = sync.stripe.trial(&customer, &price, 14);
    sync.deliver_all(Epoch::Endive).await;
    sync.settle().await;
    let state = "SELECT concat_ws(' ', is_trial, stripe_status, trial_started_at IS NULL, trial_ends_at IS NULL)
        FROM billing.subscriptions";
    assert_eq!(sync.app.text(state).await.as_deref(), Some("t trialing f f"), "Stripe reports the end of a trial");
    sync.stripe.tick(14 * 86_400);
    sync.stripe.convert_trial(&trial);
    sync.pass_the_margin();
    // recent reads of the subscription would count as a confirm
    sync.app.execute("UPDATE billing.reads SET read_at = read_at - interval '2 hours'").await;
    let mut conn = sync.app.pool.acquire().await.unwrap();
    assert_eq!(triggers::overdue_trials(&mut conn).await.unwrap(), 1);
    assert_eq!(triggers::overdue_trials(&mut conn).await.unwrap(), 0, "a confirm is queued already");
    sync.settle().await;
    assert_eq!(sync.app.text(state).await.as_deref(), Some("f active t f"));
    sync.app.execute("UPDATE billing.subscriptions SET is_trial = true").await;
    assert_eq!(triggers::overdue_trials(&mut conn).await.unwrap(), 0, "it was read within the hour");
    drop(conn);
    sync.finish().await;
}

#[tokio::test]
async fn a_newer_fetch_replaces_a_confirm() {
    let mut sync = Fetching::start().await;
    sync.fetch_one_by_one();
    let sale = make_order_ambiguous(&sync).await;
    sync.pass_the_margin();
    let event: Value = sync.stripe.events().pop().unwrap().thin();
    let mut thin = event.clone();
    thin["type"] = json!("v1.customer.created"); // the snapshots of that second belong to another change
    sync.app.deliver(&thin).await;
    sync.app.drain().await; // both jobs are due, and the fetch runs first
    sync.settle().await;
    assert_eq!(sync.served(&format!("/v1/customers/{}", sale.customer)), 1);
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Zoe"));
    sync.finish().await;
}
