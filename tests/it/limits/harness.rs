//! Subscriptions with limits, written in SQL as the worker writes them, and advanced in time by `renew_limits`.

use billing_sync::database::Connection;
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::support::cluster::{self, TestDatabase};

/// A database with a few subscriptions.
pub(crate) struct Harness {
    pub(crate) conn: Connection,
    /// Number of events so far, for their ids.
    events: u32,
    _database: TestDatabase,
}

/// State of a subscription from a time on.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    subscription: String,
    at: String,
    status: &'static str,
    paused: bool,
    ended: bool,
    /// Price and quantity of each item.
    items: Vec<(String, i64)>,
    /// When its event was created, if later than `at`.
    stated: Option<String>,
    anchor: Option<String>,
    day: Option<i32>,
    tie_break: i32,
}

/// `sub_1`, active, with the price `basic`, from this time on.
pub(crate) fn at(time: &str) -> Known {
    Known {
        subscription: "sub_1".to_owned(),
        at: time.to_owned(),
        status: "active",
        paused: false,
        ended: false,
        items: vec![("basic".to_owned(), 1)],
        stated: None,
        anchor: None,
        day: None,
        tie_break: 0,
    }
}

impl Known {
    /// The same state from another time on.
    pub(crate) fn at(self, time: &str) -> Self {
        Self { at: time.to_owned(), ..self }
    }

    pub(crate) fn time(&self) -> &str {
        &self.at
    }

    pub(crate) fn of(self, subscription: &str) -> Self {
        Self { subscription: subscription.to_owned(), ..self }
    }

    pub(crate) fn status(self, status: &'static str) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn paused(self) -> Self {
        Self { paused: true, ..self }
    }

    pub(crate) fn ended(self) -> Self {
        Self { ended: true, status: "canceled", ..self }
    }

    pub(crate) fn price(self, price: &str) -> Self {
        self.items(&[(price, 1)])
    }

    pub(crate) fn items(self, items: &[(&str, i64)]) -> Self {
        Self { items: items.iter().map(|(price, quantity)| ((*price).to_owned(), *quantity)).collect(), ..self }
    }

    /// Sets the creation time of its event, seconds after the boundary from which it counts.
    pub(crate) fn stated(self, time: &str) -> Self {
        Self { stated: Some(time.to_owned()), ..self }
    }

    pub(crate) fn anchor(self, anchor: &str) -> Self {
        Self { anchor: Some(anchor.to_owned()), ..self }
    }

    pub(crate) fn day(self, day: i32) -> Self {
        Self { day: Some(day), ..self }
    }

    /// Marks the last change of its second.
    pub(crate) fn last(self) -> Self {
        Self { tie_break: 1, ..self }
    }
}

impl Harness {
    pub(crate) async fn new() -> Self {
        let database = cluster::database().await;
        let conn = Connection::from(database.options.connect().await.unwrap());
        let mut harness = Self { conn, events: 0, _database: database };
        harness.price("basic", "1000").await;
        harness
    }

    /// Deletes all subscriptions, and renews by subscription start again.
    pub(crate) async fn reset(&mut self) {
        self.execute(
            "TRUNCATE billing.subscription_timeline, billing.subscriptions, billing.subscription_limits,
                billing.limit_renewals, billing.limit_recalculations, billing.workspace_bonus;
            UPDATE billing.renewal_rules SET renewal_anchor = 'subscription_start'",
        )
        .await;
    }

    /// A harness with a subscription that began at this time and includes 1000 words.
    pub(crate) async fn sold(start: &str) -> Self {
        let mut harness = Self::new().await;
        harness.emit(&[at(start)]).await;
        harness
    }

    /// Removes what is known of the time so far, as before the release that recorded it.
    pub(crate) async fn forget_history(&mut self) {
        self.execute(
            "DELETE FROM billing.subscription_timeline; DELETE FROM billing.subscription_limits;
            DELETE FROM billing.limit_recalculations",
        )
        .await;
    }

    pub(crate) async fn execute(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.conn).await.unwrap();
    }

    /// One value as text.
    pub(crate) async fn text(&mut self, sql: &str) -> String {
        let text = format!("SELECT ({sql})::text");
        sqlx::query_scalar::<_, Option<String>>(AssertSqlSafe(text))
            .fetch_one(&mut self.conn)
            .await
            .unwrap()
            .unwrap_or_else(|| "null".to_owned())
    }

    pub(crate) async fn renew_by_anchor(&mut self) {
        self.execute("UPDATE billing.renewal_rules SET renewal_anchor = 'billing_cycle'").await;
    }

    /// Sets the words that a price includes: a number, or `unlimited`.
    pub(crate) async fn price(&mut self, price: &str, words: &str) {
        self.limit(price, "words", words).await;
    }

    /// Sets a limit of a price; creates the price if it is new.
    pub(crate) async fn limit(&mut self, price: &str, key: &str, included: &str) {
        let unlimited = included == "unlimited";
        let included = if unlimited { "NULL" } else { included };
        self.plan_limit(price, key, included, unlimited, 0).await;
    }

    /// Sets a limit of a price per unit of the quantity.
    pub(crate) async fn per_unit(&mut self, price: &str, key: &str, amount: i64) {
        self.plan_limit(price, key, "0", false, amount).await;
    }

    async fn plan_limit(&mut self, price: &str, key: &str, included: &str, unlimited: bool, per_unit: i64) {
        self.execute(&format!(
            "INSERT INTO billing.pricing_plans (id, account, stripe_price_id, active, price_per_currency)
                VALUES (md5('{price}')::uuid, '', '{price}', true, '{{}}') ON CONFLICT DO NOTHING;
            INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited, per_unit)
                VALUES (md5('{price} {key}')::uuid, md5('{price}')::uuid, '{key}', {included}, {unlimited}, {per_unit})
                ON CONFLICT (id) DO UPDATE SET included = excluded.included, unlimited = excluded.unlimited,
                    per_unit = excluded.per_unit;
            INSERT INTO billing.limit_recalculations (subscription_id, since)
                SELECT DISTINCT s.id, clock_timestamp() FROM billing.subscriptions AS s
                JOIN billing.subscription_timeline AS t ON t.subscription_id = s.stripe_subscription_id
                WHERE '{price}' = ANY (t.price_ids)"
        ))
        .await;
    }

    /// Writes these states in this order, each with its timeline row, the subscription in its newest known state,
    /// missing balances, and the mark.
    pub(crate) async fn emit(&mut self, all: &[Known]) {
        for known in all {
            self.events += 1;
            let Known { subscription: id, at, status, paused, ended, items, stated, anchor, day, tie_break } = known;
            let prices = items.iter().map(|(price, _)| format!("'{price}'")).collect::<Vec<_>>().join(", ");
            let quantities = items.iter().map(|(_, quantity)| quantity.to_string()).collect::<Vec<_>>().join(", ");
            let stated = stated.as_ref().unwrap_or(at);
            let quoted = |text: &Option<String>| text.as_ref().map_or("NULL".to_owned(), |text| format!("'{text}'"));
            let (anchor, ended) = (quoted(anchor), if *ended { format!("'{at}'") } else { "NULL".to_owned() });
            let day = day.map_or("NULL".to_owned(), |day| day.to_string());
            self.execute(&format!(
                "INSERT INTO billing.subscription_timeline (account, subscription_id, stated_at, effective_from, source,
                    status, payment_paused, ended_at, price_ids, quantities, billing_cycle_anchor, anchor_day, tie_break)
                    VALUES ('', '{id}', '{stated}', '{at}', 'evt_{number}', '{status}', {paused}, {ended},
                        ARRAY[{prices}]::text[], ARRAY[{quantities}]::bigint[], {anchor}, {day}, {tie_break});
                INSERT INTO billing.subscriptions AS s (id, account, stripe_subscription_id, stripe_customer_id,
                    billing_contact_id, workspace_id, stripe_status, active, inactive_reason, payment_paused,
                    sepa_payment_failed, is_trial, is_grace_period, end_date, stripe_price_id, pricing_plan_id, items,
                    active_discounts, active_discount_ends, stripe_created_at, started_at)
                    SELECT md5('{id}')::uuid, '', '{id}', 'cus_1', md5('cus_1')::uuid, md5('workspace')::uuid, t.status, now_is.active,
                        CASE WHEN NOT now_is.active THEN 'paused' END, t.payment_paused, false, t.status = 'trialing', false,
                        t.ended_at, t.price_ids[1], p.id,
                        (SELECT jsonb_agg(jsonb_build_object('price_id', i.price, 'quantity', i.quantity))
                        FROM unnest(t.price_ids, t.quantities) AS i (price, quantity)), '{{}}', '{{}}', t.effective_from, t.effective_from
                    FROM billing.subscription_timeline AS t
                    CROSS JOIN billing.renewal_rules AS rules
                    CROSS JOIN LATERAL (SELECT billing.subscription_is_active(
                        t.status, t.payment_paused, t.ended_at, rules.past_due_active) AS active) AS now_is
                    LEFT JOIN billing.pricing_plans AS p ON p.stripe_price_id = t.price_ids[1]
                    WHERE t.subscription_id = '{id}' ORDER BY t.stated_at DESC, t.tie_break DESC LIMIT 1
                    ON CONFLICT (id) DO UPDATE SET stripe_status = excluded.stripe_status, active = excluded.active,
                        inactive_reason = excluded.inactive_reason, payment_paused = excluded.payment_paused,
                        is_trial = excluded.is_trial, end_date = excluded.end_date,
                        stripe_price_id = excluded.stripe_price_id, pricing_plan_id = excluded.pricing_plan_id,
                        items = excluded.items;
                SELECT billing.create_limits(ARRAY[md5('{id}')::uuid]);
                INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('{id}')::uuid, '{at}')",
                number = self.events,
            ))
            .await;
        }
    }

    /// Sets the usage of words in the open period, regardless of the time.
    pub(crate) async fn set_used(&mut self, amount: i64) {
        self.execute(&format!("UPDATE billing.subscription_limits SET used = {amount} WHERE limit_key = 'words'"))
            .await;
    }

    /// Renews all subscriptions as of this time.
    pub(crate) async fn renew_until(&mut self, time: &str) {
        self.execute(&format!(
            "SELECT FROM billing.renew_limits(ARRAY(SELECT DISTINCT subscription_id FROM billing.subscription_limits), '{time}')"
        ))
        .await;
    }

    async fn lines(&mut self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.conn).await.unwrap()
    }

    /// The closed periods of the words of `sub_1`: end, outcome, included, spillover, used and carried over.
    pub(crate) async fn ledger(&mut self) -> Vec<String> {
        self.lines(
            "SELECT to_char(period_end AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || format(' %s: %s+%s-%s>%s', outcome,
                coalesce(included::text, 'unlimited'), spillover, used, spilled_over)
            FROM billing.limit_renewals WHERE limit_key = 'words' AND subscription_id = md5('sub_1')::uuid ORDER BY period_end",
        )
        .await
    }

    /// The ends of the closed periods of the words of `sub_1`.
    pub(crate) async fn ends(&mut self) -> Vec<String> {
        self.lines(
            "SELECT to_char(period_end AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
            FROM billing.limit_renewals WHERE limit_key = 'words' AND subscription_id = md5('sub_1')::uuid ORDER BY period_end",
        )
        .await
    }

    /// The open period of a limit of `sub_1`: end, included, spillover and used.
    pub(crate) async fn balance_of(&mut self, key: &str) -> String {
        self.text(&format!(
            "SELECT coalesce(to_char(renews_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), 'never') || format(': %s+%s-%s',
                coalesce(included::text, 'unlimited'), spillover, used)
            FROM billing.subscription_limits WHERE limit_key = '{key}' AND subscription_id = md5('sub_1')::uuid"
        ))
        .await
    }

    pub(crate) async fn balance(&mut self) -> String {
        self.balance_of("words").await
    }

    /// All rows about limits, without the times of writing.
    pub(crate) async fn all_rows(&mut self) -> Vec<String> {
        self.lines(
            "SELECT (to_jsonb(t) - 'created_at')::text FROM billing.subscription_limits AS t
            UNION ALL
            SELECT (to_jsonb(t) - 'renewed_at' - 'corrected_at')::text FROM billing.limit_renewals AS t
            UNION ALL
            SELECT to_jsonb(t)::text FROM billing.workspace_bonus AS t
            ORDER BY 1",
        )
        .await
    }
}
