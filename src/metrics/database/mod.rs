//! Figures from the database, read at each scrape. Every replica reports the same, so dashboards use `max()`.
//!
//! Nothing is kept between two scrapes. If the database cannot be read, its gauges are absent, because a stale value or
//! 0 would look like a result; only `billing_sync_database_up` is always present. Called by [`crate::ops`]; `doctor`
//! reads the same figures.

mod comparison;
mod gauge;
mod orphans;
mod partitions;
mod writes;

use std::time::Duration;

use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};

use self::comparison::set_comparison;
pub use self::comparison::{Comparison, comparison};
use self::gauge::gauge;
pub use self::orphans::{MOST_ORPHANS, Orphans, orphans};
use self::orphans::{orphans_in_time, set_orphans};
pub use self::partitions::{DefaultPartition, MOST_ROWS, default_partitions};
use self::partitions::{PartitionMonths, partition_months, set_default_partitions, set_partition_months};
use self::writes::set_writes;
pub use self::writes::{Writes, writes};
use crate::database::{self, Connection, NotWritable, Pool};
use crate::domain::job;

/// Timeout of the database for one scrape.
pub const LIMIT: Duration = Duration::from_secs(1);

/// Figures of the outbox.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outbox {
    /// Events to be processed, exact.
    pub pending: i64,
    /// Dead events, exact.
    pub dead: i64,
    /// Done events: exact while the table is small, otherwise the planner's estimate.
    pub done: i64,
    /// Seconds since the oldest pending event was received; 0 if none is pending.
    pub oldest_pending_age_seconds: f64,
}

/// Jobs of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Jobs {
    /// The kind.
    pub kind: String,
    /// Number of jobs.
    pub all: i64,
    /// Number of jobs whose last attempt failed.
    pub failing: i64,
}

/// Figures of the limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Balances whose renewal is due, exact.
    pub due: i64,
    /// Seconds since the longest overdue one became due; 0 if none is due.
    pub oldest_due_age_seconds: f64,
    /// Why renewals are halted (the clocks disagree); `None` if they are not.
    pub halted_because: Option<String>,
}

/// All figures from the database.
#[derive(Debug, Clone, PartialEq)]
struct Figures {
    outbox: Outbox,
    jobs: Vec<Jobs>,
    limits: Limits,
    writes: Writes,
    /// `None` if counting them took too long.
    orphans: Option<Vec<Orphans>>,
    comparison: Comparison,
    partitions: Vec<DefaultPartition>,
    months: Vec<PartitionMonths>,
}

/// The metrics of one scrape. Never fails, because the metrics of the process are returned with them.
pub async fn gather(pool: &Pool) -> Vec<MetricFamily> {
    let mut figures = None;
    let result = tokio::time::timeout(LIMIT, read_and_check(pool, &mut figures)).await;
    let failure = match result {
        Ok(Ok(())) => None,
        Ok(Err(NotWritable::Failed(error))) => Some(database::reason(pool, &error).await),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the database did not answer within 1 s".to_owned()),
    };
    if let Some(error) = &failure {
        tracing::warn!(error, "could not read the metrics of the database");
    }
    families(failure.is_none(), figures.as_ref()).unwrap_or_else(|error| {
        tracing::error!(error = %error, "the declaration of a metric is invalid");
        Vec::new()
    })
}

/// Reads all figures, then checks whether the database accepts writes: the figures are returned even if it does not.
async fn read_and_check(pool: &Pool, figures: &mut Option<Figures>) -> Result<(), NotWritable> {
    let mut conn = pool.acquire().await?;
    *figures = Some(read(&mut conn).await?);
    database::check_writable(&mut conn).await.map(|_| ())
}

async fn read(conn: &mut Connection) -> Result<Figures, sqlx::Error> {
    let mut transaction = conn.begin().await?;
    // the server aborts with this timeout, because an abandoned statement would keep the pool's connection busy
    sqlx::query!("-- metrics.timeout\nSET LOCAL statement_timeout = '1s'").execute(&mut *transaction).await?;
    let outbox = outbox(&mut transaction).await?;
    let jobs = jobs(&mut transaction).await?;
    let limits = limits(&mut transaction).await?;
    let writes = writes(&mut transaction).await?;
    let comparison = comparison(&mut transaction).await?;
    let partitions = default_partitions(&mut transaction).await?;
    let months = partition_months(&mut transaction).await?;
    let orphans = orphans_in_time(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Figures { outbox, jobs, limits, writes, orphans, comparison, partitions, months })
}

/// Figures of the limits, by an index scan of those that are due.
///
/// # Errors
/// Database errors.
pub async fn limits(conn: &mut Connection) -> Result<Limits, sqlx::Error> {
    sqlx::query_as!(
        Limits,
        r#"
        -- metrics.limits
        SELECT count(b.renews_at) AS "due!",
            coalesce(extract(epoch FROM clock_timestamp() - min(b.renews_at)), 0)::double precision
                AS "oldest_due_age_seconds!",
            (SELECT halted_because FROM billing.renewal_rules) AS halted_because
        FROM billing.subscription_limits AS b
        WHERE b.renews_at <= clock_timestamp()
        "#
    )
    .fetch_one(conn)
    .await
}

/// Number of jobs of each kind; kinds without jobs are left out.
///
/// # Errors
/// Database errors.
pub async fn jobs(conn: &mut Connection) -> Result<Vec<Jobs>, sqlx::Error> {
    sqlx::query_as!(
        Jobs,
        r#"
        -- metrics.jobs
        SELECT kind, count(*) AS "all!", count(*) FILTER (WHERE last_error IS NOT NULL) AS "failing!"
        FROM billing.jobs
        GROUP BY kind
        "#
    )
    .fetch_all(conn)
    .await
}

/// Figures of the outbox, in one query whose cost does not grow with the history.
///
/// # Errors
/// Database errors.
pub async fn outbox(conn: &mut Connection) -> Result<Outbox, sqlx::Error> {
    sqlx::query_as!(
        Outbox,
        r#"
        -- metrics.outbox
        WITH pending AS (
            -- two queries, one for each of the two partial indexes
            SELECT sum(of_index.events)::bigint AS events, min(of_index.oldest) AS oldest
            FROM (
                SELECT count(*) AS events, min(received_at) AS oldest
                FROM billing.outbox WHERE state = 'pending' AND NOT isolated
                UNION ALL
                SELECT count(*), min(received_at)
                FROM billing.outbox WHERE state = 'pending' AND isolated
            ) AS of_index
        ), dead AS (
            SELECT count(*) AS events FROM billing.outbox WHERE state = 'dead'
        ), size AS (
            SELECT
                sum(pg_relation_size(partition.oid)) AS bytes,
                -- as the planner does: rows per page at the last ANALYZE, times the current number of pages
                sum(CASE
                    WHEN partition.reltuples > 0 AND partition.relpages > 0
                    THEN partition.reltuples / partition.relpages
                        * (pg_relation_size(partition.oid) / current_setting('block_size')::bigint)
                    -- never analysed: a row takes about 250 bytes
                    ELSE pg_relation_size(partition.oid) / 250
                END)::bigint AS events
            FROM pg_inherits AS inherits
            JOIN pg_class AS partition ON partition.oid = inherits.inhrelid
            WHERE inherits.inhparent = 'billing.outbox'::regclass
        )
        SELECT
            pending.events AS "pending!",
            dead.events AS "dead!",
            CASE
                WHEN size.bytes < 8 * 1024 * 1024
                THEN (SELECT count(*) FROM billing.outbox WHERE state = 'done')
                ELSE greatest(size.events - pending.events - dead.events, 0)
            END AS "done!",
            coalesce(greatest(extract(epoch FROM clock_timestamp() - pending.oldest), 0), 0)::double precision
                AS "oldest_pending_age_seconds!"
        FROM pending, dead, size
        "#
    )
    .fetch_one(conn)
    .await
}

fn families(up: bool, figures: Option<&Figures>) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let registry = Registry::new();
    let help = "1 if the database answered this scrape within 1 second and accepts writes, else 0.";
    gauge(&registry, "billing_sync_database_up", help)?.set(f64::from(u8::from(up)));
    if let Some(Figures { outbox, jobs, limits, writes, orphans, comparison, partitions, months }) = figures {
        let help = "Events in the outbox, by state: pending, dead, done (an estimate once there are many).";
        let events = GaugeVec::new(Opts::new("billing_sync_outbox_events", help), &["state"])?;
        registry.register(Box::new(events.clone()))?;
        for (state, count) in [("pending", outbox.pending), ("done", outbox.done), ("dead", outbox.dead)] {
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
            events.with_label_values(&[state]).set(count as f64);
        }
        let help = "Seconds since the oldest pending event was received; 0 if none is pending.";
        gauge(&registry, "billing_sync_outbox_oldest_pending_age_seconds", help)?
            .set(outbox.oldest_pending_age_seconds);
        let help = "Queued jobs, by kind: fetch and confirm read an object from Stripe's API, reproject recomputes \
                    rows, renewal is a subscription set aside because its limits cannot be renewed.";
        let all = GaugeVec::new(Opts::new("billing_sync_jobs", help), &["kind"])?;
        let help = "Jobs whose last attempt failed, by kind; they are retried with increasing delay.";
        let failing = GaugeVec::new(Opts::new("billing_sync_jobs_failing", help), &["kind"])?;
        registry.register(Box::new(all.clone()))?;
        registry.register(Box::new(failing.clone()))?;
        for kind in job::Kind::ALL.map(job::Kind::as_str) {
            let of_kind = jobs.iter().find(|jobs| jobs.kind == kind);
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 jobs")]
            let count = |count: fn(&Jobs) -> i64| of_kind.map_or(0, count) as f64;
            all.with_label_values(&[kind]).set(count(|jobs| jobs.all));
            failing.with_label_values(&[kind]).set(count(|jobs| jobs.failing));
        }
        set_limits(&registry, limits)?;
        set_writes(&registry, writes)?;
        if let Some(orphans) = orphans {
            set_orphans(&registry, orphans)?;
        }
        set_comparison(&registry, comparison)?;
        set_default_partitions(&registry, partitions)?;
        set_partition_months(&registry, months)?;
    }
    Ok(registry.gather())
}

fn set_limits(registry: &Registry, limits: &Limits) -> Result<(), prometheus::Error> {
    let help = "Limits whose renewal is due and not done yet; billing.consume renews a due limit before it uses it.";
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 limits")]
    gauge(registry, "billing_sync_limit_renewals_overdue", help)?.set(limits.due as f64);
    let help = "Seconds since the longest overdue limit was due for renewal; 0 if none is due.";
    gauge(registry, "billing_sync_limit_renewals_oldest_overdue_age_seconds", help)?.set(limits.oldest_due_age_seconds);
    let help = "1 while renewals are halted because the clocks of the database, the process and Stripe disagree.";
    gauge(registry, "billing_sync_limit_renewals_halted", help)?
        .set(f64::from(u8::from(limits.halted_because.is_some())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(figures: Option<&Figures>) -> String {
        prometheus::TextEncoder::new().encode_to_string(&families(figures.is_some(), figures).unwrap()).unwrap()
    }

    #[test]
    fn every_state_has_a_series_even_at_zero() {
        let outbox = Outbox { pending: 0, dead: 0, done: 0, oldest_pending_age_seconds: 0.0 };
        let limits = Limits { due: 0, oldest_due_age_seconds: 0.0, halted_because: None };
        let comparison = Comparison {
            watermark_age_seconds: None,
            compared: false,
            failures: 0,
            last_error: None,
            gap_seconds: 0.0,
            gap_account: None,
            gap_since: None,
            gap_until: None,
        };
        let empty = text(Some(&Figures {
            outbox,
            jobs: Vec::new(),
            limits,
            writes: Writes { begun: 0, sent: 0, unknown: 0, oldest_open_seconds: 0.0 },
            orphans: Some(Vec::new()),
            comparison,
            partitions: Vec::new(),
            months: Vec::new(),
        }));
        assert!(empty.contains("billing_sync_reconcile_gap_seconds 0\n"), "{empty}");
        assert!(!empty.contains("watermark_age"), "{empty}");
        for name in ["overdue", "oldest_overdue_age_seconds", "halted"] {
            assert!(empty.contains(&format!("billing_sync_limit_renewals_{name} 0\n")), "{empty}");
        }
        for state in ["begun", "sent", "unknown"] {
            assert!(empty.contains(&format!("billing_sync_api_writes{{state=\"{state}\"}} 0\n")), "{empty}");
        }
        for kind in ["fetch", "confirm", "reproject"] {
            assert!(empty.contains(&format!("billing_sync_jobs{{kind=\"{kind}\"}} 0\n")), "{empty}");
            assert!(empty.contains(&format!("billing_sync_jobs_failing{{kind=\"{kind}\"}} 0\n")), "{empty}");
        }
        for state in ["pending", "done", "dead"] {
            assert!(empty.contains(&format!("billing_sync_outbox_events{{state=\"{state}\"}} 0\n")), "{empty}");
        }
        for kind in ["contact_without_workspace", "subscription_without_customer", "subscription_without_price"] {
            assert!(empty.contains(&format!("billing_sync_orphans{{kind=\"{kind}\"}} 0\n")), "{empty}");
        }
        assert!(empty.contains("billing_sync_outbox_oldest_pending_age_seconds 0\n"), "{empty}");
        assert!(empty.contains("billing_sync_database_up 1\n"), "{empty}");
    }

    #[test]
    fn without_the_database_the_gauges_are_absent() {
        let unknown = text(None);
        assert!(unknown.contains("billing_sync_database_up 0\n"), "{unknown}");
        assert!(!unknown.contains("outbox"), "{unknown}");
    }
}
