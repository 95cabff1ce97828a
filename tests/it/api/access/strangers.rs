//! What belongs to others: on every route, and through other paths and spellings.

use billing_sync::api::principal::Scope;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Ids, LIST, STATE, add_session, billed, rows, start};
use crate::api::harness::{ADA, BO};
use crate::support::client::Reply;
use crate::support::events::{event, subscription, with};

/// What a client sees of a problem, without what differs in each reply.
fn shape(reply: &Reply) -> (Vec<&str>, Value) {
    let differs = |line: &str| line.starts_with("x-request-id:") || line.starts_with("date:");
    let mut body: Value = serde_json::from_str(&reply.text).unwrap();
    body["requestId"] = Value::Null;
    (reply.headers.lines().filter(|line| !differs(line)).collect(), body)
}

#[tokio::test]
async fn what_belongs_to_others_looks_like_what_does_not_exist() {
    let test = start().await;
    let (theirs, _own) = (billed(&test, "ada", ADA).await, billed(&test, "bo", BO).await);
    let key = [("Idempotency-Key", "known")];
    for call in theirs.calls().iter().filter(|call| call.method == "POST" && !call.changes_stripe()) {
        call.send_with(&test.user(ADA).await, &key).await.json(200);
    }
    let strangers =
        [test.user(BO).await, test.user(Uuid::new_v4()).await, test.client(None, &[Scope::WorkspacesWrite]).await];
    let before = rows(&test).await;
    let headers: [&[(&str, &str)]; 4] = [&[], &[("If-None-Match", "*")], &[("If-Match", "*")], &key];
    for stranger in &strangers {
        for (call, unknown) in theirs.calls().iter().zip(Ids::unknown().calls()) {
            for headers in headers {
                let reply = call.send_with(stranger, headers).await;
                reply.problem("not-found");
                assert_eq!(reply.status, 404);
                assert_eq!(shape(&reply), shape(&unknown.send_with(stranger, headers).await), "{call:?}");
            }
        }
        for query in ["", "?search=ada", &format!("?search={}", theirs.workspace)] {
            let list = stranger.get(&format!("{LIST}{query}")).await.json(200).to_string();
            assert!(!list.contains(&theirs.workspace), "{list}");
        }
    }
    let after = rows(&test).await;
    for (table, rows) in &before {
        assert_eq!(after.get(table), Some(rows), "{table}");
    }
    test.finish().await;
}

/// The counterpart: the same requests of the owner and of an admin succeed.
#[tokio::test]
async fn the_owner_and_the_admin_reach_every_route() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    for client in [test.user(ADA).await, test.admin().await, test.client(Some(BO), &[Scope::WorkspacesAdmin]).await] {
        for call in ids.calls() {
            let reply = call.send(&client).await;
            if call.changes_stripe() {
                reply.problem("writes-not-configured");
            } else if call.method == "DELETE" {
                reply.problem("workspace-has-subscription");
            } else {
                assert_eq!(reply.status, 200, "{call:?}: {reply:?}");
            }
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_contact_or_session_is_reached_only_through_its_own_workspace() {
    let test = start().await;
    let (one, two) = (billed(&test, "one", ADA).await, billed(&test, "two", ADA).await);
    let moved = add_session(&test, "cs_moved", &one.customer, &format!("'{}'", two.workspace)).await;
    let unlinked = add_session(&test, "cs_unlinked", &one.customer, "NULL").await;
    let contact =
        |workspace: &Ids, contact: &Ids| format!("{LIST}/{}/billing-contacts/{}", workspace.workspace, contact.contact);
    let session = |workspace: &Ids, of: &Ids, session: &str| {
        format!("{}/stripe-checkout-sessions/{session}", contact(workspace, of))
    };
    for client in [test.user(ADA).await, test.admin().await] {
        for path in [contact(&one, &one), session(&one, &one, &one.session), session(&one, &one, &unlinked)] {
            assert_eq!(client.get(&path).await.status, 200, "{path}");
        }
        for path in [
            contact(&one, &two),
            session(&one, &one, &two.session),
            session(&one, &two, &one.session),
            session(&one, &two, &two.session),
            session(&two, &one, &one.session),
            // of this customer, for the other workspace
            session(&one, &one, &moved),
            session(&two, &two, &moved),
            session(&two, &one, &moved),
        ] {
            client.get(&path).await.problem("not-found");
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_customer_with_two_workspaces_shows_each_member_only_their_own() {
    let test = start().await;
    let ada = billed(&test, "ada", ADA).await;
    let own = test.workspace("Own", BO).await;
    let link = json!({ "metadata": { "workspace_id": own } });
    let second = with(&subscription("sub_second", &ada.customer), link);
    test.app.deliver_and_drain(&[event("evt_second", "customer.subscription.created", 1, &second, None)]).await;
    for (user, workspace) in [(ADA, ada.workspace.clone()), (BO, own.to_string())] {
        let client = test.user(user).await;
        for id in [&ada.customer, &ada.contact] {
            let state = client.get(&format!("{STATE}?customer={id}")).await.json(200);
            assert_eq!(state["workspaceId"], workspace, "{state}");
            let list = client.get(LIST).await.json(200);
            assert_eq!((&list["page"]["totalElements"], &list["data"][0]["id"]), (&json!(1), &json!(workspace)));
        }
    }
    let bo = test.user(BO).await;
    bo.get(&Ids { workspace: own.to_string(), ..ada }.fill(&format!(
        "{LIST}/{{workspaceId}}/billing-contacts/{{billingContactId}}/stripe-checkout-sessions/{{sessionId}}"
    )))
    .await
    .problem("not-found");
    test.finish().await;
}

#[tokio::test]
async fn an_id_has_one_spelling_in_upper_or_lower_case() {
    let test = start().await;
    let ids = billed(&test, "ada", ADA).await;
    let ada = test.user(ADA).await;
    let upper = Ids { workspace: ids.workspace.to_uppercase(), contact: ids.contact.to_uppercase(), ..ids.clone() };
    for (call, same) in ids.calls().iter().zip(upper.calls()).filter(|(call, _)| call.reads()) {
        assert_eq!(same.send(&ada).await.json(200), call.send(&ada).await.json(200), "{call:?}");
    }
    let spellings: [fn(&str) -> String; 6] = [
        |id| id.replace('-', ""),
        |id| format!("%7B{id}%7D"),
        |id| format!("urn:uuid:{id}"),
        |id| format!("%20{id}"),
        |id| format!("{id}%00"),
        |id| format!("{id}%2F..%2F{id}"),
    ];
    for spell in spellings {
        let (workspace, contact) = (spell(&ids.workspace), spell(&ids.contact));
        for (other, id) in [
            (Ids { workspace: workspace.clone(), ..ids.clone() }, workspace),
            (Ids { contact: contact.clone(), ..ids.clone() }, contact),
        ] {
            for call in other.calls().iter().filter(|call| call.path.contains(&id)) {
                call.send(&ada).await.problem("not-found");
            }
        }
    }
    test.finish().await;
}
