//! `GET /v1/workspaces`: pages, order, and who sees which workspaces.

use std::collections::BTreeSet;

use billing_sync::api::principal::Scope;
use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::{ADA, ApiClient, ApiTest, BO};
use crate::support::events::{event, subscription, with};

/// The fields by which a list can be sorted.
const SORTS: [&str; 5] = ["name", "key", "keyIndex", "createdAt", "updatedAt"];

/// A page of the list.
pub(crate) async fn list(client: &ApiClient, query: &str) -> Value {
    client.get(&format!("/v1/workspaces?{query}")).await.json(200)
}

/// The ids of the workspaces on a page, in its order.
pub(crate) fn ids(page: &Value) -> Vec<Uuid> {
    let workspaces = page["data"].as_array().unwrap().iter();
    workspaces.map(|workspace| workspace["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// Adds this number of workspaces that do not differ but by their ids, for Ada; returns the ids in ascending order.
async fn equal_workspaces(test: &ApiTest, number: u32) -> Vec<Uuid> {
    test.execute(&format!(
        "INSERT INTO billing.workspaces (id, name, created_at, updated_at)
        SELECT md5(n::text)::uuid, 'Writers', '2026-01-01 00:00:00+00', '2026-01-01 00:00:00+00'
        FROM generate_series(1, {number}) AS n;
        INSERT INTO billing.workspace_members (workspace_id, user_id, role)
        SELECT w.id, '{ADA}', 'member' FROM billing.workspaces AS w"
    ))
    .await;
    sqlx::query_scalar("SELECT id FROM billing.workspaces ORDER BY id").fetch_all(&test.app.pool).await.unwrap()
}

/// The page numbers of a list of 35 workspaces.
fn numbers(current: i64, size: i64, pages: i64) -> Value {
    json!({ "currentPage": current, "size": size, "totalElements": 35, "totalPages": pages })
}

#[tokio::test]
async fn b2_page_and_size_are_counted_from_1_and_20() {
    let test = ApiTest::start().await;
    let all = equal_workspaces(&test, 35).await;
    let ada = test.user(ADA).await;
    for (query, page, expected) in [
        ("", numbers(1, 20, 2), &all[..20]),
        ("page=&size=", numbers(1, 20, 2), &all[..20]),
        ("page=1", numbers(1, 20, 2), &all[..20]),
        ("page=2", numbers(2, 20, 2), &all[20..]),
        ("page=2&size=10", numbers(2, 10, 4), &all[10..20]),
        ("page=4&size=10", numbers(4, 10, 4), &all[30..]),
        ("size=35", numbers(1, 35, 1), &all[..]),
        ("size=100", numbers(1, 100, 1), &all[..]),
        ("size=1&page=35", numbers(35, 1, 35), &all[34..]),
        // beyond the end
        ("page=3", numbers(3, 20, 2), &[]),
        ("page=1000000&size=100", numbers(1_000_000, 100, 1), &[]),
        // of a repeated parameter, the last counts
        ("page=1&page=2", numbers(2, 20, 2), &all[20..]),
    ] {
        let found = list(&ada, query).await;
        assert_eq!(found["page"], page, "{query}");
        assert_eq!(ids(&found), expected, "{query}");
    }
    test.finish().await;
}

#[tokio::test]
async fn b2_a_list_of_nothing_has_no_pages() {
    let test = ApiTest::start().await;
    let found = list(&test.user(ADA).await, "").await;
    let page = json!({ "currentPage": 1, "size": 20, "totalElements": 0, "totalPages": 0 });
    assert_eq!(found, json!({ "data": [], "page": page }));
    test.finish().await;
}

#[tokio::test]
async fn b2_an_invalid_parameter_is_named() {
    let test = ApiTest::start().await;
    let admin = test.admin().await;
    let long = format!("search={}", "x".repeat(256));
    for (query, names) in [
        ("page=0", vec!["query page"]),
        ("page=-1", vec!["query page"]),
        ("page=1.5", vec!["query page"]),
        ("page=one", vec!["query page"]),
        ("page=1000001", vec!["query page"]),
        ("page=99999999999999999999", vec!["query page"]),
        ("size=0", vec!["query size"]),
        ("size=101", vec!["query size"]),
        ("size=ten", vec!["query size"]),
        ("order=up", vec!["query order"]),
        ("order=ASC", vec!["query order"]),
        ("sort=id", vec!["query sort"]),
        ("sort=created_at", vec!["query sort"]),
        ("importedFromLegacyTeamIds=1,x", vec!["query importedFromLegacyTeamIds"]),
        ("importedFromLegacyTeamIds=1,,2", vec!["query importedFromLegacyTeamIds"]),
        ("ownerLegacyCustomerIds=1.5", vec!["query ownerLegacyCustomerIds"]),
        ("ownerLegacyCustomerIds=9223372036854775808", vec!["query ownerLegacyCustomerIds"]),
        (long.as_str(), vec!["query search"]),
        ("search=%00", vec!["query search"]),
        ("size=x&page=0&sort=x", vec!["query page", "query size", "query sort"]),
    ] {
        let reply = admin.get(&format!("/v1/workspaces?{query}")).await;
        assert_eq!(reply.status, 422, "{query}");
        let problem = reply.problem("invalid-fields");
        let errors = problem["errors"].as_array().unwrap();
        let found: Vec<&str> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
        assert_eq!(found, names, "{query}");
    }
    test.finish().await;
}

#[tokio::test]
async fn b2_unknown_parameters_are_ignored() {
    let test = ApiTest::start().await;
    let all = equal_workspaces(&test, 3).await;
    let ada = test.user(ADA).await;
    assert_eq!(ids(&list(&ada, "foo=1&Page=0&filter[name]=x&size=2&=&&x").await), all[..2]);
    test.finish().await;
}

/// The value of a field as a text that sorts like it; null comes last.
fn sort_key(workspace: &Value, field: &str) -> (bool, String) {
    match &workspace[field] {
        Value::Null => (true, String::new()),
        Value::Number(number) => (false, format!("{:020}", number.as_i64().unwrap())),
        text => (false, text.to_string()),
    }
}

#[tokio::test]
async fn b2_sort_and_order_put_equal_values_in_the_order_of_ids() {
    let test = ApiTest::start().await;
    test.execute(
        "INSERT INTO billing.workspaces (id, name, key, key_index, created_at, updated_at)
        SELECT md5(n::text)::uuid, CASE WHEN n % 4 > 0 THEN 'name ' || n % 4 END,
            CASE WHEN n % 3 > 0 THEN 'NF-' || lpad((100 - n)::text, 3, '0') END, 50 - n,
            '2026-01-01 00:00:00+00'::timestamptz + n % 3 * interval '1 hour',
            '2026-01-01 00:00:00+00'::timestamptz + n % 5 * interval '1 hour'
        FROM generate_series(1, 20) AS n",
    )
    .await;
    let admin = test.admin().await;
    let whole = list(&admin, "size=100").await;
    let workspaces = whole["data"].as_array().unwrap();
    assert_eq!(workspaces.len(), 20);
    for sort in SORTS {
        let mut expected: Vec<_> =
            workspaces.iter().zip(ids(&whole)).map(|(workspace, id)| (sort_key(workspace, sort), id)).collect();
        expected.sort();
        let ascending: Vec<Uuid> = expected.iter().map(|(_, id)| *id).collect();
        let descending: Vec<Uuid> = ascending.iter().rev().copied().collect();
        assert_eq!(ids(&list(&admin, &format!("size=100&sort={sort}")).await), ascending, "{sort}");
        assert_eq!(ids(&list(&admin, &format!("size=100&sort={sort}&order=asc")).await), ascending, "{sort}");
        assert_eq!(ids(&list(&admin, &format!("size=100&sort={sort}&order=desc")).await), descending, "{sort}");
    }
    // without a field the oldest comes first
    assert_eq!(ids(&whole), ids(&list(&admin, "size=100&sort=createdAt").await));
    assert_eq!(list(&admin, "size=100&order=desc").await, list(&admin, "size=100&sort=createdAt&order=desc").await);
    test.finish().await;
}

#[tokio::test]
async fn b2_pages_contain_each_workspace_once() {
    let test = ApiTest::start().await;
    let all = equal_workspaces(&test, 23).await;
    let ada = test.user(ADA).await;
    for sort in SORTS {
        for order in ["asc", "desc"] {
            let mut found = Vec::new();
            for page in 1..=5 {
                found.extend(ids(&list(&ada, &format!("sort={sort}&order={order}&size=5&page={page}")).await));
            }
            assert_eq!(found.len(), all.len(), "{sort} {order}");
            assert_eq!(BTreeSet::from_iter(found), all.iter().copied().collect(), "{sort} {order}");
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn b2_members_see_only_their_workspaces_and_the_admin_sees_all() {
    let test = ApiTest::start().await;
    let (ada_s, bo_s) = (test.workspace("of Ada", ADA).await, test.workspace("of Bo", BO).await);
    let (shared, deleted) = (test.workspace("of both", ADA).await, test.workspace("deleted", ADA).await);
    let named = Uuid::from_u128(7);
    test.execute(&format!(
        "INSERT INTO billing.workspace_members VALUES ('{shared}', '{BO}', 'member');
        UPDATE billing.workspaces SET deleted_at = now() WHERE id = '{deleted}'"
    ))
    .await;
    // only a workspace with a row is listed, and a subscription names the deleted one, too
    for (number, id) in [(1, named), (2, deleted), (3, ada_s)] {
        let bought = subscription(&format!("sub_{number}"), "cus_1");
        let bought = with(&bought, json!({ "metadata": { "workspace_id": id } }));
        let sold = event(&format!("evt_{number}"), "customer.subscription.created", 0, &bought, None);
        test.app.deliver_and_drain(&[sold]).await;
    }
    for (client, expected) in [
        (test.user(ADA).await, vec![ada_s, shared]),
        (test.user(BO).await, vec![bo_s, shared]),
        (test.admin().await, vec![ada_s, bo_s, shared]),
        // a user with the admin scope is an admin
        (test.client(Some(BO), &[Scope::WorkspacesAdmin]).await, vec![ada_s, bo_s, shared]),
        (test.user(Uuid::from_u128(9)).await, vec![]),
    ] {
        let found = list(&client, "").await;
        assert_eq!(found["page"]["totalElements"], expected.len());
        assert_eq!(ids(&found).into_iter().collect::<BTreeSet<_>>(), expected.into_iter().collect());
        for id in ids(&found) {
            client.get(&format!("/v1/workspaces/{id}")).await.json(200);
        }
    }
    test.finish().await;
}

/// The commands create no such token, but a row may come from elsewhere.
#[tokio::test]
async fn b2_a_token_without_user_and_admin_scope_sees_nothing() {
    let test = ApiTest::start().await;
    let id = test.workspace("of Ada", ADA).await;
    for scope in [Scope::WorkspacesRead, Scope::WorkspacesWrite] {
        let client = test.client(None, &[scope]).await;
        let page = json!({ "currentPage": 1, "size": 20, "totalElements": 0, "totalPages": 0 });
        assert_eq!(list(&client, "").await, json!({ "data": [], "page": page }));
        client.get(&format!("/v1/workspaces/{id}")).await.problem("not-found");
        client.get(&format!("/v1/state?workspace={id}")).await.problem("not-found");
    }
    test.finish().await;
}
