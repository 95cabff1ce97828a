//! Costs of a batch of events, counted by PostgreSQL: statements, rows, transactions and write-ahead log. No time is
//! measured, so the figures are the same on every machine and in every run. A change that makes the worker more
//! expensive fails here with the name of the statement.
//!
//! The costs of a batch are the difference between a worker that finds a batch and a worker that finds none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use billing_sync::config::worker::WorkerConfig;
use billing_sync::database::{Connection, Pool, Session, pool};
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::outbox::enqueue::{EventSource, Incoming, store};
use billing_sync::stripe::envelope;
use billing_sync::worker::{Context, Worker};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::harness::{OwnServer, execute, number, until};
use crate::support::app::{sync_config, worker_config};
use crate::support::month;

/// Customers of the measured batch, each with ten events.
const CUSTOMERS: u32 = 50;

/// Customers of the batch before it, which fills the tables and prepares the statements of the sessions.
const BEFORE: u32 = 45;

/// Customers of a small batch after it, which must need the same number of statements.
const FEW: u32 = 5;

/// Every statement of a batch of 500 events and of its worker iteration: executions, rows returned or written, and
/// bytes of write-ahead log. Some run more than once: sessions are checked before each use, isolated events are
/// searched in two ways, customers before and after the locks, and the projection loads missing objects in rounds.
#[expect(clippy::unreadable_literal, reason = "the test prints these lines")]
const STATEMENTS: [(&str, i64, i64, i64); 35] = [
    ("BEGIN", 1, 0, 0),
    ("COMMIT", 1, 0, 0),
    ("SET LOCAL idle_in_transaction_session_timeout", 1, 0, 0),
    ("SET LOCAL lock_timeout", 1, 0, 0),
    ("SET LOCAL statement_timeout", 1, 0, 0),
    ("database.is_usable", 5, 5, 0),
    ("facts.add_charges", 1, 50, 13700),
    ("facts.add_invoices", 1, 50, 12750),
    ("facts.add_timeline", 1, 100, 35238),
    ("facts.add_trials", 1, 50, 9150),
    ("facts.payments", 1, 0, 0),
    ("facts.schedule_timeline", 1, 0, 0),
    ("facts.shared_seconds", 1, 0, 0),
    ("facts.timeline_differs", 1, 100, 0),
    ("facts.wanted", 1, 0, 0),
    ("jobs.claim", 1, 0, 0),
    ("locks.acquire", 1, 302, 16308),
    ("locks.ensure", 1, 300, 67162),
    ("mirror.confirm_echoes", 1, 1, 2286),
    ("mirror.customers_around", 2, 300, 0),
    ("mirror.load", 4, 203, 0),
    ("mirror.of_customers", 2, 50, 0),
    ("mirror.redacted_customers", 1, 0, 0),
    ("mirror.save", 1, 300, 575526),
    ("outbox.begin_attempt", 2, 0, 0),
    ("outbox.claim", 1, 500, 29080),
    ("outbox.done", 1, 500, 296948),
    ("outbox.forget_batch", 1, 1, 162),
    ("outbox.note_batch", 1, 1, 3747),
    ("limits.create", 1, 1, 0),
    ("limits.mark_subscriptions", 1, 0, 0),
    ("limits.mark_timelines", 1, 0, 0),
    ("store.remove_other_limits", 1, 0, 0),
    ("store.save_billing_contacts", 1, 50, 75698),
    ("store.save_subscriptions", 1, 50, 135799),
];

/// Tolerance for the write-ahead log of a statement, in percent, because it depends a little on the pages of the rows.
/// Full-page images, which depend on the time of a checkpoint, are off.
const WAL_HEADROOM: i64 = 4;

/// Tolerance for the write-ahead log of all statements together, in percent.
const WAL_HEADROOM_OF_ALL: i64 = 2;

/// Rows inserted, updated and deleted in each table by the 1,000 events of all three batches, by the receiver (one row
/// in `events` and one in `outbox` for each event) and by the worker.
const ROWS: [(&str, i64); 14] = [
    ("billing_contacts", 100),
    ("charge_facts", 100),
    ("events", 1000),
    ("invoice_facts", 100),
    ("jobs", 6),
    ("locks", 602),
    ("outbox", 2000),
    ("pricing_plans", 2),
    ("row_changes", 202),
    ("stripe_objects", 606),
    ("subscription_timeline", 200),
    ("subscriptions", 100),
    ("trial_facts", 100),
    ("worker_batches", 6),
];

/// Table whose writes depend on time, not on events.
const HEARTBEATS: &str = "running_processes";

/// Transactions that write: the batch, and the record that it is in progress.
const TRANSACTIONS: i64 = 2;

/// Costs of one statement in a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    calls: i64,
    rows: i64,
    wal: i64,
}

type Costs = BTreeMap<String, Cost>;

/// A server that counts statements, and a pool as small as that of one worker.
struct CountingServer {
    own: OwnServer,
    pool: Pool,
    next: u32,
}

impl CountingServer {
    async fn start() -> Self {
        let settings =
            [("shared_preload_libraries", "pg_stat_statements"), ("autovacuum", "off"), ("full_page_writes", "off")];
        let mut own = OwnServer::try_start(&settings).await.unwrap_or_else(|error| {
            panic!(
                "no PostgreSQL with the module pg_stat_statements, which counts statements in this test: install the \
                 package that contains it (`postgresql-contrib` with dnf; with apt and brew the server has it): {error}"
            )
        });
        execute(&mut own.conn, "CREATE EXTENSION pg_stat_statements").await;
        let pool = pool(own.cluster.connect_options(), Session::BACKGROUND, 2, Duration::from_secs(30));
        Self { own, pool, next: 0 }
    }

    /// Stores the events of this many new customers, as the receiver does.
    async fn fill(&mut self, customers: u32) {
        let events: Vec<Incoming> = month::events(self.next, customers)
            .map(|text| Incoming { envelope: envelope::read(text.as_bytes()).unwrap(), payload: text.into() })
            .collect();
        self.next += customers;
        store(&mut self.own.conn, &events, EventSource::Webhook).await.unwrap();
    }

    /// Costs of a new worker until no event is due, and the number of its transactions that write.
    async fn drain(&mut self) -> (Costs, i64) {
        let config = WorkerConfig { batch_size: 10 * CUSTOMERS as usize, ..worker_config() };
        let metrics = ProcessMetrics::new(&Registry::new()).unwrap();
        let mut worker = Worker::new(Context::new(self.pool.clone(), sync_config(), config, metrics));
        let transactions = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let before = number(&mut self.own.conn, transactions).await;
        execute(&mut self.own.conn, "SELECT pg_stat_statements_reset()").await;
        worker.drain(&CancellationToken::new()).await.unwrap();
        (costs(&mut self.own.conn).await, number(&mut self.own.conn, transactions).await - before)
    }

    /// Costs of one batch of the events of this many customers, and the number of its transactions that write.
    async fn batch(&mut self, customers: u32) -> (Costs, i64) {
        let (idle, idle_transactions) = self.drain().await;
        self.fill(customers).await;
        let (busy, transactions) = self.drain().await;
        let names: BTreeSet<String> = idle.keys().chain(busy.keys()).cloned().collect();
        let of = |costs: &Costs, name: &str| costs.get(name).copied().unwrap_or_default();
        let difference = names.into_iter().map(|name| {
            let (idle, busy) = (of(&idle, &name), of(&busy, &name));
            let cost = Cost { calls: busy.calls - idle.calls, rows: busy.rows - idle.rows, wal: busy.wal - idle.wal };
            (name, cost)
        });
        (difference.filter(|(_, cost)| cost.calls != 0).collect(), transactions - idle_transactions)
    }

    /// Rows inserted, updated and deleted in each table since the server was created. The pool must have no session.
    async fn rows_so_far(&mut self) -> BTreeMap<String, i64> {
        // a session reports its writes when it ends, or on request
        let ended = "SELECT (count(*) = 1)::int::bigint FROM pg_stat_activity WHERE backend_type = 'client backend'";
        until(&mut self.own.conn, ended).await;
        execute(&mut self.own.conn, "SELECT pg_stat_force_next_flush()").await;
        let query = "SELECT coalesce(parent.relname, t.relname)::text, sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint
            FROM pg_stat_user_tables AS t
            LEFT JOIN pg_class AS parent ON parent.oid = pg_partition_root(t.relid)
            WHERE t.schemaname = 'billing' GROUP BY 1 HAVING sum(n_tup_ins + n_tup_upd + n_tup_del) > 0";
        let rows: Vec<(String, i64)> = sqlx::query_as(query).fetch_all(&mut self.own.conn).await.unwrap();
        rows.into_iter().collect()
    }
}

async fn costs(conn: &mut Connection) -> Costs {
    // ROLLBACK is excluded: an abandoned transaction is rolled back at an unknown time
    let query = r"SELECT coalesce(substring(query FROM '-- ([a-z_.]+)'), substring(query FROM '^(SET LOCAL [a-z_]+|\w+)')),
            sum(calls)::bigint, sum(rows)::bigint, sum(wal_bytes)::bigint
        FROM pg_stat_statements WHERE query !~ 'pg_stat|pg_snapshot|^ROLLBACK' GROUP BY 1";
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(query).fetch_all(conn).await.unwrap();
    let mut costs: Costs = rows.into_iter().map(|(name, calls, rows, wal)| (name, Cost { calls, rows, wal })).collect();
    // the search for the oldest event depends on the clock; it also checks its connection once
    if let (Some(searches), Some(checks)) = (costs.remove("outbox.oldest_due"), costs.get_mut("database.is_usable")) {
        checks.calls -= searches.calls;
        checks.rows -= searches.calls;
    }
    costs
}

/// Differences between measured and recorded statements, one line each.
fn differences(found: &Costs) -> Vec<String> {
    let written: BTreeMap<&str, Cost> =
        STATEMENTS.into_iter().map(|(name, calls, rows, wal)| (name, Cost { calls, rows, wal })).collect();
    let names: BTreeSet<&str> = written.keys().copied().chain(found.keys().map(String::as_str)).collect();
    let mut lines = Vec::new();
    for name in names {
        let Some(now) = found.get(name) else {
            lines.push(format!("{name} is not executed any more: remove its line"));
            continue;
        };
        let Some(then) = written.get(name) else {
            lines.push(format!("{name} is new: it is executed {} times in a batch", now.calls));
            continue;
        };
        for (what, now, then) in [("runs", now.calls, then.calls), ("rows", now.rows, then.rows)] {
            if now != then {
                let direction = if now > then { "grew" } else { "fell, so record the new figure" };
                lines.push(format!("{name}: {what} in a batch {direction}: {then} recorded, {now} measured"));
            }
        }
        if now.wal > more(then.wal, WAL_HEADROOM) {
            lines.push(format!(
                "{name}: bytes of write-ahead log in a batch grew: {} recorded, {} measured",
                then.wal, now.wal
            ));
        }
    }
    lines
}

/// The bytes plus this many percent, plus a constant for statements that write very little.
fn more(bytes: i64, percent: i64) -> i64 {
    bytes + bytes * percent / 100 + 1000
}

/// The measured costs as lines of [`STATEMENTS`].
fn lines(costs: &Costs) -> String {
    let line =
        |(name, cost): (&String, &Cost)| format!("    ({name:?}, {}, {}, {}),\n", cost.calls, cost.rows, cost.wal);
    costs.iter().map(line).collect::<Vec<_>>().concat()
}

/// Differences between measured rows and [`ROWS`], one line each.
fn differences_of_rows(found: &BTreeMap<String, i64>) -> Vec<String> {
    let written: BTreeMap<&str, i64> = ROWS.into_iter().collect();
    let tables: BTreeSet<&str> = written.keys().copied().chain(found.keys().map(String::as_str)).collect();
    let both = |table| (written.get(table).copied().unwrap_or(0), found.get(table).copied().unwrap_or(0));
    (tables.into_iter().map(|table| (table, both(table))).filter(|(_, (then, now))| then != now))
        .map(|(table, (then, now))| format!("{table}: {then} rows recorded for 1,000 events, {now} measured"))
        .collect()
}

#[tokio::test]
async fn the_costs_of_a_batch_match_the_recorded_figures() {
    let mut counting = CountingServer::start().await;
    let untouched = counting.rows_so_far().await;
    counting.batch(BEFORE).await;
    let (costs, transactions) = counting.batch(CUSTOMERS).await;
    let (of_few, _) = counting.batch(FEW).await;
    counting.pool.close().await;
    let mut rows = counting.rows_so_far().await;
    for (table, before) in untouched {
        *rows.entry(table).or_default() -= before;
    }
    rows.retain(|table, rows| *rows != 0 && table != HEARTBEATS);

    let mut wrong = differences(&costs);
    let wal: i64 = costs.values().map(|cost| cost.wal).sum();
    let written: i64 = STATEMENTS.iter().map(|(.., wal)| wal).sum();
    if wal > more(written, WAL_HEADROOM_OF_ALL) {
        wrong.push(format!("bytes of write-ahead log in a batch: {written} recorded, {wal} measured"));
    }
    if transactions != TRANSACTIONS {
        wrong.push(format!("transactions of a batch that write: {TRANSACTIONS} recorded, {transactions} measured"));
    }
    for (name, cost) in &costs {
        let few = of_few.get(name).map_or(0, |cost| cost.calls);
        if few != cost.calls {
            wrong.push(format!("{name} runs {few} times for {FEW} customers and {} times for {CUSTOMERS}", cost.calls));
        }
    }
    wrong.extend(differences_of_rows(&rows));
    let rows: Vec<String> = rows.iter().map(|(table, rows)| format!("    ({table:?}, {rows}),\n")).collect();
    assert!(
        wrong.is_empty(),
        "{}\nIf this change is intended, the new lines of STATEMENTS and ROWS are:\n{}\n{}",
        wrong.join("\n"),
        lines(&costs),
        rows.concat()
    );
}
