//! The public listener: sockets, their limits and their end.
//!
//! Every connection is a task of its own, so a panic in one ends that one. Called by `serve` and the demo; what a
//! request means is [`super::door`]'s business.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sqlx::PgPool;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::Door;
use super::{batch, notify};
use crate::config::receiver::ReceiverConfig;
use crate::metrics::instance::Instance;

/// A head with more than this is no delivery of Stripe's, whose heads have less than 1 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// No connection stays for longer: a peer that sends on and never reads would hold its slot for ever.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);

/// After a failed accept, mostly for want of file descriptors, which takes a moment to mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The receiver, bound and not yet running.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    config: ReceiverConfig,
    pool: PgPool,
    metrics: Arc<Instance>,
}

impl Receiver {
    /// Its connections.
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// Binds the listener. The pool may be unable to connect: until it can, the answer is 503.
    ///
    /// # Errors
    /// When the address cannot be bound, or no secret is configured.
    pub async fn bind(config: &ReceiverConfig, pool: PgPool, metrics: Arc<Instance>) -> io::Result<Self> {
        if config.secrets.is_empty() {
            let message = "no webhook secret: set STRIPE_WEBHOOK_SECRET to the endpoint's signing secret";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = TcpListener::bind(config.listen).await?;
        Ok(Self { listener, config: config.clone(), pool, metrics })
    }

    /// The address that was bound; tells the port when the configuration said 0.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then stops accepting, answers what is in flight and empties the queue.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, config, pool, metrics } = self;
        let stored = Arc::new(Notify::new());
        let (queue, writer) =
            batch::start(pool.clone(), config.queue_capacity.max(1), config.store_timeout, stored.clone());
        let stop = CancellationToken::new();
        let notifier = tokio::spawn(notify::run(pool, stored, config.store_timeout, stop.clone()));
        let door = Door {
            secrets: config.secrets.clone(),
            body_limit: config.body_limit,
            body_timeout: config.body_timeout,
            queue,
            metrics,
        };
        let connections = accept(listener, &config, Arc::new(door), &shutdown).await;
        connections.close();
        connections.wait().await;
        // the last connection took the last handle on the queue with it, so the writer comes to its end
        let _ = writer.await;
        stop.cancel();
        let _ = notifier.await;
    }
}

/// Accepts until `shutdown` and returns the connections that are still open.
async fn accept(
    listener: TcpListener,
    config: &ReceiverConfig,
    door: Arc<Door>,
    shutdown: &CancellationToken,
) -> TaskTracker {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(config.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    // the slot comes first: beyond the limit, connections wait in the kernel's backlog
    while let Some(Ok(slot)) = shutdown.run_until_cancelled(slots.clone().acquire_owned()).await {
        match shutdown.run_until_cancelled(listener.accept()).await {
            Some(Ok((stream, _))) => {
                connections.spawn(connection(stream, slot, config.clone(), door.clone(), shutdown.clone()));
            }
            Some(Err(error)) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
    connections
}

/// Serves one connection; its slot is free when this ends.
async fn connection(
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
    config: ReceiverConfig,
    door: Arc<Door>,
    shutdown: CancellationToken,
) {
    // answers are one small packet: waiting to fill it would cost 40 ms each
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(door.handle(request).await) }
    });
    let mut connection = pin!(http(&config).serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        result = connection.as_mut() => return closed(result),
        () = shutdown.cancelled() => {}
        () = sleep(MAX_CONNECTION_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let last_request = config.header_timeout.saturating_add(config.body_timeout).saturating_add(config.store_timeout);
    if let Ok(result) = timeout(last_request, connection).await {
        closed(result);
    }
}

/// Without a timer hyper has no header timeout; the same timeout ends idle connections.
fn http(config: &ReceiverConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_header_size(MAX_HEADER_BYTES)
        .keep_alive(true);
    http
}

fn closed(result: hyper::Result<()>) {
    if let Err(error) = result {
        // peers hang up, time out and speak nonsense all day: nothing to act on
        tracing::debug!(error = %error, "connection ended");
    }
}
