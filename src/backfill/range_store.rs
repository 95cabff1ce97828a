//! SQL of `billing.backfill_ranges`. The cursor of a range advances in the transaction that stores its page.

use super::list::List;
use super::range::{Cursor, Range};
use crate::client::Span;
use crate::database::Connection;

/// Adds a range.
///
/// # Errors
/// Database errors.
pub(super) async fn add(
    conn: &mut Connection,
    run_id: i64,
    account: &str,
    list: List,
    span: Span,
) -> Result<Range, sqlx::Error> {
    let id = sqlx::query_scalar!(
        "-- backfill.add_range
        INSERT INTO billing.backfill_ranges (run_id, account, list, created_from, created_until)
        VALUES ($1, $2, $3, $4, $5) RETURNING id",
        run_id,
        account,
        list.as_str(),
        span.from,
        span.until
    )
    .fetch_one(conn)
    .await?;
    Ok(Range { id, account: account.to_owned(), list, span, after: None })
}

/// Returns the unfinished ranges of a run.
///
/// # Errors
/// Database errors.
pub(super) async fn open(conn: &mut Connection, run_id: i64) -> Result<Vec<Range>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- backfill.unfinished_ranges
        SELECT id, account, list, created_from, created_until, after_id, after_created
        FROM billing.backfill_ranges WHERE run_id = $1 AND NOT done ORDER BY id",
        run_id
    )
    .fetch_all(conn)
    .await?;
    let range = rows.into_iter().map(|row| Range {
        id: row.id,
        account: row.account,
        list: List::of(&row.list),
        span: Span { from: row.created_from, until: row.created_until },
        after: row.after_id.map(|id| Cursor { id, created: row.after_created }),
    });
    Ok(range.collect())
}

/// Updates the cursor and the counters of a range after a page.
///
/// # Errors
/// Database errors.
pub(super) async fn note(
    conn: &mut Connection,
    range: &Range,
    done: bool,
    objects: usize,
    changes: usize,
) -> Result<(), sqlx::Error> {
    let after = range.after.as_ref();
    sqlx::query!(
        "-- backfill.advance_range
        UPDATE billing.backfill_ranges SET created_from = $2, created_until = $3, after_id = $4, after_created = $5,
            done = $6, pages = pages + 1, objects = objects + $7, changes = changes + $8, error = NULL
        WHERE id = $1",
        range.id,
        range.span.from,
        range.span.until,
        after.map(|cursor| cursor.id.as_str()),
        after.and_then(|cursor| cursor.created),
        done,
        i64::try_from(objects).unwrap_or_default(),
        i64::try_from(changes).unwrap_or_default()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records why a range cannot continue. `is_permanent`: the range counts as done.
///
/// # Errors
/// Database errors.
pub(super) async fn record_error(
    conn: &mut Connection,
    range: &Range,
    is_permanent: bool,
    error: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- backfill.record_error
        UPDATE billing.backfill_ranges SET error = left($2, 1000), done = $3 WHERE id = $1",
        range.id,
        error,
        is_permanent
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Changes the list of a range and resets its cursor.
///
/// # Errors
/// Database errors.
pub(super) async fn replace(conn: &mut Connection, range: &Range, list: List) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- backfill.replace_list
        UPDATE billing.backfill_ranges SET list = $2, after_id = NULL, after_created = NULL WHERE id = $1",
        range.id,
        list.as_str()
    )
    .execute(conn)
    .await?;
    Ok(())
}
