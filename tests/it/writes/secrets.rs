//! Client secrets are stored nowhere: no table contains one, in any form.

use std::borrow::Cow;

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::harness::Shop;
use crate::support::fetching::MARGIN;
use crate::support::stripe::Fault;

/// The tables whose rows contain a text, as text or as bytes.
async fn tables_with(shop: &Shop, wanted: &str) -> Vec<String> {
    let pool = &shop.test.app.pool;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'billing'
            AND EXISTS (SELECT FROM pg_class WHERE oid = format('%I.%I', schemaname, tablename)::regclass AND relkind = 'r')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 40, "{}", tables.len());
    let mut found = Vec::new();
    for table in tables {
        // bytes are shown in hexadecimal digits
        let query = format!(
            "SELECT count(*) FROM {table} AS t WHERE strpos(t::text, $1) > 0
                OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0"
        );
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(query)).bind(wanted).fetch_one(pool).await.unwrap();
        if rows > 0 {
            found.push(table);
        }
    }
    found
}

#[tokio::test]
async fn no_table_contains_a_client_secret() {
    let shop = Shop::open().await;
    let created = shop.checkout(&[("Idempotency-Key", "one")]).await.json(201);
    let secret = created["stripeClientSecret"].as_str().unwrap().to_owned();
    assert!(secret.contains("_secret_"), "{secret}");
    // also if it was interrupted, repeated, and read by its id
    shop.stripe.fail_next_of("POST", "/v1/checkout/sessions", 100, Fault::CloseAfterEffect);
    shop.checkout(&[("Idempotency-Key", "two")]).await.problem("outcome-unknown");
    shop.stripe.recover();
    shop.recover().await;
    shop.checkout(&[("Idempotency-Key", "two")]).await.json(201);
    shop.test.execute("SELECT 1").await;
    let session = secret.split("_secret").next().unwrap();
    assert!(!shop.stripe.stored(session)["client_secret"].is_null());
    shop.stripe.tick(i64::try_from(MARGIN.as_secs()).unwrap() + 2);
    let reader = crate::support::fetching::client(&shop.test.app, &shop.stripe);
    let read = billing_sync::client::Read::CheckoutSession(session.to_owned());
    let urgency = billing_sync::client::Urgency::Normal;
    let answer = billing_sync::client::StripeApi::read(&reader, "", &read, urgency).await.unwrap();
    assert!(!answer.body.contains("_secret_") && answer.body.contains("\"client_secret\":null"), "{}", answer.body);
    assert_eq!(tables_with(&shop, "_secret_").await, Vec::<String>::new());
    // the search finds what is there
    assert!(tables_with(&shop, session).await.contains(&"billing.stripe_objects".to_owned()));
    let mark = shop.stripe.mark();
    shop.stripe.visit_checkout(session);
    shop.deliver(mark).await;
    assert_eq!(tables_with(&shop, "_secret_").await, Vec::<String>::new());
    shop.finish().await;
}

#[tokio::test]
async fn events_are_merged_without_their_client_secrets() {
    let shop = Shop::open().await;
    let event = json!({ "id": "evt_secret", "object": "event", "type": "payment_intent.succeeded",
        "created": 1_790_000_000, "livemode": false, "api_version": "2026-10-28.endive",
        "data": { "object": { "id": "pi_1", "object": "payment_intent", "customer": shop.customer,
            "client_secret": "pi_1_secret_x", "status": "succeeded" } } });
    shop.test.app.deliver_and_drain(&[event]).await;
    assert_eq!(tables_with(&shop, "pi_1_secret_x").await.len(), 1, "only the archive, which is what Stripe sent");
    let content: Vec<u8> = sqlx::query_scalar("SELECT content FROM billing.stripe_objects WHERE object_id = 'pi_1'")
        .fetch_one(&shop.test.app.pool)
        .await
        .unwrap();
    let content: Cow<'_, str> = String::from_utf8_lossy(&content);
    assert!(content.contains("\"client_secret\":null"), "{content}");
    shop.finish().await;
}
