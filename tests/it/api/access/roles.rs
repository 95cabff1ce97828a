//! What a scope, a membership and the kind of a principal permit.

use billing_sync::api::principal::Scope;

use super::{Call, Ids, LIST, billed, rows, start};
use crate::api::harness::{ADA, BO};
use crate::api::jwt::{Key, Provider, admin_claims, claims};

#[tokio::test]
async fn a_token_that_may_only_read_changes_nothing() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    let reader = test.client(Some(ADA), &[Scope::WorkspacesRead]).await;
    let before = rows(&test).await;
    for call in ids.calls().into_iter().chain(Ids::unknown().calls()).chain([Call::creation()]) {
        let reply = call.send(&reader).await;
        if call.reads() {
            assert!([200, 404].contains(&reply.status), "{call:?}: {reply:?}");
            continue;
        }
        reply.problem("insufficient-scope");
        let challenge = "Bearer realm=\"billing-sync\", error=\"insufficient_scope\"";
        assert_eq!((reply.status, reply.header("www-authenticate")), (403, Some(challenge)), "{call:?}");
    }
    assert_eq!(rows(&test).await, before);
    test.finish().await;
}

#[tokio::test]
async fn a_scope_of_another_release_permits_nothing() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    let client = test.user(ADA).await;
    test.execute("UPDATE billing.api_tokens SET scopes = '{workspaces:all,WORKSPACES:ADMIN,admin,*}'").await;
    let list = Call { method: "GET".to_owned(), path: LIST.to_owned(), body: None };
    for call in ids.calls().into_iter().chain([Call::creation(), list]) {
        call.send(&client).await.problem("insufficient-scope");
    }
    test.execute("UPDATE billing.api_tokens SET scopes = '{workspaces:all,workspaces:read}'").await;
    for call in ids.calls().iter().filter(|call| call.reads()) {
        call.send(&client).await.json(200);
    }
    Call::creation().send(&client).await.problem("insufficient-scope");
    test.finish().await;
}

#[tokio::test]
async fn a_member_reads_and_consumes_and_only_an_owner_changes_the_workspace() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    let workspace = &ids.workspace;
    test.execute(&format!("INSERT INTO billing.workspace_members VALUES ('{workspace}', '{BO}', 'member')")).await;
    let member = test.user(BO).await;
    for call in ids.calls() {
        let reply = call.send(&member).await;
        if ["PUT", "DELETE"].contains(&call.method.as_str()) || call.changes_stripe() {
            reply.problem("owner-required");
            assert_eq!(reply.status, 403);
        } else {
            assert_eq!(reply.status, 200, "{call:?}: {reply:?}");
        }
    }
    assert_eq!(member.get(&format!("{LIST}/{workspace}")).await.json(200)["name"], "ada");
    test.execute(&format!("DELETE FROM billing.workspace_members WHERE user_id = '{BO}'")).await;
    for call in ids.calls() {
        call.send(&member).await.problem("not-found");
    }
    test.finish().await;
}

#[tokio::test]
async fn a_users_jwt_cannot_change_what_the_product_counts() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let test = provider.service().await;
    let (own, theirs) = (billed(&test, "ada", ADA).await, billed(&test, "bo", BO).await);
    let user = test.with_token(&key.sign(&claims(ADA)));
    let before = rows(&test).await;
    for (ids, may_see) in [(&own, true), (&theirs, false), (&Ids::unknown(), false)] {
        for call in ids.calls() {
            let reply = call.send(&user).await;
            match call.method.as_str() {
                _ if may_see && call.changes_stripe() => {
                    reply.problem("writes-not-configured");
                }
                "POST" if may_see => {
                    reply.problem("service-required");
                    assert_eq!(reply.status, 403);
                }
                "GET" if may_see => assert_eq!(reply.status, 200, "{call:?}: {reply:?}"),
                _ if may_see => assert!([200, 409].contains(&reply.status), "{call:?}: {reply:?}"),
                _ => assert_eq!(reply.problem("not-found")["status"], 404),
            }
        }
    }
    assert_eq!(rows(&test).await["billing.subscription_limits"], before["billing.subscription_limits"]);
    for client in [test.with_token(&key.sign(&admin_claims(BO))), test.user(ADA).await, test.admin().await] {
        for call in own.calls().iter().filter(|call| call.method == "POST" && !call.changes_stripe()) {
            call.send(&client).await.json(200);
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_token_without_a_user_creates_no_workspace() {
    let test = start().await;
    for scope in [Scope::WorkspacesWrite, Scope::WorkspacesAdmin] {
        let reply = Call::creation().send(&test.client(None, &[scope]).await).await;
        reply.problem("user-required");
        assert_eq!(reply.status, 403);
    }
    assert_eq!(test.admin().await.get(LIST).await.json(200)["page"]["totalElements"], 0);
    test.finish().await;
}
