//! The ops listener: `/metrics`, `/livez` and `/readyz`, for monitoring and orchestrators. Never reachable by Stripe.
//!
//! A server of its own, apart from the receiver: it answers while the public one is overloaded or draining. Nothing here
//! changes anything. Started by `serve`; asked by `health`, Prometheus and Kubernetes.

mod once;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus::{Registry, TextEncoder};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::once::AtOnce;
use crate::config::ops::OpsConfig;
use crate::database::{self, Session};
use crate::listener::{Ending, Handler, InFlight, Limits, Listener, Refusal};
use crate::metrics::connections::ConnectionMetrics;
use crate::metrics::{build, service};
use crate::migrations;

/// Scrapers and probes are few, and the answers take seconds at most.
const LIMITS: Limits = Limits {
    connections: 64,
    per_address: None,
    header_timeout: Duration::from_secs(10),
    last_request: Duration::from_secs(15),
};
/// Time for the database's answer to one readiness check.
const READY_LIMIT: Duration = Duration::from_secs(1);
/// Time for a connection to it: less, so that there is time left to find out why there is none.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(600);
/// Probes share one check at a time, and scrapes one rendering.
const CONNECTIONS: u32 = 1;

/// The bound listener, before it serves.
#[derive(Debug)]
pub struct Ops {
    listener: TcpListener,
    local_addr: SocketAddr,
    state: Arc<State>,
    connections: ConnectionMetrics,
}

/// What requests are answered from.
#[derive(Debug)]
struct State {
    /// For readiness alone, so that busy scrapes do not look like a database that is away.
    probes: PgPool,
    scrapes: PgPool,
    registry: Registry,
    readiness: AtOnce<Result<String, String>>,
    rendering: AtOnce<Result<Bytes, ()>>,
}

impl Ops {
    /// Its connections.
    pub fn pools(&self) -> [PgPool; 2] {
        [self.state.probes.clone(), self.state.scrapes.clone()]
    }

    /// The connection of the probes, which must not starve.
    pub fn probes(&self) -> PgPool {
        self.state.probes.clone()
    }

    /// Binds the address; port 0 takes a free one. No connection to the database is made yet. `registry` holds what this
    /// process counts, `connections` counts those to this listener.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(
        config: &OpsConfig,
        options: &PgConnectOptions,
        registry: Registry,
        connections: ConnectionMetrics,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let probes = database::keeping_pool(options, Session::OPS, CONNECTIONS, ACQUIRE_TIMEOUT);
        let scrapes = database::pool(options, Session::OPS, CONNECTIONS, ACQUIRE_TIMEOUT);
        let (readiness, rendering) = (AtOnce::default(), AtOnce::default());
        let state = State { probes, scrapes, registry, readiness, rendering };
        Ok(Self { listener, local_addr, state: Arc::new(state), connections })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop`; then answers what has been asked already and returns. `/readyz` says that the process is
    /// shutting down from `draining` on.
    pub async fn run(self, draining: CancellationToken, stop: CancellationToken) {
        let Self { listener, state, connections, .. } = self;
        // its own answers do not ask for new connections while the other listener drains
        let ending = Ending { draining: CancellationToken::new(), shutdown: stop };
        Listener::new(listener, OpsHandler { state, draining }, LIMITS, connections, ending).run().await;
    }
}

/// Answers requests, and knows whether the process is shutting down.
struct OpsHandler {
    state: Arc<State>,
    draining: CancellationToken,
}

impl Handler for OpsHandler {
    /// Nobody is authenticated here, so a connection carries one request.
    async fn answer(&self, request: Request<Incoming>, _in_flight: &InFlight) -> Response<Full<Bytes>> {
        if self.draining.is_cancelled() && request.uri().path() == "/readyz" && is_read(request.method()) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "not ready: shutting down\n");
        }
        self.state.answer(&request).await
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        let status = match refusal {
            Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Host | Refusal::TransferEncoding => StatusCode::BAD_REQUEST,
        };
        text(status, format!("{refusal}\n"))
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

impl State {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/livez" | "/readyz") {
            return text(StatusCode::NOT_FOUND, "here are /metrics, /livez and /readyz\n");
        }
        if !is_read(request.method()) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/livez" => text(StatusCode::OK, "live\n"),
            _ => match self.readiness.run(Box::pin(self.ready_in_time())).await {
                Ok(reason) => text(StatusCode::OK, format!("ready: {reason}\n")),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            },
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let Ok(metrics) = self.rendering.run(Box::pin(self.render())).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written, see the log\n");
        };
        let mut response = text(StatusCode::OK, metrics);
        let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
        response.headers_mut().insert(CONTENT_TYPE, format);
        response
    }

    async fn render(&self) -> Result<Bytes, ()> {
        let mut families = self.registry.gather();
        families.extend(service::gather(&self.scrapes).await);
        let encoded = build::gather().and_then(|build| {
            families.extend(build);
            TextEncoder::new().encode_to_string(&families)
        });
        encoded.map(Bytes::from).map_err(|error| tracing::error!(error = %error, "the metrics cannot be written"))
    }

    async fn ready_in_time(&self) -> Result<String, String> {
        let ready = tokio::time::timeout(READY_LIMIT, self.ready()).await;
        ready.unwrap_or_else(|_| Err("the database did not answer within 1 s".to_owned()))
    }

    /// Says in one line why this process can work, or why it cannot.
    async fn ready(&self) -> Result<String, String> {
        let mut conn = match self.probes.acquire().await {
            Ok(conn) => conn,
            Err(error) => return Err(database::unreachable_reason(&self.probes, &error).await),
        };
        let status = migrations::pending(&mut conn).await.map_err(|error| one_line(&error))?;
        if !status.is_current() {
            return Err(format!("{}: {}", status.describe(), status.mend()));
        }
        let writable = database::check_writable(&mut conn).await.map_err(|error| one_line(&error))?;
        Ok(match writable.note() {
            None => status.describe(),
            Some(note) => format!("{}; {note}", status.describe()),
        })
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
