//! Group commit: while one INSERT is in flight, arriving events queue up, and the next INSERT stores them all.
//!
//! There is no timer and no added delay: if the writer is idle, an event is stored at once, by itself. Owns the bounded
//! queue between the connections and the database; knows nothing of HTTP. Called by [`super::handler`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::database::{self, Connection, Pool};
use crate::domain::event::EventKey;
use crate::outbox::enqueue::{self, EventSource, Incoming, is_about_data};

/// Maximum number of rows of one INSERT.
const MAX_ROWS: usize = 512;

/// Payload bytes after which no further event joins an INSERT.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Maximum repetitions of an INSERT because a partition was created meanwhile: each of the two tables creates up to 16
/// months.
const MAX_PARTITION_RETRIES: u32 = 32;

/// A connection used within this time is reused without a check: a check is a round trip before each INSERT of a busy
/// receiver. If the connection is lost all the same, the INSERT is repeated on another one.
pub const CHECK_AFTER_IDLE: Duration = Duration::from_millis(100);

/// Maximum repetitions of an INSERT because its connection was lost: each of the two connections may be.
const MAX_CONNECTION_RETRIES: u32 = 2;

/// Result of storing one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The event is new and durable.
    Stored,
    /// The event was stored before and is durable.
    Duplicate,
    /// The database rejected this event, but not the others of its batch.
    Refused,
    /// The database did not answer in time. The event may still have been stored; a second delivery finds out.
    Unavailable,
    /// The queue is full.
    Busy,
}

struct Delivery {
    incoming: Incoming,
    reply: oneshot::Sender<Verdict>,
}

/// The entry point: a bounded queue that never waits for space.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Delivery>,
    store_timeout: Duration,
}

impl Queue {
    /// Queues one event and waits until it is durable, for at most `store_timeout`.
    pub(super) async fn store(&self, incoming: Incoming) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        match self.sender.try_send(Delivery { incoming, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Verdict::Busy,
            Err(TrySendError::Closed(_)) => return Verdict::Unavailable,
        }
        // the previous batch may use up the time, so the writer's own limit is not enough
        timeout(self.store_timeout, verdict).await.ok().and_then(Result::ok).unwrap_or(Verdict::Unavailable)
    }
}

/// Starts the writer. The writer ends when the queue is dropped and all its events are answered.
///
/// `stored` is notified after each commit that stored a new event.
pub(super) fn start(
    pool: Pool,
    capacity: usize,
    store_timeout: Duration,
    stored: Arc<Notify>,
) -> (Queue, JoinHandle<()>) {
    let (sender, deliveries) = mpsc::channel(capacity);
    let writer = tokio::spawn(write(deliveries, pool, store_timeout, stored));
    (Queue { sender, store_timeout }, writer)
}

async fn write(mut deliveries: mpsc::Receiver<Delivery>, pool: Pool, store_timeout: Duration, stored: Arc<Notify>) {
    while let Some(first) = deliveries.recv().await {
        let batch = Batch::gather(first, &mut deliveries);
        // in its own task: if it panics, its events are answered 503 and the next batch is not affected
        match tokio::spawn(batch.store(pool.clone(), store_timeout)).await {
            Ok(true) => stored.notify_one(),
            Ok(false) => {}
            Err(error) => tracing::error!(error = %error, "storing a batch of events panicked"),
        }
    }
}

/// The events of one INSERT, in the same order in all receivers, each with the requests that wait for it.
struct Batch {
    events: Vec<Incoming>,
    waiting: Vec<Vec<oneshot::Sender<Verdict>>>,
}

impl Batch {
    /// Takes the queued deliveries, without waiting for more.
    fn gather(first: Delivery, deliveries: &mut mpsc::Receiver<Delivery>) -> Self {
        let mut bytes = 0;
        let mut rows = BTreeMap::new();
        let mut next = Some(first);
        while let Some(Delivery { incoming, reply }) = next {
            bytes += incoming.payload.len();
            let key = incoming.envelope.key.clone();
            rows.entry(key).or_insert_with(|| (incoming, Vec::new())).1.push(reply);
            let has_capacity = rows.len() < MAX_ROWS && bytes < MAX_BYTES;
            next = if has_capacity { deliveries.try_recv().ok() } else { None };
        }
        let (events, waiting) = rows.into_values().unzip();
        Self { events, waiting }
    }

    /// Stores the events and answers all waiting requests. Returns whether a new event was stored.
    async fn store(self, pool: Pool, store_timeout: Duration) -> bool {
        let Self { events, waiting } = self;
        let (Stored { verdicts, is_repeated }, error) =
            match store(&events, &pool, Instant::now() + store_timeout).await {
                Ok(stored) => (stored, None),
                Err(error) => {
                    (Stored { verdicts: vec![Verdict::Unavailable; events.len()], is_repeated: false }, Some(error))
                }
            };
        // the lost answer may have been that of a commit: then the repetition finds its own events
        let any_stored = is_repeated || verdicts.contains(&Verdict::Stored);
        for (verdict, waiting) in verdicts.into_iter().zip(waiting) {
            answer(verdict, waiting);
        }
        // after the answers, because finding the cause takes a moment
        match error {
            Some(StoreError::Connection(error)) => {
                let cause = database::unreachable_reason(&pool, &error).await;
                tracing::warn!(events = events.len(), error = cause, "could not store events");
            }
            Some(error) => tracing::warn!(events = events.len(), error = %error, "could not store events"),
            None => {}
        }
        any_stored
    }
}

/// If one batch contains several deliveries of a new event, the first is `Stored` and the others are `Duplicate`.
fn answer(verdict: Verdict, waiting: Vec<oneshot::Sender<Verdict>>) {
    let others = if verdict == Verdict::Stored { Verdict::Duplicate } else { verdict };
    for (verdict, reply) in std::iter::once(verdict).chain(std::iter::repeat(others)).zip(waiting) {
        // an error means that the request timed out or its client hung up
        let _ = reply.send(verdict);
    }
}

/// Why a whole batch could not be stored.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the database did not answer in time")]
    Late,
    /// Without the server's message, because it may quote a value.
    #[error("{0}")]
    Database(String),
    #[error("no usable connection: {}", database::message(.0))]
    Connection(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        database::describe(&error).map_or(Self::Connection(error), Self::Database)
    }
}

/// Acquires a connection. While the pool tries to open a new one, which a full server refuses, it does not notice that
/// another one became free, for example that of the notification.
async fn acquire(pool: &Pool, deadline: Instant) -> Result<Connection, StoreError> {
    loop {
        match timeout_at(deadline, pool.acquire()).await.map_err(|_| StoreError::Late)? {
            Err(sqlx::Error::PoolTimedOut) if pool.num_idle() > 0 => {}
            acquired => return Ok(acquired?),
        }
    }
}

/// Result of storing a batch.
struct Stored {
    /// One verdict for each event, in the same order.
    verdicts: Vec<Verdict>,
    /// The INSERT was sent more than once.
    is_repeated: bool,
}

async fn store(events: &[Incoming], pool: &Pool, deadline: Instant) -> Result<Stored, StoreError> {
    let mut losses = 0;
    loop {
        let mut conn = acquire(pool, deadline).await?;
        let verdicts = match insert(&mut conn, events, deadline).await {
            Err(InsertError::Lost(_)) if losses < MAX_CONNECTION_RETRIES => {
                conn.close_on_drop();
                losses += 1;
                continue;
            }
            Err(InsertError::Data(error)) => {
                tracing::warn!(events = events.len(), error = %error, "storing a batch one by one");
                store_singly(events, &mut conn, deadline).await
            }
            inserted => inserted?,
        };
        return Ok(Stored { verdicts, is_repeated: losses > 0 });
    }
}

/// Stores the events individually: the content of one event must never prevent the others from being stored.
async fn store_singly(events: &[Incoming], conn: &mut Connection, deadline: Instant) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(events.len());
    for event in events {
        match insert(conn, std::slice::from_ref(event), deadline).await {
            Ok(verdict) => verdicts.extend(verdict),
            Err(InsertError::Data(error)) => {
                let id = &event.envelope.key.event_id;
                tracing::error!(event.id = id, error = %error, "the database refuses an event");
                verdicts.push(Verdict::Refused);
            }
            // the events before this one are durable; for those after it the connection is lost
            Err(InsertError::Lost(error) | InsertError::Store(error)) => {
                tracing::warn!(error = %error, "could not store the rest of a batch");
                verdicts.resize(events.len(), Verdict::Unavailable);
                break;
            }
        }
    }
    verdicts
}

/// A failed INSERT.
enum InsertError {
    /// Caused by the content of the events.
    Data(StoreError),
    /// Caused by this connection; another one may work.
    Lost(StoreError),
    /// Caused by the database.
    Store(StoreError),
}

impl From<InsertError> for StoreError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Data(error) | InsertError::Lost(error) | InsertError::Store(error) => error,
        }
    }
}

async fn insert(conn: &mut Connection, events: &[Incoming], deadline: Instant) -> Result<Vec<Verdict>, InsertError> {
    let mut moves = 0..MAX_PARTITION_RETRIES;
    loop {
        return match timeout_at(deadline, enqueue::store(conn, events, EventSource::Webhook)).await {
            Ok(Ok(stored)) => Ok(events.iter().map(|event| verdict(&stored, &event.envelope.key)).collect()),
            Ok(Err(error)) if enqueue::has_moved_partition(&error) && moves.next().is_some() => continue,
            Ok(Err(error)) if is_about_data(&error) => Err(InsertError::Data(error.into())),
            Ok(Err(error)) if is_lost(&error) => Err(InsertError::Lost(error.into())),
            Ok(Err(error)) => Err(InsertError::Store(error.into())),
            // the statement may still be running on the server: its connection stays in the pool until the statement
            // ends
            Err(_) => Err(InsertError::Store(StoreError::Late)),
        };
    }
}

fn verdict(stored: &std::collections::HashSet<EventKey>, key: &EventKey) -> Verdict {
    if stored.contains(key) { Verdict::Stored } else { Verdict::Duplicate }
}

/// Whether the connection is closed, or its server no longer accepts writes.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // the session was terminated, or every transaction is read-only: after a failover the old primary is a standby
        sqlx::Error::Database(error) => error.code().is_some_and(|code| ["57P01", "57P02", "25006"].contains(&&*code)),
        _ => false,
    }
}
