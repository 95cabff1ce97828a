//! Stores the result of a read: merges it like an event and settles the job, in one transaction.
//!
//! Called by the fetcher with the objects that it read. Makes no external calls.

use std::time::Duration;

use super::object_reader::FetchedObjects;
use crate::database::Connection;
use crate::jobs::{Job, settle};
use crate::metrics::batch::Stopwatch;
use crate::worker::apply::{self, Applied};
use crate::worker::batch::BatchStats;
use crate::worker::change_set::ChangeSet;
use crate::worker::context::Context;
use crate::worker::failure::Failure;

/// The cause of these changes in `row_changes`.
const CAUSE: &str = "read";

/// Merges what was read and settles the job, all but the commit.
pub(super) async fn store(
    conn: &mut Connection,
    context: &Context,
    job: &Job,
    found: FetchedObjects,
) -> Result<BatchStats, Failure> {
    let mut watch = Stopwatch::default();
    let FetchedObjects { parts, request_id, forbidden, not_expanded: _ } = found;
    let Some(version) = parts.first().map(|part| part.version) else {
        // Stripe has no read for this type, so nothing more can be known
        settle::done(conn, &[job]).await?;
        return Ok(BatchStats { watch, ..BatchStats::default() });
    };
    let missing = parts.first().is_some_and(|part| part.json.is_none());
    let mut change_set = ChangeSet::default();
    for part in parts {
        change_set.add_fetched(part, CAUSE);
    }
    let applied = apply::apply(conn, context, change_set, &mut watch).await?;
    let outcome = match (missing, applied.merged.read.contains(&job.key)) {
        (true, _) => "missing",
        (false, true) => "applied",
        (false, false) => "superseded",
    };
    settle::note_read(conn, job, version, outcome, request_id.as_deref()).await?;
    let wait = context.read_margin + Duration::from_secs(1);
    // a superseded read projects nothing, and so queues no fetch of its own
    let again = applied.job_requests.has_fetch(&job.key) || applied.merged.read_too_early.contains(&job.key);
    if let Some(error) = forbidden {
        settle::put_back(conn, job, context.backoff(job.attempt), true, Some(&error.to_string())).await?;
    } else if let Some(second) = job.newer_than.filter(|second| version <= *second) {
        // one more time, when a read can be new enough
        let left = Duration::try_from(second - version).unwrap_or_default() + Duration::from_secs(1);
        settle::put_back(conn, job, wait.max(left), false, None).await?;
    } else if again {
        // the data is not there yet, or the object changed within the staleness margin: with increasing delay, not at
        // once
        settle::put_back(conn, job, wait.max(context.backoff(job.attempt)), true, None).await?;
    } else {
        settle::done(conn, &[job]).await?;
    }
    Ok(stats(applied, watch))
}

fn stats(applied: Applied, watch: Stopwatch) -> BatchStats {
    BatchStats {
        watch,
        reasons: applied.notes.into_values().flatten().collect(),
        ambiguities: u64::try_from(applied.merged.ambiguities.len()).unwrap_or(u64::MAX),
        requested: !applied.job_requests.is_empty(),
        ..BatchStats::default()
    }
}
