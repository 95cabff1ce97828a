//! One connection, from its first byte to its last. Its slot is freed when its task ends, and its task ends when
//! another connection takes the slot.
//!
//! Both versions of HTTP have the same limits: size and timeout of a head, idle time, timeout for the peer to read an
//! answer, and age of the connection. HTTP/2 also has a limit of concurrent streams, and every stream beyond the first
//! takes a slot, so that a process never has more requests in flight than slots.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutWriter;

use super::activity::{Activity, InFlight};
use super::addresses::CountedConnection;
use super::capacity::Share;
use super::handler::{Handler, Refusal};
use super::shared::Shared;
use super::{opening, strict};
use crate::metrics::connections::{EndReason, Protocol};

/// A larger head comes neither from Stripe, whose heads have less than 1 KiB, nor from a health probe.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Bytes that HTTP/1.1 reads ahead of the handler. Small, because the budget for bodies does not include them.
const READ_BUFFER_BYTES: usize = 32 * 1024;
/// Older connections are closed, so that a balancer redistributes its connections from time to time.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);
/// At shutdown: time for the peer to read the last answers.
const LAST_READ: Duration = Duration::from_secs(1);
/// Concurrent streams of one HTTP/2 connection. A balancer opens another connection for more.
const MAX_STREAMS: u32 = 64;
/// Bytes of one HTTP/2 body that a client may send before they are read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all streams of a connection. Small too, because the budget for bodies does not include them.
const CONNECTION_WINDOW: u32 = 64 * 1024;

/// Serves the connection to its end, or until another connection takes its slot.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    slot: Share,
    _counted: CountedConnection,
    shared: Arc<Shared<H>>,
) {
    let end = slot.end().clone();
    let activity = Activity::new(slot);
    // the conversation is polled once more before it ends, so that a request in flight is answered 503
    if end.run_until_cancelled(converse(stream, &activity, &shared)).await.is_none() {
        shared.metrics.ended(EndReason::GaveWay);
    }
}

async fn converse<H: Handler>(mut stream: TcpStream, activity: &Activity, shared: &Arc<Shared<H>>) {
    // an answer is one small packet: waiting to fill it would delay each by 40 ms
    let _ = stream.set_nodelay(true);
    let opened = timeout(shared.limits.header_timeout, opening::read(&mut stream));
    let Some(opened) = shared.ending.shutdown.run_until_cancelled(opened).await else { return };
    let (protocol, start) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) | Err(_) => (Protocol::Empty, Vec::new()),
    };
    shared.metrics.connection(protocol);
    match protocol {
        Protocol::Http1 => http1_connection(shared.replayed(stream, start), activity, shared).await,
        Protocol::Http2 => http2_connection(shared.replayed(stream, start), activity, shared).await,
        Protocol::Tls | Protocol::ProxyProtocol => {
            shared.warn_once(protocol);
            opening::refuse(stream, protocol).await;
        }
        Protocol::Empty => {}
    }
}

async fn http1_connection<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    activity: &Activity,
    shared: &Arc<Shared<H>>,
) {
    let service = service_fn(|request| {
        let (shared, in_flight) = (Arc::clone(shared), activity.begin());
        async move { Ok::<_, Infallible>(shared.answer(request, &in_flight).await) }
    });
    // without a timer hyper has no timeout for heads; the same timeout ends idle connections
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_timeout)
        .max_header_size(MAX_HEADER_BYTES as usize)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // after an answer with `Connection: close` hyper closes the connection itself
    let ending = std::future::pending();
    until_closed(pin!(connection), http1::Connection::graceful_shutdown, ending, activity, shared).await;
}

async fn http2_connection<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    activity: &Activity,
    shared: &Arc<Shared<H>>,
) {
    let service = service_fn(|request| {
        let (shared, in_flight) = (Arc::clone(shared), activity.begin());
        async move { Ok::<_, Infallible>(shared.answer_stream(request, in_flight).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    let ending = async {
        tokio::select! {
            () = activity.idle(shared.limits.header_timeout) => {}
            () = activity.closes() => {}
        }
    };
    until_closed(pin!(connection), http2::Connection::graceful_shutdown, ending, activity, shared).await;
}

/// Drives a connection until the peer closes it. At shutdown, at its maximum age or at its own `ending` it shuts down
/// gracefully: the requests in flight have limited time, and the peer has a shorter time to read the last answers.
async fn until_closed<C, H>(
    mut connection: Pin<&mut C>,
    graceful_shutdown: fn(Pin<&mut C>),
    ending: impl Future<Output = ()>,
    activity: &Activity,
    shared: &Shared<H>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let shutdown = &shared.ending.shutdown;
    tokio::select! {
        result = connection.as_mut() => return shared.closed(result),
        () = shutdown.cancelled() => {}
        () = sleep(MAX_CONNECTION_AGE) => shared.metrics.ended(EndReason::Age),
        () = ending => {}
    }
    graceful_shutdown(connection.as_mut());
    let last_read = async {
        shutdown.cancelled().await;
        activity.idle(LAST_READ).await;
    };
    tokio::select! {
        result = connection => return shared.closed(result),
        () = last_read => {}
        () = activity.idle(shared.limits.header_timeout) => {}
        () = sleep(shared.limits.last_request) => {}
    }
    shared.metrics.ended(EndReason::Unread);
}

/// Whether a write timed out because the peer did not read.
fn is_unread(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        source = error.source();
    }
    false
}

impl<H> Shared<H> {
    /// The stream, preceded by the bytes that were read already, and with a timeout for each write.
    fn replayed(&self, stream: TcpStream, start: Vec<u8>) -> impl AsyncRead + AsyncWrite + Unpin + use<H> {
        let (read, write) = stream.into_split();
        let mut write = TimeoutWriter::new(write);
        write.set_timeout(Some(self.limits.header_timeout));
        Box::pin(tokio::io::join(Cursor::new(start).chain(read), write))
    }

    fn closed(&self, result: hyper::Result<()>) {
        if let Err(error) = result {
            // clients often hang up, time out or send invalid bytes: no action is needed
            tracing::debug!(error = %error, "connection ended");
            if is_unread(&error) {
                self.metrics.ended(EndReason::Unread);
            }
        }
    }
}

impl<H: Handler> Shared<H> {
    /// Answers a request of an HTTP/2 connection. A request beyond the first in flight takes a slot and ends with it.
    async fn answer_stream(&self, request: Request<Incoming>, in_flight: InFlight) -> Response<Full<Bytes>> {
        if !in_flight.is_further() {
            return self.answer(request, &in_flight).await;
        }
        let slot = self.slots.take(1, Some(in_flight.number()));
        let Ok(slot) = timeout(self.limits.header_timeout, slot).await else {
            return self.handler.refuse(Refusal::Busy);
        };
        let end = slot.end().clone();
        in_flight.set_slot(slot);
        match end.run_until_cancelled(self.answer(request, &in_flight)).await {
            Some(response) => response,
            None => self.handler.refuse(Refusal::Busy),
        }
    }

    async fn answer(&self, request: Request<Incoming>, in_flight: &InFlight) -> Response<Full<Bytes>> {
        let can_close = request.version() < Version::HTTP_2;
        let mut response = match strict::check(&request) {
            Ok(()) => {
                let answer = in_flight.end().run_until_cancelled(self.handler.answer(request, in_flight)).await;
                answer.unwrap_or_else(|| self.handler.refuse(Refusal::Busy))
            }
            Err(refusal) => self.handler.refuse(refusal),
        };
        let closes = in_flight.answered();
        // when draining, a balancer's next request opens a new connection: to another process once the balancer knows
        if can_close && (closes || self.ending.draining.is_cancelled()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn warn_once(&self, protocol: Protocol) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                listener = self.metrics.listener(),
                protocol = protocol.as_str(),
                "{}; further such connections are only counted",
                opening::sentence(protocol)
            );
        }
    }
}
