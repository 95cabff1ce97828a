//! From delivery to rows: every kind of event has a named outcome, and odd content does no harm.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::events::{customer, event, subscription, thin, update, with};

/// An event at second 0 without previous attributes.
fn other(id: &str, event_type: &str, object: &Value) -> Value {
    event(id, event_type, 0, object, None)
}

#[tokio::test]
async fn every_kind_of_event_has_a_named_outcome() {
    let app = TestApp::start().await;
    let invoice = json!({ "id": "in_1", "object": "invoice", "customer": "cus_1" });
    let sub = subscription("sub_1", "cus_1");
    let live = with(&other("evt_live", "customer.updated", &customer("cus_9", "x")), json!({ "livemode": true }));
    let foreign = with(&other("evt_acct", "customer.updated", &customer("cus_9", "x")), json!({ "account": "acct_x" }));
    let connected =
        with(&other("evt_ours", "customer.created", &customer("cus_8", "x")), json!({ "account": "acct_known" }));
    let odd = |changes| with(&subscription("sub_2", "cus_1"), changes);
    let mut odd_price = event("evt_16", "customer.subscription.created", 0, &subscription("sub_3", "cus_1"), None);
    odd_price["data"]["object"]["items"]["data"][0]["price"]["recurring"]["interval"] = json!("fortnight");
    let cases = [
        (other("evt_15", "v1.customer.updated", &customer("cus_1", "x")), "done unknown unknown_type"),
        (odd_price, "done applied unknown_enum"),
        (other("evt_01", "customer.created", &customer("cus_1", "Ada")), "done applied -"),
        (other("evt_02", "customer.subscription.created", &sub), "done applied -"),
        (other("evt_03", "customer.subscription.trial_will_end", &sub), "done ignored informational"),
        (other("evt_04", "customer.subscription.frobnicated", &sub), "done unknown unknown_type"),
        (other("evt_05", "customer.discount.created", &json!({ "object": "discount" })), "done ignored invalid_value"),
        (other("evt_06", "invoice.paid", &invoice), "done applied -"),
        (other("evt_07", "invoice.upcoming", &json!({ "object": "invoice" })), "done ignored informational"),
        (
            other("evt_17", "setup_intent.succeeded", &json!({ "id": "x", "object": "setup_intent" })),
            "done ignored unhandled_type",
        ),
        (other("evt_08", "frobnicator.created", &json!({ "id": "x", "object": "x" })), "done unknown unknown_type"),
        (live, "done ignored livemode_mismatch"),
        (foreign, "done ignored account_not_synced"),
        (connected, "done applied -"),
        (
            thin("evt_09", "v2.core.event_destination.ping", "2026-01-01T00:00:00Z", "x", "x"),
            "done ignored unhandled_type",
        ),
        (
            thin("evt_10", "v1.customer.updated", "2026-01-01T00:00:09Z", "customer", "cus_1"),
            "done ignored needs_fetch",
        ),
        (
            event("evt_11", "customer.subscription.updated", 1, &odd(json!({ "status": "hibernating" })), None),
            "done applied unknown_enum",
        ),
        (
            event(
                "evt_12",
                "customer.subscription.updated",
                2,
                &odd(json!({ "metadata": { "workspace_id": "x" } })),
                None,
            ),
            "done applied invalid_workspace_id",
        ),
        (
            event("evt_13", "customer.subscription.updated", 3, &odd(json!({ "trial_end": 1e300 })), None),
            "done applied invalid_value",
        ),
        (
            event("evt_14", "customer.subscription.updated", 4, &odd(json!({ "customer": "cus_unknown" })), None),
            "done applied unknown_customer",
        ),
    ];
    for (event, fate) in &cases {
        app.deliver_and_drain(std::slice::from_ref(event)).await;
        let id = event["id"].as_str().unwrap();
        assert_eq!(app.fate(id).await, *fate, "{id} {}", event["type"]);
    }
    for reason in
        ["unhandled_type", "unknown_type", "livemode_mismatch", "account_not_synced", "needs_fetch", "unknown_enum"]
    {
        let counted = app.metric(&format!("billing_sync_event_reasons_total{{reason=\"{reason}\"}}"));
        assert!(counted >= 1.0, "{reason} is not counted");
    }
    assert!(app.metric("billing_sync_events_processed_total{family=\"other\",outcome=\"unknown\"}") >= 1.0);
    let status = "SELECT stripe_status FROM billing.subscriptions WHERE stripe_subscription_id = 'sub_2'";
    assert_eq!(app.text(status).await.as_deref(), Some("active"));
    app.finish().await;
}

/// Valid but odd JSON beside the fields that the mapping reads.
#[tokio::test]
async fn odd_content_never_poisons_an_event() {
    let app = TestApp::start().await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let body = |id: &str, name: &str, rest: &str| {
        format!(
            r#"{{"id":"evt_{id}","object":"event","type":"customer.updated","created":1767225600,"livemode":false,"data":
            {{"object":{{"id":"cus_{id}","object":"customer","name":{name}{rest}}}}}}}"#
        )
    };
    let odd = [
        ("nul", body("nul", r#""A\u0000da""#, ""), "A\u{FFFD}da"),
        ("huge", body("huge", r#""Ada""#, r#","balance":1e999999,"created":123456789012345678901234567890"#), "Ada"),
        ("deep", body("deep", r#""Ada""#, &format!(r#","metadata":{deep}"#)), "Ada"),
        ("twice", body("twice", r#""Eve""#, r#","name":"Ada""#), "Ada"),
        ("half", body("half", r#""A\ud800da""#, ""), "A\u{FFFD}\u{FFFD}\u{FFFD}da"),
        ("quote", body("quote", r#""A'; DROP TABLE \"x\" --\\""#, ""), "A'; DROP TABLE \"x\" --\\"),
    ];
    for (id, body, _) in &odd {
        assert_eq!(app.deliver_bytes(body.as_bytes()).await.status, 200, "{id}");
    }
    let mut raw = body("bytes", r#""A_da""#, "").into_bytes();
    let name = raw.windows(4).position(|four| four == b"A_da").unwrap();
    raw[name + 1] = 0xFF; // invalid UTF-8
    assert_eq!(app.deliver_bytes(&raw).await.status, 200);
    app.drain().await;
    for (id, _, name) in
        odd.iter().map(|(id, body, name)| (*id, body, *name)).chain([("bytes", &String::new(), "A\u{FFFD}da")])
    {
        let query = "SELECT name FROM billing.billing_contacts WHERE stripe_customer_id = $1";
        let found: Option<String> =
            sqlx::query_scalar(query).bind(format!("cus_{id}")).fetch_optional(&app.pool).await.unwrap().flatten();
        assert_eq!(found.as_deref(), Some(name), "{id}: {}", app.fate(&format!("evt_{id}")).await);
    }
    let kept: Vec<u8> = sqlx::query_scalar("SELECT payload FROM billing.events WHERE event_id = 'evt_bytes'")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(kept, raw, "raw stays raw");
    app.finish().await;
}

/// The order of two events within one second is found despite deep nesting.
#[tokio::test]
async fn ties_of_deeply_nested_objects_are_decided() {
    let app = TestApp::start().await;
    let nested = (0..100).fold(json!("x"), |inner, _| json!([inner]));
    let ada = with(&customer("cus_1", "Ada"), json!({ "nested": nested }));
    let eve = with(&ada, json!({ "name": "Eve" }));
    let zoe = with(&eve, json!({ "name": "Zoe" }));
    app.deliver_and_drain(&[
        update("evt_1", "customer.updated", 5, &eve, &zoe),
        update("evt_2", "customer.updated", 5, &ada, &eve),
    ])
    .await;
    assert_eq!(app.text("SELECT name FROM billing.billing_contacts").await.as_deref(), Some("Zoe"));
    assert!(app.metric("billing_sync_order_ambiguous_total").abs() < f64::EPSILON);
    app.finish().await;
}

/// Every fixture is delivered to the real receiver. All are merged, except those that must be ignored.
#[tokio::test]
async fn every_fixture_is_accepted_and_merged_or_ignored() {
    let app = TestApp::start().await;
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/events"))];
    let mut delivered = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(app.deliver_bytes(&std::fs::read(&path).unwrap()).await.status, 200, "{path:?}");
                delivered += 1;
            }
        }
    }
    app.drain().await;
    let ignored = r#"SELECT string_agg(type, ' ' ORDER BY type COLLATE "C") FROM billing.outbox
        WHERE coalesce(outcome, '-') NOT IN ('applied', 'superseded')"#;
    assert!(delivered > 20);
    // the first belongs to another account; the second does not name its customer in any of its API versions
    let expected = "customer.created customer.subscription.created customer.subscription.frobnicated customer.subscription.trial_will_end \
        entitlements.active_entitlement_summary.updated frobnicator.created invoice.upcoming setup_intent.canceled \
        setup_intent.requires_action setup_intent.setup_failed setup_intent.succeeded \
        test_helpers.test_clock.advancing";
    assert_eq!(app.text(ignored).await.as_deref(), Some(expected));
    app.finish().await;
}

/// The product may add columns to our tables. The sync never writes them, and never replaces a row.
#[tokio::test]
async fn product_columns_survive_every_update() {
    let app = TestApp::start().await;
    app.execute(
        "ALTER TABLE billing.billing_contacts ADD note text DEFAULT 'new';
        ALTER TABLE billing.subscriptions ADD note text DEFAULT 'new';
        ALTER TABLE billing.pricing_plans ADD note text DEFAULT 'new'",
    )
    .await;
    let (ada, sub) = (customer("cus_1", "Ada"), subscription("sub_1", "cus_1"));
    app.deliver_and_drain(&[
        event("evt_1", "customer.created", 0, &ada, None),
        event("evt_2", "customer.subscription.created", 0, &sub, None),
    ])
    .await;
    app.execute(
        "UPDATE billing.billing_contacts SET note = 'ours'; UPDATE billing.subscriptions SET note = 'ours';
        UPDATE billing.pricing_plans SET note = 'ours'",
    )
    .await;
    let mut changed = with(&sub, json!({ "cancel_at_period_end": true }));
    changed["items"]["data"][0]["price"]["unit_amount_decimal"] = json!("2900");
    app.deliver_and_drain(&[
        update("evt_3", "customer.updated", 9, &ada, &with(&ada, json!({ "name": "Eve" }))),
        update("evt_4", "customer.subscription.updated", 9, &sub, &changed),
    ])
    .await;
    let rows = "SELECT string_agg(what, ' ' ORDER BY what) FROM (
        SELECT name || note AS what FROM billing.billing_contacts
        UNION ALL SELECT is_grace_period || note FROM billing.subscriptions
        UNION ALL SELECT unit_amount_decimal || note FROM billing.pricing_plans) AS t";
    assert_eq!(app.text(rows).await.as_deref(), Some("2900ours Eveours trueours"));
    app.finish().await;
}

#[tokio::test]
async fn a_row_that_does_not_change_is_not_written() {
    let app = TestApp::start().await;
    let ada = customer("cus_1", "Ada");
    app.deliver_and_drain(&[event("evt_1", "customer.created", 0, &ada, None)]).await;
    let written = app.text("SELECT updated_at::text || xmin FROM billing.billing_contacts").await;
    let with_balance = with(&ada, json!({ "balance": 5 }));
    app.deliver_and_drain(&[update("evt_2", "customer.updated", 5, &ada, &with_balance)]).await;
    assert_eq!(app.fate("evt_2").await, "done applied -");
    assert_eq!(app.text("SELECT updated_at::text || xmin FROM billing.billing_contacts").await, written);
    app.finish().await;
}
