//! Reads and events of one object: the newer one counts, in either order of arrival.

use serde_json::json;

use crate::support::fetching::Fetching;
use crate::support::stripe::{Epoch, Event, Fault};

const NAME: &str = "SELECT name FROM billing.billing_contacts";

/// The event of the last change.
fn last(stripe: &crate::support::stripe::FakeStripe) -> Event {
    stripe.events().pop().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_read_never_overwrites_an_event_during_it() {
    let (sync, sale) = Fetching::sold().await;
    sync.stripe.tick(100);
    sync.stripe.update(&sale.customer, json!({ "email": "ada@example.org" }));
    sync.app.deliver(&last(&sync.stripe).thin()).await;
    sync.app.drain().await;
    sync.stripe.tick(20);
    sync.stripe.serve_stale(8);
    let customer = sale.customer.clone();
    sync.during(&format!("/v1/customers/{customer}"), move |stripe| {
        stripe.tick(1);
        stripe.update(&customer, json!({ "name": "Grace" }));
        vec![last(stripe).json(Epoch::Endive)]
    });
    sync.fetch().await;
    assert_eq!(sync.served(&format!("/v1/customers/{}", sale.customer)), 1);
    let outcome = "SELECT outcome FROM billing.reads ORDER BY id DESC LIMIT 1";
    assert_eq!(sync.app.text(outcome).await.as_deref(), Some("superseded"));
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Grace"));
    sync.pass_the_margin();
    sync.stripe.recover();
    sync.settle().await;
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Grace"));
    sync.finish().await;
}

#[tokio::test]
async fn a_read_stale_within_the_margin_never_overwrites_an_event() {
    let (sync, sale) = Fetching::sold().await;
    sync.stripe.tick(100);
    sync.stripe.update(&sale.customer, json!({ "name": "Grace" }));
    sync.app.deliver(&last(&sync.stripe).json(Epoch::Endive)).await;
    sync.stripe.tick(3);
    sync.stripe.serve_stale(9);
    sync.app.execute("INSERT INTO billing.jobs (kind, account, object_type, object_id) SELECT 'fetch', account, 'customer', stripe_customer_id FROM billing.billing_contacts").await;
    sync.settle().await;
    assert_eq!(sync.served(&format!("/v1/customers/{}", sale.customer)), 1);
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Grace"));
    sync.finish().await;
}

#[tokio::test]
async fn a_newer_read_wins_over_older_and_late_events() {
    let (sync, sale) = Fetching::sold().await;
    sync.stripe.tick(5);
    sync.stripe.update(&sale.customer, json!({ "name": "Late" }));
    let late = last(&sync.stripe);
    sync.stripe.tick(5);
    sync.stripe.update(&sale.customer, json!({ "name": "Grace" }));
    sync.app.deliver(&last(&sync.stripe).thin()).await;
    sync.pass_the_margin();
    sync.settle().await;
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Grace"));
    sync.app.deliver(&late.json(Epoch::Endive)).await;
    sync.settle().await;
    assert_eq!(sync.app.fate(&late.id).await, "done superseded -");
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Grace"));
    sync.finish().await;
}

#[tokio::test]
async fn a_missing_object_returns_with_a_later_event() {
    let sync = Fetching::start().await;
    let sale = sync.sell();
    sync.pass_the_margin();
    sync.stripe.fail_next_under("/v1/customers/", 1, Fault::NotFound);
    sync.emit(0, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.settle().await;
    let missing = "SELECT (not_found_at IS NOT NULL)::text FROM billing.stripe_objects WHERE object_type = 'customer'";
    assert_eq!(sync.app.text(missing).await.as_deref(), Some("true"));
    let outcome = "SELECT outcome FROM billing.reads WHERE object_type = 'customer'";
    assert_eq!(sync.app.text(outcome).await.as_deref(), Some("missing"));
    assert_eq!(sync.app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref(), Some("0"));
    sync.stripe.tick(5);
    sync.stripe.update(&sale.customer, json!({ "name": "Grace" }));
    sync.app.deliver(&last(&sync.stripe).json(Epoch::Endive)).await;
    sync.settle().await;
    assert_eq!(sync.app.text(NAME).await.as_deref(), Some("Grace"));
    let link = "SELECT (s.billing_contact_id = c.id)::text FROM billing.subscriptions s, billing.billing_contacts c";
    assert_eq!(sync.app.text(link).await.as_deref(), Some("true"));
    sync.finish().await;
}

#[tokio::test]
async fn a_customer_read_as_a_stub_is_deleted() {
    let (sync, sale) = Fetching::sold().await;
    sync.stripe.tick(5);
    sync.stripe.delete(&sale.customer);
    let deleted = sync.stripe.events().into_iter().rev().find(|event| event.event_type == "customer.deleted");
    sync.app.deliver(&deleted.unwrap().thin()).await;
    sync.pass_the_margin();
    sync.settle().await;
    let contact = "SELECT name || ' ' || (stripe_deleted_at IS NOT NULL) FROM billing.billing_contacts";
    assert_eq!(sync.app.text(contact).await.as_deref(), Some("Ada true"), "the last known content stays");
    let status = "SELECT stripe_status FROM billing.subscriptions";
    assert_eq!(sync.app.text(status).await.as_deref(), Some("canceled"), "its subscriptions are read");
    sync.finish().await;
}
