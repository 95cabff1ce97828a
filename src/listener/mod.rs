//! A plain-text HTTP listener: sockets, their limits and their end. The receiver and the ops listener both run one.
//!
//! ```text
//! accept ─▶ slot ─▶ first bytes ─┬─▶ HTTP/1.1 ──┐
//!                   (protocol)   ├─▶ HTTP/2 ────┴─▶ Handler
//!                                └─▶ TLS, PROXY protocol: refused with one sentence
//! ```
//!
//! Every connection is a task of its own, so a panic in one ends that one. What a request means is the handler's, which
//! also says whether it is authenticated. A connection that proves nothing cannot keep others out: it closes after its
//! first answer, and where all slots are taken the oldest such connection ends for the new one.

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

/// Pause after a failed accept. The usual cause is a lack of file descriptors, which lasts a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that every connection has to send its request before it may end for another. Short, because under attack the
/// next connection waits for it; a client that is not slow needs less.
const GRACE: Duration = Duration::from_millis(25);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request, and tells `in_flight` once it is authenticated. Any other connection closes after the answer.
    fn answer(
        &self,
        request: Request<Incoming>,
        in_flight: &InFlight,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;

    /// The answer to a request that does not get to [`Handler::answer`].
    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>>;
}

/// Why the listener refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No slot came free in time.
    #[error("too many requests at a time: try again later")]
    Busy,
    /// HTTP/1.1 without exactly one valid `Host`.
    #[error("a request of HTTP/1.1 has one Host header")]
    Host,
    /// A coding besides `chunked`.
    #[error("the only Transfer-Encoding that is taken is chunked")]
    TransferEncoding,
}

/// Limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Slots. A connection takes one, and so does every request beyond the first that an HTTP/2 connection has in flight.
    pub connections: usize,
    /// Connections of one address; `None`: no limit.
    pub per_address: Option<usize>,
    /// Time for the first bytes and for a request's head. An idle connection closes after it, and so does one whose peer
    /// does not read its answers.
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
    slots: Capacity,
    addresses: Arc<Addresses>,
    /// Whether the log has the warning about bytes that are not HTTP.
    warned: AtomicBool,
    ending: Ending,
}

impl<H: Handler> Listener<H> {
    /// A listener on a bound socket.
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

    /// Closes the socket when it returns.
    async fn accept(self, connections: &TaskTracker) {
        let Self { socket, shared } = self;
        let shutdown = shared.ending.shutdown.clone();
        while let Some(accepted) = shutdown.run_until_cancelled(socket.accept()).await {
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, listener = shared.metrics.listener(), "cannot accept a connection");
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
