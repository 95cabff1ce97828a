//! The product's views: the current subscription, the billing contact, and the query plans.

use sqlx::AssertSqlSafe;

use crate::support::app::TestApp;

const WORKSPACE: &str = "00000000-0000-4000-8000-000000000001";

/// Inserts a subscription of the workspace. Its ids contain `number`; `second` is its time of creation.
async fn put(app: &TestApp, number: u32, status: &str, paused: bool, second: u32) {
    let reason = match (status, paused) {
        ("active" | "trialing" | "past_due", false) => "NULL",
        ("active" | "trialing" | "past_due", true) => "'payment_paused'",
        ("hibernating", _) => "'unknown_status'",
        _ => "'status'",
    };
    let reason = if reason == "'status'" { format!("'{status}'") } else { reason.to_owned() };
    let sql = format!(
        "INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            workspace_id, stripe_status, active, inactive_reason, payment_paused, is_trial, is_grace_period,
            active_discounts, active_discount_ends, stripe_created_at)
        VALUES (lpad('{number}', 32, '0')::uuid, '', 'sub_{number}', 'cus_{number}',
            lpad('9{number:03}', 32, '0')::uuid, '{WORKSPACE}', '{status}', {reason} IS NULL, {reason}, {paused}, false,
            false, '{{}}', '{{}}', '2026-01-01T00:00:00Z'::timestamptz + interval '{second} s')"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&app.pool).await.unwrap();
}

/// Stripe id of the current subscription.
async fn current(app: &TestApp) -> Option<String> {
    app.text(
        "SELECT s.stripe_subscription_id FROM billing.workspace_billing w
        JOIN billing.subscriptions s ON s.id = w.current_subscription_id",
    )
    .await
}

#[tokio::test]
async fn a_better_rank_wins_however_old_it_is() {
    let app = TestApp::start().await;
    // from the last rank to the first, and within a rank the newest first
    let ranks: [&[(&str, bool)]; 7] = [
        &[("incomplete_expired", false)],
        &[("canceled", false), ("canceled", true)],
        &[("incomplete", false), ("hibernating", false), ("incomplete", true)],
        &[("unpaid", false)],
        &[("paused", false), ("active", true), ("unpaid", true), ("past_due", true)],
        &[("past_due", false)],
        &[("active", false), ("trialing", false)],
    ];
    let mut number = 0;
    for of_rank in ranks {
        for (index, (status, paused)) in of_rank.iter().enumerate() {
            number += 1;
            put(&app, number, status, *paused, 10_000 - number * 10).await;
            let expected = number - u32::try_from(index).unwrap();
            assert_eq!(current(&app).await, Some(format!("sub_{expected}")), "after {status}, paused {paused}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn an_incomplete_subscription_never_displaces_a_paid_one() {
    for better in [("active", false), ("past_due", false), ("active", true), ("paused", false), ("unpaid", false)] {
        let app = TestApp::start().await;
        put(&app, 1, better.0, better.1, 0).await;
        put(&app, 2, "incomplete", false, 999).await;
        put(&app, 3, "incomplete", true, 1000).await;
        assert_eq!(current(&app).await.as_deref(), Some("sub_1"), "{better:?}");
        app.finish().await;
    }
}

#[tokio::test]
async fn within_a_rank_the_newest_counts_and_then_the_greatest_id() {
    let app = TestApp::start().await;
    put(&app, 3, "active", false, 5).await;
    put(&app, 1, "trialing", false, 6).await;
    assert_eq!(current(&app).await.as_deref(), Some("sub_1"), "the newer");
    put(&app, 2, "active", false, 6).await;
    assert_eq!(current(&app).await.as_deref(), Some("sub_2"), "the greater id");
    app.execute("UPDATE billing.subscriptions SET stripe_created_at = NULL WHERE stripe_subscription_id = 'sub_2'")
        .await;
    assert_eq!(current(&app).await.as_deref(), Some("sub_1"), "unknown age counts as oldest");
    app.finish().await;
}

#[tokio::test]
async fn the_contact_override_wins_over_the_current_subscription() {
    let app = TestApp::start().await;
    let contact = "SELECT billing_contact_id::text FROM billing.workspace_billing";
    app.execute("INSERT INTO billing.workspaces (id) VALUES ('00000000-0000-4000-8000-000000000001')").await;
    assert_eq!(app.text(contact).await, None, "no contact yet");
    let inactive = "SELECT concat_ws(' ', active, inactive_reason) FROM billing.workspace_billing";
    assert_eq!(app.text(inactive).await.as_deref(), Some("f no_subscription"));
    put(&app, 1, "active", false, 0).await;
    assert_eq!(app.text(contact).await.as_deref(), Some("00000000-0000-0000-0000-000000009001"));
    put(&app, 2, "active", false, 1).await;
    assert_eq!(app.text(contact).await.as_deref(), Some("00000000-0000-0000-0000-000000009002"));
    let own = "UPDATE billing.workspaces SET billing_contact_override = '00000000-0000-0000-0000-00000000abcd'";
    app.execute(own).await;
    assert_eq!(app.text(contact).await.as_deref(), Some("00000000-0000-0000-0000-00000000abcd"));
    assert_eq!(current(&app).await.as_deref(), Some("sub_2"), "the override does not change the current subscription");
    app.finish().await;
}

/// For workspaces with a row in `workspaces`, for those that only subscriptions name, and for those that only contacts do.
#[tokio::test]
async fn one_workspace_among_thousands_is_found_by_indexes_only() {
    let app = TestApp::start().await;
    app.execute(
        "INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            workspace_id, stripe_status, active, payment_paused, is_trial, is_grace_period, active_discounts,
            active_discount_ends, stripe_created_at)
        SELECT gen_random_uuid(), '', 'sub_' || n, 'cus_' || n, gen_random_uuid(), lpad(n::text, 32, '0')::uuid, 'active',
            true, false, false, false, '{}', '{}', now() FROM generate_series(1, 20000) AS n;
        INSERT INTO billing.workspaces (id) SELECT lpad(n::text, 32, '0')::uuid FROM generate_series(1, 10000) AS n;
        INSERT INTO billing.billing_contacts (id, account, stripe_customer_id, workspace_id)
        SELECT gen_random_uuid(), '', 'cus_' || n, lpad(n::text, 32, '0')::uuid FROM generate_series(5000, 30000) AS n;
        INSERT INTO billing.invoice_facts (account, invoice_id, subscription_id, paid_at)
        SELECT '', 'in_' || n, 'sub_' || n, now() FROM generate_series(1, 20000) AS n;
        INSERT INTO billing.trial_facts (account, subscription_id, started_at)
        SELECT '', 'sub_' || n, now() FROM generate_series(1, 20000) AS n;
        ANALYZE billing.subscriptions, billing.workspaces, billing.billing_contacts, billing.invoice_facts, billing.trial_facts",
    )
    .await;
    let queries = [
        "EXPLAIN (ANALYZE off) SELECT * FROM billing.workspace_billing WHERE workspace_id = lpad('500', 32, '0')::uuid",
        "EXPLAIN (ANALYZE off) SELECT * FROM billing.workspace_billing WHERE workspace_id = lpad('15000', 32, '0')::uuid",
        "EXPLAIN (ANALYZE off) SELECT * FROM billing.workspace_billing WHERE workspace_id = lpad('25000', 32, '0')::uuid",
        "EXPLAIN (ANALYZE off) SELECT * FROM billing.current_subscriptions WHERE workspace_id = lpad('500', 32, '0')::uuid",
        "EXPLAIN (ANALYZE off) SELECT * FROM billing.live_subscriptions WHERE workspace_id = lpad('500', 32, '0')::uuid",
    ];
    for query in queries {
        let plan: Vec<String> = sqlx::query_scalar(query).fetch_all(&app.pool).await.unwrap();
        let plan = plan.join("\n");
        for table in ["subscriptions", "invoice_facts", "trial_facts", "workspaces", "billing_contacts"] {
            assert!(!plan.contains(&format!("Seq Scan on {table}")), "{query}\n{plan}");
        }
        assert!(plan.contains("Index"), "{plan}");
    }
    app.finish().await;
}
