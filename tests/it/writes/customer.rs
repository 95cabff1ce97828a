//! The customer of a new workspace.

use serde_json::json;

use super::harness::Shop;
use crate::support::stripe::Fault;

#[tokio::test]
async fn a_new_workspace_has_a_customer() {
    let shop = Shop::open().await;
    let created = shop.ada.post("/v1/workspaces", &json!({ "name": "New" })).await.json(201);
    let contact = &created["_embedded"]["billingContact"];
    let customer = contact["stripeCustomerId"].as_str().unwrap();
    assert_eq!(created["billingContactId"], contact["id"]);
    assert_eq!(contact["createdByUserId"], crate::api::harness::ADA.to_string());
    let stored = shop.stripe.stored(customer);
    assert_eq!(stored["metadata"]["workspace_id"], created["id"]);
    shop.deliver(0).await;
    let read = shop.ada.get(&format!("/v1/workspaces/{}", created["id"].as_str().unwrap())).await.json(200);
    assert_eq!(read["billingContactId"], created["billingContactId"]);
    shop.finish().await;
}

#[tokio::test]
async fn with_stripe_away_the_workspace_is_created_and_its_customer_follows() {
    let shop = Shop::open().await;
    shop.stripe.fail_next_under("/v1/customers", 100, Fault::Close);
    let key = [("Idempotency-Key", "workspace-1")];
    let create = async || shop.ada.send("POST", "/v1/workspaces", &key, Some(&json!({ "name": "New" }))).await;
    let first = create().await;
    assert_eq!(first.json(201)["billingContactId"], json!(null));
    let again = create().await;
    assert_eq!((again.text.as_str(), again.header("idempotent-replayed")), (first.text.as_str(), Some("true")));
    shop.stripe.recover();
    shop.recover().await;
    let id = first.json(201)["id"].as_str().unwrap().to_owned();
    let read = shop.ada.get(&format!("/v1/workspaces/{id}")).await.json(200);
    assert!(read["billingContactId"].is_string(), "{read}");
    assert_eq!(create().await.text, first.text, "one answer for each key");
    assert_eq!(shop.stripe.effects().len(), 1);
    shop.finish().await;
}
