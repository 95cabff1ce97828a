//! The interface between a listener and its user: the handler of requests, and why the listener refuses one itself.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};

use super::activity::InFlight;

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
