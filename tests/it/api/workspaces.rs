//! Workspaces over HTTP: create, read, rename, delete.

use serde_json::json;

use super::harness::{ADA, ApiTest, BO};

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
    assert_ne!(after["updatedAt"], serde_json::Value::Null);
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
