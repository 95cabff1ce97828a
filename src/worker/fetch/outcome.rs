//! What a read comes to: merged like an event, and the job settled, in one transaction.
//!
//! Called by the fetcher with what was looked up. Calls nothing outside.

use std::time::Duration;

use sqlx::PgConnection;

use super::look_up::LookUp;
use crate::jobs::{Job, settle};
use crate::metrics::batch::Stopwatch;
use crate::worker::Context;
use crate::worker::batch::Tally;
use crate::worker::effect::{self, Applied, Work};
use crate::worker::failure::Failure;

/// What causes the changes of a read, in `row_changes`.
const CAUSE: &str = "read";

/// Merges what was read and settles the job, all but the commit.
pub(super) async fn store(
    conn: &mut PgConnection,
    context: &Context,
    job: &Job,
    found: LookUp,
) -> Result<Tally, Failure> {
    let mut watch = Stopwatch::default();
    let LookUp { parts, request_id, forbidden, not_expanded: _ } = found;
    let Some(version) = parts.first().map(|part| part.version) else {
        // there is no way to read it: nothing more can be known
        settle::done(conn, &[job]).await?;
        return Ok(Tally { watch, ..Tally::default() });
    };
    let missing = parts.first().is_some_and(|part| part.json.is_none());
    let mut work = Work::default();
    for part in parts {
        part.add_to(&mut work, CAUSE);
    }
    let applied = effect::apply(conn, context, work, &mut watch).await?;
    let outcome = match (missing, applied.merged.read.contains(&job.key)) {
        (true, _) => "missing",
        (false, true) => "applied",
        (false, false) => "superseded",
    };
    settle::note_read(conn, job, version, outcome, request_id.as_deref()).await?;
    let wait = context.read_margin + Duration::from_secs(1);
    // a read that is superseded projects nothing, and so asks for nothing
    let again = applied.demands.has_fetch(&job.key) || applied.merged.read_too_early.contains(&job.key);
    if let Some(error) = forbidden {
        settle::put_back(conn, job, context.backoff(job.attempt), true, Some(&error.to_string())).await?;
    } else if let Some(second) = job.later_than.filter(|second| version <= *second) {
        // once, when it can be late enough
        let left = Duration::try_from(second - version).unwrap_or_default() + Duration::from_secs(1);
        settle::put_back(conn, job, wait.max(left), false, None).await?;
    } else if again {
        // what was to be found is not there yet, or the object has changed within the margin: not at once again, and
        // ever more rarely
        settle::put_back(conn, job, wait.max(context.backoff(job.attempt)), true, None).await?;
    } else {
        settle::done(conn, &[job]).await?;
    }
    Ok(tally(applied, watch))
}

fn tally(applied: Applied, watch: Stopwatch) -> Tally {
    Tally {
        watch,
        reasons: applied.notes.into_values().flatten().collect(),
        doubts: u64::try_from(applied.merged.doubts.len()).unwrap_or(u64::MAX),
        demanded: !applied.demands.is_empty(),
        ..Tally::default()
    }
}
