//! SQL of runs: the stage of a backfill, its owner, and objects that it could not store. `range_store` has its ranges.
//!
//! A cursor advances in the transaction that stores its page. So after a crash nothing is missing, and only the pages
//! in flight are repeated. One process owns a run. A process that finds another owner has lost the lease and stops.

use time::OffsetDateTime;
use uuid::Uuid;

use super::list::List;
use super::range_store;
use crate::client::Span;
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::stripe_key::account::Account;

/// Seconds without a heartbeat after which the owner of a run counts as dead.
const LEASE_TIMEOUT_SECONDS: f64 = 30.0;

/// A run that this process owns, or owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Key of its row in `billing.backfill_runs`.
    pub id: i64,
    /// Random id of the process that owns the run.
    pub(super) owner: Uuid,
    /// If set, only objects created at this time or later are read.
    pub created_after: Option<OffsetDateTime>,
    /// Current stage.
    pub stage: Stage,
}

/// Stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Pages are listed and stored.
    Listing,
    /// Unlisted objects are queued.
    Sweeping,
    /// All rows are projected again, and missing objects are queued.
    Projecting,
    /// Queued objects are fetched.
    Fetching,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Listing, Self::Sweeping, Self::Projecting, Self::Fetching];

    fn as_str(self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Sweeping => "sweeping",
            Self::Projecting => "projecting",
            Self::Fetching => "fetching",
        }
    }
}

/// The run that is neither finished nor abandoned.
#[derive(Debug, Clone, PartialEq)]
pub struct UnfinishedRun {
    /// Key of its row in `billing.backfill_runs`.
    pub id: i64,
    /// Start time.
    pub started_at: OffsetDateTime,
    /// If set, only objects created at this time or later are read.
    pub created_after: Option<OffsetDateTime>,
    /// Whether its owner is running: the last heartbeat is recent enough.
    pub alive: bool,
    /// Seconds since the last heartbeat.
    pub seconds_since_heartbeat: f64,
}

/// Returns the run that is neither finished nor abandoned.
///
/// # Errors
/// Database errors.
pub async fn open(conn: &mut Connection) -> Result<Option<UnfinishedRun>, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- backfill.unfinished_run
        SELECT id, started_at, created_after, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS "silent!"
        FROM billing.backfill_runs
        WHERE finished_at IS NULL AND abandoned_at IS NULL"#
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| UnfinishedRun {
        id: row.id,
        started_at: row.started_at,
        created_after: row.created_after,
        alive: row.silent < LEASE_TIMEOUT_SECONDS,
        seconds_since_heartbeat: row.silent,
    }))
}

/// Abandons the unfinished run, whichever process owns it.
///
/// # Errors
/// Database errors.
pub async fn abandon(conn: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- backfill.abandon
        UPDATE billing.backfill_runs SET abandoned_at = clock_timestamp()
        WHERE finished_at IS NULL AND abandoned_at IS NULL"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes over the unfinished run.
///
/// # Errors
/// Database errors; [`sqlx::Error::RowNotFound`] if all runs are finished or abandoned.
pub(super) async fn take_over(conn: &mut Connection) -> Result<Run, sqlx::Error> {
    let owner = Uuid::new_v4();
    let row = sqlx::query!(
        "-- backfill.take_over
        UPDATE billing.backfill_runs SET owner = $1, heartbeat_at = clock_timestamp()
        WHERE finished_at IS NULL AND abandoned_at IS NULL
        RETURNING id, created_after, stage",
        owner
    )
    .fetch_one(&mut *conn)
    .await?;
    // the causes of earlier errors may be fixed now
    sqlx::query!(
        "-- backfill.clear_errors
        UPDATE billing.backfill_ranges SET error = NULL WHERE run_id = $1 AND NOT done",
        row.id
    )
    .execute(conn)
    .await?;
    let stage = Stage::ALL.into_iter().find(|stage| stage.as_str() == row.stage).unwrap_or(Stage::Listing);
    Ok(Run { id: row.id, owner, created_after: row.created_after, stage })
}

/// Begins a run, with a range for each list and account.
///
/// # Errors
/// Database errors; a unique violation if another run is unfinished.
pub(super) async fn begin(
    conn: &mut Connection,
    accounts: &[String],
    created_after: Option<OffsetDateTime>,
    stripe_account: Option<&Account>,
) -> Result<Run, sqlx::Error> {
    let owner = Uuid::new_v4();
    let id = sqlx::query_scalar!(
        "-- backfill.begin
        INSERT INTO billing.backfill_runs (created_after, owner, stripe_account, livemode)
        VALUES ($1, $2, $3, $4) RETURNING id",
        created_after,
        owner,
        stripe_account.map(|account| account.id.as_str()),
        stripe_account.map(|account| account.livemode)
    )
    .fetch_one(&mut *conn)
    .await?;
    for account in accounts {
        for list in List::ALL {
            let from = created_after.filter(|_| !list.is_catalogue()).map(OffsetDateTime::unix_timestamp);
            range_store::add(conn, id, account, list, Span { from, until: None }).await?;
        }
    }
    Ok(Run { id, owner, created_after, stage: Stage::Listing })
}

/// Locks the run until the transaction ends. Returns `false` if the lease is lost: another process owns the run, or it
/// has ended.
///
/// # Errors
/// Database errors.
pub(super) async fn lock_if_owner(conn: &mut Connection, run: &Run) -> Result<bool, sqlx::Error> {
    let held = sqlx::query_scalar!(
        "-- backfill.lock_if_owner
        SELECT id FROM billing.backfill_runs
        WHERE id = $1 AND owner = $2 AND finished_at IS NULL AND abandoned_at IS NULL FOR SHARE",
        run.id,
        run.owner
    )
    .fetch_optional(conn)
    .await?;
    Ok(held.is_some())
}

/// Records a heartbeat and, after the first page, the version of that page. Returns `false` if the lease is lost.
///
/// # Errors
/// Database errors.
pub(super) async fn heartbeat(
    conn: &mut Connection,
    run: &Run,
    began: Option<OffsetDateTime>,
) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query!(
        "-- backfill.heartbeat
        UPDATE billing.backfill_runs SET heartbeat_at = clock_timestamp(), first_page_version = coalesce(first_page_version, $3)
        WHERE id = $1 AND owner = $2 AND finished_at IS NULL AND abandoned_at IS NULL",
        run.id,
        run.owner,
        began
    )
    .execute(conn)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Returns the version of a run's first page; no object listed by the run has an older version. `None` before that
/// page.
///
/// # Errors
/// Database errors.
pub(super) async fn first_page_version(
    conn: &mut Connection,
    run: &Run,
) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- backfill.first_page_version\nSELECT first_page_version FROM billing.backfill_runs WHERE id = $1",
        run.id
    )
    .fetch_one(conn)
    .await
}

/// Moves a run to its next stage. Returns `false` if the lease is lost.
///
/// # Errors
/// Database errors.
pub(super) async fn enter(conn: &mut Connection, run: &Run, stage: Stage) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query!(
        "-- backfill.enter_stage
        UPDATE billing.backfill_runs SET stage = $3, heartbeat_at = clock_timestamp()
        WHERE id = $1 AND owner = $2 AND finished_at IS NULL AND abandoned_at IS NULL",
        run.id,
        run.owner,
        stage.as_str()
    )
    .execute(conn)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Finishes a run. Returns `false` if the lease is lost.
///
/// # Errors
/// Database errors.
pub(super) async fn finish(conn: &mut Connection, run: &Run) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query!(
        "-- backfill.finish
        UPDATE billing.backfill_runs SET finished_at = clock_timestamp(), heartbeat_at = clock_timestamp()
        WHERE id = $1 AND owner = $2 AND finished_at IS NULL AND abandoned_at IS NULL",
        run.id,
        run.owner
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Updates the planner's statistics. While they describe empty tables, each page scans the whole mirror. PostgreSQL
/// itself updates them only once a minute, and never if autovacuum is off.
///
/// # Errors
/// Database errors.
pub(super) async fn analyze(conn: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- backfill.analyze
        ANALYZE billing.stripe_objects, billing.locks, billing.billing_contacts, billing.subscriptions,
            billing.charge_facts, billing.payment_facts, billing.invoice_facts, billing.subscription_timeline"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records an object that could not be stored.
///
/// # Errors
/// Database errors.
pub(super) async fn fail(conn: &mut Connection, run: &Run, key: &ObjectKey, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- backfill.add_failure
        INSERT INTO billing.backfill_failures (run_id, account, object_type, object_id, error)
        VALUES ($1, $2, $3, $4, left($5, 1000))
        ON CONFLICT (run_id, account, object_type, object_id) DO UPDATE SET
            error = excluded.error, failed_at = clock_timestamp()",
        run.id,
        key.account,
        key.object_type,
        key.object_id,
        error
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Recorded error of a range whose list Stripe does not have.
pub(super) const NO_LIST: &str = "Stripe has no such list";

/// Counts and failures of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Objects stored.
    pub objects: i64,
    /// Rows changed by them.
    pub changes: i64,
    /// Pages of all ranges.
    pub pages: i64,
    /// Lists that could not be read to their end, with the reasons.
    pub failed_lists: Vec<(String, String)>,
    /// Lists that Stripe does not have.
    pub unsupported_lists: Vec<String>,
    /// Lists that the key may not read, with the missing permissions.
    pub forbidden: Vec<(String, String)>,
    /// Objects that could not be stored, as type and id, with the reasons; at most a hundred.
    pub failed: Vec<(String, String)>,
}

/// Returns the lists that this run does not read for at least one account.
///
/// # Errors
/// Database errors.
pub(super) async fn omitted(conn: &mut Connection, run: &Run) -> Result<Vec<List>, sqlx::Error> {
    let lists = sqlx::query_scalar!(
        "-- backfill.omitted
        SELECT DISTINCT list FROM billing.backfill_ranges WHERE run_id = $1 AND done AND error IS NOT NULL",
        run.id
    )
    .fetch_all(conn)
    .await?;
    Ok(lists.iter().map(|list| List::of(list)).collect())
}

/// Returns the counts and failures of a run.
///
/// # Errors
/// Database errors.
pub(super) async fn counts(conn: &mut Connection, run: &Run) -> Result<Counts, sqlx::Error> {
    let sums = sqlx::query!(
        r#"-- backfill.counts
        SELECT coalesce(sum(objects), 0)::bigint AS "objects!", coalesce(sum(changes), 0)::bigint AS "changes!",
            coalesce(sum(pages), 0)::bigint AS "pages!"
        FROM billing.backfill_ranges WHERE run_id = $1"#,
        run.id
    )
    .fetch_one(&mut *conn)
    .await?;
    let failed_lists = sqlx::query!(
        r#"-- backfill.failed_lists
        SELECT DISTINCT concat_ws(' of ', list, nullif(account, '')) AS "list!", error AS "error!", done
        FROM billing.backfill_ranges WHERE run_id = $1 AND error IS NOT NULL ORDER BY 1, 2"#,
        run.id
    )
    .fetch_all(&mut *conn)
    .await?;
    let failed = sqlx::query!(
        r#"-- backfill.failures
        SELECT concat_ws(' ', object_type, object_id) AS "object!", error
        FROM billing.backfill_failures WHERE run_id = $1 ORDER BY 1 LIMIT 100"#,
        run.id
    )
    .fetch_all(conn)
    .await?;
    let (omitted, failed_lists): (Vec<_>, Vec<_>) = failed_lists.into_iter().partition(|row| row.done);
    let (unsupported_lists, forbidden): (Vec<_>, Vec<_>) = omitted.into_iter().partition(|row| row.error == NO_LIST);
    Ok(Counts {
        forbidden: forbidden.into_iter().map(|row| (row.list, row.error)).collect(),
        unsupported_lists: unsupported_lists.into_iter().map(|row| row.list).collect(),
        objects: sums.objects,
        changes: sums.changes,
        pages: sums.pages,
        failed_lists: failed_lists.into_iter().map(|row| (row.list, row.error)).collect(),
        failed: failed.into_iter().map(|row| (row.object, row.error)).collect(),
    })
}
