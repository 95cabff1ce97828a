//! Redaction: nothing of a person stays in any table, rows and order stay right, and later data is stored without it.

mod dump;

use std::time::Duration;

use billing_sync::database::Pool;
use billing_sync::redaction;
use serde_json::{Value, json};

use crate::cli::{code, run, words};
use crate::support::app::TestApp;
use crate::support::cluster::number;
use crate::support::events::{event, subscription, update, with};

const WORKSPACE: &str = "c4b1a7d2-3e58-4f06-9a7d-51b80c6e2f93";
/// What is known of the person, apart from ids.
const PERSON: [&str; 8] =
    ["Lindqvist", "ada@person.test", "Rua Augusta", "1100-048", "Lisboa", "351210000000", "q931", "her note"];

fn person(name: &str) -> Value {
    json!({
        "id": "cus_1", "object": "customer", "created": 1_767_225_600, "livemode": false, "name": name,
        "email": "ada@person.test", "phone": "+351210000000", "description": "her note", "currency": "eur",
        "address": { "line1": "Rua Augusta 7", "line2": null, "city": "Lisboa", "postal_code": "1100-048", "state": null,
            "country": "PT" },
        "shipping": { "name": name, "address": { "line1": "Rua Augusta 7" } },
        "invoice_settings": { "default_payment_method": "pm_1" },
        "metadata": { "workspace_id": WORKSPACE, "note": "her note" },
    })
}

fn card() -> Value {
    json!({
        "id": "pm_1", "object": "payment_method", "type": "card", "customer": "cus_1", "created": 1_767_225_600,
        "livemode": false, "billing_details": { "name": "Ada Lindqvist", "email": "ada@person.test" },
        "card": { "brand": "visa", "last4": "q931", "exp_month": 12, "exp_year": 2031 }, "metadata": {},
    })
}

fn session() -> Value {
    json!({
        "id": "cs_test_1ab", "object": "checkout.session", "customer": "cus_1", "created": 1_767_225_600, "livemode": false,
        "mode": "subscription", "status": "complete", "payment_status": "paid", "subscription": "sub_1",
        "customer_details": { "name": "Ada Lindqvist", "email": "ada@person.test" }, "metadata": {},
        "success_url": "https://shop.test/thanks?who=Lindqvist", "expires_at": 1_767_312_000, "locale": "pt",
    })
}

/// Neither names the customer.
fn dispute() -> Value {
    json!({
        "id": "du_1", "object": "dispute", "charge": "ch_1", "created": 1_767_225_600, "livemode": false, "status": "lost",
        "amount": 1900, "currency": "eur", "reason": "fraudulent", "metadata": {},
        "evidence": { "customer_name": "Ada Lindqvist", "customer_email_address": "ada@person.test" },
    })
}

fn charge() -> Value {
    json!({
        "id": "ch_1", "object": "charge", "customer": "cus_1", "created": 1_767_225_600, "livemode": false,
        "status": "succeeded", "amount": 1900, "currency": "eur", "paid": true, "metadata": {},
        "billing_details": { "name": "Ada Lindqvist" }, "payment_method": "pm_1",
    })
}

/// An app with the events of a person with a subscription, and of another customer.
async fn sold() -> TestApp {
    let app = TestApp::start().await;
    let mut bo = person("Bo Okafor");
    bo["id"] = json!("cus_2");
    bo["invoice_settings"] = json!({});
    app.deliver_and_drain(&[
        event("evt_c", "customer.created", 0, &person("Ada Lindqvist"), None),
        event("evt_m", "payment_method.attached", 1, &card(), None),
        event("evt_s", "customer.subscription.created", 2, &subscription("sub_1", "cus_1"), None),
        event("evt_k", "checkout.session.completed", 3, &session(), None),
        event("evt_h", "charge.succeeded", 3, &charge(), None),
        event("evt_d", "charge.dispute.created", 3, &dispute(), None),
    ])
    .await;
    app.deliver_and_drain(&[event("evt_2", "customer.created", 4, &bo, None)]).await;
    app
}

/// The tables that contain a text, in a value or in bytes.
async fn tables_with(pool: &Pool, text: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND relkind = 'r' ORDER BY relname",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let query = format!(
            "SELECT count(*) FROM billing.{table} AS t
            -- the digits of bytes are no text
            WHERE position('{text}' IN regexp_replace(t::text, '\\\\+x[0-9a-f]+', '', 'g')) > 0
                OR position('{}' IN t::text) > 0",
            hex::encode(text)
        );
        if number(pool, &query).await > 0 {
            found.push(table);
        }
    }
    found
}

async fn assert_nothing_is_left(app: &TestApp, texts: &[&str]) {
    for text in texts {
        let tables = tables_with(&app.pool, text).await;
        // the other customer has the same address and card
        let texts_of_both = ["ada@person.test", "Rua Augusta", "1100-048", "Lisboa", "351210000000", "her note"];
        assert!(tables.is_empty() || texts_of_both.contains(text), "{text} is in {tables:?}");
    }
}

/// The rows without their personal columns.
async fn impersonal_rows(app: &TestApp) -> Vec<String> {
    let query = "
        SELECT 'contact ' || (to_jsonb(t) - billing.personal_columns() - '{created_at,updated_at}'::text[])::text
        FROM billing.billing_contacts t
        UNION ALL
        SELECT 'subscription ' || (to_jsonb(t) - billing.personal_columns() - '{created_at,updated_at}'::text[])::text
        FROM billing.subscriptions t
        UNION ALL
        SELECT 'session ' || (to_jsonb(t) - billing.personal_columns() - '{created_at,updated_at}'::text[])::text
        FROM billing.checkout_sessions t
        ORDER BY 1";
    sqlx::query_scalar(query).fetch_all(&app.pool).await.unwrap()
}

fn redact(app: &TestApp, customer: &str) -> (i32, String) {
    let output = run(&["redact", customer, "--yes"], &[("DATABASE_URL", &app.database.url)]);
    (code(&output), format!("{} {}", words(&output.stdout), words(&output.stderr)))
}

#[tokio::test]
async fn nothing_of_a_person_is_left_and_everything_else_is_the_same() {
    let app = sold().await;
    for text in PERSON {
        assert!(!tables_with(&app.pool, text).await.is_empty(), "{text} is not stored before");
    }
    sqlx::query("DELETE FROM billing.events WHERE event_id = 'evt_2'").execute(&app.pool).await.unwrap();
    let (rows, timeline) = (impersonal_rows(&app).await, app.timeline().await);
    let counted = "SELECT string_agg(event_id || state || outcome, ',' ORDER BY event_id) FROM billing.outbox";
    let outcomes = app.text(counted).await;

    let (exit, text) = redact(&app, "cus_1");
    assert_eq!(exit, 0, "{text}");
    assert!(
        text.contains("events 6 events without payload") && text.contains("Stripe still has this customer"),
        "{text}"
    );
    assert_nothing_is_left(&app, &PERSON).await;
    assert_eq!(impersonal_rows(&app).await, rows);
    assert_eq!(app.timeline().await, timeline);
    assert_eq!(app.text(counted).await, outcomes);
    assert_eq!(
        app.text("SELECT workspace_id::text FROM billing.billing_contacts WHERE stripe_customer_id = 'cus_1'")
            .await
            .as_deref(),
        Some(WORKSPACE)
    );
    assert_eq!(
        app.text("SELECT name FROM billing.billing_contacts WHERE stripe_customer_id = 'cus_2'").await.as_deref(),
        Some("Bo Okafor")
    );

    // a repeated delivery is still recognised, and a second redaction finds nothing to do
    app.deliver_and_drain(&[event("evt_c", "customer.created", 0, &person("Ada Lindqvist"), None)]).await;
    let (exit, text) = redact(&app, "cus_1");
    assert!(exit == 0 && text.contains("events 0 events") && text.contains("history 0 changes"), "{text}");
    assert_nothing_is_left(&app, &PERSON).await;
    app.finish().await;
}

#[tokio::test]
async fn later_events_of_a_redacted_customer_are_stored_without_personal_data() {
    let app = sold().await;
    redact(&app, "cus_1");
    let before = person("Ada Lindqvist");
    let after = with(&before, json!({ "name": "Ada Byron", "address": { "city": "Porto Santo" } }));
    let active = subscription("sub_1", "cus_1");
    let paused = with(&active, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    app.deliver_and_drain(&[
        update("evt_u", "customer.updated", 60, &before, &after),
        update("evt_p", "customer.subscription.updated", 61, &active, &paused),
        // of the second of a redacted event
        update("evt_t", "customer.updated", 0, &before, &after),
    ])
    .await;
    assert_eq!(app.fate("evt_u").await, "done applied -");
    let reason = "SELECT inactive_reason FROM billing.subscriptions";
    let known = app
        .text("SELECT string_agg(object_id || convert_from(content, 'UTF8'), ' ') FROM billing.stripe_objects")
        .await;
    assert_eq!(app.text(reason).await.as_deref(), Some("payment_paused"), "{known:?} {}", app.fate("evt_p").await);
    let tables = tables_with(&app.pool, "Byron").await;
    assert!(tables.iter().all(|table| table.starts_with("events")), "{tables:?}");
    app.execute("UPDATE billing.outbox SET finished_at = finished_at - interval '5 min' WHERE finished_at IS NOT NULL")
        .await;
    let mut conn = app.pool.acquire().await.unwrap();
    assert_eq!(redaction::later_events(&mut conn).await.unwrap(), 3);
    assert_eq!(redaction::later_events(&mut conn).await.unwrap(), 0);
    assert_nothing_is_left(&app, &["Byron", "Porto Santo", "Lindqvist"]).await;
    drop(conn);
    app.finish().await;
}

#[tokio::test]
async fn dead_events_are_discarded_and_pending_ones_come_first() {
    let app = sold().await;
    app.execute(
        "UPDATE billing.outbox SET state = 'dead', outcome = NULL, reason = NULL, last_error = 'a cause' WHERE event_id = 'evt_m';
        UPDATE billing.outbox SET state = 'pending', outcome = NULL, reason = NULL, finished_at = NULL WHERE event_id = 'evt_s'",
    )
    .await;
    let (exit, text) = redact(&app, "cus_1");
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("1 event or change at Stripe of cus_1 still in progress, so nothing was changed"), "{text}");
    assert!(!tables_with(&app.pool, "Lindqvist").await.is_empty());
    app.drain().await;
    let (exit, text) = redact(&app, "cus_1");
    assert!(exit == 0 && text.contains("discarded 1 dead event"), "{text}");
    let reason = "SELECT string_agg(event_id || ': ' || reason, ' ') FROM billing.discards";
    assert_eq!(app.text(reason).await.as_deref(), Some("evt_m: personal data was removed"));
    assert_eq!(app.fate("evt_m").await, "done ignored discarded");
    let (exit, text) = redact(&app, "cus_none");
    assert!(exit == 1 && text.contains("nothing of cus_none is stored"), "{text}");
    let output = run(&["redact", "cus_2"], &[("DATABASE_URL", &app.database.url)]);
    assert!(code(&output) == 2 && words(&output.stderr).contains("--yes"), "{output:?}");
    app.finish().await;
}

/// The order within a second is found from the content of its events. Without it, the newest content stays.
#[tokio::test]
async fn a_late_event_of_a_redacted_second_changes_nothing_and_is_confirmed() {
    let app = sold().await;
    let (incomplete, active) =
        (with(&subscription("sub_9", "cus_1"), json!({ "status": "incomplete" })), subscription("sub_9", "cus_1"));
    app.deliver_and_drain(&[update("evt_9u", "customer.subscription.updated", 50, &incomplete, &active)]).await;
    let (exit, text) = redact(&app, "cus_1");
    assert_eq!(exit, 0, "{text}");
    let (rows, ambiguous) = (impersonal_rows(&app).await, app.metric("billing_sync_order_ambiguous_total"));
    app.deliver_and_drain(&[event("evt_9c", "customer.subscription.created", 50, &incomplete, None)]).await;
    assert_eq!(impersonal_rows(&app).await, rows);
    assert_eq!(app.fate("evt_9c").await, "done superseded -");
    assert!(app.metric("billing_sync_order_ambiguous_total") > ambiguous);
    app.finish().await;
}

/// A detached card belongs to no customer any more.
#[tokio::test]
async fn a_card_that_leaves_a_redacted_customer_stays_redacted() {
    let app = sold().await;
    redact(&app, "cus_1");
    let mut detached = card();
    detached["customer"] = Value::Null;
    let previous = json!({ "customer": "cus_1" });
    let mut unknown = detached.clone();
    unknown["id"] = json!("pm_never_stored");
    app.deliver_and_drain(&[
        event("evt_det", "payment_method.detached", 70, &detached, Some(previous.clone())),
        event("evt_unk", "payment_method.detached", 70, &unknown, Some(previous)),
    ])
    .await;
    let lost = with(&dispute(), json!({ "status": "won" }));
    app.deliver_and_drain(&[event("evt_dis", "charge.dispute.closed", 71, &lost, None)]).await;
    for text in ["Lindqvist", "q931"] {
        let tables = tables_with(&app.pool, text).await;
        assert!(tables.iter().all(|table| table.starts_with("events")), "{text}: {tables:?}");
    }
    app.execute("UPDATE billing.outbox SET finished_at = finished_at - interval '5 min' WHERE finished_at IS NOT NULL")
        .await;
    redaction::later_events(&mut app.pool.acquire().await.unwrap()).await.unwrap();
    assert_nothing_is_left(&app, &["Lindqvist", "q931"]).await;
    app.finish().await;
}

/// `BILLING_SYNC_REDACT_AFTER`.
#[tokio::test]
async fn old_events_and_changes_lose_their_personal_data_and_young_ones_do_not() {
    let app = sold().await;
    let age = Duration::from_hours(96);
    let mut conn = app.pool.acquire().await.unwrap();
    assert_eq!(redaction::older_than(&mut conn, age).await.unwrap(), 0);
    app.execute(
        "UPDATE billing.outbox SET finished_at = finished_at - interval '5 days' WHERE event_id <> 'evt_2';
        UPDATE billing.row_changes SET changed_at = changed_at - interval '5 days' WHERE NOT causes @> '{evt_2}'",
    )
    .await;
    while redaction::older_than(&mut conn, age).await.unwrap() > 0 {}
    let left = "SELECT string_agg(event_id, ',') FROM billing.events WHERE payload IS NOT NULL";
    assert_eq!(app.text(left).await.as_deref(), Some("evt_2"));
    let changes =
        "SELECT string_agg(changes::text, ' ') FROM billing.row_changes WHERE changes::text LIKE '%Lindqvist%'";
    assert_eq!(app.text(changes).await, None);
    assert!(
        number(&app.pool, "SELECT count(*) FROM billing.row_changes WHERE changes::text LIKE '%[redacted]%'").await > 0
    );
    let name = "SELECT name FROM billing.billing_contacts WHERE stripe_customer_id = 'cus_1'";
    assert_eq!(app.text(name).await.as_deref(), Some("Ada Lindqvist"), "rows keep the current data");
    // an event that is older than what is redacted is still put in order
    app.deliver_and_drain(&[event("evt_late", "customer.updated", 0, &person("Late"), None)]).await;
    assert!(!app.fate("evt_late").await.contains("pending"));
    drop(conn);
    app.finish().await;
}
