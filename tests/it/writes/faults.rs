//! Failures of Stripe, the network and the key: each client learns whether something was changed.

use super::harness::Shop;
use crate::support::stripe::Fault;

#[tokio::test]
async fn every_fault_tells_the_client_what_happened() {
    // Faults of the first request, the problem that the client gets (empty: success), and the effects at Stripe after
    // recovery.
    const FAULTS: [(Fault, usize, &str, usize); 15] = [
        (Fault::Close, 1, "", 1),
        (Fault::ServerError, 1, "", 1),
        (Fault::CloseAfterEffect, 1, "", 1),
        (Fault::ServerErrorAfterEffect, 1, "", 1),
        (Fault::LockTimeout { status: 409 }, 1, "", 1),
        (Fault::TooManyRequests { retry_after: Some(1) }, 1, "", 1),
        (Fault::Close, 100, "outcome-unknown", 1),
        (Fault::CloseAfterEffect, 100, "outcome-unknown", 1),
        (Fault::HangAfterEffect, 100, "outcome-unknown", 1),
        (Fault::Hang, 100, "outcome-unknown", 1),
        (Fault::LockTimeout { status: 409 }, 100, "stripe-unavailable", 0),
        (Fault::TooManyRequests { retry_after: Some(1) }, 100, "stripe-rate-limited", 0),
        (Fault::CardDeclined, 1, "payment-declined", 0),
        (Fault::BadRequest { code: "parameter_unknown" }, 1, "stripe-rejected", 0),
        (Fault::ServerError, 100, "outcome-unknown", 1),
    ];
    let shop = Shop::open().await;
    for (number, (fault, times, problem, effects)) in FAULTS.into_iter().enumerate() {
        let before = (shop.stripe.effects().len(), shop.name_at_stripe());
        shop.stripe.fail_next_under("/v1/customers/", times, fault);
        let (name, key) = (format!("Name {number}"), format!("key {number}"));
        let key = [("Idempotency-Key", key.as_str())];
        let reply = shop.rename_with(&name, &key).await;
        if problem.is_empty() {
            assert_eq!(reply.json(200)["name"], name, "{fault:?}");
        } else {
            reply.problem(problem);
        }
        shop.stripe.recover();
        shop.recover().await;
        assert_eq!(shop.stripe.effects().len() - before.0, effects, "{fault:?} {times}");
        let expected = if effects == 1 { name.clone() } else { before.1 };
        assert_eq!((shop.name_at_stripe(), shop.name_in_sql().await), (expected.clone(), expected), "{fault:?}");
        // a repetition is safe, and gets the answer
        if problem == "outcome-unknown" {
            assert_eq!(shop.rename_with(&name, &key).await.json(200)["name"], name, "{fault:?}");
            assert_eq!(shop.stripe.effects().len() - before.0, effects, "{fault:?}");
        }
        shop.stripe.tick(20);
    }
    shop.finish().await;
}

#[tokio::test]
async fn a_refused_request_may_be_repeated_with_its_key() {
    let shop = Shop::open().await;
    let key = [("Idempotency-Key", "once")];
    shop.stripe.fail_next_under("/v1/customers/", 1, Fault::CardDeclined);
    let problem = shop.rename_with("Two", &key).await.problem("payment-declined");
    assert_eq!(problem["declineCode"], "insufficient_funds");
    assert_eq!(shop.rename_with("Two", &key).await.json(200)["name"], "Two");
    shop.finish().await;
}

/// Stripe repeats a saved error for a day, so the object is read before anything is sent again.
#[tokio::test]
async fn a_saved_error_is_resolved_by_a_look_at_the_object() {
    for fault in [Fault::ApiError, Fault::ApiErrorAfterEffect] {
        let shop = Shop::open().await;
        shop.stripe.fail_next_under("/v1/customers/", 1, fault);
        let key = [("Idempotency-Key", "once")];
        shop.rename_with("Two", &key).await.problem("outcome-unknown");
        // a look this early might not show the change, so another key might make it twice
        shop.rename_with("Two", &key).await.problem("outcome-unknown");
        assert_eq!(shop.text("SELECT max(key_number)::text FROM billing.api_writes").await.unwrap(), "1", "{fault:?}");
        shop.stripe.tick(20);
        shop.recover().await;
        assert_eq!(shop.rename_with("Two", &key).await.json(200)["name"], "Two", "{fault:?}");
        assert_eq!(shop.stripe.effects().len(), 1, "{fault:?}");
        assert_eq!(shop.name_at_stripe(), "Two", "{fault:?}");
        shop.finish().await;
    }
}

/// The object alone does not tell whether the change was made: someone may have changed it again.
#[tokio::test]
async fn a_change_that_was_overwritten_is_not_made_again() {
    for (fault, expected) in [(Fault::ApiErrorAfterEffect, "Merchant"), (Fault::ApiError, "Two")] {
        let shop = Shop::open().await;
        shop.stripe.fail_next_under("/v1/customers/", 1, fault);
        shop.rename("Two").await.problem("outcome-unknown");
        shop.stripe.tick(5);
        shop.stripe.update(&shop.customer, serde_json::json!({ "name": "Merchant" }));
        shop.stripe.tick(20);
        shop.recover().await;
        assert_eq!(
            (shop.lines().await.as_str(), shop.stripe.effects().len()),
            ("customer.update done", 1),
            "{fault:?}"
        );
        assert_eq!((shop.name_at_stripe(), shop.name_in_sql().await), (expected.into(), expected.into()), "{fault:?}");
        shop.finish().await;
    }
}

#[tokio::test]
async fn created_objects_are_found_after_a_saved_error() {
    let shop = Shop::open().await;
    shop.stripe.fail_next_under("/v1/checkout/sessions", 1, Fault::ApiErrorAfterEffect);
    let key = [("Idempotency-Key", "once")];
    shop.checkout(&key).await.problem("outcome-unknown");
    shop.stripe.tick(20);
    shop.recover().await;
    assert_eq!((shop.lines().await.as_str(), shop.stripe.effects().len()), ("checkout_session.create done", 1));
    shop.finish().await;
}

#[tokio::test]
async fn a_key_without_permission_changes_nothing() {
    let shop = Shop::open().await;
    shop.stripe.forbid_writes(&["/v1/customers"], "rak_customer_write");
    shop.rename("Two").await.problem("stripe-key-refused");
    shop.stripe.permit_all();
    shop.rename("Two").await.json(200);
    shop.finish().await;
}

#[tokio::test]
async fn a_key_of_another_account_writes_nothing_there() {
    let shop = Shop::open().await;
    shop.stripe.tick(60);
    shop.stripe.write_key_belongs_to_another_account();
    shop.rename("Two").await.problem("stripe-key-refused");
    let created = shop.ada.post("/v1/workspaces", &serde_json::json!({ "name": "New" })).await.json(201);
    assert_eq!(created["billingContactId"], serde_json::json!(null));
    assert_eq!((shop.stripe.stray_writes(), shop.stripe.effects().len()), (0, 0));
    shop.stripe.write_key_belongs_to_our_account();
    shop.rename("Two").await.json(200);
    shop.recover().await;
    assert_eq!((shop.stripe.stray_writes(), shop.stripe.effects().len()), (0, 2));
    shop.finish().await;
}

#[tokio::test]
async fn two_requests_with_one_key_have_one_effect_and_one_answer() {
    let shop = Shop::open().await;
    let key = [("Idempotency-Key", "once")];
    let replies = tokio::join!(
        shop.rename_with("Two", &key),
        shop.rename_with("Two", &key),
        shop.rename_with("Two", &key),
        shop.rename_with("Two", &key)
    );
    let replies = [replies.0, replies.1, replies.2, replies.3];
    for reply in &replies {
        assert_eq!((reply.status, reply.text.as_str()), (200, replies[0].text.as_str()));
    }
    assert_eq!(shop.stripe.effects().len(), 1);
    shop.rename_with("Three", &key).await.problem("idempotency-key-reused");
    assert_eq!(shop.stripe.effects().len(), 1);
    shop.finish().await;
}

#[tokio::test]
async fn two_writers_of_one_customer_go_one_after_the_other() {
    let shop = Shop::open().await;
    let (one, two) = tokio::join!(shop.rename("One"), shop.rename("Two"));
    assert_eq!((one.status, two.status), (200, 200));
    assert_eq!(shop.name_at_stripe(), shop.name_in_sql().await);
    // one that does not end makes the other wait, and then give up
    shop.stripe.fail_next_under("/v1/customers/", 1, Fault::HangAfterEffect);
    let hanging = shop.rename("Three");
    let other = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        shop.rename("Four").await
    };
    let (_, other) = tokio::join!(hanging, other);
    assert!(other.status == 200 || other.problem("write-in-progress")["retryable"] == true, "{other:?}");
    shop.recover().await;
    assert_eq!(shop.name_at_stripe(), shop.name_in_sql().await);
    shop.finish().await;
}

#[tokio::test]
async fn without_a_key_for_writes_only_reads_work() {
    let test = crate::api::harness::ApiTest::start().await;
    let ada = test.user(crate::api::harness::ADA).await;
    let workspace = test.workspace("Ada", crate::api::harness::ADA).await;
    test.execute(&format!(
        "INSERT INTO billing.billing_contacts (id, account, stripe_customer_id, workspace_id)
        VALUES ('{workspace}', '', 'cus_1', '{workspace}')"
    ))
    .await;
    let path = format!("/v1/workspaces/{workspace}/billing-contacts/{workspace}");
    let body = serde_json::json!({ "name": "Ada", "email": "ada@example.com" });
    ada.put(&path, &body).await.problem("writes-not-configured");
    let sessions = format!("{path}/stripe-checkout-sessions");
    ada.post(&sessions, &serde_json::json!({ "callbackUrl": "https://x.example/" }))
        .await
        .problem("writes-not-configured");
    ada.get(&path).await.json(200);
    test.finish().await;
}

/// After a day, Stripe would execute the request again: so the object is read.
#[tokio::test]
async fn a_request_that_is_older_than_a_day_is_never_sent_again_blindly() {
    for (fault, expected) in
        [(Fault::CloseAfterEffect, "customer.update done"), (Fault::Close, "customer.update unknown")]
    {
        let shop = Shop::open().await;
        shop.stripe.fail_next_under("/v1/customers/", 100, fault);
        shop.rename("Two").await.problem("outcome-unknown");
        shop.test.execute("UPDATE billing.api_writes SET first_sent_at = first_sent_at - interval '25 hours'").await;
        shop.stripe.recover();
        shop.stripe.tick(25 * 3600);
        let sent = shop.stripe.writes().len();
        shop.recover().await;
        assert_eq!(shop.lines().await, expected, "{fault:?}");
        assert_eq!(shop.stripe.writes().len(), sent, "{fault:?}: it was only read");
        assert_eq!(shop.name_at_stripe(), shop.name_in_sql().await, "{fault:?}");
        // the next change is not held up
        shop.rename("Three").await.json(200);
        shop.finish().await;
    }
}

#[tokio::test]
async fn an_old_creation_is_searched_and_then_given_up_or_made() {
    let shop = Shop::open().await;
    for fault in [Fault::CloseAfterEffect, Fault::Close] {
        shop.stripe.fail_next_of("POST", "/v1/customers", 100, fault);
        shop.ada.post("/v1/workspaces", &serde_json::json!({ "name": "New" })).await.json(201);
        shop.stripe.recover();
        shop.stripe.fail_next_of("POST", "/v1/checkout/sessions", 100, fault);
        shop.checkout(&[]).await.problem("outcome-unknown");
        shop.stripe.recover();
        shop.test.execute("UPDATE billing.api_writes SET first_sent_at = first_sent_at - interval '25 hours' WHERE state = 'sent'").await;
        shop.stripe.tick(60);
        shop.recover().await;
    }
    assert_eq!(
        shop.lines().await,
        "customer.create done, checkout_session.create done, customer.create done, checkout_session.create refused"
    );
    // each customer once; the second session was not made, and no client waits for it
    assert_eq!(shop.stripe.effects().len(), 3);
    shop.finish().await;
}

#[tokio::test]
async fn the_webhook_of_a_change_closes_its_line() {
    let shop = Shop::open().await;
    let mark = shop.stripe.mark();
    shop.stripe.fail_next_under("/v1/customers/", 100, Fault::CloseAfterEffect);
    let key = [("Idempotency-Key", "once")];
    shop.rename_with("Two", &key).await.problem("outcome-unknown");
    shop.deliver(mark).await;
    assert_eq!(shop.lines().await, "customer.update done");
    assert_eq!(shop.rename_with("Two", &key).await.json(200)["name"], "Two", "answered from the rows");
    let request = "SELECT stripe_request_id FROM billing.api_writes";
    assert!(shop.text(request).await.unwrap().starts_with("req_"));
    shop.finish().await;
}

#[tokio::test]
async fn a_repeated_answer_does_not_undo_a_later_change() {
    let shop = Shop::open().await;
    shop.stripe.fail_next_under("/v1/customers/", 100, Fault::CloseAfterEffect);
    shop.rename("Two").await.problem("outcome-unknown");
    // someone changes it in the dashboard, and that event arrives first
    shop.stripe.recover();
    shop.stripe.tick(30);
    let mark = shop.stripe.mark();
    shop.stripe.update(&shop.customer, serde_json::json!({ "name": "Merchant" }));
    shop.deliver(mark).await;
    shop.stripe.tick(3600);
    shop.recover().await;
    assert_eq!(shop.lines().await, "customer.update done");
    assert_eq!(shop.name_in_sql().await, "Merchant");
    shop.finish().await;
}
