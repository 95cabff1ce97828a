//! Differences from Stripe are found field by field, whatever caused them, and fixed on request.

use billing_sync::verify::compare::Selection;
use billing_sync::verify::customer::WriteMode;
use serde_json::json;

use super::harness::{assert_alike, shop};
use crate::support::fetching::Fetching;

/// The columns that the sync writes, without those that identify the row.
const SYNCED: &str = "
    SELECT c.table_name::text, c.column_name::text, c.data_type::text
    FROM information_schema.columns AS c
    WHERE c.table_schema = 'billing'
        AND c.table_name IN ('billing_contacts', 'subscriptions', 'pricing_plans', 'plan_limits', 'coupons',
            'checkout_sessions')
        AND c.column_name NOT IN ('id', 'account', 'created_at', 'updated_at', 'stripe_customer_id',
            'stripe_subscription_id', 'stripe_price_id', 'stripe_session_id', 'pricing_plan_id', 'limit_key')
        AND NOT (c.table_name = 'pricing_plans' AND c.column_name IN ('display_name', 'tier', 'is_default', 'category_id',
            'translation_key', 'trial_days', 'stripe_billing_portal_enabled', 'imported_from_legacy_id'))
        AND NOT (c.table_name = 'coupons' AND c.column_name IN ('stripe_coupon_id', 'translation_key', 'times_redeemed'))
    ORDER BY 1, 2";

/// SQL for another value than the current one.
fn another(column: &str, data_type: &str) -> Option<String> {
    Some(match data_type {
        "boolean" => format!("NOT coalesce({column}, false)"),
        "text" => format!("coalesce({column}, '') || 'x'"),
        "uuid" => "gen_random_uuid()".to_owned(),
        "timestamp with time zone" => format!("coalesce({column}, '2020-01-01Z') + interval '1 s'"),
        "bigint" | "integer" | "numeric" => format!("coalesce({column}, 0) + 1"),
        "jsonb" => "'{\"xxx\": 1}'".to_owned(),
        _ => return None,
    })
}

#[tokio::test]
async fn a_difference_in_any_column_is_found_and_fixed() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 3);
    let price = sync.stripe.price(&sync.stripe.product(json!({})), 1000, json!({}));
    sync.stripe.checkout(&price, json!({}));
    sync.backfill_completely().await;
    sync.settle().await;
    let truth = sync.all_rows().await;
    let columns: Vec<(String, String, String)> = sqlx::query_as(SYNCED).fetch_all(&sync.app.pool).await.unwrap();
    let mut planted = 0;
    // constraints between columns are not tested here
    drop_checks(&sync).await;
    for (table, column, data_type) in columns {
        let Some(value) = another(&column, &data_type) else { continue };
        let row = format!("(SELECT ctid FROM billing.{table} ORDER BY id LIMIT 1)");
        let plant = format!("UPDATE billing.{table} SET {column} = {value} WHERE ctid = {row}");
        sqlx::query(sqlx::AssertSqlSafe(plant)).execute(&sync.app.pool).await.unwrap();
        planted += 1;
        sync.stripe.tick(60);
        let drift = sync.drift(Selection::All(None), WriteMode::Yes("verify")).await;
        assert!(drift.len() == 1 && drift[0].starts_with(&table), "{table}.{column}: {drift:?}");
        assert_alike(&sync.all_rows().await, &truth);
    }
    assert!(planted > 60, "{planted}");
    sync.settle().await;
    sync.finish().await;
}

async fn drop_checks(sync: &Fetching) {
    sync.app
        .execute(
            "DO $$ DECLARE one record; BEGIN
                FOR one IN SELECT conrelid::regclass AS of, conname FROM pg_constraint WHERE contype = 'c'
                    AND connamespace = 'billing'::regnamespace
                    AND conrelid::regclass::text IN ('billing.billing_contacts', 'billing.subscriptions',
                        'billing.pricing_plans', 'billing.plan_limits', 'billing.coupons', 'billing.checkout_sessions')
                LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.of, one.conname); END LOOP;
            END $$",
        )
        .await;
}

const PLANTED: &str = "
    UPDATE billing.pricing_plans SET product_name = 'Wrong' WHERE stripe_price_id = 'price_1';
    UPDATE billing.coupons SET discount_percentage = 1 WHERE stripe_coupon_id = 'HALF';
    UPDATE billing.checkout_sessions SET payment_status = 'unpaid', stripe_price_id = 'price_x'";

#[tokio::test]
async fn plans_coupons_and_sessions_are_compared_and_fixed() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 7);
    sync.backfill_completely().await;
    sync.settle().await;
    sync.stripe.tick(60);
    let truth = sync.all_rows().await;
    for selection in [Selection::All(None), Selection::Sample(50)] {
        assert_eq!(sync.drift(selection.clone(), WriteMode::No).await, [""; 0]);
        sync.app.execute(PLANTED).await;
        let expected = ["checkout_sessions cs_test_1", "coupons HALF", "pricing_plans price_1"];
        assert_eq!(sync.drift(selection.clone(), WriteMode::No).await, expected, "{selection:?}");
        assert_eq!(sync.drift(selection.clone(), WriteMode::Yes("verify")).await, expected, "{selection:?}");
        assert_alike(&sync.all_rows().await, &truth);
    }
    // the sessions of a named customer are compared too
    sync.app.execute(PLANTED).await;
    let customer = sync.app.text("SELECT stripe_customer_id FROM billing.checkout_sessions").await.unwrap();
    let drift = sync.drift(Selection::Named(vec![customer]), WriteMode::No).await;
    assert!(drift.contains(&"checkout_sessions cs_test_1".to_owned()), "{drift:?}");
    sync.finish_with_jobs().await;
}

#[tokio::test]
async fn undelivered_coupon_deletions_and_amounts_are_differences() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 7);
    sync.backfill_completely().await;
    sync.settle().await;
    sync.stripe.delete("HALF");
    let dollars = json!({ "unit_amount": 700, "unit_amount_decimal": "700" });
    sync.stripe.update("price_1", json!({ "currency_options": { "usd": dollars } }));
    sync.stripe.tick(60);
    let drift = sync.drift(Selection::All(None), WriteMode::Yes("verify")).await;
    assert!(drift.contains(&"coupons HALF".to_owned()), "{drift:?}");
    assert!(drift.contains(&"pricing_plans price_1".to_owned()), "{drift:?}");
    let prices = "SELECT price_per_currency ->> 'usd' FROM billing.pricing_plans WHERE stripe_price_id = 'price_1'";
    assert_eq!(sync.app.text(prices).await.as_deref(), Some("7.00"));
    sync.finish_with_jobs().await;
}

#[tokio::test]
async fn the_hourly_sample_counts_plans_coupons_and_sessions() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 7);
    sync.backfill_completely().await;
    sync.settle().await;
    sync.stripe.tick(60);
    sync.app.execute(PLANTED).await;
    sync.sampler(20).check().await;
    for table in ["checkout_sessions", "coupons", "pricing_plans"] {
        let rows = sync.app.metric(&format!("billing_sync_drift_rows{{table=\"{table}\"}}"));
        assert!((rows - 1.0).abs() < f64::EPSILON, "{table}: {rows}");
    }
    let customers = sync.app.metric("billing_sync_drift_customers_total{outcome=\"compared\"}");
    assert!((customers - 7.0).abs() < f64::EPSILON, "{customers}");
    sync.finish_with_jobs().await;
}

/// Changes at Stripe whose events were not delivered are differences, like manual changes of rows.
#[tokio::test]
async fn undelivered_changes_are_differences() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 8);
    sync.backfill_completely().await;
    sync.settle().await;
    sync.stripe.tick(3600);
    sync.stripe.pause_collection("sub_1");
    let product = "prod_1";
    sync.stripe.update(product, serde_json::json!({ "name": "Renamed" }));
    sync.stripe.delete("cus_4");
    sync.stripe.tick(3600);
    let drift = sync.drift(Selection::All(None), WriteMode::No).await;
    for row in ["subscriptions sub_1", "pricing_plans price_1", "billing_contacts cus_4"] {
        assert!(drift.iter().any(|one| one == row), "{row}: {drift:?}");
    }
    assert!(!drift.iter().any(|one| one == "pricing_plans price_2"), "{drift:?}");
    sync.drift(Selection::All(None), WriteMode::Yes("verify")).await;
    sync.settle().await;
    assert_eq!(sync.drift(Selection::All(None), WriteMode::No).await, Vec::<String>::new());
    let named = sync.app.text("SELECT product_name FROM billing.pricing_plans WHERE stripe_price_id = 'price_1'").await;
    assert_eq!(named.as_deref(), Some("Renamed"));
    sync.finish().await;
}

/// Stripe sends no event when a coupon is redeemed, including the last time, or expires.
#[tokio::test]
async fn changes_that_have_no_event_are_not_differences() {
    let sync = Fetching::without_accounts().await;
    let names = ["GIVEN", "USED_UP", "EXPIRED", "DELETED", "RENAMED"];
    for name in names {
        sync.stripe.coupon(name, 10.0);
    }
    let now = |name: &str, fields: serde_json::Value| {
        let mut coupon = sync.stripe.object(name);
        coupon.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        sync.stripe.without_event(coupon);
    };
    now("USED_UP", serde_json::json!({ "max_redemptions": 3 }));
    now("EXPIRED", serde_json::json!({ "redeem_by": 1_767_225_600 }));
    sync.backfill_completely().await;
    sync.settle().await;
    now("GIVEN", serde_json::json!({ "times_redeemed": 7 }));
    now("USED_UP", serde_json::json!({ "times_redeemed": 3, "valid": false }));
    now("EXPIRED", serde_json::json!({ "valid": false }));
    now("DELETED", serde_json::json!({ "valid": false }));
    now("RENAMED", serde_json::json!({ "times_redeemed": 7, "name": "Another" }));
    sync.stripe.tick(3600);
    let mut drift = sync.drift(Selection::All(None), WriteMode::Yes("verify")).await;
    drift.sort();
    assert_eq!(drift, ["coupons DELETED", "coupons RENAMED"], "invalid without a known reason, and renamed");
    let given =
        "SELECT string_agg(concat_ws(' ', stripe_coupon_id, times_redeemed, valid), ', ' ORDER BY stripe_coupon_id)
        FROM billing.coupons WHERE stripe_coupon_id IN ('GIVEN', 'USED_UP', 'EXPIRED')";
    assert_eq!(
        sync.app.text(given).await.as_deref(),
        Some("EXPIRED 0 f, GIVEN 7 t, USED_UP 3 f"),
        "the rows are updated"
    );
    sync.settle().await;
    sync.finish().await;
}

#[tokio::test]
async fn only_sampled_or_named_customers_are_compared() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 16);
    sync.backfill_completely().await;
    sync.settle().await;
    sync.app.execute("UPDATE billing.billing_contacts SET city = 'Nowhere'").await;
    sync.stripe.tick(60);
    assert_eq!(sync.drift(Selection::Sample(5), WriteMode::No).await.len(), 5);
    let named = Selection::Named(vec!["cus_3".to_owned(), "cus_4".to_owned()]);
    assert_eq!(sync.drift(named, WriteMode::No).await, ["billing_contacts cus_3", "billing_contacts cus_4"]);
    assert_eq!(sync.drift(Selection::Sample(100), WriteMode::No).await.len(), 16);
    sync.finish().await;
}

/// The hourly check of `serve`.
#[tokio::test]
async fn a_sample_counts_and_stores_differences_and_changes_no_row() {
    let sync = Fetching::without_accounts().await;
    shop(&sync.stripe, 6);
    sync.backfill_completely().await;
    sync.settle().await;
    sync.stripe.tick(60);
    let rows = "billing_sync_drift_rows{table=\"billing_contacts\"}";
    let taken = "billing_sync_drift_samples_total";
    let shown = |series: &str| sync.app.metric(series).to_string();
    let sampler = sync.sampler(6);
    sampler.check().await;
    assert_eq!([shown(rows), shown(taken)], ["0", "1"]);
    sync.app
        .execute("UPDATE billing.billing_contacts SET city = 'Nowhere' WHERE stripe_customer_id IN ('cus_1', 'cus_2')")
        .await;
    sampler.check().await;
    assert_eq!([shown(rows), shown(taken)], ["2", "2"]);
    assert_eq!(shown("billing_sync_drift_customers_total{outcome=\"compared\"}"), "12");
    let there = "SELECT count(*)::text FROM billing.billing_contacts WHERE city = 'Nowhere'";
    assert_eq!(sync.app.text(there).await.as_deref(), Some("2"));
    let stored = "SELECT string_agg(concat_ws(' ', customers, failed, differing, tables::text), ', ' ORDER BY id)
        FROM billing.verify_samples";
    assert_eq!(sync.app.text(stored).await.as_deref(), Some("6 0 0 {}, 6 0 2 {billing_contacts}"));
    // after a fix it is 0 again
    sync.drift(Selection::All(None), WriteMode::Yes("verify")).await;
    sampler.check().await;
    assert_eq!(shown(rows), "0");
    sync.settle().await;
    sync.finish().await;
}
