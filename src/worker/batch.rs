//! One batch: one transaction, set-based, no external calls.
//!
//! Claim with SKIP LOCKED, classify the events, apply their changes ([`super::apply`]), settle, commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::apply;
use super::change_set::ChangeSet;
use super::classify::{Classified, ToMerge, classify};
use super::context::Context;
use super::failure::Failure;
use super::gather::Gather;
use super::state::{RoundResult, Worker};
use crate::config::sync::Confirm;
use crate::database::{Connection, Transaction};
use crate::domain::event::{EventKey, Outcome, Reason};
use crate::domain::object::ObjectKey;
use crate::metrics::batch::{Step, Stopwatch};
use crate::metrics::process::ApplyResult;
use crate::outbox::claim::{self, Claimed};
use crate::outbox::counterparts::{self, ThinEvent};
use crate::outbox::own;
use crate::outbox::settle::{self, Settlement};
use crate::stripe::catalogue::snapshot_of;

/// Results of one transaction, for the counters; counted after its commit.
#[derive(Debug, Default)]
pub(super) struct BatchStats {
    /// Time spent in each step.
    pub(super) watch: Stopwatch,
    pub(super) events: Vec<(String, Outcome, f64)>,
    pub(super) reasons: Vec<Reason>,
    pub(super) ambiguities: u64,
    /// Whether jobs were queued.
    pub(super) requested: bool,
    /// Events from which no row can be made; they are not settled.
    pub(super) unreadable: Vec<(EventKey, &'static str)>,
}

impl BatchStats {
    /// Updates the counters; wakes the fetcher if jobs were queued, and the renewal scheduler.
    pub(super) fn count(&self, context: &Context) {
        for (event_type, outcome, delay) in &self.events {
            context.metrics.event_processed(event_type, *outcome, *delay);
        }
        for reason in &self.reasons {
            context.metrics.event_reason(*reason);
        }
        context.watch.ignored(&self.reasons, context.sync.livemode);
        context.metrics.batch(&self.watch, self.ambiguities);
        if self.requested {
            context.reads.notify_waiters();
        }
        context.limits.notify_one();
    }
}

impl Worker {
    /// Processes one batch of fresh events. If it fails, its events are retried individually.
    pub(super) async fn try_batch(&mut self) -> Result<RoundResult, Failure> {
        let mut watch = Stopwatch::default();
        let batch_id = Uuid::new_v4();
        let mut tx = begin_batch(&self.context).await?;
        let limit = self.context.config.batch_size;
        let events = claim::batch(&mut tx, i64::try_from(limit).unwrap_or(i64::MAX), self.since.at()).await?;
        self.gather = Gather::after(watch.began(), events.len(), limit);
        if events.is_empty() {
            return Ok(RoundResult::Idle);
        }
        let keys: Vec<EventKey> = events.iter().map(|event| event.key.clone()).collect();
        claim::note_batch(&mut self.context.pool.acquire().await?, batch_id, &keys).await?;
        watch.done(Step::Claim);

        let context = Arc::clone(&self.context);
        let work = async move {
            let mut stats = process(&mut tx, &context, events, watch).await?;
            let unreadable: Vec<EventKey> = stats.unreadable.iter().map(|(key, _)| key.clone()).collect();
            claim::isolate(&mut tx, &unreadable).await?;
            claim::forget_batch(&mut tx, batch_id).await?;
            stats.watch.done(Step::Settle);
            tx.commit().await?;
            stats.watch.done(Step::Commit);
            Ok(stats)
        };
        match contain_panics(work).await {
            Ok(stats) => stats.count(&self.context),
            Err(failure) => self.retry_individually(batch_id, &keys, failure).await?,
        }
        Ok(RoundResult::MoreWork)
    }

    /// Isolates the events of a failed batch, whatever the error was. An error may have been misclassified as
    /// infrastructure, and the next batch must not repeat this one.
    async fn retry_individually(&self, batch_id: Uuid, keys: &[EventKey], failure: Failure) -> Result<(), Failure> {
        tracing::warn!(error = %failure, events = keys.len(), "a batch failed; its events are retried individually");
        self.context.metrics.attempt_failed(match failure {
            Failure::Unavailable(_) | Failure::Contended(_) => ApplyResult::Transient,
            Failure::Retryable(_) | Failure::Permanent(_) => ApplyResult::Retry,
        });
        // if the database is unavailable this fails as well, and the note stays behind for `recover`
        let mut tx = begin(&self.context).await?;
        claim::isolate(&mut tx, keys).await?;
        claim::forget_batch(&mut tx, batch_id).await?;
        tx.commit().await?;
        if let Failure::Unavailable(_) = failure { Err(failure) } else { Ok(()) }
    }
}

/// READ COMMITTED, because every statement after the locks must see what was committed before they were granted. A
/// session that holds a row for long delays the events of that row, not the worker. If this machine vanishes, the idle
/// timeout frees its locks. A statement times out on the server before the worker stops waiting for it
/// ([`super::STEP_LIMIT`]).
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s';
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Begins a transaction with the worker's usual timeouts.
pub(crate) async fn begin(context: &Context) -> Result<Transaction<'static>, sqlx::Error> {
    context.pool.begin_with(BEGIN).await
}

/// The same for a batch, whose statements take milliseconds. If one takes seconds, a single event or job causes that,
/// and the rest of the batch must not wait for it.
const BEGIN_BATCH: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Begins a transaction for fresh events or jobs.
pub(super) async fn begin_batch(context: &Context) -> Result<Transaction<'static>, sqlx::Error> {
    context.pool.begin_with(BEGIN_BATCH).await
}

/// The same for the first retry of an event or job that failed in a batch. It barely waits for a lock that another
/// session holds, so those behind it do not wait either; it is retried with increasing delay.
const BEGIN_FIRST: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// The same for later attempts. The other events of its batch are done by then, so it gets the time that it needs.
const BEGIN_FURTHER: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '60s';
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Begins a transaction for attempt number `attempt` (from 1) at an event or job that failed in a batch.
pub(super) async fn begin_isolated(context: &Context, attempt: i32) -> Result<Transaction<'static>, sqlx::Error> {
    context.pool.begin_with(if attempt > 1 { BEGIN_FURTHER } else { BEGIN_FIRST }).await
}

/// Runs `work` so that a panic becomes a [`Failure`], and so that it is aborted if the caller stops waiting. Its
/// transaction is then rolled back.
pub(crate) async fn contain_panics<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    match AbortOnDropHandle::new(tokio::spawn(work)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => Err(Failure::from_panic(&*payload)),
            Err(_) => Err(Failure::Unavailable("the runtime is shutting down".to_owned())),
        },
    }
}

/// Takes claimed events through to their settlement, all but the commit. `watch` was begun with the claim.
pub(super) async fn process(
    conn: &mut Connection,
    context: &Context,
    mut events: Vec<Claimed>,
    watch: Stopwatch,
) -> Result<BatchStats, Failure> {
    own::resolve(conn, context.sync.own_account.as_deref(), &mut events).await?;
    let mut stats = BatchStats { watch, ..BatchStats::default() };
    let mut settlements = Vec::new();
    let mut change_set = ChangeSet::default();
    let mut merges: Vec<(EventKey, BTreeSet<ObjectKey>)> = Vec::new();
    let (mut snapshots, mut thin_events): (Vec<&Claimed>, Vec<ThinEvent<'_>>) = (Vec::new(), Vec::new());
    for event in &events {
        match classify(context, event) {
            Classified::Settled(settlement) => settlements.push(settlement),
            Classified::ThinEvent => {
                thin_events.push(ThinEvent { event, snapshot_type: snapshot_of(&event.event_type) });
            }
            Classified::Read(object, reason) => {
                change_set.job_requests.fetch(object, Some(event.key.created));
                let outcome = Outcome::Ignored;
                settlements.push(Settlement { key: event.key.clone(), outcome, reason: Some(reason) });
            }
            Classified::Merge(merge) => {
                snapshots.push(event);
                merges.push((merge.event(), merge.objects().cloned().collect()));
                add(context, &mut change_set, *merge);
            }
            Classified::Unreadable(field) => stats.unreadable.push((event.key.clone(), field)),
        }
    }
    settlements.extend(settle_thin_events(conn, &thin_events, &snapshots, &mut change_set).await?);
    stats.watch.done(Step::Read);
    stats.reasons.extend(settlements.iter().filter_map(|one| one.reason));
    settlements.extend(apply(conn, context, change_set, merges, &mut stats).await?);

    let outcomes: HashMap<&EventKey, Outcome> = settlements.iter().map(|one| (&one.key, one.outcome)).collect();
    let types: HashMap<&EventKey, &str> = events.iter().map(|one| (&one.key, one.event_type.as_str())).collect();
    for (key, delay) in settle::done(conn, &settlements).await? {
        stats.events.push((types[&key].to_owned(), outcomes[&key], delay));
    }
    Ok(stats)
}

/// Adds a snapshot event to the change set. With `confirm = always`, a read of its object is queued as well.
fn add(context: &Context, change_set: &mut ChangeSet, merge: ToMerge) {
    if context.sync.confirm == Confirm::Always {
        change_set.job_requests.confirm(merge.arrival.key.clone(), merge.arrival.snapshot.created);
    }
    change_set.add_event(merge);
}

/// Settles thin events, which only name their object. If the snapshot event of the same change was merged, in this
/// batch (`merged`) or earlier, a thin event adds nothing. Otherwise a read newer than the event is queued.
async fn settle_thin_events(
    conn: &mut Connection,
    thin_events: &[ThinEvent<'_>],
    merged: &[&Claimed],
    change_set: &mut ChangeSet,
) -> Result<Vec<Settlement>, sqlx::Error> {
    let mut counterparts = counterparts::merged(conn, thin_events).await?;
    counterparts.extend(counterparts::among(thin_events, merged));
    let mut settlements = Vec::new();
    for ThinEvent { event, .. } in thin_events {
        let (outcome, reason) = match &event.object_id {
            _ if counterparts.contains(&event.key) => (Outcome::Superseded, Reason::SupersededBySnapshot),
            Some(id) => {
                let object_type = event.object_type.as_deref().unwrap_or_default();
                change_set.job_requests.fetch(ObjectKey::new(&event.account, object_type, id), Some(event.key.created));
                (Outcome::Ignored, Reason::NeedsFetch)
            }
            None => (Outcome::Ignored, Reason::NeedsFetch),
        };
        settlements.push(Settlement { key: event.key.clone(), outcome, reason: Some(reason) });
    }
    Ok(settlements)
}

/// Applies the change set and returns the outcome of each event.
async fn apply(
    conn: &mut Connection,
    context: &Context,
    change_set: ChangeSet,
    merges: Vec<(EventKey, BTreeSet<ObjectKey>)>,
    stats: &mut BatchStats,
) -> Result<Vec<Settlement>, Failure> {
    if merges.is_empty() {
        stats.requested = !apply::queue_jobs(conn, context, change_set.job_requests).await?.is_empty();
        return Ok(Vec::new());
    }
    let done = apply::apply(conn, context, change_set, &mut stats.watch).await?;
    stats.requested = !done.job_requests.is_empty();
    stats.ambiguities += u64::try_from(done.merged.ambiguities.len()).unwrap_or(u64::MAX);
    // once for each object, however many events changed it
    stats.reasons.extend(done.notes.values().flatten());
    let mut settlements = Vec::new();
    for (key, objects) in merges {
        let applied = done.merged.applied.contains(&key.event_id);
        let of_objects = objects.iter().filter_map(|object| done.notes.get(object)).filter(|_| applied);
        let noticed: BTreeSet<Reason> = of_objects.flatten().copied().collect();
        let outcome = if applied { Outcome::Applied } else { Outcome::Superseded };
        // the column holds one reason, so the first; the counters count all
        settlements.push(Settlement { key, outcome, reason: noticed.first().copied() });
    }
    Ok(settlements)
}
