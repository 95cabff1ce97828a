//! One batch: one transaction, set-based, without any call to the outside.
//!
//! Claim with SKIP LOCKED, look at the events alone, let [`super::effect`] do what they ask for, settle, commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::{PgConnection, PgTransaction};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::effect::{self, Work};
use super::failure::Failure;
use super::gather::Gather;
use super::resolve::{Resolved, ToMerge, resolve};
use super::{Context, Round, Worker};
use crate::config::sync::Confirm;
use crate::domain::event::{EventKey, Outcome, Reason};
use crate::domain::object::ObjectKey;
use crate::metrics::batch::{Step, Stopwatch};
use crate::metrics::instance::Consequence;
use crate::outbox::claim::{self, Claimed};
use crate::outbox::own;
use crate::outbox::settle::{self, Settlement};
use crate::outbox::twins::{self, Notice};
use crate::stripe::catalogue::snapshot_of;

/// What the events of a transaction came to, for the counters, once it has committed.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Where its time went.
    pub(super) watch: Stopwatch,
    pub(super) events: Vec<(String, Outcome, f64)>,
    pub(super) reasons: Vec<Reason>,
    pub(super) doubts: u64,
    /// Jobs were asked for.
    pub(super) demanded: bool,
    /// Events of which no row can be made; they are not settled.
    pub(super) unreadable: Vec<(EventKey, &'static str)>,
}

impl Tally {
    /// Counts it all, and wakes whoever serves the jobs that were asked for, or renews limits that may have changed.
    pub(super) fn count(&self, context: &Context) {
        for (event_type, outcome, delay) in &self.events {
            context.metrics.event_processed(event_type, *outcome, *delay);
        }
        for reason in &self.reasons {
            context.metrics.event_reason(*reason);
        }
        context.watch.ignored(&self.reasons, context.sync.livemode);
        context.metrics.batch(&self.watch, self.doubts);
        if self.demanded {
            context.reads.notify_waiters();
        }
        context.limits.notify_one();
    }
}

impl Worker {
    /// Takes one batch of fresh events through. A batch that fails is sent to be tried one by one.
    pub(super) async fn try_batch(&mut self) -> Result<Round, Failure> {
        let mut watch = Stopwatch::default();
        let batch_id = Uuid::new_v4();
        let mut tx = begin_batch(&self.context).await?;
        let limit = self.context.config.batch_size;
        let events = claim::batch(&mut tx, i64::try_from(limit).unwrap_or(i64::MAX), self.since.at()).await?;
        self.gather = Gather::after(watch.began(), events.len(), limit);
        if events.is_empty() {
            return Ok(Round::Idle);
        }
        let keys: Vec<EventKey> = events.iter().map(|event| event.key.clone()).collect();
        claim::note_batch(&mut *self.context.pool.acquire().await?, batch_id, &keys).await?;
        watch.done(Step::Claim);

        let context = Arc::clone(&self.context);
        let work = async move {
            let mut tally = process(&mut tx, &context, events, watch).await?;
            let unreadable: Vec<EventKey> = tally.unreadable.iter().map(|(key, _)| key.clone()).collect();
            claim::set_alone(&mut tx, &unreadable).await?;
            claim::forget_batch(&mut tx, batch_id).await?;
            tally.watch.done(Step::Settle);
            tx.commit().await?;
            tally.watch.done(Step::Commit);
            Ok(tally)
        };
        match contain_panics(work).await {
            Ok(tally) => tally.count(&self.context),
            Err(failure) => self.take_apart(batch_id, &keys, failure).await?,
        }
        Ok(Round::Busy)
    }

    /// After a failed batch: its events go alone from now on, whoever's fault it was. That a failure was no event's
    /// fault can be wrong, and then the next batch must not be the same again.
    async fn take_apart(&self, batch_id: Uuid, keys: &[EventKey], failure: Failure) -> Result<(), Failure> {
        tracing::warn!(error = %failure, events = keys.len(), "a batch failed: its events are tried one by one");
        self.context.metrics.attempt_failed(match failure {
            Failure::Away(_) | Failure::Contended(_) => Consequence::Transient,
            Failure::Retry(_) | Failure::Bury(_) => Consequence::Retry,
        });
        // where the database is away this fails as well, and the note stays behind for `recover`
        let mut tx = begin(&self.context).await?;
        claim::set_alone(&mut tx, keys).await?;
        claim::forget_batch(&mut tx, batch_id).await?;
        tx.commit().await?;
        if let Failure::Away(_) = failure { Err(failure) } else { Ok(()) }
    }
}

/// READ COMMITTED, because every statement after the locks must see what was committed before they were granted.
/// Somebody who holds a row for long holds up the events of that row, not the worker; and should our machine vanish,
/// its locks go with it. A statement ends on the server before we stop waiting for it ([`super::STEP_LIMIT`]).
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s';
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Begins a transaction as all of the worker's are.
pub(super) async fn begin(context: &Context) -> Result<PgTransaction<'static>, sqlx::Error> {
    context.pool.begin_with(BEGIN).await
}

/// The same for a batch. Its statements take milliseconds. One that takes seconds is the fault of one event or job, for
/// which the others of the batch are not to wait.
const BEGIN_BATCH: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Begins a transaction for fresh events or jobs.
pub(super) async fn begin_batch(context: &Context) -> Result<PgTransaction<'static>, sqlx::Error> {
    context.pool.begin_with(BEGIN_BATCH).await
}

/// The same for an event or job that has failed in a batch: it hardly waits for a lock that another session holds, so that
/// those behind it need not wait either. It comes back with increasing delay.
const BEGIN_FIRST: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// The same for the attempts after that: the others of its batch are done by then, so it gets the time that it needs.
const BEGIN_FURTHER: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '60s';
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Begins a transaction for the given attempt (from 1) at one event or job that has failed in a batch.
pub(super) async fn begin_isolated(context: &Context, attempt: i32) -> Result<PgTransaction<'static>, sqlx::Error> {
    context.pool.begin_with(if attempt > 1 { BEGIN_FURTHER } else { BEGIN_FIRST }).await
}

/// Runs `work` so that a panic in it is a failure like any other, and so that it ends when nobody waits for it any
/// more. The transaction inside is rolled back.
pub(super) async fn contain_panics<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    match AbortOnDropHandle::new(tokio::spawn(work)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => Err(Failure::from_panic(&*payload)),
            Err(_) => Err(Failure::Away("the runtime is shutting down".to_owned())),
        },
    }
}

/// Takes claimed events through to their settlement, all but the commit. `watch` was begun with the claim.
pub(super) async fn process(
    conn: &mut PgConnection,
    context: &Context,
    mut events: Vec<Claimed>,
    watch: Stopwatch,
) -> Result<Tally, Failure> {
    own::resolve(conn, context.sync.own_account.as_deref(), &mut events).await?;
    let mut tally = Tally { watch, ..Tally::default() };
    let mut settlements = Vec::new();
    let mut work = Work::default();
    let mut merges: Vec<(EventKey, BTreeSet<ObjectKey>)> = Vec::new();
    let (mut snapshots, mut notices): (Vec<&Claimed>, Vec<Notice<'_>>) = (Vec::new(), Vec::new());
    for event in &events {
        match resolve(context, event) {
            Resolved::Settled(settlement) => settlements.push(settlement),
            Resolved::Notice => notices.push(Notice { event, snapshot_type: snapshot_of(&event.event_type) }),
            Resolved::Read(object, reason) => {
                work.demands.fetch(object, Some(event.key.created));
                let outcome = Outcome::Ignored;
                settlements.push(Settlement { key: event.key.clone(), outcome, reason: Some(reason) });
            }
            Resolved::Merge(merge) => {
                snapshots.push(event);
                merges.push((merge.event(), merge.objects().cloned().collect()));
                add(context, &mut work, *merge);
            }
            Resolved::Unreadable(field) => tally.unreadable.push((event.key.clone(), field)),
        }
    }
    settlements.extend(settle_notices(conn, &notices, &snapshots, &mut work).await?);
    tally.watch.done(Step::Read);
    tally.reasons.extend(settlements.iter().filter_map(|one| one.reason));
    settlements.extend(apply(conn, context, work, merges, &mut tally).await?);

    let outcomes: HashMap<&EventKey, Outcome> = settlements.iter().map(|one| (&one.key, one.outcome)).collect();
    let types: HashMap<&EventKey, &str> = events.iter().map(|one| (&one.key, one.event_type.as_str())).collect();
    for (key, delay) in settle::done(conn, &settlements).await? {
        tally.events.push((types[&key].to_owned(), outcomes[&key], delay));
    }
    Ok(tally)
}

/// Adds a snapshot event to the work. Where every event is to be confirmed, a read of its object is asked for as well.
fn add(context: &Context, work: &mut Work, merge: ToMerge) {
    if context.sync.confirm == Confirm::Always {
        work.demands.confirm(merge.arrival.key.clone(), merge.arrival.snapshot.created);
    }
    work.add_event(merge);
}

/// A thin event names its object only. Where the snapshot of the same change was merged, by this batch (`merged`) or an
/// earlier one, it has nothing to add. Otherwise its object is fetched, by a read that began after it.
async fn settle_notices(
    conn: &mut PgConnection,
    notices: &[Notice<'_>],
    merged: &[&Claimed],
    work: &mut Work,
) -> Result<Vec<Settlement>, sqlx::Error> {
    let mut twins = twins::merged(conn, notices).await?;
    twins.extend(twins::among(notices, merged));
    let mut settlements = Vec::new();
    for Notice { event, .. } in notices {
        let (outcome, reason) = match &event.object_id {
            _ if twins.contains(&event.key) => (Outcome::Superseded, Reason::HasSnapshot),
            Some(id) => {
                let object_type = event.object_type.as_deref().unwrap_or_default();
                work.demands.fetch(ObjectKey::new(&event.account, object_type, id), Some(event.key.created));
                (Outcome::Ignored, Reason::NeedsFetch)
            }
            None => (Outcome::Ignored, Reason::NeedsFetch),
        };
        settlements.push(Settlement { key: event.key.clone(), outcome, reason: Some(reason) });
    }
    Ok(settlements)
}

/// Does the work, and says what became of the events that brought it.
async fn apply(
    conn: &mut PgConnection,
    context: &Context,
    work: Work,
    merges: Vec<(EventKey, BTreeSet<ObjectKey>)>,
    tally: &mut Tally,
) -> Result<Vec<Settlement>, Failure> {
    if merges.is_empty() {
        tally.demanded = !effect::ask(conn, context, work.demands).await?.is_empty();
        return Ok(Vec::new());
    }
    let done = effect::apply(conn, context, work, &mut tally.watch).await?;
    tally.demanded = !done.demands.is_empty();
    tally.doubts += u64::try_from(done.merged.doubts.len()).unwrap_or(u64::MAX);
    // once for each object, whichever and however many events brought it
    tally.reasons.extend(done.notes.values().flatten());
    let mut settlements = Vec::new();
    for (key, objects) in merges {
        let applied = done.merged.applied.contains(&key.event_id);
        let of_objects = objects.iter().filter_map(|object| done.notes.get(object)).filter(|_| applied);
        let noticed: BTreeSet<Reason> = of_objects.flatten().copied().collect();
        let outcome = if applied { Outcome::Applied } else { Outcome::Superseded };
        // one column, so the first of the list; the counters have them all
        settlements.push(Settlement { key, outcome, reason: noticed.first().copied() });
    }
    Ok(settlements)
}
