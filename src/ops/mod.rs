//! The ops listener: `/metrics`, `/livez` and `/readyz`, for monitoring and orchestrators. Stripe must not reach it.
//!
//! It is a separate server, so it answers while the public listener is overloaded or draining. It only reads. Started
//! by `serve`; requested by `health`, Prometheus and Kubernetes.

mod once;

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::once::SharedRun;
use crate::base::text::is_control;
use crate::config::ops::OpsConfig;
use crate::database::shortage::Shortage;
use crate::database::{self, Address, Idle, Pool, Session};
use crate::listener::{Ending, Handler, InFlight, Limits, Listener, Refusal};
use crate::metrics::connections::ConnectionMetrics;
use crate::metrics::{self, build};
use crate::migrations;

/// Limits of the listener: scrapers and probes are few, and answers take seconds at most.
const LIMITS: Limits = Limits {
    connections: 64,
    per_address: None,
    header_timeout: Duration::from_secs(10),
    last_request: Duration::from_secs(15),
};
/// Timeout of the database for one readiness check.
const READY_LIMIT: Duration = Duration::from_secs(1);
/// Timeout for getting a connection: shorter, so that there is time left to find the cause of a failure.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(600);
/// Connections of the probes, and of the scrapes: simultaneous probes share one check, scrapes one rendering.
const OF_EACH: u32 = 1;
/// Maximum number of connections to the database.
pub const CONNECTIONS: u32 = 2 * OF_EACH;

/// The bound listener, not serving yet.
#[derive(Debug)]
pub struct Ops {
    listener: TcpListener,
    local_addr: SocketAddr,
    state: Arc<State>,
    connections: ConnectionMetrics,
}

/// The data for answering requests.
#[derive(Debug)]
struct State {
    /// For readiness only, so that busy scrapes do not look like an unreachable database.
    probes: Pool,
    scrapes: Pool,
    /// Parts of this process that cannot answer without a connection, each with its pool.
    needed: Vec<(&'static str, Pool)>,
    registry: Registry,
    readiness: SharedRun<Result<String, String>>,
    rendering: SharedRun<Result<Bytes, ()>>,
}

impl Ops {
    /// The connection of the probes.
    pub fn probes(&self) -> Pool {
        self.state.probes.clone()
    }

    /// The connection of the scrapes.
    pub fn scrapes(&self) -> Pool {
        self.state.scrapes.clone()
    }

    /// Binds the address, without connecting to the database; port 0 takes a free port. `registry` holds the metrics of
    /// this process, `connections` counts the connections to this listener, and `needed` are
    /// parts that cannot answer without a connection, each with its pool. Scrapes close their connection in a `shortage`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(
        config: &OpsConfig,
        address: &Address,
        registry: Registry,
        connections: ConnectionMetrics,
        needed: Vec<(&'static str, Pool)>,
        shortage: Shortage,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let pool = |idle| database::pool_with(address, Session::OPS, OF_EACH, ACQUIRE_TIMEOUT, idle, Duration::ZERO);
        let (probes, scrapes) = (pool(Idle::Kept), pool(Idle::GivenUp(shortage)));
        let (readiness, rendering) = (SharedRun::default(), SharedRun::default());
        let state = State { probes, scrapes, needed, registry, readiness, rendering };
        Ok(Self { listener, local_addr, state: Arc::new(state), connections })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop`, then answers requests in flight and returns. From `draining` on, `/readyz` reports that the
    /// process is shutting down.
    pub async fn run(self, draining: CancellationToken, stop: CancellationToken) {
        let Self { listener, state, connections, .. } = self;
        // not draining itself: while the other listener drains, its answers do not close connections
        let ending = Ending { draining: CancellationToken::new(), shutdown: stop };
        Listener::new(listener, OpsHandler { state, draining }, LIMITS, connections, ending).run().await;
    }
}

/// The handler, which also knows whether the process is shutting down.
struct OpsHandler {
    state: Arc<State>,
    draining: CancellationToken,
}

impl Handler for OpsHandler {
    /// Answers a request. No client is authenticated here, so a connection carries one request.
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
            return text(StatusCode::NOT_FOUND, "not found; paths are /metrics, /livez and /readyz\n");
        }
        if !is_read(request.method()) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here\n");
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
            return text(StatusCode::INTERNAL_SERVER_ERROR, "could not write the metrics, see the log\n");
        };
        let mut response = text(StatusCode::OK, metrics);
        let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
        response.headers_mut().insert(CONTENT_TYPE, format);
        response
    }

    async fn render(&self) -> Result<Bytes, ()> {
        let mut families = self.registry.gather();
        families.extend(metrics::database::gather(&self.scrapes).await);
        let encoded = build::gather().and_then(|build| {
            families.extend(build);
            TextEncoder::new().encode_to_string(&families)
        });
        encoded
            .map(|text| Bytes::from(without_controls(text)))
            .map_err(|error| tracing::error!(error = %error, "could not write the metrics"))
    }

    async fn ready_in_time(&self) -> Result<String, String> {
        let ready = tokio::time::timeout(READY_LIMIT, self.ready()).await;
        ready.unwrap_or_else(|_| Err("the database did not answer within 1 s".to_owned()))
    }

    /// Describes in one line why this process is ready, or why it is not.
    async fn ready(&self) -> Result<String, String> {
        let mut conn = match self.probes.acquire().await {
            Ok(conn) => conn,
            Err(error) => return Err(database::unreachable_reason(&self.probes, &error).await),
        };
        let status = migrations::pending(&mut conn).await.map_err(|error| one_line(&error))?;
        if !status.is_current() {
            return Err(format!("{}: {}", status.describe(), status.fix()));
        }
        for (part, pool) in &self.needed {
            database::check_connection(pool).await.map_err(|reason| format!("the {part}: {reason}"))?;
        }
        let writable = database::check_writable(&mut conn).await.map_err(|error| one_line(&error))?;
        Ok(match writable.note() {
            None => status.describe(),
            Some(note) => format!("{}; {note}", status.describe()),
        })
    }
}

/// Escapes control characters in all labels. Limit keys come from Stripe's metadata, and a terminal that shows the
/// metrics must not execute what they contain. Different labels stay different.
fn without_controls(text: String) -> String {
    let is_wrong = |letter: char| letter != '\n' && is_control(letter);
    if !text.contains(is_wrong) {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len()), |mut text, letter| {
        if is_wrong(letter) {
            // in the format itself, only the backslash has an escape
            let _ = write!(text, "\\\\u{{{:x}}}", u32::from(letter));
        } else {
            text.push(letter);
        }
        text
    })
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

#[cfg(test)]
mod tests {
    use prometheus::{IntCounterVec, Opts};

    use super::*;

    #[test]
    fn no_control_character_of_any_label_reaches_a_terminal() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("c", "help"), &["key"]).unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        let keys =
            ["a\u{1b}[31m", "a\u{8}", "a\u{7}", "a\rb", "a\u{202e}b", "a\u{2028}b", "a\u{9b}", "a\tb", "a\nb", "ä\\\""];
        for key in keys {
            counter.with_label_values(&[key]).inc();
        }
        let text = without_controls(TextEncoder::new().encode_to_string(&registry.gather()).unwrap());
        assert_eq!(text.chars().find(|letter| *letter != '\n' && is_control(*letter)), None, "{text}");
        // each key has its own line, in addition to HELP and TYPE
        assert_eq!(text.lines().count(), keys.len() + 2, "{text}");
        for line in [
            "c{key=\"a\\\\u{1b}[31m\"} 1",
            "c{key=\"a\\\\u{202e}b\"} 1",
            "c{key=\"a\\nb\"} 1",
            "c{key=\"ä\\\\\\\"\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
        }
    }
}
