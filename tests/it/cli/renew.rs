//! `renew`: due renewals, with and without `--dry-run`, through the real binary.

use std::process::Output;

use billing_sync::database::Connection;
use serde_json::Value;
use sqlx::Connection as _;

use super::{code, migrated, run, words};
use crate::support::cluster::TestDatabase;

/// Two subscriptions with 1000 words a month since the last day of January 2026. `sub_1` is renewed until March and has
/// used 400 words of its current period; `sub_2` is renewed until 2126.
async fn sold() -> (TestDatabase, Connection) {
    let (database, mut conn) = migrated().await;
    sqlx::raw_sql(
        "INSERT INTO billing.pricing_plans (id, account, stripe_price_id, active, price_per_currency)
            VALUES (md5('plan')::uuid, '', 'price_1', true, '{}');
        INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited)
            VALUES (md5('limit')::uuid, md5('plan')::uuid, 'words', 1000, false);
        INSERT INTO billing.subscription_timeline
            (account, subscription_id, stated_at, effective_from, source, status, payment_paused, price_ids, quantities, start_date)
            SELECT '', id, '2026-01-31 09:15Z', '2026-01-31 09:15Z', 'evt_' || id, 'active', false, '{price_1}', '{1}',
                '2026-01-31 09:15Z'
            FROM unnest('{sub_1,sub_2}'::text[]) AS id;
        INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            workspace_id, stripe_status, active, payment_paused, sepa_payment_failed, is_trial, is_grace_period,
            stripe_price_id, pricing_plan_id, active_discounts, active_discount_ends, stripe_created_at, started_at)
            SELECT md5(id)::uuid, '', id, 'cus_1', md5('cus_1')::uuid, md5('w' || id)::uuid, 'active', true, false, false,
                false, false, 'price_1', md5('plan')::uuid, '{}', '{}', '2026-01-31 09:15Z', '2026-01-31 09:15Z'
            FROM unnest('{sub_1,sub_2}'::text[]) AS id;
        SELECT billing.create_limits(ARRAY[md5('sub_1')::uuid, md5('sub_2')::uuid]);
        SELECT FROM billing.renew_limits(ARRAY[md5('sub_1')::uuid, md5('sub_2')::uuid], '2026-03-01');
        UPDATE billing.subscription_limits SET used = 400 WHERE subscription_id = md5('sub_1')::uuid;
        SELECT FROM billing.renew_limits(ARRAY[md5('sub_2')::uuid], '2126-01-01')",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    (database, conn)
}

fn renew(database: &TestDatabase, arguments: &[&str]) -> Output {
    run(&[&["renew"], arguments].concat(), &[("DATABASE_URL", database.url.as_str())])
}

async fn periods(conn: &mut Connection) -> i64 {
    let query = "SELECT count(*) FROM billing.limit_renewals WHERE subscription_id = md5('sub_1')::uuid";
    sqlx::query_scalar(query).fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn a_dry_run_lists_each_period_and_writes_nothing() {
    let (database, mut conn) = sold().await;
    let output = renew(&database, &["--dry-run", "--now", "2026-05-01T00:00:00Z"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(code(&Output { stdout: Vec::new(), ..output }), 0, "{printed}");
    assert_eq!(
        printed,
        "SUBSCRIPTION  LIMIT  RENEWS AT             OUTCOME  CARRIED OVER  EXPIRES\n\
         sub_1         words  2026-03-31T09:15:00Z  renewed          1000      600\n\
         sub_1         words  2026-04-30T09:15:00Z  renewed          1000     1000\n\
         \n2 renewals of 1 subscription are due at 2026-05-01T00:00:00Z; nothing was written.\n"
    );
    assert_eq!(periods(&mut conn).await, 1);
    let nothing = words(&renew(&database, &["--dry-run", "--now", "2026-03-31T09:14:59Z"]).stdout);
    assert_eq!(nothing, "Nothing is due at 2026-03-31T09:14:59Z.");
}

#[tokio::test]
async fn limits_are_renewed_up_to_the_given_time() {
    let (database, mut conn) = sold().await;
    let printed = words(&renew(&database, &["--now", "2026-05-01T00:00:00Z"]).stdout);
    assert_eq!(printed, "words: 2 renewed; 2000 carried over, 1600 expired");
    assert_eq!(periods(&mut conn).await, 3);
    let again = words(&renew(&database, &["--now", "2026-05-01T00:00:00Z"]).stdout);
    assert_eq!(again, "Nothing was due.");
}

#[tokio::test]
async fn without_a_time_it_renews_what_is_due_now() {
    let (database, mut conn) = sold().await;
    let printed = words(&renew(&database, &["--json"]).stdout);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let sum = &printed["summary"]["limits"][0];
    let until_now = "SELECT billing.renewals_until('2026-01-31 09:15Z', clock_timestamp())::bigint";
    let months: i64 = sqlx::query_scalar(until_now).fetch_one(&mut conn).await.unwrap();
    assert_eq!((&sum["limit_key"], &sum["outcome"]), (&"words".into(), &"renewed".into()));
    assert_eq!(sum["renewals"].as_i64(), Some(months - 1), "the first period was renewed before: {printed}");
    assert_eq!(periods(&mut conn).await, months);
}

#[tokio::test]
async fn a_time_beyond_the_present_needs_force() {
    let (database, mut conn) = sold().await;
    let output = renew(&database, &["--now", "2027-12-01T00:00:00Z"]);
    let printed = words(&output.stderr);
    assert_eq!(code(&output), 2, "{printed}");
    assert!(printed.contains("--now is in the future") && printed.contains("add --force"), "{printed}");
    assert_eq!(periods(&mut conn).await, 1);
    let listed = words(&renew(&database, &["--now", "2027-12-01T00:00:00Z", "--dry-run"]).stdout);
    assert!(listed.ends_with("are due at 2027-12-01T00:00:00Z; nothing was written."), "{listed}");
    let output = renew(&database, &["--now", "2027-12-01T00:00:00Z", "--force"]);
    assert_eq!(code(&output), 0);
    assert_eq!(periods(&mut conn).await, 22);
}

#[tokio::test]
async fn an_invalid_time_is_a_usage_error_with_an_example() {
    for time in ["2026-05-01", "tomorrow", "2026-05-01 00:00:00"] {
        let output = run(&["renew", "--now", time], &[]);
        assert_eq!(code(&output), 2);
        assert!(words(&output.stderr).contains("as in 2026-12-01T00:00:00Z"), "{}", words(&output.stderr));
    }
}

#[tokio::test]
async fn halted_renewals_are_reported_and_nothing_is_written() {
    let (database, mut conn) = sold().await;
    sqlx::raw_sql(
        "UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = 'a clock is wrong'",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let output = renew(&database, &[]);
    assert_eq!(code(&output), 2);
    assert!(
        words(&output.stderr).contains("because a clock is wrong; synchronise the clocks"),
        "{}",
        words(&output.stderr)
    );
    assert_eq!(periods(&mut conn).await, 1);
}

#[tokio::test]
async fn locked_limits_are_waited_for() {
    let (database, mut conn) = sold().await;
    let mut other = Connection::from(sqlx::PgConnection::connect_with(&database.options).await.unwrap());
    let mut held = other.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM billing.subscription_limits FOR UPDATE").execute(&mut *held).await.unwrap();
    let url = database.url.clone();
    let renewing = tokio::task::spawn_blocking(move || run(&["renew"], &[("DATABASE_URL", url.as_str())]));
    // once idle it has found the due rows locked: it is not idle before its first attempt
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'billing-sync' AND state = 'idle'
            AND state_change < clock_timestamp() - interval '100 ms' AND query LIKE '%limits.count_due%')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut conn).await.unwrap() {
        tokio::task::yield_now().await;
    }
    // long enough for a progress line
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    held.commit().await.unwrap();
    let output = renewing.await.unwrap();
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    let line = "renew: renewing limits 0 %: 0 of 1 subscription, 0 renewals, waiting for limits that open \
                transactions have locked, ";
    assert!(words(&output.stderr).contains(line), "{}", words(&output.stderr));
    assert!(periods(&mut conn).await > 1);
}
