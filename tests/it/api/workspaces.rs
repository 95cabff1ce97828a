//! Workspaces over HTTP: create, read, rename, delete.

use std::sync::LazyLock;

use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::{ADA, ApiTest, BO};
use crate::support::events::{event, subscription, with};

static ONE: LazyLock<Value> = LazyLock::new(|| json!({ "amount": 1 }));

#[tokio::test]
async fn b1_the_creator_of_a_workspace_is_its_owner() {
    let test = ApiTest::start().await;
    let ada = test.user(ADA).await;
    let reply = ada.post("/v1/workspaces", &json!({ "name": " Online Marketing Team ", "ignored": 1 })).await;
    let made = reply.json(201);
    assert_eq!(made["name"], "Online Marketing Team");
    assert_eq!(made["createdByUserId"], ADA.to_string());
    assert_eq!((&made["keyIndex"], &made["key"]), (&json!(1), &json!("WS-RF983")));
    let path = format!("/v1/workspaces/{}", made["id"].as_str().unwrap());
    assert_eq!(reply.header("location"), Some(format!("{}{path}", super::harness::PREFIX).as_str()));
    assert_eq!(ada.get(&path).await.json(200), made);
    assert_eq!(test.user(BO).await.get(&path).await.status, 404, "another user does not see it");
    test.finish().await;
}

#[tokio::test]
async fn b4_an_owner_renames_a_workspace_and_a_member_does_not() {
    let test = ApiTest::start().await;
    let id = test.workspace("Old", ADA).await;
    test.execute(&format!("INSERT INTO billing.workspace_members VALUES ('{id}', '{BO}', 'member')")).await;
    let path = format!("/v1/workspaces/{id}");
    let (ada, bo) = (test.user(ADA).await, test.user(BO).await);
    let before = ada.get(&path).await;
    bo.put(&path, &json!({ "name": "New" })).await.problem("owner-required");
    let after = ada.put(&path, &json!({ "name": "New" })).await.json(200);
    assert_eq!(after["name"], "New");
    assert_ne!(after["updatedAt"], Value::Null);
    assert_eq!(bo.get(&path).await.json(200), after, "a member sees it");
    let stale = [("If-Match", before.header("etag").unwrap())];
    ada.send("PUT", &path, &stale, Some(&json!({ "name": "Newer" }))).await.problem("precondition-failed");
    test.finish().await;
}

#[tokio::test]
async fn b5_a_deleted_workspace_is_not_found_again() {
    let test = ApiTest::start().await;
    let id = test.workspace("Old", ADA).await;
    let path = format!("/v1/workspaces/{id}");
    let (ada, admin) = (test.user(ADA).await, test.admin().await);
    assert_eq!(ada.delete(&path).await.status, 204);
    for client in [&ada, &admin] {
        client.get(&path).await.problem("not-found");
        client.delete(&path).await.problem("not-found");
        client.put(&path, &json!({ "name": "New" })).await.problem("not-found");
        assert_eq!(client.get("/v1/workspaces").await.json(200)["page"]["totalElements"], 0);
    }
    test.finish().await;
}

#[tokio::test]
async fn b1_numbers_that_the_product_has_stored_are_skipped() {
    let test = ApiTest::start().await;
    let imported = "INSERT INTO billing.workspaces (id, key_index, key)
        SELECT md5(n::text)::uuid, n, 'NF-' || n FROM generate_series(1, 300) AS n";
    test.execute(imported).await;
    let ada = test.user(ADA).await;
    for index in 301..304 {
        let made = ada.post("/v1/workspaces", &json!({ "name": "Team" })).await.json(201);
        assert_eq!(made["keyIndex"], index);
    }
    test.finish().await;
}

#[tokio::test]
async fn b1_a_user_owns_a_limited_number_of_workspaces() {
    let test = ApiTest::start_with(&[("BILLING_SYNC_API_MAX_OWNED", "2")]).await;
    let ada = test.user(ADA).await;
    let first = ada.post("/v1/workspaces", &json!({ "name": "1" })).await.json(201);
    ada.post("/v1/workspaces", &json!({ "name": "2" })).await.json(201);
    ada.post("/v1/workspaces", &json!({ "name": "3" })).await.problem("too-many-workspaces");
    test.user(BO).await.post("/v1/workspaces", &json!({ "name": "of Bo" })).await.json(201);
    let path = format!("/v1/workspaces/{}", first["id"].as_str().unwrap());
    assert_eq!(ada.delete(&path).await.status, 204);
    ada.post("/v1/workspaces", &json!({ "name": "3" })).await.json(201);
    test.finish().await;
}

#[tokio::test]
async fn b4_a_workspace_that_only_subscriptions_name_gets_a_row_once() {
    let test = ApiTest::start().await;
    let id = Uuid::new_v4();
    let bought = with(&subscription("sub_1", "cus_1"), json!({ "metadata": { "workspace_id": id } }));
    test.app.deliver_and_drain(&[event("evt_1", "customer.subscription.created", 0, &bought, None)]).await;
    let (admin, path) = (test.admin().await, format!("/v1/workspaces/{id}"));
    let before = admin.get(&path).await;
    assert_eq!(before.json(200)["key"], Value::Null);
    let current = [("If-Match", before.header("etag").unwrap())];
    let name = json!({ "name": "Team" });
    let [one, other] = [(); 2].map(|()| admin.put(&path, &name));
    let (one, other) = tokio::join!(one, other);
    assert_eq!((one.status, other.status), (200, 200), "{} {}", one.text, other.text);
    assert_eq!(one.json(200)["key"], other.json(200)["key"]);
    admin.send("PUT", &path, &current, Some(&name)).await.problem("precondition-failed");
    let current = admin.get(&path).await;
    let current = [("If-Match", current.header("etag").unwrap())];
    assert_eq!(admin.send("PUT", &path, &current, Some(&name)).await.json(200)["name"], "Team");
    test.finish().await;
}

#[tokio::test]
async fn b4_if_match_fits_a_workspace_without_a_row() {
    let test = ApiTest::start().await;
    let id = Uuid::new_v4();
    let bought = with(&subscription("sub_1", "cus_1"), json!({ "metadata": { "workspace_id": id } }));
    test.app.deliver_and_drain(&[event("evt_1", "customer.subscription.created", 0, &bought, None)]).await;
    let (admin, path) = (test.admin().await, format!("/v1/workspaces/{id}"));
    let current = admin.get(&path).await;
    let current = [("If-Match", current.header("etag").unwrap())];
    let renamed = admin.send("PUT", &path, &current, Some(&json!({ "name": "Team" }))).await.json(200);
    assert_eq!((&renamed["name"], renamed["keyIndex"].is_i64()), (&json!("Team"), true));
    test.finish().await;
}

#[tokio::test]
async fn a_repeated_request_of_a_former_member_is_refused() {
    let test = ApiTest::start().await;
    let id = test.workspace("Team", ADA).await;
    test.execute(&format!("INSERT INTO billing.workspace_members VALUES ('{id}', '{BO}', 'member')")).await;
    test.execute(&super::limits::subscription("sub_1", id, &[("words", "10")])).await;
    let (bo, path) = (test.user(BO).await, format!("/v1/workspaces/{id}/limits/words/consume"));
    let key = [("Idempotency-Key", "once")];
    let consume = || bo.send("POST", &path, &key, Some(&ONE));
    assert_eq!(consume().await.json(200)["available"], 9);
    assert_eq!(consume().await.header("idempotent-replayed"), Some("true"));
    test.execute(&format!("DELETE FROM billing.workspace_members WHERE user_id = '{BO}'")).await;
    consume().await.problem("not-found");
    test.finish().await;
}

#[tokio::test]
async fn the_history_begins_when_a_subscription_comes_to_the_workspace() {
    let test = ApiTest::start().await;
    let (ada_s, bo_s) = (test.workspace("of Ada", ADA).await, test.workspace("of Bo", BO).await);
    let of = |id: Uuid, status: &str| {
        with(&subscription("sub_1", "cus_1"), json!({ "status": status, "metadata": { "workspace_id": id } }))
    };
    let events = [
        event("evt_1", "customer.subscription.created", 0, &of(bo_s, "active"), None),
        event("evt_2", "customer.subscription.updated", 1, &of(bo_s, "past_due"), None),
        event("evt_3", "customer.subscription.updated", 2, &of(ada_s, "past_due"), None),
        event("evt_4", "customer.subscription.updated", 3, &of(ada_s, "active"), None),
    ];
    for event in events {
        test.app.deliver_and_drain(&[event]).await;
    }
    let ada = test.user(ADA).await;
    let history = ada.get(&format!("/v1/workspaces/{ada_s}/history")).await.json(200);
    let causes: Vec<&Value> = history["data"].as_array().unwrap().iter().map(|change| &change["causes"][0]).collect();
    assert_eq!(causes, [&json!("evt_4"), &json!("evt_3")]);
    test.finish().await;
}
