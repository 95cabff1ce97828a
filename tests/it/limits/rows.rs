//! Subscriptions with limits as rows, without webhooks, of any age.

use std::time::Duration;

use billing_sync::database::{Connection, Pool};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::support::cluster::{self, TestDatabase};

/// Start of a subscription: yesterday, so that nothing renews during a test.
pub(crate) const NEW: &str = "clock_timestamp() - interval '1 day'";

/// Start of a subscription whose first period ended an hour ago and is not renewed yet.
pub(crate) const DUE: &str = "billing.renewal_at(clock_timestamp() - interval '1 hour', -1)";

/// A database with rows. Workspaces are named `w` and `v`, as in [`super::calls::call`]; ids are the md5 of names.
pub(crate) struct Rows {
    pub(crate) pool: Pool,
    database: TestDatabase,
}

impl Rows {
    pub(crate) async fn start() -> Self {
        let database = cluster::database().await;
        let pool =
            Pool::from(PgPoolOptions::new().max_connections(50).connect_with(database.options.clone()).await.unwrap());
        Self { pool, database }
    }

    /// A new subscription `sub` of the workspace `w` with these limits: `words 100, images unlimited`.
    pub(crate) async fn with(limits: &str) -> Self {
        let rows = Self::start().await;
        rows.subscribe("sub", "w", limits, NEW).await;
        rows
    }

    /// Empties the database, which is faster than creating another one.
    pub(crate) async fn forget_everything(&self) {
        self.execute(
            "TRUNCATE billing.subscriptions, billing.subscription_timeline, billing.pricing_plans, billing.plan_limits,
                billing.subscription_limits, billing.limit_renewals, billing.limit_recalculations, billing.workspace_bonus,
                billing.bonus_grants, billing.consumptions",
        )
        .await;
    }

    /// Adds a subscription of a workspace with its own plan, active since `began`, an SQL expression.
    pub(crate) async fn subscribe(&self, sub: &str, workspace: &str, limits: &str, began: &str) {
        self.execute(&format!(
            "INSERT INTO billing.pricing_plans (id, account, stripe_price_id) VALUES (md5('plan {sub}')::uuid, '', 'price_{sub}');
            INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited)
                SELECT md5('{sub} ' || word[1])::uuid, md5('plan {sub}')::uuid, word[1], nullif(word[2], 'unlimited')::bigint,
                    word[2] = 'unlimited'
                FROM regexp_split_to_table('{limits}', ', ') AS pair, string_to_array(pair, ' ') AS word;
            INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
                workspace_id, stripe_status, active, payment_paused, is_trial, is_grace_period, stripe_price_id,
                pricing_plan_id, items, active_discounts, active_discount_ends, stripe_created_at, started_at)
                SELECT md5('{sub}')::uuid, '', '{sub}', 'cus_1', md5('cus_1')::uuid, md5('{workspace}')::uuid, 'active', true,
                    false, false, false, 'price_{sub}', md5('plan {sub}')::uuid,
                    jsonb_build_array(jsonb_build_object('price_id', 'price_{sub}', 'quantity', 1)), '{{}}', '{{}}', began, began
                FROM date_trunc('milliseconds', {began}) AS began;
            INSERT INTO billing.subscription_timeline
                (account, subscription_id, stated_at, effective_from, source, status, payment_paused, price_ids, quantities, start_date)
                SELECT '', '{sub}', started_at, started_at, 'evt_0', 'active', false, ARRAY[stripe_price_id], '{{1}}', started_at
                FROM billing.subscriptions WHERE stripe_subscription_id = '{sub}';
            SELECT billing.create_limits(ARRAY[md5('{sub}')::uuid])"
        ))
        .await;
    }

    /// Changes the status of the subscription from now on, with the mark of the worker.
    pub(crate) async fn becomes(&self, sub: &str, status: &str) {
        self.execute(&format!(
            "INSERT INTO billing.subscription_timeline
                (account, subscription_id, stated_at, effective_from, source, status, payment_paused, price_ids, quantities, start_date)
                SELECT '', '{sub}', at, at, gen_random_uuid(), '{status}', false, ARRAY[stripe_price_id], '{{1}}', started_at
                FROM clock_timestamp() AS at, billing.subscriptions WHERE stripe_subscription_id = '{sub}';
            UPDATE billing.subscriptions SET stripe_status = '{status}', active = '{status}' = 'active',
                inactive_reason = nullif('{status}', 'active') WHERE stripe_subscription_id = '{sub}';
            INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('{sub}')::uuid, clock_timestamp())"
        ))
        .await;
    }

    /// Changes the amount that the plan of the subscription includes, with the mark of the worker.
    pub(crate) async fn includes(&self, sub: &str, limit: &str, included: i64) {
        self.execute(&format!(
            "UPDATE billing.plan_limits SET included = {included}
                WHERE pricing_plan_id = md5('plan {sub}')::uuid AND limit_key = '{limit}';
            INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('{sub}')::uuid, clock_timestamp())"
        ))
        .await;
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// One line of text for each row.
    pub(crate) async fn lines(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await.unwrap()
    }

    /// All balances as they are stored: subscription, key, spillover, used, and how much of that was bonus.
    pub(crate) async fn balances(&self) -> Vec<String> {
        self.lines(
            "SELECT concat_ws(' ', s.stripe_subscription_id, b.limit_key, b.spillover, b.used, b.bonus_used)
            FROM billing.subscription_limits AS b JOIN billing.subscriptions AS s ON s.id = b.subscription_id
            ORDER BY s.stripe_subscription_id, b.limit_key",
        )
        .await
    }

    /// The rest of each bonus.
    pub(crate) async fn bonuses(&self) -> Vec<String> {
        self.lines(
            "SELECT concat_ws(' ', limit_key, amount) FROM billing.workspace_bonus ORDER BY workspace_id, limit_key",
        )
        .await
    }

    /// The connection string of the database.
    pub(crate) fn url(&self) -> &str {
        &self.database.url
    }

    /// For connections of another role.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.database.options
    }

    /// Opens a separate connection.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::from(self.database.options.connect().await.unwrap())
    }

    /// Waits until the server process is blocked by the lock of another one.
    pub(crate) async fn until_blocked(&self, process: i32) {
        for _ in 0..3000 {
            let blocked: bool = sqlx::query_scalar("SELECT cardinality(pg_blocking_pids($1)) > 0")
                .bind(process)
                .fetch_one(&self.pool)
                .await
                .unwrap();
            if blocked {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the process is never blocked");
    }
}

/// The server process of a connection, for [`Rows::until_blocked`].
pub(crate) async fn process(conn: &mut Connection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(conn).await.unwrap()
}

/// Does one iteration of a scheduler; returns the number of subscriptions renewed.
pub(crate) async fn renew(conn: &mut Connection) -> usize {
    sqlx::raw_sql("BEGIN").execute(&mut *conn).await.unwrap();
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT unnest(billing.claim_limits(clock_timestamp(), 100))")
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    sqlx::query("SELECT billing.renew_limits($1, clock_timestamp())").bind(&ids).execute(&mut *conn).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(conn).await.unwrap();
    ids.len()
}
