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
mod handler;
mod opening;
mod shared;
mod strict;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

pub use self::activity::InFlight;
use self::addresses::Addresses;
use self::capacity::Capacity;
pub use self::handler::{Handler, Refusal};
use self::shared::Shared;
pub use self::shared::{Ending, Limits};
use crate::metrics::connections::{ConnectionMetrics, EndReason};

/// Pause after a failed accept. The usual cause is that the process is out of file descriptors for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that every connection has to send its request before it may end for another. Short, because the next connection
/// waits for it under attack; a normal client needs less.
const GRACE: Duration = Duration::from_millis(25);

/// A bound listener that is not running yet.
pub struct Listener<H> {
    socket: TcpListener,
    shared: Arc<Shared<H>>,
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
