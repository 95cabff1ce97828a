//! The scheduler: renews when due, in any number of processes, and never while the clocks disagree.

use std::sync::Arc;
use std::time::Duration;

use billing_sync::base::clock::{self, RemoteClock};
use billing_sync::database::Pool;
use billing_sync::limits::scheduler::Scheduler;
use billing_sync::metrics::process::ProcessMetrics;
use prometheus::Registry;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::calls::call;
use crate::support::app::sync_config;
use crate::support::cluster::{database_with_pool, number};
use crate::support::process::Server;

/// Adds subscriptions `sub_1` … with 1000 words, each of its own workspace, without the renewals since `began`, an SQL
/// expression.
async fn subscribe(pool: &Pool, count: i32, began: &str) {
    let sql = format!(
        "INSERT INTO billing.pricing_plans (id, account, stripe_price_id, active, price_per_currency)
            VALUES (md5('plan')::uuid, '', 'price_1', true, '{{}}') ON CONFLICT DO NOTHING;
        INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited)
            VALUES (md5('limit')::uuid, md5('plan')::uuid, 'words', 1000, false) ON CONFLICT DO NOTHING;
        CREATE TEMPORARY TABLE new_subscription AS SELECT number, 'sub_' || number AS id, date_trunc('second', {began}) AS began
            FROM generate_series(1, {count}) AS number;
        INSERT INTO billing.subscription_timeline
            (account, subscription_id, stated_at, effective_from, source, status, payment_paused, price_ids, quantities, start_date)
            SELECT '', id, began, began, 'evt_' || id, 'active', false, '{{price_1}}', '{{1}}', began FROM new_subscription;
        INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            workspace_id, stripe_status, active, payment_paused, sepa_payment_failed, is_trial, is_grace_period,
            stripe_price_id, pricing_plan_id, active_discounts, active_discount_ends, stripe_created_at, started_at)
            SELECT md5(id)::uuid, '', id, 'cus_1', md5('cus_1')::uuid, md5('workspace' || number)::uuid, 'active', true,
                false, false, false, false, 'price_1', md5('plan')::uuid, '{{}}', '{{}}', began, began
            FROM new_subscription;
        SELECT billing.create_limits(array_agg(md5(id)::uuid)) FROM new_subscription;
        DROP TABLE new_subscription"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

/// Waits until the query returns true.
async fn until(pool: &Pool, query: &'static str) {
    for _ in 0..3000 {
        if sqlx::query_scalar::<_, bool>(query).fetch_one(pool).await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never true: {query}");
}

const NONE_IS_DUE: &str =
    "SELECT NOT EXISTS (SELECT FROM billing.subscription_limits WHERE renews_at <= clock_timestamp())";

#[tokio::test]
async fn a_period_is_renewed_when_it_is_due() {
    let (database, pool) = database_with_pool().await;
    // 48 months back, because fewer months back the day of today may not exist
    subscribe(&pool, 1, "billing.renewal_at(clock_timestamp() + interval '3 s', -48)").await;
    let server = Server::start(&database, "renewals", &[]).await;
    until(&pool, "SELECT count(*) = 48 FROM billing.limit_renewals").await;
    until(&pool, NONE_IS_DUE).await;
    assert_eq!(number(&pool, "SELECT count(*) FROM billing.limit_renewals").await, 48);
    let metrics = server.get_metrics().await;
    for series in [
        "billing_sync_limit_renewals_total{outcome=\"renewed\"} 48",
        "billing_sync_limit_renewals_total{outcome=\"inactive\"} 0",
        "billing_sync_limit_carried_over_total{limit_key=\"words\"} 48000",
        // the unused spillover of each period except the first
        "billing_sync_limit_expired_total{limit_key=\"words\"} 47000",
        "billing_sync_limit_renewal_delay_seconds_count 48",
        "billing_sync_limit_renewals_overdue 0",
        "billing_sync_limit_renewals_halted 0",
    ] {
        assert!(metrics.contains(&format!("\n{series}\n")), "{series} is not in\n{metrics}");
    }
    server.kill().await;
}

/// Three schedulers at once, one of which is killed during its work, repeatedly.
#[tokio::test]
async fn killed_schedulers_renew_each_period_exactly_once() {
    let (database, pool) = database_with_pool().await;
    subscribe(&pool, 4000, "billing.renewal_at(clock_timestamp(), -7) + interval '1 min' * (number % 50)").await;
    let others = [Server::start(&database, "renewals", &[]).await, Server::start(&database, "renewals", &[]).await];
    for _ in 0..3 {
        let done = number(&pool, "SELECT count(*) FROM billing.limit_renewals").await;
        let server = Server::start(&database, "renewals", &[]).await;
        for _ in 0..500 {
            if number(&pool, "SELECT count(*) FROM billing.limit_renewals").await > done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.kill().await;
    }
    until(&pool, NONE_IS_DUE).await;
    for server in others {
        server.kill().await;
    }
    let wrong = "SELECT count(*) FROM (
        SELECT b.subscription_id FROM billing.subscription_limits AS b
        JOIN billing.subscriptions AS s ON s.id = b.subscription_id
        LEFT JOIN billing.limit_renewals AS r ON r.subscription_id = b.subscription_id AND r.outcome = 'renewed'
            AND r.spilled_over = 1000
        GROUP BY b.subscription_id, b.period_start, s.started_at, b.spillover, b.renews_at
        HAVING count(r.period_start) <> billing.renewals_until(s.started_at, clock_timestamp())
            OR b.period_start <> max(r.period_end) OR b.spillover <> 1000
            OR b.renews_at <> billing.next_renewal(s.started_at, clock_timestamp())) AS wrong";
    assert_eq!(number(&pool, wrong).await, 0);
    assert_eq!(number(&pool, "SELECT count(DISTINCT subscription_id) FROM billing.limit_renewals").await, 4000);
}

/// A scheduler in this process, whose measurement of Stripe's clock a test sets.
struct Local {
    scheduler: Scheduler,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Local {
    fn start(pool: &Pool) -> Self {
        let scheduler = Scheduler {
            pool: pool.clone(),
            sync: sync_config(),
            metrics: ProcessMetrics::new(&Registry::new()).unwrap(),
            stripe: RemoteClock::default(),
            wake: Arc::new(Notify::new()),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(scheduler.clone().run(shutdown.clone()));
        Self { scheduler, shutdown, running }
    }

    fn set_stripe_clock(&self, ahead: time::Duration) {
        self.scheduler.stripe.record(clock::now() + ahead);
        self.scheduler.wake.notify_one();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

const HALTED: &str = "SELECT halted_at IS NOT NULL FROM billing.renewal_rules";

#[tokio::test]
async fn clock_skew_halts_renewals_also_by_the_product() {
    let (_database, pool) = database_with_pool().await;
    let scheduler = Local::start(&pool);
    scheduler.set_stripe_clock(-time::Duration::HOUR);
    until(&pool, HALTED).await;
    let why: String =
        sqlx::query_scalar("SELECT halted_because FROM billing.renewal_rules").fetch_one(&pool).await.unwrap();
    assert!(why.starts_with("the database's clock shows ") && why.contains(" and Stripe's "), "{why}");
    subscribe(&pool, 1, "billing.renewal_at(clock_timestamp() - interval '1 min', -48)").await;
    let mut conn = pool.acquire().await.unwrap();
    let consume = "consume(md5('workspace1')::uuid, 'words', 10)";
    assert_eq!(call(&mut conn, consume).await, Ok(Some(990)), "of the period that has ended");
    scheduler.scheduler.wake.notify_one();
    assert_eq!(number(&pool, "SELECT count(*) FROM billing.limit_renewals").await, 0);

    scheduler.set_stripe_clock(time::Duration::ZERO);
    until(&pool, NONE_IS_DUE).await;
    assert!(!sqlx::query_scalar::<_, bool>(HALTED).fetch_one(&pool).await.unwrap());
    assert_eq!(number(&pool, "SELECT count(*) FROM billing.limit_renewals").await, 48);
    assert_eq!(call(&mut conn, consume).await, Ok(Some(1990)));
    drop(conn);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_halt_lasts_while_a_process_repeats_it() {
    let (_database, pool) = database_with_pool().await;
    subscribe(&pool, 1, "billing.renewal_at(clock_timestamp() - interval '1 min', -48)").await;
    let halt = "UPDATE billing.renewal_rules SET halted_because = 'a clock', halted_at = clock_timestamp() + ";
    let halted = async |since: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{halt} interval '{since}'"))).execute(&pool).await.unwrap();
    };
    // set by another process just now
    halted("-1 s").await;
    let scheduler = Local::start(&pool);
    scheduler.scheduler.wake.notify_one();
    until(&pool, "SELECT past_due_active FROM billing.renewal_rules").await;
    assert_eq!(number(&pool, "SELECT count(*) FROM billing.limit_renewals").await, 0);
    // that process has ended, or its wrong clock was corrected meanwhile
    for since in ["-2 min", "2 h"] {
        halted(since).await;
        scheduler.scheduler.wake.notify_one();
        until(&pool, "SELECT halted_at IS NULL FROM billing.renewal_rules").await;
    }
    until(&pool, NONE_IS_DUE).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn the_settings_set_the_rules_in_the_database() {
    let (database, pool) = database_with_pool().await;
    let settings = [("BILLING_SYNC_RENEWAL_ANCHOR", "billing_cycle"), ("BILLING_SYNC_PAST_DUE_ACTIVE", "false")];
    let mut server = Server::start(&database, "renewals", &settings).await;
    until(&pool, "SELECT renewal_anchor = 'billing_cycle' AND NOT past_due_active FROM billing.renewal_rules").await;
    let changed = server
        .log_line(
            "the rules of renewal have changed; each subscription follows them from its next renewal or change on",
        )
        .await;
    assert_eq!(changed["renewal_anchor"], "billing_cycle");
    server.kill().await;
}

#[tokio::test]
async fn idempotency_keys_are_kept_for_thirty_days() {
    let (_database, pool) = database_with_pool().await;
    sqlx::raw_sql(
        "INSERT INTO billing.consumptions (workspace_id, idempotency_key, limit_key, amount, consumed_at)
        SELECT md5('w')::uuid, days::text, 'words', 1, clock_timestamp() - interval '1 day' * days
        FROM generate_series(0, 60) AS days",
    )
    .execute(&pool)
    .await
    .unwrap();
    let scheduler = Local::start(&pool);
    until(&pool, "SELECT count(*) = 30 FROM billing.consumptions").await;
    assert_eq!(number(&pool, "SELECT max(idempotency_key::integer)::bigint FROM billing.consumptions").await, 29);
    scheduler.stop().await;
}
