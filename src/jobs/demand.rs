//! Demands: what asks for a job.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::Kind;
use crate::domain::object::ObjectKey;

/// Jobs to be asked for, each once: of two demands for one job the stronger stands.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Demands {
    jobs: BTreeMap<(Kind, ObjectKey), Option<OffsetDateTime>>,
    /// Objects whose rows another session holds: they are computed again later.
    held: BTreeSet<ObjectKey>,
}

impl Demands {
    /// Asks for a read of the object; `later_than`: one that began after this, by Stripe's clock.
    pub fn fetch(&mut self, key: ObjectKey, later_than: Option<OffsetDateTime>) {
        self.add(Kind::Fetch, key, later_than);
    }

    /// Asks for a read that settles what happened up to this second.
    pub fn confirm(&mut self, key: ObjectKey, later_than: OffsetDateTime) {
        self.add(Kind::Confirm, key, Some(later_than));
    }

    /// Asks for the rows that depend on the object to be computed again.
    pub fn reproject(&mut self, key: ObjectKey) {
        self.add(Kind::Reproject, key, None);
    }

    /// Asks for the rows of the object to be written later, because another session holds one of them.
    pub fn put_off(&mut self, key: ObjectKey) {
        self.held.insert(key.clone());
        self.reproject(key);
    }

    /// Takes out the objects that were put off and of which a job is served just now: that job is put back instead.
    pub fn take_held(&mut self, served: &BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
        let held: BTreeSet<ObjectKey> = self.held.intersection(served).cloned().collect();
        self.jobs.retain(|(kind, key), _| *kind != Kind::Reproject || !held.contains(key));
        held
    }

    fn add(&mut self, kind: Kind, key: ObjectKey, later_than: Option<OffsetDateTime>) {
        let known = self.jobs.entry((kind, key)).or_default();
        *known = (*known).max(later_than);
    }

    /// How many reads of Stripe's API are asked for.
    pub fn reads(&self) -> usize {
        self.jobs.keys().filter(|(kind, _)| *kind != Kind::Reproject).count()
    }

    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// A fetch of this object is asked for.
    pub fn has_fetch(&self, key: &ObjectKey) -> bool {
        self.jobs.contains_key(&(Kind::Fetch, key.clone()))
    }

    /// The objects that are to be fetched.
    pub fn fetches(&self) -> impl Iterator<Item = &ObjectKey> {
        self.jobs.keys().filter(|(kind, _)| *kind == Kind::Fetch).map(|(_, key)| key)
    }

    /// Leaves out what needs Stripe's API.
    #[must_use]
    pub fn without_reads(mut self) -> Self {
        self.jobs.retain(|(kind, _), _| *kind == Kind::Reproject);
        self
    }
}

/// Writes the demands. A confirm waits until a read can be late enough: `margin` is what a read's version stays behind.
///
/// What is to be read later than the future, because an event's time is wrong, is read at once: an event cannot be younger than
/// its arrival, but for the five minutes that clocks may differ by.
///
/// A job that is at work, or waits after a failure, keeps its time: its generation says that it must be done again.
///
/// # Errors
/// Those of the database.
pub async fn add(conn: &mut PgConnection, demands: &Demands, margin: std::time::Duration) -> Result<(), sqlx::Error> {
    if demands.is_empty() {
        return Ok(());
    }
    let keys = || demands.jobs.keys();
    let margin = Duration::try_from(margin).unwrap_or(Duration::MINUTE) + Duration::SECOND;
    let not_before: Vec<Option<OffsetDateTime>> = demands
        .jobs
        .iter()
        .map(|((kind, _), later_than)| later_than.filter(|_| *kind == Kind::Confirm).map(|at| at + margin))
        .collect();
    sqlx::query!(
        "-- jobs.add
        INSERT INTO billing.jobs AS j (kind, account, object_type, object_id, later_than, run_at)
        -- LEAST of null would not be null
        SELECT kind, account, object_type, object_id, CASE WHEN later_than IS NOT NULL
                THEN LEAST(later_than, clock_timestamp() + interval '5 min') END,
            CASE WHEN later_than > clock_timestamp() + interval '5 min' THEN clock_timestamp()
                ELSE GREATEST(clock_timestamp(), not_before) END
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
            AS demand (kind, account, object_type, object_id, later_than, not_before)
        -- one order for everybody
        ORDER BY kind, account, object_type, object_id
        ON CONFLICT (kind, account, object_type, object_id) DO UPDATE SET
            generation = j.generation + 1,
            later_than = GREATEST(j.later_than, excluded.later_than),
            -- whoever is on page 7 has passed what is asked for now
            position = NULL",
        &keys().map(|(kind, _)| kind.as_str().to_owned()).collect::<Vec<_>>(),
        &keys().map(|(_, key)| key.account.clone()).collect::<Vec<_>>(),
        &keys().map(|(_, key)| key.object_type.clone()).collect::<Vec<_>>(),
        &keys().map(|(_, key)| key.object_id.clone()).collect::<Vec<_>>(),
        &demands.jobs.values().copied().collect::<Vec<_>>() as &[Option<OffsetDateTime>],
        &not_before as &[Option<OffsetDateTime>]
    )
    .execute(conn)
    .await?;
    Ok(())
}
