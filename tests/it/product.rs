//! The product's views of plans, discounts, members and first payments, and the changes recorded for each written row.

use billing_sync::database::Connection;
use billing_sync::domain::object::row_id;
use billing_sync::domain::plan::{PlanLimit, PricingPlan};
use billing_sync::store::{self, CausedRow, Change};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::app::TestApp;

const WORKSPACE: &str = "00000000-0000-4000-8000-000000000001";

/// Inserts a subscription of the workspace with plan `…0a`; `more` adds or replaces columns.
async fn subscribe(app: &TestApp, number: u32, more: &[(&str, &str)]) {
    let (id, stripe_id) = (format!("lpad('{number}', 32, '0')::uuid"), format!("'sub_{number}'"));
    let workspace = format!("'{WORKSPACE}'");
    let mut columns = vec![
        ("id", id.as_str()),
        ("account", "''"),
        ("stripe_subscription_id", stripe_id.as_str()),
        ("stripe_customer_id", "'cus_1'"),
        ("billing_contact_id", "gen_random_uuid()"),
        ("workspace_id", workspace.as_str()),
        ("pricing_plan_id", "lpad('a', 32, '0')::uuid"),
        ("items", "'[{\"price_id\": \"price_1\", \"quantity\": 2}]'"),
        ("stripe_status", "'active'"),
        ("active", "true"),
        ("payment_paused", "false"),
        ("is_trial", "false"),
        ("is_grace_period", "false"),
        ("active_discounts", "'{}'"),
        ("active_discount_ends", "'{}'"),
    ];
    columns.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    columns.extend(more);
    let (names, values): (Vec<&str>, Vec<&str>) = columns.into_iter().unzip();
    let sql = format!("INSERT INTO billing.subscriptions ({}) VALUES ({})", names.join(", "), values.join(", "));
    execute(app, sql).await;
}

async fn execute(app: &TestApp, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&app.pool).await.unwrap();
}

/// The text that the query returns.
async fn one(app: &TestApp, sql: &'static str) -> String {
    app.text(sql).await.unwrap()
}

#[tokio::test]
async fn an_ended_discount_disappears_without_a_write() {
    let app = TestApp::start().await;
    for (ends_at, expected) in
        [("NULL", "SAVE20 -"), ("now() + interval '1 hour'", "SAVE20 later"), ("now() - interval '1 s'", "- -")]
    {
        execute(
            &app,
            format!(
                "INSERT INTO billing.billing_contacts
                (id, account, stripe_customer_id, active_discount, active_discount_ends_at)
            VALUES (gen_random_uuid(), '', 'cus_1', 'SAVE20', {ends_at})"
            ),
        )
        .await;
        let live =
            "DELETE FROM billing.billing_contacts RETURNING (SELECT concat_ws(' ', coalesce(active_discount, '-'),
            CASE WHEN active_discount_ends_at > now() THEN 'later' ELSE '-' END) FROM billing.live_billing_contacts)";
        assert_eq!(one(&app, live).await, expected, "{ends_at}");
    }
    let ends = "ARRAY[now() - interval '1 s', NULL, now() + interval '1 day', now() - interval '1 day']";
    subscribe(&app, 1, &[("active_discounts", "'{A,B,C,D}'"), ("active_discount_ends", ends)]).await;
    let live =
        "SELECT concat_ws(' ', active_discounts, cardinality(active_discount_ends), active_discount_ends[1] IS NULL,
        active_discount_ends[2] > now()) FROM billing.live_subscriptions";
    assert_eq!(one(&app, live).await, "{B,C} 2 t t", "in their order, each with its end");
    app.finish().await;
}

#[tokio::test]
async fn a_trial_without_a_payment_method_will_end_for_that_reason() {
    let app = TestApp::start().await;
    let (trial_end, later) = ("'2027-01-01T00:00:00Z'", "'2027-02-01T00:00:00Z'");
    for (case, fields, expected) in [
        ("canceled for it", vec![], "true"),
        ("paused for it", vec![("trial_end_behavior", "'pause'")], "true"),
        ("an invoice is made", vec![("trial_end_behavior", "'create_invoice'")], "false"),
        ("new in Stripe", vec![("trial_end_behavior", "'dance'")], "false"),
        ("behavior unknown", vec![("trial_end_behavior", "NULL")], "false"),
        ("a method is known", vec![("payment_type", "'card'")], "false"),
        ("a paid trial", vec![("stripe_status", "'active'")], "false"),
        ("over", vec![("stripe_status", "'active'"), ("is_trial", "false")], "false"),
        ("canceled with the trial", vec![("is_grace_period", "true"), ("end_date", trial_end)], "false"),
        ("canceled later", vec![("is_grace_period", "true"), ("end_date", later)], "true"),
        ("no end is known", vec![("trial_ends_at", "NULL")], "true"),
    ] {
        let mut all = vec![
            ("stripe_status", "'trialing'"),
            ("is_trial", "true"),
            ("trial_ends_at", trial_end),
            ("trial_end_behavior", "'cancel'"),
        ];
        all.retain(|(name, _)| fields.iter().all(|(other, _)| other != name));
        all.extend(fields);
        subscribe(&app, 1, &all).await;
        let live = "DELETE FROM billing.subscriptions RETURNING
            (SELECT trial_will_end_without_payment_method::text FROM billing.live_subscriptions)";
        assert_eq!(one(&app, live).await, expected, "{case}");
    }
    app.finish().await;
}

#[tokio::test]
async fn coupon_validity_follows_date_and_redemptions_without_events() {
    let app = TestApp::start().await;
    let valid = "DELETE FROM billing.coupons RETURNING (SELECT coalesce(valid::text, '-') FROM billing.live_coupons)";
    let (past, future) = ("now() - interval '1 s'", "now() + interval '1 hour'");
    for stripe_valid in ["true", "false", "NULL"] {
        for (redeem_by, date_ok) in [("NULL", true), (past, false), (future, true)] {
            for (limit, used, number_ok) in
                [("NULL", "7", true), ("7", "NULL", true), ("7", "6", true), ("7", "7", false), ("7", "8", false)]
            {
                for (deleted_at, is_there) in [("NULL", true), (past, false)] {
                    execute(
                        &app,
                        format!(
                            "INSERT INTO billing.coupons (id, account, stripe_coupon_id, valid, redeem_by,
                                max_redemptions, times_redeemed, stripe_deleted_at)
                            VALUES (gen_random_uuid(), '', 'SAVE20', {stripe_valid}, {redeem_by}, {limit}, {used},
                                {deleted_at})"
                        ),
                    )
                    .await;
                    let expected = match (date_ok && number_ok && is_there, stripe_valid) {
                        (false, _) | (true, "false") => "false",
                        (true, "true") => "true",
                        _ => "-",
                    };
                    let case = format!("{stripe_valid}, {redeem_by}, {used} of {limit}, deleted {deleted_at}");
                    assert_eq!(one(&app, valid).await, expected, "{case}");
                }
            }
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_workspace_with_more_members_than_included_is_inactive() {
    let app = TestApp::start().await;
    subscribe(&app, 1, &[]).await;
    let live = "SELECT concat_ws(' ', active, inactive_reason) FROM billing.live_subscriptions";
    let workspace = "SELECT concat_ws(' ', active, inactive_reason) FROM billing.workspace_billing";
    assert_eq!(one(&app, live).await, "t", "workspace and limit are unknown");
    execute(&app, format!("INSERT INTO billing.workspaces (id) VALUES ('{WORKSPACE}')")).await;
    app.execute(
        "INSERT INTO billing.pricing_plans (id, account, stripe_price_id) VALUES (lpad('a', 32, '0')::uuid, '', 'price_1');
        INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited) VALUES
            (gen_random_uuid(), lpad('a', 32, '0')::uuid, 'words', 1, false),
            (gen_random_uuid(), lpad('a', 32, '0')::uuid, 'members', 5, false)",
    )
    .await;
    assert_eq!(one(&app, live).await, "t", "the number of members is unknown");
    for (members, limit, expected) in [
        ("5", "included = 5", "t"),
        ("6", "included = 5", "f too_many_members"),
        ("6", "included = 0", "f too_many_members"),
        ("6", "included = 4, per_unit = 1", "t"),
        ("7", "included = 4, per_unit = 1", "f too_many_members"),
        ("6", "included = NULL", "t"),
        ("6", "included = NULL, unlimited = true", "t"),
    ] {
        execute(
            &app,
            format!(
                "UPDATE billing.workspaces SET member_count = {members};
            UPDATE billing.plan_limits SET {limit} WHERE limit_key = 'members'"
            ),
        )
        .await;
        assert_eq!(one(&app, live).await, expected, "{members} members, {limit}");
        assert_eq!(one(&app, workspace).await, expected, "{members} members, {limit}");
    }
    app.execute(
        "UPDATE billing.plan_limits SET included = 1, per_unit = 0, unlimited = false WHERE limit_key = 'members';
        UPDATE billing.subscriptions SET active = false, inactive_reason = 'unpaid', stripe_status = 'unpaid'",
    )
    .await;
    assert_eq!(one(&app, live).await, "f unpaid", "the reason from Stripe comes first");
    assert_eq!(one(&app, "SELECT active::text FROM billing.subscriptions").await, "false");
    app.finish().await;
}

#[tokio::test]
async fn first_payment_and_trial_come_from_any_of_its_subscriptions() {
    let app = TestApp::start().await;
    subscribe(&app, 1, &[("stripe_status", "'canceled'"), ("active", "false"), ("inactive_reason", "'canceled'")])
        .await;
    subscribe(&app, 2, &[]).await;
    subscribe(&app, 3, &[("workspace_id", "gen_random_uuid()")]).await;
    subscribe(&app, 4, &[("account", "'acct_other'"), ("stripe_subscription_id", "'sub_9'")]).await;
    let facts = "SELECT concat_ws(' ', coalesce(first_paid_subscription_at::date::text, '-'),
        coalesce(trial_started_at::date::text, '-')) FROM billing.workspace_billing
        WHERE workspace_id = '00000000-0000-4000-8000-000000000001'";
    assert_eq!(one(&app, facts).await, "- -");
    app.execute(
        "INSERT INTO billing.invoice_facts (account, invoice_id, subscription_id, paid_at) VALUES
            ('', 'in_1', 'sub_1', '2026-03-01'), ('', 'in_2', 'sub_2', '2026-04-01'), ('', 'in_0', 'sub_1', NULL),
            ('', 'in_3', 'sub_3', '2026-01-01'), ('', 'in_9', 'sub_9', '2026-01-02'), ('', 'in_x', NULL, '2026-01-03');
        INSERT INTO billing.trial_facts (account, subscription_id, started_at) VALUES
            ('', 'sub_2', '2026-02-20'), ('', 'sub_3', '2026-01-01'), ('acct_other', 'sub_9', '2026-02-10')",
    )
    .await;
    assert_eq!(one(&app, facts).await, "2026-03-01 2026-02-10", "of its own subscriptions and their accounts only");
    app.finish().await;
}

#[tokio::test]
async fn a_plan_has_its_limits_and_defaults_to_the_product_name() {
    let app = TestApp::start().await;
    app.execute(
        "INSERT INTO billing.pricing_plans (id, account, stripe_price_id, product_name)
        VALUES (lpad('a', 32, '0')::uuid, '', 'price_1', 'Gold')",
    )
    .await;
    let plan = "SELECT concat_ws(' ', display_name, limits) FROM billing.plans";
    assert_eq!(one(&app, plan).await, "Gold {}");
    app.execute(
        "INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited) VALUES
            (gen_random_uuid(), lpad('a', 32, '0')::uuid, 'words', 500, false),
            (gen_random_uuid(), lpad('a', 32, '0')::uuid, 'members', NULL, true),
            (gen_random_uuid(), lpad('a', 32, '0')::uuid, 'images', NULL, false);
        UPDATE billing.pricing_plans SET display_name = 'For teams'",
    )
    .await;
    assert_eq!(one(&app, plan).await, r#"For teams {"words": 500, "images": null, "members": "unlimited"}"#);
    app.finish().await;
}

/// A plan as the projection returns it.
fn plan(name: &str) -> PricingPlan {
    PricingPlan {
        id: row_id("", "price_1"),
        account: String::new(),
        stripe_price_id: "price_1".to_owned(),
        stripe_product_id: None,
        livemode: None,
        active: Some(true),
        billing_interval: None,
        billing_interval_count: None,
        currency: None,
        unit_amount_decimal: Some("1990".to_owned()),
        stripe_track_usage: None,
        plan_rank: 8,
        product_name: Some(name.to_owned()),
        price_in_euro: None,
        price_per_currency: [].into(),
    }
}

async fn save(conn: &mut Connection, row: PricingPlan, causes: &[&str]) -> Vec<Change> {
    let causes = causes.iter().map(|&cause| cause.to_owned()).collect();
    store::save(conn, &[CausedRow { row, causes }]).await.unwrap()
}

/// The only change. Asserts that the returned change equals the last recorded one.
async fn recorded_change(app: &TestApp, changes: &[Change]) -> (bool, Value, String) {
    let [change] = changes else { panic!("{changes:?}") };
    let last =
        "SELECT concat_ws(' ', table_name, row_id, causes, changes) FROM billing.row_changes ORDER BY id DESC LIMIT 1";
    let expected = format!("pricing_plans {} ", row_id("", "price_1"));
    let row = one(app, last).await;
    let rest = row.strip_prefix(&expected).unwrap();
    let (causes, text) = rest.split_once(' ').unwrap();
    let (recorded, returned): (Value, Value) =
        (serde_json::from_str(text).unwrap(), serde_json::from_str(&change.changes).unwrap());
    assert_eq!(recorded, returned);
    (change.is_new, recorded, causes.to_owned())
}

#[tokio::test]
async fn row_changes_record_causes_and_unchanged_rows_are_not_written() {
    let app = TestApp::start().await;
    let mut conn = app.pool.acquire().await.unwrap();
    let new = save(&mut conn, plan("Gold"), &["evt_1", "evt_2"]).await;
    let (is_new, changes, causes) = recorded_change(&app, &new).await;
    assert_eq!((is_new, causes.as_str()), (true, "{evt_1,evt_2}"));
    assert_eq!(changes["product_name"], json!([null, "Gold"]));
    assert_eq!(changes["unit_amount_decimal"], json!([null, 1990]), "a number, as in every later change");
    assert!(changes.get("currency").is_none() && changes.get("created_at").is_none(), "{changes}");

    let before = one(&app, "SELECT updated_at::text || xmin FROM billing.pricing_plans").await;
    let exact = PricingPlan { unit_amount_decimal: Some("1990.00".to_owned()), ..plan("Gold") };
    assert_eq!(save(&mut conn, exact, &["evt_3"]).await, [], "the same number");
    assert_eq!(one(&app, "SELECT updated_at::text || xmin FROM billing.pricing_plans").await, before);

    app.execute("UPDATE billing.pricing_plans SET display_name = 'ours', tier = 3").await;
    let renamed = save(&mut conn, plan("Silver"), &["read"]).await;
    let (is_new, changes, causes) = recorded_change(&app, &renamed).await;
    assert_eq!((is_new, causes.as_str()), (false, "{read}"));
    assert_eq!(changes, json!({ "product_name": ["Gold", "Silver"] }), "columns of the product are not recorded");
    assert_eq!(one(&app, "SELECT display_name || tier FROM billing.pricing_plans").await, "ours3");
    assert_eq!(one(&app, "SELECT count(*)::text FROM billing.row_changes").await, "2");
    drop(conn);
    app.finish().await;
}

#[tokio::test]
async fn concurrent_product_writes_are_not_recorded_as_sync_changes() {
    let app = TestApp::start().await;
    let mut conn = app.pool.acquire().await.unwrap();
    save(&mut conn, plan("Gold"), &[]).await;
    let mut product = app.pool.begin().await.unwrap();
    sqlx::query("UPDATE billing.pricing_plans SET display_name = 'ours'").execute(&mut *product).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut conn).await.unwrap();
    let saving = async { save(&mut conn, plan("Silver"), &["evt_1"]).await };
    let committing = async {
        // by then its snapshot is taken, and it waits for the row
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(waits).bind(pid).fetch_one(&app.pool).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
        product.commit().await.unwrap();
    };
    let (changes, ()) = tokio::join!(saving, committing);
    assert_eq!(recorded_change(&app, &changes).await.1, json!({ "product_name": ["Gold", "Silver"] }));
    assert_eq!(one(&app, "SELECT display_name FROM billing.pricing_plans").await, "ours");
    drop(conn);
    app.finish().await;
}

#[tokio::test]
async fn a_limit_whose_key_is_gone_is_removed_and_recorded() {
    let app = TestApp::start().await;
    let mut conn = app.pool.acquire().await.unwrap();
    let limit = |plan: Uuid, key: &str| CausedRow {
        row: PlanLimit {
            id: Uuid::new_v5(&plan, key.as_bytes()),
            pricing_plan_id: plan,
            limit_key: key.to_owned(),
            per_unit: 0,
            included: Some(7),
            unlimited: false,
            invalid_value: None,
        },
        causes: Vec::new(),
    };
    let (one_plan, other) = (row_id("", "price_1"), row_id("", "price_2"));
    let rows = [limit(one_plan, "words"), limit(one_plan, "images"), limit(other, "words")];
    assert_eq!(store::save(&mut conn, &rows).await.unwrap().len(), 3);
    store::remove_other_limits(&mut conn, &[one_plan], &[rows[1].row.id]).await.unwrap();
    let left = "SELECT string_agg(limit_key, ' ' ORDER BY limit_key) FROM billing.plan_limits";
    assert_eq!(one(&app, left).await, "images words", "the other plan keeps its own");
    let last = "SELECT (row_id = (SELECT row_id FROM billing.row_changes WHERE changes -> 'limit_key' ->> 1 = 'words'
        AND changes -> 'pricing_plan_id' ->> 1 = $1))::text || ' ' || changes FROM billing.row_changes ORDER BY id DESC LIMIT 1";
    let last: String = sqlx::query_scalar(last).bind(one_plan.to_string()).fetch_one(&mut conn).await.unwrap();
    assert_eq!(last, r#"true {"included": [7, null], "limit_key": ["words", null]}"#);
    drop(conn);
    app.finish().await;
}
