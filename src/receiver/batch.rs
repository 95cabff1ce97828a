//! Group commit: while one INSERT is in flight, arriving events gather, and the next carries them all.
//!
//! No timer and no added delay: an event that finds the writer idle is stored at once, alone. Owns the bounded
//! queue between the connections and the database; knows nothing of HTTP. Called by [`super::door`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::database;
use crate::domain::event::EventKey;
use crate::outbox::enqueue::{self, Incoming, Origin, is_about_data};

/// Rows that one INSERT carries at most.
const MAX_ROWS: usize = 512;

/// Payload bytes after which no further event joins an INSERT.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// How often an INSERT is repeated that the making of a partition overtook: each of the two tables makes up to 16 months.
const MOST_MOVES: u32 = 32;

/// A connection that was used so recently is used again without a check, which would be a round trip before each INSERT of a
/// busy receiver. Should it be lost all the same, the INSERT is repeated on another one.
pub const UNCHECKED: Duration = Duration::from_millis(100);

/// How often an INSERT is repeated whose connection is lost: each of the two connections may be.
const MOST_LOSSES: u32 = 2;

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new and durable.
    Stored,
    /// It was there before, durable.
    Duplicate,
    /// The database took its neighbours and not this one.
    Refused,
    /// The database did not answer, or not in time. It may still get stored; a second delivery finds out.
    Unavailable,
    /// Too many are waiting.
    Busy,
}

struct Delivery {
    incoming: Incoming,
    reply: oneshot::Sender<Verdict>,
}

/// The way in: bounded, and never waits for a place.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Delivery>,
    store_timeout: Duration,
}

impl Queue {
    /// Hands over one event and waits until it is durable, for `store_timeout` at most.
    pub(super) async fn store(&self, incoming: Incoming) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        match self.sender.try_send(Delivery { incoming, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Verdict::Busy,
            Err(TrySendError::Closed(_)) => return Verdict::Unavailable,
        }
        // the batch before ours may use up the time, so the writer's own limit is not enough
        timeout(self.store_timeout, verdict).await.ok().and_then(Result::ok).unwrap_or(Verdict::Unavailable)
    }
}

/// Starts the writer. It ends when the queue is dropped and everything in it is answered.
///
/// `stored` is signalled after each commit that brought something new.
pub(super) fn start(
    pool: PgPool,
    capacity: usize,
    store_timeout: Duration,
    stored: Arc<Notify>,
) -> (Queue, JoinHandle<()>) {
    let (sender, deliveries) = mpsc::channel(capacity);
    let writer = tokio::spawn(write(deliveries, pool, store_timeout, stored));
    (Queue { sender, store_timeout }, writer)
}

async fn write(mut deliveries: mpsc::Receiver<Delivery>, pool: PgPool, store_timeout: Duration, stored: Arc<Notify>) {
    while let Some(first) = deliveries.recv().await {
        let batch = Batch::gather(first, &mut deliveries);
        // in a task of its own: should it panic, its events are answered 503 and the next batch goes on
        match tokio::spawn(batch.store(pool.clone(), store_timeout)).await {
            Ok(true) => stored.notify_one(),
            Ok(false) => {}
            Err(error) => tracing::error!(error = %error, "a batch of events broke off"),
        }
    }
}

/// The events of one INSERT, in the order that all receivers keep, each with those who wait for it.
struct Batch {
    events: Vec<Incoming>,
    waiting: Vec<Vec<oneshot::Sender<Verdict>>>,
}

impl Batch {
    /// Takes what is there, without waiting for more.
    fn gather(first: Delivery, deliveries: &mut mpsc::Receiver<Delivery>) -> Self {
        let mut bytes = 0;
        let mut rows = BTreeMap::new();
        let mut next = Some(first);
        while let Some(Delivery { incoming, reply }) = next {
            bytes += incoming.payload.len();
            let key = incoming.envelope.key.clone();
            rows.entry(key).or_insert_with(|| (incoming, Vec::new())).1.push(reply);
            let room = rows.len() < MAX_ROWS && bytes < MAX_BYTES;
            next = if room { deliveries.try_recv().ok() } else { None };
        }
        let (events, waiting) = rows.into_values().unzip();
        Self { events, waiting }
    }

    /// Stores the events and answers everybody who waits; true when something new was stored.
    async fn store(self, pool: PgPool, store_timeout: Duration) -> bool {
        let Self { events, waiting } = self;
        let (Stored { verdicts, is_repeated }, error) =
            match store(&events, &pool, Instant::now() + store_timeout).await {
                Ok(stored) => (stored, None),
                Err(error) => {
                    (Stored { verdicts: vec![Verdict::Unavailable; events.len()], is_repeated: false }, Some(error))
                }
            };
        // the answer to a commit may be what was lost: then the repetition finds its own events
        let any_stored = is_repeated || verdicts.contains(&Verdict::Stored);
        for (verdict, waiting) in verdicts.into_iter().zip(waiting) {
            answer(verdict, waiting);
        }
        // after the answers: to look for the cause takes a moment
        match error {
            Some(StoreError::Connection(error)) => {
                let cause = database::unreachable_reason(&pool, &error).await;
                tracing::warn!(events = events.len(), error = cause, "cannot store events");
            }
            Some(error) => tracing::warn!(events = events.len(), error = %error, "cannot store events"),
            None => {}
        }
        any_stored
    }
}

/// Of several deliveries of one new event in one batch, the first stored it and the others are duplicates.
fn answer(verdict: Verdict, waiting: Vec<oneshot::Sender<Verdict>>) {
    let others = if verdict == Verdict::Stored { Verdict::Duplicate } else { verdict };
    for (verdict, reply) in std::iter::once(verdict).chain(std::iter::repeat(others)).zip(waiting) {
        // whoever no longer waits has given up or hung up
        let _ = reply.send(verdict);
    }
}

/// Why a whole batch cannot be stored.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the database did not answer in time")]
    Late,
    /// The code only: the message of a database error may quote a value.
    #[error("the database answered with error {0}")]
    Database(String),
    #[error("no usable connection: {0}")]
    Connection(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(error) => Self::Database(error.code().unwrap_or_default().into_owned()),
            None => Self::Connection(error),
        }
    }
}

/// A connection. While the pool tries to open one, which a full server refuses, it does not see that another one has come
/// free, of the notification for example.
async fn acquire(pool: &PgPool, deadline: Instant) -> Result<PoolConnection<Postgres>, StoreError> {
    loop {
        match timeout_at(deadline, pool.acquire()).await.map_err(|_| StoreError::Late)? {
            Err(sqlx::Error::PoolTimedOut) if pool.num_idle() > 0 => {}
            acquired => return Ok(acquired?),
        }
    }
}

/// What became of a batch.
struct Stored {
    /// One for each event, in their order.
    verdicts: Vec<Verdict>,
    /// The INSERT was sent more than once.
    is_repeated: bool,
}

async fn store(events: &[Incoming], pool: &PgPool, deadline: Instant) -> Result<Stored, StoreError> {
    let mut losses = 0;
    loop {
        let mut conn = acquire(pool, deadline).await?;
        let verdicts = match insert(&mut conn, events, deadline).await {
            Err(InsertError::Lost(_)) if losses < MOST_LOSSES => {
                conn.close_on_drop();
                losses += 1;
                continue;
            }
            Err(InsertError::Data(error)) => {
                tracing::warn!(events = events.len(), error = %error, "an event fails its batch: storing one by one");
                store_singly(events, &mut conn, deadline).await
            }
            inserted => inserted?,
        };
        return Ok(Stored { verdicts, is_repeated: losses > 0 });
    }
}

/// What one event holds must never cost its neighbours their place.
async fn store_singly(events: &[Incoming], conn: &mut PoolConnection<Postgres>, deadline: Instant) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(events.len());
    for event in events {
        match insert(conn, std::slice::from_ref(event), deadline).await {
            Ok(verdict) => verdicts.extend(verdict),
            Err(InsertError::Data(error)) => {
                let id = &event.envelope.key.event_id;
                tracing::error!(event.id = id, error = %error, "the database refuses an event");
                verdicts.push(Verdict::Refused);
            }
            // those before it are durable and may say so; the connection is gone for those after it
            Err(InsertError::Lost(error) | InsertError::Store(error)) => {
                tracing::warn!(error = %error, "cannot store the rest of a batch");
                verdicts.resize(events.len(), Verdict::Unavailable);
                break;
            }
        }
    }
    verdicts
}

/// A failed INSERT.
enum InsertError {
    /// It is about what the events hold.
    Data(StoreError),
    /// It is about this connection: another one may do.
    Lost(StoreError),
    /// It is about the database.
    Store(StoreError),
}

impl From<InsertError> for StoreError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Data(error) | InsertError::Lost(error) | InsertError::Store(error) => error,
        }
    }
}

async fn insert(
    conn: &mut PoolConnection<Postgres>,
    events: &[Incoming],
    deadline: Instant,
) -> Result<Vec<Verdict>, InsertError> {
    let mut moves = 0..MOST_MOVES;
    loop {
        return match timeout_at(deadline, enqueue::store(conn, events, Origin::Webhook)).await {
            Ok(Ok(stored)) => Ok(events.iter().map(|event| verdict(&stored, &event.envelope.key)).collect()),
            Ok(Err(error)) if enqueue::has_moved_partition(&error) && moves.next().is_some() => continue,
            Ok(Err(error)) if is_about_data(&error) => Err(InsertError::Data(error.into())),
            Ok(Err(error)) if is_lost(&error) => Err(InsertError::Lost(error.into())),
            Ok(Err(error)) => Err(InsertError::Store(error.into())),
            // the statement may still run over there: its connection keeps its place in the pool until that has ended
            Err(_) => Err(InsertError::Store(StoreError::Late)),
        };
    }
}

fn verdict(stored: &std::collections::HashSet<EventKey>, key: &EventKey) -> Verdict {
    if stored.contains(key) { Verdict::Stored } else { Verdict::Duplicate }
}

/// Whether the connection is closed, or leads to a server that takes no writes any more.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // its session was ended, or every transaction is read-only: after a failover the old primary is a standby
        sqlx::Error::Database(error) => error.code().is_some_and(|code| ["57P01", "57P02", "25006"].contains(&&*code)),
        _ => false,
    }
}
