//! Attempts of one line: one that has lost its lease, or whose transaction fails, changes nothing and hides nothing.

use std::time::Duration;

use billing_sync::database::Connection;
use billing_sync::ledger::open::{self, Finish, Leased, Recorded};
use serde_json::json;
use uuid::Uuid;

use super::harness::Shop;
use crate::support::stripe::Fault;

async fn lease(conn: &mut Connection, line: Uuid, time: Duration) -> Option<Leased> {
    open::lease(conn, line, time).await.unwrap()
}

#[tokio::test]
async fn an_attempt_without_its_lease_decides_nothing() {
    let shop = Shop::open_reading().await;
    let line = Uuid::new_v4();
    let begin = format!(
        "INSERT INTO billing.api_writes (id, principal, operation, account, target, object_type, object_id, path, form)
        VALUES ('{line}', 'user', 'customer.update', '', 'customer/{0}', 'customer', '{0}', '/v1/customers/{0}', 'name=Two')",
        shop.customer
    );
    shop.test.execute(&begin).await;
    let mut conn = shop.test.app.pool.acquire().await.unwrap();
    let slow = lease(&mut conn, line, Duration::from_millis(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let current = lease(&mut conn, line, Duration::from_mins(1)).await.unwrap();
    let none = Recorded::default();
    open::put_back(&mut conn, &slow, Duration::ZERO, &none).await.unwrap();
    open::renew_key(&mut conn, &slow).await.unwrap();
    open::finish(&mut conn, &slow, Finish::Refused, None, &none).await.unwrap();
    assert!(lease(&mut conn, line, Duration::from_mins(1)).await.is_none(), "the current attempt keeps its lease");
    open::finish(&mut conn, &current, Finish::Refused, None, &none).await.unwrap();
    assert_eq!(shop.lines().await, "customer.update refused");
    // what Stripe has made is done, whichever attempt learns it
    open::finish(&mut conn, &slow, Finish::Done, Some(&shop.customer), &none).await.unwrap();
    assert_eq!(shop.lines().await, "customer.update done");
    drop(conn);
    shop.finish().await;
}

/// The lock of another session, or a failing database, must not look as if nothing was changed.
#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_found_later() {
    let shop = Shop::open().await;
    shop.test
        .execute(
            "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'locked' USING ERRCODE = '55P03'; END $$;
            CREATE TRIGGER fail BEFORE UPDATE ON billing.api_requests FOR EACH ROW EXECUTE FUNCTION public.fail()",
        )
        .await;
    let key = [("Idempotency-Key", "once")];
    shop.rename_with("Two", &key).await.problem("outcome-unknown");
    shop.test.execute("DROP TRIGGER fail ON billing.api_requests").await;
    shop.recover().await;
    assert_eq!(shop.rename_with("Two", &key).await.json(200)["name"], "Two");
    assert_eq!(shop.stripe.effects().len(), 1);
    shop.finish().await;
}

/// The event of a new customer says as much as Stripe's answer.
#[tokio::test]
async fn a_customer_that_its_event_proves_has_a_creator() {
    let shop = Shop::open().await;
    let mark = shop.stripe.mark();
    shop.stripe.fail_next_of("POST", "/v1/customers", 100, Fault::CloseAfterEffect);
    let created = shop.ada.post("/v1/workspaces", &json!({ "name": "New" })).await.json(201);
    assert_eq!(created["billingContactId"], json!(null));
    shop.deliver(mark).await;
    assert_eq!(shop.lines().await, "customer.create done");
    let creators = "SELECT count(*)::text FROM billing.row_origins WHERE created_by_user_id IS NOT NULL";
    assert_eq!(shop.text(creators).await.unwrap(), "1");
    shop.finish().await;
}
