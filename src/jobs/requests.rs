//! Collects requests for jobs and queues them.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use super::Kind;
use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// Jobs to queue, each once: of two requests for one job, the later `newer_than` counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct JobRequests {
    jobs: BTreeMap<(Kind, ObjectKey), Option<OffsetDateTime>>,
    /// Objects whose rows another session has locked: they are recomputed later.
    held: BTreeSet<ObjectKey>,
}

impl JobRequests {
    /// Requests a read of the object; with `newer_than`, one that began after this time of Stripe's clock.
    pub fn fetch(&mut self, key: ObjectKey, newer_than: Option<OffsetDateTime>) {
        self.add(Kind::Fetch, key, newer_than);
    }

    /// Requests a read that confirms the state of the object after this second.
    pub fn confirm(&mut self, key: ObjectKey, newer_than: OffsetDateTime) {
        self.add(Kind::Confirm, key, Some(newer_than));
    }

    /// Requests that the rows depending on the object are recomputed.
    pub fn reproject(&mut self, key: ObjectKey) {
        self.add(Kind::Reproject, key, None);
    }

    /// Requests that the rows of the object are written later, because another session has locked one of them.
    pub fn put_off(&mut self, key: ObjectKey) {
        self.held.insert(key.clone());
        self.reproject(key);
    }

    /// Removes and returns the objects that were put off and whose own job is being served: that job is put back
    /// instead.
    pub fn take_held(&mut self, served: &BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
        let held: BTreeSet<ObjectKey> = self.held.intersection(served).cloned().collect();
        self.jobs.retain(|(kind, key), _| *kind != Kind::Reproject || !held.contains(key));
        held
    }

    fn add(&mut self, kind: Kind, key: ObjectKey, newer_than: Option<OffsetDateTime>) {
        let known = self.jobs.entry((kind, key)).or_default();
        *known = (*known).max(newer_than);
    }

    /// Number of requested reads of Stripe's API.
    pub fn reads(&self) -> usize {
        self.jobs.keys().filter(|(kind, _)| *kind != Kind::Reproject).count()
    }

    /// Whether nothing is requested.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether a fetch of this object is requested.
    pub fn has_fetch(&self, key: &ObjectKey) -> bool {
        self.jobs.contains_key(&(Kind::Fetch, key.clone()))
    }

    /// The objects to fetch.
    pub fn fetches(&self) -> impl Iterator<Item = &ObjectKey> {
        self.jobs.keys().filter(|(kind, _)| *kind == Kind::Fetch).map(|(_, key)| key)
    }

    /// Removes the jobs that need Stripe's API.
    #[must_use]
    pub fn without_api_jobs(mut self) -> Self {
        self.jobs.retain(|(kind, _), _| *kind == Kind::Reproject);
        self
    }
}

/// Queues the requested jobs. A confirm waits until a read can be new enough: `margin` is the staleness margin of
/// reads.
///
/// If an event's time is wrong and lies in the future, its object is read at once: an event cannot be newer than its
/// arrival, except by the five minutes that clocks may differ.
///
/// A job in progress, or one that waits after a failure, keeps its time; its new generation makes it run again.
///
/// # Errors
/// Database errors.
pub async fn add(
    conn: &mut Connection,
    job_requests: &JobRequests,
    margin: std::time::Duration,
) -> Result<(), sqlx::Error> {
    if job_requests.is_empty() {
        return Ok(());
    }
    let keys = || job_requests.jobs.keys();
    let margin = Duration::try_from(margin).unwrap_or(Duration::MINUTE) + Duration::SECOND;
    let not_before: Vec<Option<OffsetDateTime>> = job_requests
        .jobs
        .iter()
        .map(|((kind, _), newer_than)| newer_than.filter(|_| *kind == Kind::Confirm).map(|at| at + margin))
        .collect();
    sqlx::query!(
        "-- jobs.add
        INSERT INTO billing.jobs AS j (kind, account, object_type, object_id, newer_than, run_at)
        -- LEAST ignores null, so it would not return null
        SELECT kind, account, object_type, object_id, CASE WHEN newer_than IS NOT NULL
                THEN LEAST(newer_than, clock_timestamp() + interval '5 min') END,
            CASE WHEN newer_than > clock_timestamp() + interval '5 min' THEN clock_timestamp()
                ELSE GREATEST(clock_timestamp(), not_before) END
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
            AS demand (kind, account, object_type, object_id, newer_than, not_before)
        -- in key order, so that sessions cannot deadlock
        ORDER BY kind, account, object_type, object_id
        ON CONFLICT (kind, account, object_type, object_id) DO UPDATE SET
            generation = j.generation + 1,
            newer_than = GREATEST(j.newer_than, excluded.newer_than),
            -- restart from page 1: a job on page 7 would miss the new rows
            cursor = NULL",
        &keys().map(|(kind, _)| kind.as_str().to_owned()).collect::<Vec<_>>(),
        &keys().map(|(_, key)| key.account.clone()).collect::<Vec<_>>(),
        &keys().map(|(_, key)| key.object_type.clone()).collect::<Vec<_>>(),
        &keys().map(|(_, key)| key.object_id.clone()).collect::<Vec<_>>(),
        &job_requests.jobs.values().copied().collect::<Vec<_>>() as &[Option<OffsetDateTime>],
        &not_before as &[Option<OffsetDateTime>]
    )
    .execute(conn)
    .await?;
    Ok(())
}
