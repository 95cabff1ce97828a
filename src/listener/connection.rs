//! One connection, from its first byte to its last. Its slot is free when its task ends.
//!
//! Both versions of HTTP have the same limits: the size of a head, the time for it, idle time, and the age of the
//! connection. An HTTP/2 connection besides: streams at a time, and a slot for every stream beyond the first, so that a
//! process never has more requests at work than slots.

use std::convert::Infallible;
use std::io::Cursor;
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
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::activity::Activity;
use super::{Handler, Limits, Shared, opening};
use crate::metrics::connections::Protocol;

/// A larger head is not one of Stripe's deliveries, whose heads have less than 1 KiB, nor a probe's.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Oldest connection: a client that sends on and never reads would hold its slot for ever.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);
/// Streams of one HTTP/2 connection at a time. A balancer opens another connection for more.
const MAX_STREAMS: u32 = 64;
/// What a client may send of one HTTP/2 body before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Serves the connection to its end.
pub(super) async fn serve<H: Handler>(mut stream: TcpStream, _slot: OwnedSemaphorePermit, shared: Arc<Shared<H>>) {
    // answers are one small packet: waiting to fill it would cost 40 ms each
    let _ = stream.set_nodelay(true);
    let opened = timeout(shared.limits.header_timeout, opening::read(&mut stream));
    let Some(opened) = shared.ending.shutdown.run_until_cancelled(opened).await else { return };
    let (protocol, start) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) | Err(_) => (Protocol::Empty, Vec::new()),
    };
    shared.metrics.connection(protocol);
    match protocol {
        Protocol::Http1 => http1_connection(replayed(stream, start), &shared).await,
        Protocol::Http2 => http2_connection(replayed(stream, start), &shared).await,
        Protocol::Tls | Protocol::ProxyProtocol => {
            shared.warn_once(protocol);
            opening::refuse(stream, protocol).await;
        }
        Protocol::Empty => {}
    }
}

/// The stream, with the bytes that were read already in front of the others.
fn replayed(stream: TcpStream, start: Vec<u8>) -> impl AsyncRead + AsyncWrite + Unpin {
    let (read, write) = stream.into_split();
    tokio::io::join(Cursor::new(start).chain(read), write)
}

async fn http1_connection<H: Handler>(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Arc<Shared<H>>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(shared);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    // without a timer hyper has no time-out for heads; the same time-out ends idle connections
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_timeout)
        .max_header_size(MAX_HEADER_BYTES as usize)
        .serve_connection(TokioIo::new(stream), service);
    let connection = pin!(connection);
    until_closed(connection, http1::Connection::graceful_shutdown, std::future::pending(), shared).await;
}

async fn http2_connection<H: Handler>(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Arc<Shared<H>>) {
    let activity = Activity::new();
    let service = service_fn(|request| {
        let (shared, in_flight) = (Arc::clone(shared), activity.begin());
        async move {
            let slot = if in_flight.is_further() { shared.further_slot().await } else { Some(None) };
            Ok::<_, Infallible>(match slot {
                Some(_slot) => shared.answer(request).await,
                None => shared.handler.busy(),
            })
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    let connection = pin!(connection);
    let idle = activity.idle(shared.limits.header_timeout);
    until_closed(connection, http2::Connection::graceful_shutdown, idle, shared).await;
}

/// Drives a connection until the peer ends it. At shutdown, at its greatest age or when it is idle it is asked to end,
/// and the requests in flight have a limited time.
async fn until_closed<C, H>(
    mut connection: Pin<&mut C>,
    graceful_shutdown: fn(Pin<&mut C>),
    idle: impl Future<Output = ()>,
    shared: &Shared<H>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        result = connection.as_mut() => return closed(result),
        () = shared.ending.shutdown.cancelled() => {}
        () = sleep(MAX_CONNECTION_AGE) => {}
        () = idle => {}
    }
    graceful_shutdown(connection.as_mut());
    if let Ok(result) = timeout(shared.limits.last_request, connection).await {
        closed(result);
    }
}

fn closed(result: hyper::Result<()>) {
    if let Err(error) = result {
        // clients hang up, time out and send invalid bytes all day: there is nothing to act on
        tracing::debug!(error = %error, "connection ended");
    }
}

impl<H: Handler> Shared<H> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let can_close = request.version() < Version::HTTP_2;
        let mut response = self.handler.answer(request).await;
        // a balancer's next request goes over a new connection, to another process once it knows
        if can_close && self.ending.draining.is_cancelled() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// A slot for a further request of a connection. The outer `None`: no slot came free in time.
    async fn further_slot(&self) -> Option<Option<OwnedSemaphorePermit>> {
        let Limits { header_timeout, .. } = self.limits;
        let slot = timeout(header_timeout, Arc::clone(&self.slots).acquire_owned()).await;
        slot.ok().map(Result::ok)
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
