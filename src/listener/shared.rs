//! What the connections of a listener share: its limits, the signals that end it, its slots and its metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::capacity::Capacity;
use crate::metrics::connections::ConnectionMetrics;

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

/// State shared by the connections of a listener.
pub(super) struct Shared<H> {
    pub(super) handler: H,
    pub(super) limits: Limits,
    pub(super) metrics: ConnectionMetrics,
    pub(super) slots: Capacity,
    pub(super) addresses: Arc<Addresses>,
    /// Whether the warning about bytes that are not HTTP was logged.
    pub(super) warned: AtomicBool,
    pub(super) ending: Ending,
}
