//! What users and administrators of the identity provider may do.

use billing_sync::base::clock;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Key, LIST, Provider, claims};
use crate::api::harness::{ADA, BO};
use crate::support::events::with;

#[tokio::test]
async fn a_user_reads_and_creates_workspaces_with_a_jwt() {
    let (key, old) = (Key::p256("a"), Uuid::from_u128(0x01d));
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    let team = test.workspace("Team", old).await;
    let user = |user: Uuid, legacy: Value| {
        test.with_token(&key.sign(&with(&claims(user), json!({ "legacy_customer_id": legacy }))))
    };
    assert_eq!(user(old, Value::Null).get(&format!("{LIST}/{team}")).await.json(200)["name"], "Team");
    let ada = user(ADA, json!(150));
    let made = ada.post(LIST, &json!({ "name": "New" })).await.json(201);
    assert_eq!(made["createdByUserId"], ADA.to_string());
    let members = "SELECT string_agg(concat_ws(' ', user_id, role, legacy_customer_id), ', ')
        FROM billing.workspace_members WHERE legacy_customer_id IS NOT NULL";
    assert_eq!(test.app.text(members).await, Some(format!("{ADA} owner 150")));
    let listed = ada.get(LIST).await.json(200);
    assert_eq!((&listed["page"]["totalElements"], &listed["data"][0]), (&json!(1), &made), "not the other's");
    assert_eq!(ada.get(&format!("{LIST}?ownerLegacyCustomerIds=150")).await.json(200)["data"][0], made);
    ada.get(&format!("{LIST}/{team}")).await.problem("not-found");
    user(BO, json!("150")).get(&format!("{LIST}/{}", made["id"].as_str().unwrap())).await.problem("not-found");
    // a repeated request belongs to the user, not to the token
    let post = async |token: &str, name: &str| {
        let headers = [("Idempotency-Key", "k")];
        test.with_token(token).send("POST", LIST, &headers, Some(&json!({ "name": name }))).await
    };
    let (first, second) = (key.sign(&claims(ADA)), key.sign(&with(&claims(ADA), json!({ "jti": "2" }))));
    let once = post(&first, "Once").await.json(201);
    let again = post(&second, "Once").await;
    assert_eq!((again.header("idempotent-replayed"), again.json(201)), (Some("true"), once.clone()));
    assert_ne!(post(&key.sign(&claims(BO)), "Once").await.json(201)["id"], once["id"]);
    test.finish().await;
}

#[tokio::test]
async fn an_admin_role_sees_all_workspaces_and_acts_as_a_service() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    let team = test.workspace("Team", ADA).await;
    let (workspace, consume) = (format!("{LIST}/{team}"), format!("{LIST}/{team}/limits/words/consume"));
    let with_roles = |roles: Value| test.with_token(&key.sign(&with(&claims(BO), json!({ "roles": roles }))));
    for roles in [json!(["editor", "workspaces:admin"]), json!("editor workspaces:admin"), json!("workspaces:admin")] {
        let admin = with_roles(roles);
        assert_eq!(admin.get(LIST).await.json(200)["page"]["totalElements"], 1);
        assert_eq!(admin.put(&workspace, &json!({ "name": "Renamed" })).await.json(200)["name"], "Renamed");
        admin.post(&consume, &json!({ "amount": 1 })).await.problem("no-subscription");
    }
    for roles in [json!([]), json!("workspaces:administrator"), json!([["workspaces:admin"]]), json!({ "a": 1 })] {
        let user = with_roles(roles);
        user.get(&workspace).await.problem("not-found");
        user.post(&consume, &json!({ "amount": 1 })).await.problem("not-found");
    }
    test.finish().await;
}

#[tokio::test]
async fn the_names_of_the_claims_and_roles_are_settings() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider
        .service_with(&[
            ("BILLING_SYNC_API_JWT_USER_CLAIM", "https://example.com/user"),
            ("BILLING_SYNC_API_JWT_ROLES_CLAIM", "realm_access.roles"),
            ("BILLING_SYNC_API_JWT_LEGACY_CUSTOMER_CLAIM", "customer.number"),
            ("BILLING_SYNC_API_ADMIN_ROLES", "support,billing-admin"),
            ("BILLING_SYNC_API_JWT_AUDIENCE", "first,second"),
            ("BILLING_SYNC_API_JWT_LEEWAY", "0s"),
        ])
        .await;
    let named = json!({ "aud": "second", "sub": "auth0|ada", "https://example.com/user": ADA,
        "customer": { "number": "150" } });
    let user = with(&claims(BO), named);
    test.with_token(&key.sign(&user)).post(LIST, &json!({ "name": "New" })).await.json(201);
    let member = "SELECT concat_ws(' ', user_id, legacy_customer_id) FROM billing.workspace_members";
    assert_eq!(test.app.text(member).await, Some(format!("{ADA} 150")));
    let admin = with(&user, json!({ "https://example.com/user": BO, "realm_access": { "roles": ["support"] } }));
    let total = test.with_token(&key.sign(&admin)).get(LIST).await.json(200)["page"]["totalElements"].clone();
    assert_eq!(total, 1);
    let default = with(&admin, json!({ "realm_access": null, "roles": ["workspaces:admin", "support"] }));
    assert_eq!(test.with_token(&key.sign(&default)).get(LIST).await.json(200)["page"]["totalElements"], 0);
    let reply = test.with_token(&key.sign(&with(&claims(ADA), json!({ "aud": "first" })))).get(LIST).await;
    let problem = reply.problem("invalid-token");
    assert!(problem["detail"].as_str().unwrap().contains("claim https://example.com/user "), "{problem}");
    let late = with(&user, json!({ "exp": clock::now().unix_timestamp() - 1 }));
    test.with_token(&key.sign(&late)).get(LIST).await.problem("invalid-token");
    test.finish().await;
}
