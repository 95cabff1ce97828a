//! The SQL of runs: where a backfill stands, whose it is, and what it could not store. Its ranges have a file of their own.
//!
//! A range moves on in the transaction that stores its page, so that nothing is missing and nothing but that page is
//! repeated after a kill. A run belongs to one process; who finds another name in it has been relieved.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::list::List;
use super::ranges;
use crate::client::Span;
use crate::domain::object::ObjectKey;
use crate::jobs::account::Account;

/// A process that has given no sign for this long is taken for dead, in SQL's words.
const DEAD_AFTER_SECONDS: f64 = 30.0;

/// A backfill of everything, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its row.
    pub id: i64,
    /// The process that does it.
    pub(super) owner: Uuid,
    /// Only what was created then or later.
    pub created_after: Option<OffsetDateTime>,
    /// What it is at.
    pub stage: Stage,
}

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Pages are listed and stored.
    Listing,
    /// What no page named is asked for.
    Asking,
    /// All rows are computed again, and what they lack is asked for.
    Projecting,
    /// What was asked for is read.
    Fetching,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Listing, Self::Asking, Self::Projecting, Self::Fetching];

    fn as_str(self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Asking => "asking",
            Self::Projecting => "projecting",
            Self::Fetching => "fetching",
        }
    }
}

/// The run that is open.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// Its row.
    pub id: i64,
    /// When it was started.
    pub started_at: OffsetDateTime,
    /// Only what was created then or later.
    pub created_after: Option<OffsetDateTime>,
    /// Somebody is at work on it.
    pub alive: bool,
    /// Seconds since the last sign of life.
    pub silent_seconds: f64,
}

/// The run that is neither finished nor abandoned.
///
/// # Errors
/// Those of the database.
pub async fn open(conn: &mut PgConnection) -> Result<Option<Open>, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- backfill.open
        SELECT id, started_at, created_after, extract(epoch FROM clock_timestamp() - seen_at)::float8 AS "silent!"
        FROM billing.backfill_runs
        WHERE finished_at IS NULL AND abandoned_at IS NULL"#
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Open {
        id: row.id,
        started_at: row.started_at,
        created_after: row.created_after,
        alive: row.silent < DEAD_AFTER_SECONDS,
        silent_seconds: row.silent,
    }))
}

/// Gives up the run that is open, whoever does it.
///
/// # Errors
/// Those of the database.
pub async fn abandon(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- backfill.abandon
        UPDATE billing.backfill_runs SET abandoned_at = clock_timestamp()
        WHERE finished_at IS NULL AND abandoned_at IS NULL"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the open run over.
///
/// # Errors
/// Those of the database; [`sqlx::Error::RowNotFound`] where there is none.
pub(super) async fn take_over(conn: &mut PgConnection) -> Result<Run, sqlx::Error> {
    let owner = Uuid::new_v4();
    let row = sqlx::query!(
        "-- backfill.take_over
        UPDATE billing.backfill_runs SET owner = $1, seen_at = clock_timestamp()
        WHERE finished_at IS NULL AND abandoned_at IS NULL
        RETURNING id, created_after, stage",
        owner
    )
    .fetch_one(&mut *conn)
    .await?;
    // what it stumbled over may have been mended
    sqlx::query!(
        "-- backfill.try_again
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
/// Those of the database; a unique violation where one is open.
pub(super) async fn begin(
    conn: &mut PgConnection,
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
            ranges::add(conn, id, account, list, Span { from, until: None }).await?;
        }
    }
    Ok(Run { id, owner, created_after, stage: Stage::Listing })
}

/// Holds the run until the transaction ends; `false`: somebody else has it now, or it has ended.
///
/// # Errors
/// Those of the database.
pub(super) async fn hold(conn: &mut PgConnection, run: &Run) -> Result<bool, sqlx::Error> {
    let held = sqlx::query_scalar!(
        "-- backfill.hold
        SELECT id FROM billing.backfill_runs
        WHERE id = $1 AND owner = $2 AND finished_at IS NULL AND abandoned_at IS NULL FOR SHARE",
        run.id,
        run.owner
    )
    .fetch_optional(conn)
    .await?;
    Ok(held.is_some())
}

/// Notes a sign of life, and with the first page when that was read; `false` as [`hold`] says it.
///
/// # Errors
/// Those of the database.
pub(super) async fn sign(
    conn: &mut PgConnection,
    run: &Run,
    began: Option<OffsetDateTime>,
) -> Result<bool, sqlx::Error> {
    let signed = sqlx::query!(
        "-- backfill.sign
        UPDATE billing.backfill_runs SET seen_at = clock_timestamp(), began = coalesce(began, $3)
        WHERE id = $1 AND owner = $2 AND finished_at IS NULL AND abandoned_at IS NULL",
        run.id,
        run.owner,
        began
    )
    .execute(conn)
    .await?;
    Ok(signed.rows_affected() == 1)
}

/// The version of a run's first page: what any page of it named is no older. `None` where there was no page.
///
/// # Errors
/// Those of the database.
pub(super) async fn began(conn: &mut PgConnection, run: &Run) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!("-- backfill.began\nSELECT began FROM billing.backfill_runs WHERE id = $1", run.id)
        .fetch_one(conn)
        .await
}

/// Moves a run to its next stage; `false` as [`hold`] says it.
///
/// # Errors
/// Those of the database.
pub(super) async fn enter(conn: &mut PgConnection, run: &Run, stage: Stage) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query!(
        "-- backfill.enter
        UPDATE billing.backfill_runs SET stage = $3, seen_at = clock_timestamp()
        WHERE id = $1 AND owner = $2 AND finished_at IS NULL AND abandoned_at IS NULL",
        run.id,
        run.owner,
        stage.as_str()
    )
    .execute(conn)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Ends a run; `false` as [`hold`] says it.
///
/// # Errors
/// Those of the database.
pub(super) async fn finish(conn: &mut PgConnection, run: &Run) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query!(
        "-- backfill.finish
        UPDATE billing.backfill_runs SET finished_at = clock_timestamp(), seen_at = clock_timestamp()
        WHERE id = $1 AND owner = $2 AND finished_at IS NULL AND abandoned_at IS NULL",
        run.id,
        run.owner
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Tells the planner what has become of the tables: as long as it takes them for empty, it reads the whole mirror for each
/// page. By itself PostgreSQL looks once a minute, and where autovacuum is off never.
///
/// # Errors
/// Those of the database.
pub(super) async fn analyze(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- backfill.analyze
        ANALYZE billing.stripe_objects, billing.locks, billing.billing_contacts, billing.subscriptions,
            billing.charge_facts, billing.payment_facts, billing.invoice_facts, billing.subscription_timeline"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes an object that could not be stored.
///
/// # Errors
/// Those of the database.
pub(super) async fn fail(conn: &mut PgConnection, run: &Run, key: &ObjectKey, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- backfill.fail
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

/// Why a range is not read where Stripe has no such list.
pub(super) const NO_LIST: &str = "Stripe has no such list";

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Objects stored.
    pub objects: i64,
    /// Rows changed by that.
    pub changes: i64,
    /// The pages of all ranges.
    pub pages: i64,
    /// Lists that could not be read to their end, and why.
    pub stuck: Vec<(String, String)>,
    /// Lists that Stripe does not have.
    pub lacking: Vec<String>,
    /// Lists that the key may not read, and which permission is missing.
    pub forbidden: Vec<(String, String)>,
    /// Objects that could not be stored, as type and id, and why; at most a hundred.
    pub failed: Vec<(String, String)>,
}

/// The lists that this run does not read, at least of one account.
///
/// # Errors
/// Those of the database.
pub(super) async fn omitted(conn: &mut PgConnection, run: &Run) -> Result<Vec<List>, sqlx::Error> {
    let lists = sqlx::query_scalar!(
        "-- backfill.omitted
        SELECT DISTINCT list FROM billing.backfill_ranges WHERE run_id = $1 AND done AND error IS NOT NULL",
        run.id
    )
    .fetch_all(conn)
    .await?;
    Ok(lists.iter().map(|list| List::of(list)).collect())
}

/// Counts what a run did.
///
/// # Errors
/// Those of the database.
pub(super) async fn counts(conn: &mut PgConnection, run: &Run) -> Result<Counts, sqlx::Error> {
    let sums = sqlx::query!(
        r#"-- backfill.counts
        SELECT coalesce(sum(objects), 0)::bigint AS "objects!", coalesce(sum(changes), 0)::bigint AS "changes!",
            coalesce(sum(pages), 0)::bigint AS "pages!"
        FROM billing.backfill_ranges WHERE run_id = $1"#,
        run.id
    )
    .fetch_one(&mut *conn)
    .await?;
    let stuck = sqlx::query!(
        r#"-- backfill.stuck
        SELECT DISTINCT concat_ws(' of ', list, nullif(account, '')) AS "list!", error AS "error!", done
        FROM billing.backfill_ranges WHERE run_id = $1 AND error IS NOT NULL ORDER BY 1, 2"#,
        run.id
    )
    .fetch_all(&mut *conn)
    .await?;
    let failed = sqlx::query!(
        r#"-- backfill.failed
        SELECT concat_ws(' ', object_type, object_id) AS "object!", error
        FROM billing.backfill_failures WHERE run_id = $1 ORDER BY 1 LIMIT 100"#,
        run.id
    )
    .fetch_all(conn)
    .await?;
    let (omitted, stuck): (Vec<_>, Vec<_>) = stuck.into_iter().partition(|row| row.done);
    let (lacking, forbidden): (Vec<_>, Vec<_>) = omitted.into_iter().partition(|row| row.error == NO_LIST);
    Ok(Counts {
        forbidden: forbidden.into_iter().map(|row| (row.list, row.error)).collect(),
        lacking: lacking.into_iter().map(|row| row.list).collect(),
        objects: sums.objects,
        changes: sums.changes,
        pages: sums.pages,
        stuck: stuck.into_iter().map(|row| (row.list, row.error)).collect(),
        failed: failed.into_iter().map(|row| (row.object, row.error)).collect(),
    })
}
