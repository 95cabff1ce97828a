//! Two years of many subscriptions, compared with a model that processes all changes in order.
//!
//! The real functions run on a clock of the test: functions that read the time are replaced by copies that read a
//! table. Every second day at noon the changes known by then are written, two schedulers renew at once (except in
//! outages of weeks), and the product consumes.
//!
//! Changes become known in one of two ways: as rows of the timeline, which contain the time from which they count, or
//! by webhooks that the worker applies in any order. Webhooks do not contain that time, so the worker derives it
//! (`stripe`).
//!
//! The comparison depends on the mode:
//! - **in time** (every change is known at the next noon): each answer of `consume`, and all periods every 30 days;
//! - **late** (changes become known up to forty days late, in any order, and the product consumes by the known state):
//!   the usage of each period comes from the database, and its sum must equal the amounts that `consume` granted.
//!   Everything else in the periods must equal the model in the end. Periods closed after an end that was not known yet
//!   stay, without any effect;
//! - late, **by the billing cycle**: a closed period keeps its end, so the periods depend on when an anchor became
//!   known. Only invariants are checked: no unit and no bonus is lost, and the next renewal equals the model's.

mod life;
mod model;
mod stripe;

use std::collections::BTreeMap;
use std::time::Duration;

use billing_sync::database::{Connection, Pool, Session, pool};
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::worker::{Context, Worker};
use fastrand::Rng;
use prometheus::Registry;
use serde_json::Value;
use sqlx::{ConnectOptions, Row};
use tokio_util::sync::CancellationToken;

use self::life::{BEGIN, DAY, DAYS, Life, State, lives};
use self::model::{Account, Closed, Open, Use, account, left_of_plan};
use self::stripe::{Story, stories};
use crate::support::app::{enqueue, sync_config, worker_config};
use crate::support::cluster::{self, TestDatabase};

const NOON: i64 = DAY / 2;
const KEYS: [&str; 2] = ["words", "images"];

const PREPARE: &str = "
    CREATE TABLE public.test_clock (at timestamptz);
    INSERT INTO public.test_clock VALUES ('2027-01-01');
    CREATE FUNCTION public.test_now() RETURNS timestamptz LANGUAGE sql STABLE RETURN (SELECT c.at FROM public.test_clock AS c);
    DO $$
    DECLARE
        one record;
    BEGIN
        FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = 'billing'::regnamespace AND prosrc LIKE '%clock_timestamp()%' LOOP
            EXECUTE replace(pg_get_functiondef(one.oid), 'clock_timestamp()', 'public.test_now()');
        END LOOP;
    END $$;
    CREATE FUNCTION public.try_consume(workspace uuid, key text, amount bigint) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        RETURN coalesce(billing.consume(workspace, key, amount)::text, 'unlimited');
    EXCEPTION
        WHEN SQLSTATE 'LM001' OR SQLSTATE 'LM002' OR SQLSTATE 'LM003' OR SQLSTATE 'LM004' THEN RETURN SQLSTATE;
    END $$;
    UPDATE billing.renewal_rules SET renewal_anchor = $ANCHOR$";

/// The plans, for runs without webhooks.
const PLANS: &str = "
    INSERT INTO billing.pricing_plans (id, account, stripe_price_id, active, price_per_currency)
        SELECT md5(price)::uuid, '', price, true, '{}' FROM unnest('{small,basic,big,endless,a_seat}'::text[]) AS price;
    INSERT INTO billing.plan_limits (id, pricing_plan_id, limit_key, included, unlimited, per_unit)
        SELECT gen_random_uuid(), md5(price)::uuid, key, included, included IS NULL, per_unit
        FROM (VALUES ('small', 'words', 100, 0), ('basic', 'words', 250, 0), ('big', 'words', 1000, 0),
            ('endless', 'words', NULL, 0), ('big', 'images', 9, 0), ('endless', 'images', 50, 0), ('a_seat', 'words', 0, 20),
            ('a_seat', 'images', 0, 2)) AS l (price, key, included, per_unit)";

/// Changes as the worker writes them: `$1` is an array of them.
const WRITE_CHANGES: &str = "
    WITH changes AS (
        SELECT * FROM json_to_recordset($1::json) AS t (subscription text, workspace int, began bigint, at bigint,
            stated bigint, status text, paused boolean, ended boolean, prices text[], quantities bigint[], price text, anchor bigint)
    ), kept AS (
        INSERT INTO billing.subscription_timeline (account, subscription_id, stated_at, effective_from, source, status,
            payment_paused, ended_at, price_ids, quantities, start_date, billing_cycle_anchor)
        SELECT '', subscription, to_timestamp(stated), to_timestamp(at), 'evt_' || stated, status, paused,
            CASE WHEN ended THEN to_timestamp(at) END, prices, quantities, to_timestamp(began), to_timestamp(anchor)
        FROM changes
    ), newest AS (
        SELECT DISTINCT ON (t.subscription) t.subscription, t.workspace, t.began, t.status, t.paused, t.price,
            CASE WHEN t.ended THEN to_timestamp(t.at) END AS ended_at,
            t.status IN ('active', 'trialing', 'past_due') AND NOT t.paused AS active
        FROM changes AS t
        WHERE NOT EXISTS (SELECT FROM billing.subscription_timeline AS k
            WHERE k.subscription_id = t.subscription AND k.stated_at > to_timestamp(t.stated))
        ORDER BY t.subscription, t.stated DESC
    ), written AS (
        INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            workspace_id, stripe_status, active, inactive_reason, payment_paused, sepa_payment_failed, is_trial,
            is_grace_period, end_date, stripe_price_id, pricing_plan_id, active_discounts, active_discount_ends,
            stripe_created_at, started_at)
        SELECT md5(subscription)::uuid, '', subscription, 'cus_1', md5('cus_1')::uuid, md5('workspace' || workspace)::uuid,
            status, active, CASE WHEN NOT active THEN 'paused' END, paused, false, status = 'trialing', false, ended_at, price,
            md5(price)::uuid, '{}', '{}', to_timestamp(began), to_timestamp(began)
        FROM newest
        ON CONFLICT (id) DO UPDATE SET stripe_status = excluded.stripe_status, active = excluded.active,
            inactive_reason = excluded.inactive_reason, payment_paused = excluded.payment_paused,
            is_trial = excluded.is_trial, end_date = excluded.end_date, stripe_price_id = excluded.stripe_price_id,
            pricing_plan_id = excluded.pricing_plan_id
    )
    INSERT INTO billing.limit_recalculations (subscription_id, since)
    SELECT md5(subscription)::uuid, to_timestamp(min(at)) FROM changes GROUP BY subscription";

/// The way in which changes become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// As rows of the timeline, which contain the time from which they count.
    AsRows,
    /// By webhooks, from which the worker derives the time from which they count.
    ByWebhooks,
}

/// Delivers webhooks to a worker.
struct WebhookSource {
    pool: Pool,
    context: Context,
    /// Webhooks by delivery time, each with its creation time.
    webhooks: BTreeMap<i64, Vec<(i64, Value)>>,
}

/// Maximum number of seconds between a change and the creation of its webhook.
const ON_ITS_WAY: i64 = 200;

struct Simulation {
    conn: Connection,
    second: Connection,
    _database: TestDatabase,
    by_anchor: bool,
    late: bool,
    seed: u64,
    rng: Rng,
    lives: Vec<Life>,
    workspaces: usize,
    /// The source of webhooks; `None`: changes are written as rows.
    source: Option<WebhookSource>,
    /// Events by the time at which they become known.
    news: BTreeMap<i64, Vec<News>>,
    /// Days on which no scheduler runs.
    outages: Vec<std::ops::Range<i64>>,
    /// Amounts that `consume` has granted, by workspace and key.
    granted: BTreeMap<(usize, &'static str), i64>,
    /// Usage of each period, by history, key and start of the period; only in time.
    used: BTreeMap<(usize, &'static str), BTreeMap<i64, Use>>,
    /// Bonus granted, by workspace and key.
    bonus: BTreeMap<(usize, &'static str), i64>,
    /// Rest of the bonus, by workspace and key; only in time.
    left_of_bonus: BTreeMap<(usize, &'static str), i64>,
    /// Number of answers of `consume`, by kind.
    answers: BTreeMap<String, usize>,
}

/// An event of a history.
#[derive(Debug, Clone, Copy)]
struct News {
    life: usize,
    change: usize,
    /// Whether the event is created between the change and the change's own event, and shows the state before.
    between: bool,
}

/// The times at which the events of these histories become known.
fn news(lives: &[Life], late: bool, rng: &mut Rng) -> BTreeMap<i64, Vec<News>> {
    let mut news: BTreeMap<i64, Vec<News>> = BTreeMap::new();
    for (index, life) in lives.iter().enumerate() {
        for (number, change) in life.changes.iter().enumerate() {
            let between = (number > 0 && change.lag > 1).then_some(true);
            for between in between.into_iter().chain([false]) {
                let at = change.at + delay(late, rng);
                news.entry(at).or_default().push(News { life: index, change: number, between });
            }
        }
    }
    news
}

/// The delay between a change and the time at which it becomes known.
fn delay(late: bool, rng: &mut Rng) -> i64 {
    match rng.u8(0..10) {
        _ if !late => 0,
        0..5 => rng.i64(0..120),
        5..8 => rng.i64(0..2 * DAY),
        _ => rng.i64(0..40 * DAY),
    }
}

impl WebhookSource {
    fn new(
        database: &TestDatabase,
        workspaces: &[String],
        by_anchor: bool,
        late: bool,
        rng: &mut Rng,
    ) -> (Vec<Life>, Self) {
        let pool = pool(&database.options, Session::BACKGROUND, 4, Duration::from_secs(30));
        let metrics = ProcessMetrics::new(&Registry::new()).unwrap();
        let context = Context::new(pool.clone(), sync_config(), worker_config(), metrics);
        let (mut lives, mut webhooks) = (Vec::new(), BTreeMap::<i64, Vec<_>>::new());
        for (workspace, id) in workspaces.iter().enumerate() {
            for Story { life, events } in stories((workspace, id), by_anchor, rng) {
                lives.push(life);
                for (made, event) in events {
                    webhooks.entry(made + delay(late, rng)).or_default().push((made, event));
                }
            }
        }
        (lives, Self { pool, context, webhooks })
    }

    /// Delivers the webhooks due until this time, in any order, and runs the worker.
    async fn deliver(&mut self, until: i64, rng: &mut Rng) {
        let later = self.webhooks.split_off(&(until + 1));
        let mut due: Vec<_> = std::mem::replace(&mut self.webhooks, later).into_values().flatten().collect();
        if due.is_empty() {
            return;
        }
        rng.shuffle(&mut due);
        enqueue(&self.pool, due.iter().map(|(_, event)| event)).await;
        Worker::new(self.context.clone()).drain(&CancellationToken::new()).await.unwrap();
    }

    /// Drops webhooks created after this time, and delivers the rest at it.
    fn drop_after(&mut self, end: i64) {
        let all = std::mem::take(&mut self.webhooks).into_values().flatten();
        self.webhooks = BTreeMap::from([(end, all.filter(|(made, _)| *made <= end + ON_ITS_WAY).collect())]);
    }
}

impl Simulation {
    async fn new(known: Known, workspaces: usize, by_anchor: bool, late: bool, seed: u64) -> Self {
        let database = cluster::database().await;
        let (mut conn, second) = (
            Connection::from(database.options.connect().await.unwrap()),
            Connection::from(database.options.connect().await.unwrap()),
        );
        let anchor = if by_anchor { "'billing_cycle'" } else { "'subscription_start'" };
        let prepare = PREPARE.replace("$ANCHOR$", anchor);
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut conn).await.unwrap();
        let mut rng = Rng::with_seed(seed);
        let (lives, news, source) = match known {
            Known::AsRows => {
                sqlx::raw_sql(PLANS).execute(&mut conn).await.unwrap();
                let of = |workspace| lives(workspace, by_anchor, &mut rng);
                let lives: Vec<Life> = (0..workspaces).flat_map(of).collect();
                let news = news(&lives, late, &mut rng);
                (lives, news, None)
            }
            Known::ByWebhooks => {
                let ids = "SELECT md5('workspace' || n)::uuid::text FROM generate_series(0, $1 - 1) AS n ORDER BY n";
                let count = i64::try_from(workspaces).unwrap();
                let ids: Vec<String> = sqlx::query_scalar(ids).bind(count).fetch_all(&mut conn).await.unwrap();
                let (lives, source) = WebhookSource::new(&database, &ids, by_anchor, late, &mut rng);
                (lives, BTreeMap::new(), Some(source))
            }
        };
        let outages = (0..3).map(|_| {
            let first = rng.i64(0..DAYS);
            first..first + rng.i64(5..40)
        });
        let outages = outages.collect();
        let (granted, used, answers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (bonus, left_of_bonus) = (BTreeMap::new(), BTreeMap::new());
        Self {
            conn,
            second,
            _database: database,
            by_anchor,
            late,
            seed,
            rng,
            lives,
            workspaces,
            source,
            news,
            outages,
            granted,
            used,
            bonus,
            left_of_bonus,
            answers,
        }
    }

    async fn run(mut self) {
        for day in (0..=DAYS).step_by(2) {
            let now = BEGIN + day * DAY + NOON;
            self.set_clock(now).await;
            self.emit(now).await;
            let is_outage = self.outages.iter().any(|outage| outage.contains(&day));
            if !is_outage {
                self.schedule(now).await;
            }
            if day % 30 == 28 && !is_outage && !self.late {
                self.compare(now).await;
            }
            self.consume(now).await;
        }
        // at the end all late changes become known, and there are no more changes
        let end = BEGIN + DAYS * DAY + NOON;
        for life in &mut self.lives {
            life.changes.retain(|change| change.at <= end);
        }
        let after: Vec<News> = self.news.split_off(&(end + 1)).into_values().flatten().collect();
        let lives = &self.lives;
        let happened = after.into_iter().filter(|news| news.change < lives[news.life].changes.len());
        self.news = BTreeMap::from([(end, happened.collect())]);
        self.lives.retain(|life| !life.changes.is_empty());
        if let Some(source) = &mut self.source {
            source.drop_after(end);
        }
        self.emit(end).await;
        self.schedule(end).await;
        self.compare(end).await;
        self.check_nothing_is_lost().await;
        self.check_statements().await;
        self.check_coverage().await;
    }

    /// Checks that the simulation covered all kinds of answers and periods.
    async fn check_coverage(&mut self) {
        let kinds: Vec<&str> = self.answers.keys().map(String::as_str).collect();
        assert_eq!(kinds, ["LM001", "LM002", "LM003", "LM004", "number", "unlimited"]);
        assert!(self.answers.values().all(|count| *count > 10), "{:?}", self.answers);
        let (periods, kinds, corrected): (i64, i64, i64) = sqlx::query_as(
            "SELECT count(*), count(DISTINCT (outcome, spilled_over > 0, expired > 0, included IS NULL)), count(corrected_at)
            FROM billing.limit_renewals",
        )
        .fetch_one(&mut self.conn)
        .await
        .unwrap();
        let workspaces = i64::try_from(self.workspaces).unwrap();
        assert!(periods > 15 * workspaces && kinds >= 7, "{periods} periods of {kinds} kinds");
        assert!(
            if self.late { corrected > workspaces / 10 } else { corrected == 0 },
            "{corrected} periods were corrected"
        );
        if self.source.is_some() {
            self.check_boundaries(workspaces).await;
        }
    }

    async fn check_boundaries(&mut self, workspaces: i64) {
        let sql = "SELECT
            (SELECT count(*) FROM billing.outbox WHERE state <> 'done' OR outcome NOT IN ('applied', 'superseded')),
            count(*) FILTER (WHERE t.effective_from < t.stated_at AND NOT t.may_be_scheduled),
            count(*) FILTER (WHERE t.effective_from < t.stated_at AND t.may_be_scheduled),
            count(*) FILTER (WHERE t.tie_break > 0)
            FROM billing.subscription_timeline AS t";
        let (failed, bounded, scheduled, last): (i64, i64, i64, i64) =
            sqlx::query_as(sql).fetch_one(&mut self.conn).await.unwrap();
        assert_eq!(failed, 0);
        assert!(
            bounded > 10 * workspaces && scheduled > workspaces / 3 && last > 0,
            "{bounded} at boundaries, {scheduled} by schedules, {last} the last of their second"
        );
    }

    async fn set_clock(&mut self, now: i64) {
        let set = "UPDATE public.test_clock SET at = to_timestamp($1)";
        sqlx::query(set).bind(now).execute(&mut self.conn).await.unwrap();
    }

    async fn emit(&mut self, now: i64) {
        if let Some(source) = &mut self.source {
            let until = if self.late { now } else { now + ON_ITS_WAY };
            source.deliver(until, &mut self.rng).await;
            return;
        }
        let later = self.news.split_off(&(now + 1));
        let changes: Vec<News> = std::mem::replace(&mut self.news, later).into_values().flatten().collect();
        if changes.is_empty() {
            return;
        }
        let rows: Vec<serde_json::Value> = changes
            .iter()
            .map(|news| {
                let life = &self.lives[news.life];
                let change = &life.changes[news.change];
                let (at, stated, change) = if news.between {
                    let stated = change.at + change.lag / 2;
                    (stated, stated, &life.changes[news.change - 1])
                } else {
                    (change.at, change.at + change.lag, change)
                };
                let (status, paused) = change.state.status();
                let (prices, quantities) = change.items();
                serde_json::json!({
                    "subscription": life.id, "workspace": life.workspace, "began": life.changes[0].at, "at": at,
                    "stated": stated, "status": status, "paused": paused, "ended": change.state == State::Ended,
                    "prices": prices, "quantities": quantities, "price": change.price, "anchor": change.anchor,
                })
            })
            .collect();
        let rows = serde_json::Value::from(rows).to_string();
        sqlx::query(WRITE_CHANGES).bind(&rows).execute(&mut self.conn).await.unwrap();
        let begin = "SELECT billing.create_limits(ARRAY(SELECT DISTINCT md5(t ->> 'subscription')::uuid
            FROM json_array_elements($1::json) AS t))";
        sqlx::query(begin).bind(&rows).execute(&mut self.conn).await.unwrap();
    }

    /// Runs two schedulers at once until neither finds a due renewal.
    async fn schedule(&mut self, now: i64) {
        tokio::join!(renew(&mut self.conn, now), renew(&mut self.second, now));
        // each scheduler skipped the rows that the other one had locked
        renew(&mut self.conn, now).await;
        let due: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM billing.subscription_limits AS b WHERE b.renews_at <= to_timestamp($1)
                OR EXISTS (SELECT FROM billing.limit_recalculations AS c WHERE c.subscription_id = b.subscription_id)",
        )
        .bind(now)
        .fetch_one(&mut self.conn)
        .await
        .unwrap();
        assert_eq!(due, 0, "seed {}", self.seed);
    }

    async fn consume(&mut self, now: i64) {
        let calls: Vec<(usize, &'static str, i64)> = (0..=self.workspaces / 4)
            .map(|_| {
                let key = KEYS[usize::from(self.rng.u8(0..5) == 0)];
                let most = if key == "words" { 160 } else { 6 };
                (self.rng.usize(0..self.workspaces), key, self.rng.i64(1..most))
            })
            .collect();
        let (workspaces, keys, amounts): (Vec<String>, Vec<&str>, Vec<i64>) =
            calls.iter().map(|(workspace, key, amount)| (format!("workspace{workspace}"), *key, *amount)).collect();
        if self.late || (now - BEGIN) % (10 * DAY) == NOON {
            let grant = "SELECT billing.grant_bonus(md5($1)::uuid, $2, 100, 'a present')";
            let (workspace, key, _) = calls[0];
            sqlx::query(grant).bind(&workspaces[0]).bind(key).execute(&mut self.conn).await.unwrap();
            *self.bonus.entry((workspace, key)).or_default() += 100;
            *self.left_of_bonus.entry((workspace, key)).or_default() += 100;
        }
        let answers: Vec<String> = sqlx::query_scalar(
            "SELECT public.try_consume(md5(workspace)::uuid, key, amount)
            FROM unnest($1::text[], $2::text[], $3::bigint[]) AS call (workspace, key, amount)",
        )
        .bind(&workspaces)
        .bind(&keys)
        .bind(&amounts)
        .fetch_all(&mut self.conn)
        .await
        .unwrap();
        for ((workspace, key, amount), answer) in calls.into_iter().zip(answers) {
            if !self.late {
                let expected = self.expected_answer(workspace, key, amount, now);
                assert_eq!(answer, expected, "seed {}: {workspace} {key} {amount} at {now}", self.seed);
            }
            let kind = if answer.starts_with("LM") || answer == "unlimited" { answer.as_str() } else { "number" };
            *self.answers.entry(kind.to_owned()).or_default() += 1;
            if !answer.starts_with("LM") {
                *self.granted.entry((workspace, key)).or_default() += amount;
            }
        }
    }

    /// The answer of the model to a call, which also records the usage.
    fn expected_answer(&mut self, workspace: usize, key: &'static str, amount: i64, now: i64) -> String {
        let begun = |life: &Life| life.workspace == workspace && life.changes[0].at <= now;
        let Some(index) = self.lives.iter().rposition(begun) else { return "LM003".to_owned() };
        let life = &self.lives[index];
        if !life.before(now + 1).state.is_active() {
            return "LM002".to_owned();
        }
        let used = self.used.entry((index, key)).or_default();
        let Some(Account { open, .. }) = account(life, self.by_anchor, key, used, now) else {
            return "LM004".to_owned();
        };
        let left = left_of_plan(&open);
        let of_bonus = left.map_or(0, |left| (amount - left).max(0));
        let bonus = self.left_of_bonus.entry((workspace, key)).or_default();
        if of_bonus > *bonus {
            return "LM001".to_owned();
        }
        *bonus -= of_bonus;
        let period = used.entry(open.start).or_default();
        (period.all, period.of_bonus) = (period.all + amount, period.of_bonus + of_bonus);
        left.map_or("unlimited".to_owned(), |left| (left - (amount - of_bonus) + *bonus).to_string())
    }

    /// Compares all periods of the database with the model.
    async fn compare(&mut self, now: i64) {
        let mut found = self.accounts().await;
        for (index, life) in self.lives.iter().enumerate().filter(|(_, life)| life.changes[0].at <= now) {
            for key in KEYS {
                let found = found.remove(&(life.id.clone(), key.to_owned()));
                let used = if self.late {
                    found.iter().flat_map(usage).collect()
                } else {
                    self.used.get(&(index, key)).cloned().unwrap_or_default()
                };
                let expected = account(life, self.by_anchor, key, &used, now);
                let (found, expected) = (found.map(|one| without_periods_after_end(one, life)), expected);
                if self.late && self.by_anchor {
                    let next = |account: &Option<Account>| account.as_ref().map(|account| account.open.end);
                    if found.is_some() || life.ended().is_none() {
                        assert_eq!(next(&found), next(&expected), "seed {}: {life:#?} {key} at {now}", self.seed);
                    }
                } else if found.is_none() {
                    // the end was known before any other change, or before the plan with this limit
                    assert!(
                        expected.is_none() || life.ended().is_some_and(|end| end <= now),
                        "seed {}: {life:#?} {key} at {now}",
                        self.seed
                    );
                } else {
                    assert_eq!(found, expected, "seed {}: {life:#?} {key} at {now}", self.seed);
                }
            }
        }
        assert!(found.is_empty(), "seed {}: {found:#?}", self.seed);
    }

    async fn accounts(&mut self) -> BTreeMap<(String, String), Account> {
        let rows = sqlx::query(
            "SELECT s.stripe_subscription_id, m.limit_key, extract(epoch FROM m.period_start)::bigint,
                extract(epoch FROM m.period_end)::bigint, m.outcome, m.included, m.spillover, m.used, m.spilled_over, m.expired, m.bonus_used
            FROM (
                SELECT subscription_id, limit_key, period_start, period_end, outcome, included, spillover, used, spilled_over,
                    expired, bonus_used
                FROM billing.limit_renewals
                UNION ALL
                SELECT subscription_id, limit_key, period_start, renews_at, NULL, included, spillover, used, 0, 0, bonus_used
                FROM billing.subscription_limits
            ) AS m
            JOIN billing.subscriptions AS s ON s.id = m.subscription_id
            ORDER BY 1, 2, m.outcome IS NULL, 3",
        )
        .fetch_all(&mut self.conn)
        .await
        .unwrap();
        let (mut accounts, mut closed) = (BTreeMap::new(), Vec::new());
        for row in rows {
            let (start, included, spillover) = (row.get(2), row.get(5), row.get(6));
            let used = Use { all: row.get(7), of_bonus: row.get(10) };
            let outcome = row.get::<Option<&str>, _>(4).map(|found| {
                ["renewed", "inactive", "trial_end"].into_iter().find(|outcome| *outcome == found).unwrap()
            });
            if let Some(outcome) = outcome {
                let (end, spilled_over, expired) = (row.get(3), row.get(8), row.get(9));
                closed.push(Closed { start, end, outcome, included, spillover, used, spilled_over, expired });
            } else {
                let open = Open { start, end: row.get(3), included, spillover, used };
                accounts.insert((row.get(0), row.get(1)), Account { closed: std::mem::take(&mut closed), open });
            }
        }
        assert!(closed.is_empty(), "seed {}: periods without an open one: {closed:#?}", self.seed);
        accounts
    }

    async fn check_nothing_is_lost(&mut self) {
        let used = self
            .sums(
                "SELECT subscription_id, limit_key, used AS amount FROM billing.subscription_limits
            UNION ALL SELECT subscription_id, limit_key, used FROM billing.limit_renewals",
            )
            .await;
        assert_eq!(
            used,
            self.granted.iter().filter(|(_, sum)| **sum != 0).map(|(key, sum)| (*key, *sum)).collect(),
            "seed {}",
            self.seed
        );
        let bonus = self.sums("SELECT subscription_id, limit_key, bonus_used AS amount FROM billing.subscription_limits
            UNION ALL SELECT subscription_id, limit_key, bonus_used FROM billing.limit_renewals
            UNION ALL SELECT s.id, w.limit_key, w.amount FROM billing.workspace_bonus AS w
                CROSS JOIN LATERAL (SELECT s.id FROM billing.subscriptions AS s WHERE s.workspace_id = w.workspace_id LIMIT 1) AS s").await;
        let granted: BTreeMap<_, _> = self.bonus.clone();
        assert_eq!(bonus, granted, "seed {}", self.seed);
    }

    /// Checks `limit_statement`: the lines of each period add up to zero, the next period has the amount carried over,
    /// and the lines of each bonus add up to the rest of it.
    async fn check_statements(&mut self) {
        sqlx::raw_sql("CREATE TEMPORARY TABLE lines AS SELECT * FROM billing.limit_statement")
            .execute(&mut self.conn)
            .await
            .unwrap();
        let wrong = [
            "SELECT subscription_id, limit_key, period_start FROM lines WHERE subscription_id IS NOT NULL
            GROUP BY 1, 2, 3 HAVING sum(amount) <> 0",
            "SELECT subscription_id, limit_key, period_end FROM lines WHERE line = 'carried_over'
            EXCEPT SELECT subscription_id, limit_key, period_start FROM lines WHERE line = 'carried_in'",
            "SELECT workspace_id, limit_key, sum(bonus) FROM lines GROUP BY 1, 2 HAVING sum(bonus) <> 0
            EXCEPT SELECT workspace_id, limit_key, amount FROM billing.workspace_bonus",
            "SELECT subscription_id, limit_key, sum(used) FROM billing.limit_periods_used GROUP BY 1, 2 HAVING sum(used) <> 0
            EXCEPT SELECT subscription_id, limit_key, -sum(amount) FROM lines WHERE line = 'used' GROUP BY 1, 2",
        ];
        for sql in wrong {
            let sql = sql.replace("billing.limit_periods_used", "(SELECT subscription_id, limit_key, used FROM
                billing.limit_renewals UNION ALL SELECT subscription_id, limit_key, used FROM billing.subscription_limits) AS u");
            let count = format!("SELECT count(*) FROM ({sql}) AS wrong");
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&mut self.conn).await.unwrap();
            assert_eq!(count, 0, "seed {}: {sql}", self.seed);
        }
        let kinds = "SELECT string_agg(DISTINCT line, ' ') FROM lines";
        let kinds: String = sqlx::query_scalar(kinds).fetch_one(&mut self.conn).await.unwrap();
        for kind in [
            "carried_in",
            "included",
            "unlimited",
            "used",
            "from_bonus",
            "beyond",
            "carried_over",
            "lost",
            "left",
            "granted",
        ] {
            assert!(kinds.contains(kind), "seed {}: no {kind} in {kinds}", self.seed);
        }
    }

    /// The sums of these rows by workspace and key, without zeros.
    async fn sums(&mut self, rows: &str) -> BTreeMap<(usize, &'static str), i64> {
        let sql = format!(
            "SELECT s.workspace_id, r.limit_key, sum(r.amount)::bigint FROM ({rows}) AS r
            JOIN billing.subscriptions AS s ON s.id = r.subscription_id GROUP BY 1, 2 HAVING sum(r.amount) <> 0"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut self.conn).await.unwrap();
        let ids: BTreeMap<uuid::Uuid, usize> = self.workspace_ids().await;
        rows.iter()
            .map(|row| {
                let key = KEYS.into_iter().find(|key| *key == row.get::<&str, _>(1)).unwrap();
                ((ids[&row.get::<uuid::Uuid, _>(0)], key), row.get(2))
            })
            .collect()
    }

    async fn workspace_ids(&mut self) -> BTreeMap<uuid::Uuid, usize> {
        let sql = "SELECT md5('workspace' || n)::uuid, n::bigint FROM generate_series(0, $1) AS n";
        let rows =
            sqlx::query(sql).bind(i64::try_from(self.workspaces).unwrap()).fetch_all(&mut self.conn).await.unwrap();
        rows.iter().map(|row| (row.get(0), usize::try_from(row.get::<i64, _>(1)).unwrap())).collect()
    }
}

/// Claims and renews until there is nothing to claim.
async fn renew(conn: &mut Connection, now: i64) {
    loop {
        let claimed: i64 = sqlx::query_scalar(
            "SELECT cardinality(ids)::bigint FROM billing.claim_limits(to_timestamp($1), 500) AS ids
            WHERE (SELECT count(*) FROM billing.renew_limits(ids, to_timestamp($1))) >= 0",
        )
        .bind(now)
        .fetch_one(&mut *conn)
        .await
        .unwrap();
        if claimed == 0 {
            return;
        }
    }
}

/// The usage of each period, by its start.
fn usage(account: &Account) -> BTreeMap<i64, Use> {
    let closed = account.closed.iter().map(|period| (period.start, period.used));
    closed.chain([(account.open.start, account.open.used)]).collect()
}

/// The account without periods that were closed after the end while it was not known.
fn without_periods_after_end(mut account: Account, life: &Life) -> Account {
    let Some(end) = life.ended() else { return account };
    while let Some(last) = account.closed.last().filter(|period| period.end > end) {
        assert_eq!((last.outcome, last.spilled_over), ("inactive", 0), "{account:#?}");
        let last = account.closed.pop().unwrap();
        // this period becomes the open one, without a renewal
        account.open =
            Open { start: last.start, end: None, used: last.used, spillover: last.spillover, ..account.open };
    }
    account
}

/// Number of workspaces; `make soak` sets it.
fn workspaces() -> usize {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
    let requested = std::env::var("SOAK_SUBSCRIPTIONS").ok().and_then(|count| count.parse().ok());
    requested.unwrap_or(30)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_years_known_in_time_match_the_model() {
    for by_anchor in [false, true] {
        Simulation::new(Known::AsRows, workspaces(), by_anchor, false, 1).await.run().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_years_known_late_match_the_model_in_the_end() {
    Simulation::new(Known::AsRows, workspaces(), false, true, 2).await.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_years_with_late_anchors_lose_nothing() {
    Simulation::new(Known::AsRows, workspaces(), true, true, 3).await.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_years_of_webhooks_in_time_match_the_model() {
    Simulation::new(Known::ByWebhooks, workspaces(), false, false, 4).await.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_years_of_webhooks_by_billing_cycle_match_the_model() {
    Simulation::new(Known::ByWebhooks, workspaces(), true, false, 4).await.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_years_of_late_webhooks_match_the_model_in_the_end() {
    Simulation::new(Known::ByWebhooks, workspaces(), false, true, 5).await.run().await;
}
