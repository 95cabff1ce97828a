//! A plain-text HTTP listener: sockets, their limits and their shutdown. The receiver and the ops listener each run
//! one.
//!
//! ```text
//! accept ─▶ slot ─▶ first bytes ─┬─▶ HTTP/1.1 ──┐
//!                   (protocol)   ├─▶ HTTP/2 ────┴─▶ Handler
//!                                └─▶ TLS, PROXY protocol: refused with an explanation
//! ```
//!
//! Every connection has its own task, so a panic ends only that connection. The handler interprets a request and
//! reports whether it is authenticated. An unauthenticated connection cannot keep others out: it closes after its first
//! answer, and if all slots are taken, the oldest of these connections ends for the new one.

mod activity;
mod addresses;
pub mod capacity;
mod connection;
mod opening;
mod strict;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::activity::InFlight;
use self::addresses::Addresses;
use self::capacity::Capacity;
use crate::metrics::connections::{ConnectionMetrics, EndReason};

/// Pause after a failed accept. The usual cause is that the process is out of file descriptors for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that every connection has to send its request before it may end for another. Short, because the next connection
/// waits for it under attack; a normal client needs less.
const GRACE: Duration = Duration::from_millis(25);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request, and calls `in_flight.authenticated()` if it is authenticated. Otherwise the connection
    /// closes after the answer.
    fn answer(
        &self,
        request: Request<Incoming>,
        in_flight: &InFlight,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;

    /// The answer to a request that the listener refuses before [`Handler::answer`].
    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>>;
}

/// Why the listener refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No slot became free in time.
    #[error("too many concurrent requests: try again later")]
    Busy,
    /// HTTP/1.1 without exactly one valid `Host`.
    #[error("an HTTP/1.1 request must have exactly one valid Host header")]
    Host,
    /// A transfer coding other than `chunked`.
    #[error("unsupported Transfer-Encoding: only chunked is accepted")]
    TransferEncoding,
}

/// Limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Number of slots. A connection takes one, and so does every further request that an HTTP/2 connection has in
    /// flight.
    pub connections: usize,
    /// Maximum connections of one address; `None`: no limit.
    pub per_address: Option<usize>,
    /// Timeout for the first bytes and for a request's head. Also closes a connection that is idle or whose peer does
    /// not read the answers.
    pub header_timeout: Duration,
    /// Timeout for the requests in flight when their connection must close.
    pub last_request: Duration,
}

/// Signals that end a listener.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// From now on HTTP/1.1 answers close their connection. New connections are still accepted.
    pub draining: CancellationToken,
    /// The listener closes; requests in flight are still answered.
    pub shutdown: CancellationToken,
}

impl From<CancellationToken> for Ending {
    /// An ending without a draining phase.
    fn from(shutdown: CancellationToken) -> Self {
        Self { draining: CancellationToken::new(), shutdown }
    }
}

/// A bound listener that is not running yet.
pub struct Listener<H> {
    socket: TcpListener,
    shared: Arc<Shared<H>>,
}

/// State shared by the connections of a listener.
struct Shared<H> {
    handler: H,
    limits: Limits,
    metrics: ConnectionMetrics,
    slots: Capacity,
    addresses: Arc<Addresses>,
    /// Whether the warning about bytes that are not HTTP was logged.
    warned: AtomicBool,
    ending: Ending,
}

impl<H: Handler> Listener<H> {
    /// Creates a listener on a bound socket.
    pub fn new(socket: TcpListener, handler: H, limits: Limits, metrics: ConnectionMetrics, ending: Ending) -> Self {
        let slots = Capacity::new(limits.connections.max(1), GRACE);
        let addresses = Addresses::new(limits.per_address);
        let shared = Shared { handler, limits, metrics, slots, addresses, warned: AtomicBool::new(false), ending };
        Self { socket, shared: Arc::new(shared) }
    }

    /// Accepts until shutdown, then answers the requests in flight. The handler is dropped before this returns.
    pub async fn run(self) {
        let connections = TaskTracker::new();
        self.accept(&connections).await;
        connections.close();
        connections.wait().await;
    }

    /// Accepts connections until shutdown, and closes the socket on return.
    async fn accept(self, connections: &TaskTracker) {
        let Self { socket, shared } = self;
        let shutdown = shared.ending.shutdown.clone();
        while let Some(accepted) = shutdown.run_until_cancelled(socket.accept()).await {
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, listener = shared.metrics.listener(), "could not accept connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(counted) = shared.addresses.count(peer.ip()) else {
                shared.metrics.ended(EndReason::AddressLimit);
                continue;
            };
            // while all slots are kept, further connections wait in the kernel's backlog
            let Some(slot) = shutdown.run_until_cancelled(shared.slots.take(1, None)).await else { break };
            connections.spawn(connection::serve(stream, slot, counted, Arc::clone(&shared)));
        }
    }
}
