//! PUT of a billing contact: Stripe, the rows and the answer agree, also beside webhooks of the same second.

use serde_json::json;

use super::harness::Shop;
use crate::api::harness::BO;
use crate::support::stripe::Epoch;

#[tokio::test]
async fn a_changed_contact_is_in_the_answer_and_in_sql_and_at_stripe() {
    let shop = Shop::open().await;
    let body = json!({ "name": "Ada Lovelace", "email": "lovelace@example.com", "city": "ignored", "state": null });
    let changed = shop.ada.put(&shop.contact_path().await, &body).await.json(200);
    assert_eq!(
        (changed["name"].as_str(), changed["email"].as_str()),
        (Some("Ada Lovelace"), Some("lovelace@example.com"))
    );
    assert_eq!(changed["city"], json!(null));
    assert_eq!(shop.name_in_sql().await, "Ada Lovelace");
    assert_eq!(shop.stripe.stored(&shop.customer)["email"], "lovelace@example.com");
    assert_eq!(shop.lines().await, "customer.update done");
    let history = shop.ada.get(&format!("/v1/workspaces/{}/history?size=1", shop.workspace)).await.json(200);
    assert_eq!(history["data"][0]["causes"], json!(["write"]));
    shop.finish().await;
}

/// The law of read-your-write: whatever webhook arrived before, the answer to a change shows the change.
#[tokio::test]
async fn each_answer_shows_its_change_within_the_second_of_earlier_events() {
    for seconds in [0, 1, 9] {
        let shop = Shop::open().await;
        let mut mark = shop.stripe.mark();
        for name in ["One", "Two", "Three", "Two"] {
            let changed = shop.rename(name).await.json(200);
            assert_eq!(changed["name"], name, "after {seconds} s");
            assert_eq!(shop.name_in_sql().await, name);
            // its webhook, and another change by someone else, in the same second
            shop.deliver(mark).await;
            assert_eq!(shop.name_in_sql().await, name, "its own event shows the same");
            mark = shop.stripe.mark();
            shop.stripe.tick(seconds);
        }
        shop.finish().await;
    }
}

#[tokio::test]
async fn a_late_webhook_of_the_same_second_does_not_undo_a_change() {
    let shop = Shop::open().await;
    let mark = shop.stripe.mark();
    shop.rename("One").await.json(200);
    shop.rename("Two").await.json(200);
    let events = shop.stripe.events_since(mark);
    shop.test.app.deliver_all(&events[..1], Epoch::Endive).await;
    shop.test.app.drain().await;
    assert_eq!(shop.name_in_sql().await, "Two");
    shop.test.app.deliver_all(&events[1..], Epoch::Endive).await;
    shop.test.app.drain().await;
    assert_eq!(shop.name_in_sql().await, "Two");
    // the merchant changes it afterwards, still in this second
    let mark = shop.stripe.mark();
    shop.stripe.update(&shop.customer, json!({ "name": "Merchant" }));
    shop.deliver(mark).await;
    assert_eq!(shop.name_in_sql().await, "Merchant");
    shop.finish().await;
}

#[tokio::test]
async fn a_webhook_that_was_on_its_way_does_not_beat_a_later_change() {
    let shop = Shop::open().await;
    let mark = shop.stripe.mark();
    shop.stripe.update(&shop.customer, json!({ "name": "Merchant" }));
    let changed = shop.rename("Product").await.json(200);
    assert_eq!(changed["name"], "Product");
    let events = shop.stripe.events_since(mark);
    // the merchant's event arrives after the answer
    shop.test.app.deliver_all(&events[..1], Epoch::Endive).await;
    shop.test.app.drain().await;
    assert_eq!(shop.name_in_sql().await, "Product");
    shop.deliver(mark).await;
    assert_eq!(shop.name_in_sql().await, "Product");
    shop.finish().await;
}

#[tokio::test]
async fn only_owners_change_a_contact() {
    let shop = Shop::open().await;
    let path = shop.contact_path().await;
    let body = json!({ "name": "Bo", "email": "bo@example.com" });
    let bo = shop.test.user(BO).await;
    bo.put(&path, &body).await.problem("not-found");
    shop.test
        .execute(&format!(
            "INSERT INTO billing.workspace_members (workspace_id, user_id, role) VALUES ('{}', '{BO}', 'member')",
            shop.workspace
        ))
        .await;
    bo.put(&path, &body).await.problem("owner-required");
    assert_eq!(shop.stripe.writes().len(), 0);
    shop.test.admin().await.put(&path, &body).await.json(200);
    shop.finish().await;
}

#[tokio::test]
async fn invalid_fields_are_named_and_nothing_is_sent() {
    let shop = Shop::open().await;
    let path = shop.contact_path().await;
    for (body, pointer) in [
        (json!({ "name": "Ada" }), "/email"),
        (json!({ "name": "Ada", "email": "ada" }), "/email"),
        (json!({ "name": "Ada", "email": "a@b@c" }), "/email"),
        (json!({ "name": " ", "email": "a@b.c" }), "/name"),
        (json!({ "name": "A".repeat(256), "email": "a@b.c" }), "/name"),
        (json!({ "name": "Ada", "email": "a@b.c", "city": 5 }), "/city"),
    ] {
        let problem = shop.ada.put(&path, &body).await.problem("invalid-fields");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!((shop.stripe.writes().len(), shop.lines().await), (0, String::new()));
    shop.finish().await;
}

#[tokio::test]
async fn a_stale_copy_changes_nothing() {
    let shop = Shop::open().await;
    let etag = shop.ada.get(&shop.contact_path().await).await.header("etag").unwrap().to_owned();
    shop.rename_with("One", &[("If-Match", &etag)]).await.json(200);
    shop.rename_with("Two", &[("If-Match", &etag)]).await.problem("precondition-failed");
    assert_eq!(shop.name_at_stripe(), "One");
    shop.finish().await;
}

#[tokio::test]
async fn a_repetition_with_a_copy_gets_the_first_answer() {
    let shop = Shop::open().await;
    let etag = shop.ada.get(&shop.contact_path().await).await.header("etag").unwrap().to_owned();
    let headers = [("If-Match", etag.as_str()), ("Idempotency-Key", "once")];
    shop.rename_with("Two", &headers).await.json(200);
    let again = shop.rename_with("Two", &headers).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json(200)["name"], "Two");
    shop.finish().await;
}
