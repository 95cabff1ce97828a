//! A plain-text HTTP listener: sockets, their limits and their end. The receiver and the ops listener both run one.
//!
//! ```text
//! accept ─▶ slot ─▶ first bytes ─┬─▶ HTTP/1.1 ──┐
//!                   (protocol)   ├─▶ HTTP/2 ────┴─▶ Handler
//!                                └─▶ TLS, PROXY protocol: refused with one sentence
//! ```
//!
//! Every connection is a task of its own, so a panic in one ends that one. What a request means is the handler's.

mod activity;
mod connection;
mod opening;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::connections::ConnectionMetrics;

/// Pause after a failed accept. The usual cause is a lack of file descriptors, which lasts a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Full<Bytes>>> + Send;

    /// The answer to a request for which no slot came free in time.
    fn busy(&self) -> Response<Full<Bytes>>;
}

/// Limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Slots. A connection takes one, and so does every request beyond the first that an HTTP/2 connection has in flight.
    pub connections: usize,
    /// Time for the first bytes and for a request's head; an idle connection closes after it too.
    pub header_timeout: Duration,
    /// Time for the requests in flight once their connection is to close.
    pub last_request: Duration,
}

/// When a listener ends.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// From now on HTTP/1.1 answers close their connection. New connections are still accepted.
    pub draining: CancellationToken,
    /// The listener closes, and requests in flight are answered.
    pub shutdown: CancellationToken,
}

impl From<CancellationToken> for Ending {
    /// An ending without a time for draining.
    fn from(shutdown: CancellationToken) -> Self {
        Self { draining: CancellationToken::new(), shutdown }
    }
}

/// A listener, bound and not yet running.
pub struct Listener<H> {
    socket: TcpListener,
    shared: Arc<Shared<H>>,
}

/// What the connections of a listener share.
struct Shared<H> {
    handler: H,
    limits: Limits,
    metrics: ConnectionMetrics,
    slots: Arc<Semaphore>,
    /// Whether the log has the warning about bytes that are not HTTP.
    warned: AtomicBool,
    ending: Ending,
}

impl<H: Handler> Listener<H> {
    /// A listener on a bound socket.
    pub fn new(socket: TcpListener, handler: H, limits: Limits, metrics: ConnectionMetrics, ending: Ending) -> Self {
        let slots = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let shared = Shared { handler, limits, metrics, slots, warned: AtomicBool::new(false), ending };
        Self { socket, shared: Arc::new(shared) }
    }

    /// Accepts until shutdown, then answers the requests in flight. The handler is dropped before this returns.
    pub async fn run(self) {
        let connections = TaskTracker::new();
        self.accept(&connections).await;
        connections.close();
        connections.wait().await;
    }

    /// Closes the socket when it returns.
    async fn accept(self, connections: &TaskTracker) {
        let Self { socket, shared } = self;
        let shutdown = shared.ending.shutdown.clone();
        // the slot comes first: beyond the limit, connections wait in the kernel's backlog
        while let Some(Ok(slot)) = shutdown.run_until_cancelled(Arc::clone(&shared.slots).acquire_owned()).await {
            match shutdown.run_until_cancelled(socket.accept()).await {
                Some(Ok((stream, _))) => {
                    connections.spawn(connection::serve(stream, slot, Arc::clone(&shared)));
                }
                Some(Err(error)) => {
                    tracing::warn!(error = %error, listener = shared.metrics.listener(), "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
                None => break,
            }
        }
    }
}
