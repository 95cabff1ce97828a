//! `GET /v1/workspaces/{workspaceId}/history`: what changed the rows of a workspace, by which event.

use billing_sync::domain::object::row_id;
use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::{ADA, ApiClient, ApiTest, BO};
use super::json_object::JsonObject;
use crate::support::events::{customer, event, subscription, update, with};

/// The user of another workspace.
const EVE: Uuid = Uuid::from_u128(0xe);

/// A workspace of Ada with four changes, one for each of the events `evt_1` to `evt_4`: a new customer, its new
/// subscription, a pause, and its end. Another workspace has changes in between.
async fn changed() -> (ApiTest, Uuid) {
    let test = ApiTest::start().await;
    let (workspace, other) = (test.workspace("Writers", ADA).await, test.workspace("Others", EVE).await);
    let bought = |id: &str, customer_id: &str, workspace: Uuid| {
        with(&subscription(id, customer_id), json!({ "metadata": { "workspace_id": workspace } }))
    };
    let active = bought("sub_1", "cus_1", workspace);
    let paused = with(&active, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    let of_other = bought("sub_2", "cus_2", other);
    let events = [
        event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None),
        event("evt_a", "customer.created", 0, &customer("cus_2", "Eve"), None),
        event("evt_2", "customer.subscription.created", 1, &active, None),
        event("evt_b", "customer.subscription.created", 1, &of_other, None),
        update("evt_3", "customer.subscription.updated", 60, &active, &paused),
        update("evt_4", "customer.subscription.updated", 120, &paused, &active),
    ];
    for event in events {
        test.app.deliver_and_drain(&[event]).await;
    }
    (test, workspace)
}

async fn page(client: &ApiClient, workspace: Uuid, query: &str) -> Value {
    client.get(&format!("/v1/workspaces/{workspace}/history{query}")).await.json(200)
}

/// The events behind the changes on a page.
fn causes(page: &Value) -> Vec<&str> {
    let changes = page["data"].as_array().unwrap().iter();
    changes.flat_map(|change| change["causes"].as_array().unwrap()).map(|cause| cause.as_str().unwrap()).collect()
}

#[tokio::test]
async fn history_lists_the_newest_change_first_with_its_event() {
    let (test, workspace) = changed().await;
    let reply = test.user(ADA).await.get(&format!("/v1/workspaces/{workspace}/history")).await;
    let found = reply.json(200);
    assert_eq!(causes(&found), ["evt_4", "evt_3", "evt_2", "evt_1"], "{found}");
    let list = JsonObject::read(&reply.text);
    list.check(&[("data", &list.text("data")), ("next", &"null")]);
    let changes = JsonObject::read_all(list.text("data"));
    let pause = &changes[1];
    pause.check(&[
        ("id", &pause.text("id")),
        ("at", &json!(test.text(&at(pause.text("id"))).await)),
        ("table", &json!("subscriptions")),
        ("rowId", &json!(row_id("", "sub_1"))),
        ("causes", &json!(["evt_3"])),
        ("changes", &pause.text("changes")),
    ]);
    let expected = json!({ "active": [true, false], "inactive_reason": [null, "payment_paused"],
        "payment_paused": [false, true] });
    assert_eq!(found["data"][1]["changes"], expected);
    assert_eq!(
        (&found["data"][3]["table"], &found["data"][3]["rowId"]),
        (&json!("billing_contacts"), &json!(row_id("", "cus_1")))
    );
    test.finish().await;
}

/// The query of the time of a change, as the API writes it.
fn at(id: &str) -> String {
    format!(
        "SELECT to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
        FROM billing.row_changes WHERE id = {id}"
    )
}

#[tokio::test]
async fn history_pages_contain_each_change_once() {
    let (test, workspace) = changed().await;
    let ada = test.user(ADA).await;
    let whole = page(&ada, workspace, "").await;
    for size in 1..=5 {
        let (mut found, mut query) = (Vec::new(), format!("?size={size}"));
        loop {
            let page = page(&ada, workspace, &query).await;
            let changes = page["data"].as_array().unwrap();
            assert!(changes.len() <= size, "{page}");
            found.extend(changes.clone());
            let Some(next) = page["next"].as_i64() else { break };
            assert_eq!(json!(next), found.last().unwrap()["id"], "size {size}");
            query = format!("?size={size}&before={next}");
        }
        assert_eq!(json!(found), whole["data"], "size {size}");
    }
    let oldest = &whole["data"][3]["id"];
    let nothing = page(&ada, workspace, &format!("?before={oldest}")).await;
    assert_eq!(nothing, json!({ "data": [], "next": null }));
    // a change that comes later does not move the pages
    let second = format!("?size=2&before={}", page(&ada, workspace, "?size=2").await["next"]);
    let before = page(&ada, workspace, &second).await;
    let renamed = with(&customer("cus_1", "Ada"), json!({ "name": "Ada Lovelace" }));
    test.app.deliver_and_drain(&[event("evt_5", "customer.updated", 180, &renamed, None)]).await;
    assert_eq!(page(&ada, workspace, &second).await, before);
    assert_eq!(causes(&page(&ada, workspace, "?size=1").await), ["evt_5"]);
    test.finish().await;
}

#[tokio::test]
async fn history_names_an_invalid_parameter() {
    let (test, workspace) = changed().await;
    let ada = test.user(ADA).await;
    for (query, names) in [
        ("size=0", vec!["query size"]),
        ("size=101", vec!["query size"]),
        ("size=x", vec!["query size"]),
        ("before=0", vec!["query before"]),
        ("before=9223372036854775808", vec!["query before"]),
        ("size=-1&before=x", vec!["query size", "query before"]),
    ] {
        let reply = ada.get(&format!("/v1/workspaces/{workspace}/history?{query}")).await;
        assert_eq!(reply.status, 422, "{query}");
        let problem = reply.problem("invalid-fields");
        let found: Vec<&str> =
            problem["errors"].as_array().unwrap().iter().filter_map(|error| error["pointer"].as_str()).collect();
        assert_eq!(found, names, "{query}");
    }
    assert_eq!(causes(&page(&ada, workspace, "?size=100&other=1").await).len(), 4, "unknown ones are ignored");
    test.finish().await;
}

#[tokio::test]
async fn history_is_not_found_where_the_workspace_is_not() {
    let (test, workspace) = changed().await;
    let (ada, bo, admin) = (test.user(ADA).await, test.user(BO).await, test.admin().await);
    let path = format!("/v1/workspaces/{workspace}/history");
    assert_eq!(admin.get(&path).await.text, ada.get(&path).await.text);
    bo.get(&path).await.problem("not-found");
    test.user(EVE).await.get(&path).await.problem("not-found");
    admin.get(&format!("/v1/workspaces/{}/history", Uuid::from_u128(1))).await.problem("not-found");
    admin.get("/v1/workspaces/x/history").await.problem("not-found");
    // a workspace without any row of Stripe's has no changes
    let empty = test.workspace("Empty", ADA).await;
    assert_eq!(page(&ada, empty, "").await, json!({ "data": [], "next": null }));
    assert_eq!(ada.delete(&format!("/v1/workspaces/{empty}")).await.status, 204);
    ada.get(&format!("/v1/workspaces/{empty}/history")).await.problem("not-found");
    test.finish().await;
}

#[tokio::test]
async fn a_change_at_stripe_is_shown_without_the_line_of_its_caller() {
    let (test, workspace) = changed().await;
    test.app
        .execute(
            "UPDATE billing.row_changes SET causes = '{write:00000000-0000-0000-0000-000000000007}'
            WHERE causes = '{evt_4}'",
        )
        .await;
    let found = page(&test.user(ADA).await, workspace, "").await;
    assert_eq!(causes(&found), ["write", "evt_3", "evt_2", "evt_1"], "{found}");
    test.finish().await;
}
