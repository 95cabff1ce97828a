//! `GET /v1/state` and `GET /v1/workspaces/{workspaceId}/limits`: may they use the product, and how much is left.

use billing_sync::domain::object::row_id;
use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::{ADA, ApiClient, ApiTest, BO};
use super::json_object::JsonObject;
use super::synced::{Synced, months_later, written};
use crate::support::events::{customer, event, subscription, update, with};

/// A connected account that the tests sync.
const CONNECTED: &str = "acct_known";

/// The state of a workspace or customer, given as a query.
async fn state(client: &ApiClient, query: &str) -> Value {
    client.get(&format!("/v1/state?{query}")).await.json(200)
}

/// `customer.created`.
fn created(customer_id: &str, workspace: Option<Uuid>) -> Value {
    let metadata = workspace.map_or(json!({}), |id| json!({ "workspace_id": id }));
    let object = with(&customer(customer_id, "Ada"), json!({ "metadata": metadata }));
    event(&format!("evt_{customer_id}"), "customer.created", 0, &object, None)
}

/// A subscription of a workspace, and its event.
fn sold(id: &str, customer_id: &str, workspace: Uuid, fields: Value) -> (Value, Value) {
    let object = with(&subscription(id, customer_id), json!({ "metadata": { "workspace_id": workspace } }));
    let object = with(&object, fields);
    let created = event(&format!("evt_{id}"), "customer.subscription.created", 1, &object, None);
    (object, created)
}

#[tokio::test]
async fn state_is_the_same_by_workspace_by_contact_and_by_customer() {
    let synced = Synced::start().await;
    let (api, began) = (&synced.api, synced.began);
    let workspace = api.workspace("Writers", ADA).await;
    let sale = synced.sell(workspace, &json!({ "limit_words": "1000" }));
    synced.sync().await;
    api.execute(
        "INSERT INTO billing.reconcile_state (account, compared_until) VALUES ('', '2026-01-14 16:20:59.5+00')",
    )
    .await;
    let ada = api.user(ADA).await;
    let (contact, subscription) = (row_id("", &sale.customer), row_id("", &sale.subscription));
    let reply = ada.get(&format!("/v1/state?workspace={workspace}")).await;
    assert_eq!(reply.header("billing-as-of"), Some("2026-01-14T16:20:59.5Z"));
    assert_eq!(reply.header("billing-pending"), Some("0"));
    let changed_at = api.time("subscriptions", "updated_at", subscription).await;
    let found = JsonObject::read(&reply.text);
    found.check(&[
        ("active", &true),
        ("inactiveReason", &"null"),
        ("workspaceId", &json!(workspace)),
        ("billingContactId", &json!(contact)),
        ("stripeCustomerId", &json!(sale.customer)),
        ("subscriptionId", &json!(subscription)),
        ("stripeSubscriptionId", &json!(sale.subscription)),
        ("stripeStatus", &json!("active")),
        ("pricingPlanId", &json!(row_id("", &sale.price))),
        ("endDate", &"null"),
        ("limits", &found.text("limits")),
        ("changedAt", &changed_at),
        ("asOf", &json!("2026-01-14T16:20:59Z")),
        ("pendingEvents", &0),
    ]);
    let [words] = &JsonObject::read_all(found.text("limits"))[..] else { panic!("{found:?}") };
    words.check(&[
        ("key", &json!("words")),
        ("kind", &json!("renewing")),
        ("unlimited", &false),
        ("included", &1000),
        ("spillover", &1000),
        ("bonus", &0),
        ("used", &0),
        ("available", &2000),
        ("periodStartedAt", &written(months_later(began, 1))),
        ("renewsAt", &written(months_later(began, 2))),
    ]);
    for query in [format!("customer={contact}"), format!("customer={}", sale.customer)] {
        assert_eq!(ada.get(&format!("/v1/state?{query}")).await.text, reply.text, "{query}");
    }
    let limits = ada.get(&format!("/v1/workspaces/{workspace}/limits")).await;
    assert_eq!(limits.text, format!(r#"{{"data":{}}}"#, found.text("limits")), "the limits are the same");
    synced.finish().await;
}

#[tokio::test]
async fn state_needs_exactly_one_of_workspace_and_customer() {
    let test = ApiTest::start().await;
    let admin = test.admin().await;
    let id = Uuid::from_u128(1);
    for query in [String::new(), "?workspace=&customer=".to_owned(), format!("?workspace={id}&customer=cus_1")] {
        let reply = admin.get(&format!("/v1/state{query}")).await;
        assert_eq!(reply.status, 422, "{query}");
        assert_eq!(reply.problem("invalid-fields")["errors"][0]["pointer"], "query workspace", "{query}");
    }
    test.finish().await;
}

#[tokio::test]
async fn state_of_what_does_not_exist_is_not_found() {
    let test = ApiTest::start().await;
    let (admin, ada) = (test.admin().await, test.user(ADA).await);
    let id = Uuid::from_u128(1);
    let queries = [
        format!("workspace={id}"),
        format!("customer={id}"),
        "workspace=x".to_owned(),
        "customer=x".to_owned(),
        "customer=cus_unknown".to_owned(),
        "customer=cus_%27%00".to_owned(),
    ];
    for client in [&admin, &ada] {
        for query in &queries {
            client.get(&format!("/v1/state?{query}")).await.problem("not-found");
        }
        client.get(&format!("/v1/workspaces/{id}/limits")).await.problem("not-found");
        client.get("/v1/workspaces/x/limits").await.problem("not-found");
    }
    test.finish().await;
}

#[tokio::test]
async fn state_without_a_subscription_says_so() {
    let test = ApiTest::start().await;
    let workspace = test.workspace("Fresh", ADA).await;
    let ada = test.user(ADA).await;
    let reply = ada.get(&format!("/v1/state?workspace={workspace}")).await;
    let fields = |found: &JsonObject, contact: &Value, customer: &Value, pending: &Value| {
        found.check(&[
            ("active", &false),
            ("inactiveReason", &json!("no_subscription")),
            ("workspaceId", &json!(workspace)),
            ("billingContactId", contact),
            ("stripeCustomerId", customer),
            ("subscriptionId", &"null"),
            ("stripeSubscriptionId", &"null"),
            ("stripeStatus", &"null"),
            ("pricingPlanId", &"null"),
            ("endDate", &"null"),
            ("limits", &"[]"),
            ("changedAt", &"null"),
            ("asOf", &"null"),
            ("pendingEvents", pending),
        ]);
    };
    let null = Value::Null;
    fields(&JsonObject::read(&reply.text), &null, &null, &null);
    assert_eq!((reply.header("billing-as-of"), reply.header("billing-pending")), (None, None));
    assert_eq!(ada.get(&format!("/v1/workspaces/{workspace}/limits")).await.text, r#"{"data":[]}"#);
    // a customer that has not bought anything yet
    test.app.deliver_and_drain(&[created("cus_1", Some(workspace))]).await;
    let contact = json!(row_id("", "cus_1"));
    for query in [format!("workspace={workspace}"), "customer=cus_1".to_owned()] {
        let reply = ada.get(&format!("/v1/state?{query}")).await;
        fields(&JsonObject::read(&reply.text), &contact, &json!("cus_1"), &json!(0));
    }
    test.finish().await;
}

/// A workspace that only a customer names; no user can be its member.
#[tokio::test]
async fn state_of_a_workspace_that_only_a_contact_names() {
    let test = ApiTest::start().await;
    let workspace = Uuid::from_u128(7);
    test.app.deliver_and_drain(&[created("cus_1", Some(workspace))]).await;
    let (admin, ada) = (test.admin().await, test.user(ADA).await);
    let query = format!("workspace={workspace}");
    let found = state(&admin, &query).await;
    assert_eq!((&found["active"], &found["inactiveReason"]), (&json!(false), &json!("no_subscription")));
    assert_eq!((&found["workspaceId"], &found["stripeCustomerId"]), (&json!(workspace), &json!("cus_1")));
    assert_eq!(found, state(&admin, "customer=cus_1").await);
    ada.get(&format!("/v1/state?{query}")).await.problem("not-found");
    let consume = format!("/v1/workspaces/{workspace}/limits/words/consume");
    admin.post(&consume, &json!({ "amount": 1 })).await.problem("no-subscription");
    // a deleted customer names nothing
    let deleted = json!({ "id": "cus_1", "object": "customer", "deleted": true });
    test.app.deliver_and_drain(&[event("evt_deleted", "customer.deleted", 60, &deleted, None)]).await;
    admin.get(&format!("/v1/state?{query}")).await.problem("not-found");
    test.finish().await;
}

#[tokio::test]
async fn state_of_a_paused_subscription_has_the_reason_and_nothing_left() {
    let synced = Synced::start().await;
    let workspace = synced.api.workspace("Writers", ADA).await;
    let sale = synced.sell(workspace, &json!({ "limit_words": "1000" }));
    synced.stripe.tick(60);
    synced.stripe.pause_collection(&sale.subscription);
    synced.sync().await;
    let ada = synced.api.user(ADA).await;
    let found = state(&ada, &format!("customer={}", sale.customer)).await;
    assert_eq!((&found["active"], &found["inactiveReason"]), (&json!(false), &json!("payment_paused")));
    assert_eq!(found["stripeStatus"], "active", "Stripe keeps the status");
    assert_eq!((&found["limits"][0]["included"], &found["limits"][0]["available"]), (&json!(1000), &json!(0)));
    let limits = ada.get(&format!("/v1/workspaces/{workspace}/limits")).await.json(200);
    assert_eq!(limits["data"], found["limits"]);
    synced.finish().await;
}

#[tokio::test]
async fn state_of_a_customer_of_a_connected_account() {
    let test = ApiTest::start().await;
    let (own, connected) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let of_connected = |event: &Value| with(event, json!({ "account": CONNECTED }));
    let events = [created("cus_1", Some(connected)), sold("sub_1", "cus_1", connected, json!({})).1];
    test.app.deliver_and_drain(&events.map(|event| of_connected(&event))).await;
    let admin = test.admin().await;
    let id = row_id(CONNECTED, "cus_1");
    for query in ["customer=cus_1".to_owned(), format!("customer={id}"), format!("workspace={connected}")] {
        let found = state(&admin, &query).await;
        assert_eq!(found["billingContactId"], json!(id), "{query}");
        assert_eq!(found["subscriptionId"], json!(row_id(CONNECTED, "sub_1")), "{query}");
        assert_eq!((&found["active"], &found["workspaceId"]), (&json!(true), &json!(connected)), "{query}");
    }
    // the own account comes first if both have a customer with this id
    let mut same = created("cus_1", Some(own));
    same["id"] = json!("evt_own");
    test.app.deliver_and_drain(&[same]).await;
    let found = state(&admin, "customer=cus_1").await;
    assert_eq!((&found["workspaceId"], &found["billingContactId"]), (&json!(own), &json!(row_id("", "cus_1"))));
    assert_eq!(state(&admin, &format!("customer={id}")).await["workspaceId"], json!(connected));
    test.finish().await;
}

#[tokio::test]
async fn state_of_a_customer_with_two_workspaces_depends_on_the_caller() {
    let test = ApiTest::start().await;
    let (first, second) = (test.workspace("First", ADA).await, test.workspace("Second", BO).await);
    let (older, of_older) = sold("sub_1", "cus_1", first, json!({}));
    let newer = sold("sub_2", "cus_1", second, json!({ "created": older["created"].as_i64().unwrap() + 5 })).1;
    test.app.deliver_and_drain(&[created("cus_1", None), of_older, newer]).await;
    let (ada, bo, admin) = (test.user(ADA).await, test.user(BO).await, test.admin().await);
    let query = format!("customer={}", row_id("", "cus_1"));
    for (client, subscription, workspace) in [(&ada, "sub_1", first), (&bo, "sub_2", second), (&admin, "sub_2", second)]
    {
        for query in ["customer=cus_1", &query] {
            let found = state(client, query).await;
            assert_eq!((&found["stripeSubscriptionId"], &found["active"]), (&json!(subscription), &json!(true)));
            assert_eq!(found["workspaceId"], json!(workspace));
        }
    }
    let another = test.user(Uuid::from_u128(0xc)).await;
    another.get("/v1/state?customer=cus_1").await.problem("not-found");
    another.get(&format!("/v1/state?workspace={first}")).await.problem("not-found");
    another.get(&format!("/v1/workspaces/{first}/limits")).await.problem("not-found");
    // Ada still sees her own, which has ended, and not the one that has not
    let ended = with(&older, json!({ "status": "canceled", "ended_at": older["created"].as_i64().unwrap() + 60 }));
    test.app.deliver_and_drain(&[event("evt_3", "customer.subscription.deleted", 60, &ended, None)]).await;
    let found = state(&ada, "customer=cus_1").await;
    assert_eq!((&found["workspaceId"], &found["inactiveReason"]), (&json!(first), &json!("canceled")));
    assert_eq!(state(&admin, "customer=cus_1").await["workspaceId"], json!(second));
    test.finish().await;
}

#[tokio::test]
async fn state_counts_the_events_that_are_not_applied_yet() {
    let test = ApiTest::start().await;
    let workspace = test.workspace("Writers", ADA).await;
    let (before, bought) = sold("sub_1", "cus_1", workspace, json!({}));
    test.app.deliver_and_drain(&[created("cus_1", None), created("cus_2", None), bought]).await;
    let ended = with(&before, json!({ "status": "unpaid" }));
    test.app.deliver(&update("evt_3", "customer.subscription.updated", 60, &before, &ended)).await;
    let another = with(&customer("cus_2", "Eve"), json!({ "name": "Zoe" }));
    test.app.deliver(&event("evt_4", "customer.updated", 60, &another, None)).await;
    let (ada, query) = (test.user(ADA).await, format!("/v1/state?workspace={workspace}"));
    let reply = ada.get(&query).await;
    assert_eq!(reply.header("billing-pending"), Some("1"), "the event of another customer does not count");
    assert_eq!((&reply.json(200)["pendingEvents"], &reply.json(200)["active"]), (&json!(1), &json!(true)));
    test.app.drain().await;
    let found = ada.get(&query).await.json(200);
    assert_eq!((&found["pendingEvents"], &found["inactiveReason"]), (&json!(0), &json!("unpaid")));
    test.finish().await;
}

#[tokio::test]
async fn state_of_a_deleted_workspace_is_not_found() {
    let test = ApiTest::start().await;
    let workspace = test.workspace("Old", ADA).await;
    let end = json!({ "status": "canceled", "ended_at": 1_767_225_700 });
    let (_, bought) = sold("sub_1", "cus_1", workspace, end);
    test.app.deliver_and_drain(&[created("cus_1", Some(workspace)), bought]).await;
    let (ada, admin) = (test.user(ADA).await, test.admin().await);
    let queries = [format!("workspace={workspace}"), "customer=cus_1".to_owned()];
    for query in &queries {
        assert_eq!(state(&ada, query).await["inactiveReason"], "canceled", "{query}");
    }
    assert_eq!(ada.delete(&format!("/v1/workspaces/{workspace}")).await.status, 204);
    for client in [&ada, &admin] {
        for query in &queries {
            client.get(&format!("/v1/state?{query}")).await.problem("not-found");
        }
        client.get(&format!("/v1/workspaces/{workspace}/limits")).await.problem("not-found");
    }
    test.finish().await;
}

/// A deleted workspace hides only its own subscriptions, also those that begin later.
#[tokio::test]
async fn state_of_a_customer_leaves_out_the_subscriptions_of_a_deleted_workspace() {
    let test = ApiTest::start().await;
    let (old, living) = (test.workspace("Old", ADA).await, test.workspace("Living", ADA).await);
    let (first, of_living) = sold("sub_1", "cus_1", living, json!({}));
    test.app.deliver_and_drain(&[created("cus_1", None), of_living]).await;
    let (ada, admin) = (test.user(ADA).await, test.admin().await);
    assert_eq!(ada.delete(&format!("/v1/workspaces/{old}")).await.status, 204);
    let later = json!({ "created": first["created"].as_i64().unwrap() + 5 });
    test.app.deliver_and_drain(&[sold("sub_2", "cus_1", old, later).1]).await;
    for client in [&ada, &admin] {
        let found = state(client, "customer=cus_1").await;
        assert_eq!((&found["workspaceId"], &found["active"]), (&json!(living), &json!(true)));
        client.get(&format!("/v1/state?workspace={old}")).await.problem("not-found");
    }
    test.finish().await;
}
