//! The ops listener: `/metrics`, `/livez` and `/readyz`, for monitoring and orchestrators. Never reachable by Stripe.
//!
//! A server of its own, apart from the receiver: it answers while the public one is overloaded or draining. Nothing here
//! changes anything. Started by `serve`; asked by `health`, Prometheus and Kubernetes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ops::OpsConfig;
use crate::database::{self, Session};
use crate::metrics::{build, service};
use crate::migrations;

/// Scrapers and probes are few; more connections than this are somebody's mistake.
const MAX_CONNECTIONS: usize = 64;
/// Time for a request's head; an idle connection closes after it too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the database's answer to one readiness check.
const READY_LIMIT: Duration = Duration::from_secs(1);
/// Time for a connection to it: less, so that there is time left to find out why there is none.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(600);
/// A probe and a scrape at the same time.
const CONNECTIONS: u32 = 2;
/// Pause after a failed accept (out of file descriptors, mostly), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound listener, before it serves.
#[derive(Debug)]
pub struct Ops {
    listener: TcpListener,
    local_addr: SocketAddr,
    state: Arc<State>,
}

/// What requests are answered from.
#[derive(Debug)]
struct State {
    pool: PgPool,
    registry: Registry,
}

impl Ops {
    /// Binds the address; port 0 takes a free one. No connection to the database is made yet. `registry` holds what this process counts.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(config: &OpsConfig, options: &PgConnectOptions, registry: Registry) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let pool = database::pool(options, Session::OPS, CONNECTIONS, ACQUIRE_TIMEOUT);
        Ok(Self { listener, local_addr, state: Arc::new(State { pool, registry }) })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop`; then answers what has been asked already and returns.
    pub async fn run(self, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Some(Some((stream, slot))) = stop.run_until_cancelled(self.accept(&slots)).await {
            connections.spawn(serve(stream, slot, Arc::clone(&self.state), stop.clone()));
        }
        connections.close();
        connections.wait().await;
    }

    /// The next connection and its slot; `None` once no slot can be had any more.
    async fn accept(&self, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return Some((stream, slot)),
                Err(error) => {
                    tracing::warn!(error = %error, "the ops listener cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, slot: OwnedSemaphorePermit, state: Arc<State>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.answer(&request).await) }
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %error, "a connection to the ops listener broke off");
    }
    drop(slot);
}

impl State {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/livez" | "/readyz") {
            return text(StatusCode::NOT_FOUND, "here are /metrics, /livez and /readyz\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/livez" => text(StatusCode::OK, "live\n"),
            _ => match tokio::time::timeout(READY_LIMIT, self.ready()).await {
                Ok(Ok(reason)) => text(StatusCode::OK, format!("ready: {reason}\n")),
                Ok(Err(reason)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
                Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: the database did not answer within 1 s\n"),
            },
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let mut families = self.registry.gather();
        families.extend(service::gather(&self.pool).await);
        let encoded = build::gather().and_then(|build| {
            families.extend(build);
            TextEncoder::new().encode_to_string(&families)
        });
        match encoded {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
                response.headers_mut().insert(CONTENT_TYPE, format);
                response
            }
            Err(error) => {
                tracing::error!(error = %error, "the metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written, see the log\n")
            }
        }
    }

    /// Says in one line why this process can work, or why it cannot.
    async fn ready(&self) -> Result<String, String> {
        let mut conn = match self.pool.acquire().await {
            Ok(conn) => conn,
            Err(error) => return Err(database::unreachable_reason(&self.pool, &error).await),
        };
        let status = migrations::pending(&mut conn).await.map_err(|error| one_line(&error))?;
        if status.is_current() {
            Ok(status.describe())
        } else {
            Err(format!("{}: {}", status.describe(), status.mend()))
        }
    }
}

fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().replace('\n', " ")
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
