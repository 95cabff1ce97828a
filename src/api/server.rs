//! The listener of the API: binds it, runs it on [`crate::listener`], and cleans up old idempotency keys meanwhile.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tower::ServiceExt;
use uuid::Uuid;

use super::authenticate::Authenticated;
use super::context::{ApiContext, RateLimits, WaitingRequests};
use super::finish::{X_REQUEST_ID, render};
use super::principal::jwt::JwtVerifier;
use super::problem::{Code, Problem};
use super::{idempotency, openapi, router};
use crate::config::api::ApiConfig;
use crate::database::shortage::Shortage;
use crate::database::{self, Address, Idle, Pool, Session};
use crate::listener::{Ending, Handler, InFlight, Limits, Listener, Refusal};
use crate::metrics::api::ApiMetrics;
use crate::metrics::connections::ConnectionMetrics;
use crate::writes::Writer;

/// Limits of the listener. Products keep connections open, and browsers open several.
const LIMITS: Limits = Limits {
    connections: 1024,
    per_address: None,
    header_timeout: Duration::from_secs(20),
    // longer than a request may wait for a change
    last_request: Duration::from_secs(35),
};
/// Timeout for getting a connection to the database.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which old idempotency keys are deleted.
const CLEANUP_INTERVAL: Duration = Duration::from_mins(10);

/// Why the API cannot listen.
pub type BindError = io::Error;

/// Declares the metrics of the API.
///
/// # Errors
/// When the registry already has one of them.
pub fn metrics(registry: &Registry) -> Result<ApiMetrics, prometheus::Error> {
    ApiMetrics::new(registry, openapi::operations(), Code::ALL.map(Code::as_str))
}

/// The bound listener, not serving yet.
#[derive(Debug)]
pub struct Api {
    listener: TcpListener,
    local_addr: SocketAddr,
    config: ApiConfig,
    accounts: BTreeSet<String>,
    reads: Pool,
    writes: Pool,
    writer: Option<Arc<Writer>>,
    metrics: ApiMetrics,
    connections: ConnectionMetrics,
}

/// What the API takes from its process.
#[derive(Debug)]
pub struct ApiParts {
    /// The connected accounts whose customers the tables contain.
    pub accounts: BTreeSet<String>,
    /// The API's own metrics.
    pub metrics: ApiMetrics,
    /// The metrics of its listener.
    pub connections: ConnectionMetrics,
    /// Connections for writes are closed in a shortage.
    pub shortage: Shortage,
    /// Makes changes at Stripe; `None` without a key for writes.
    pub writer: Option<Arc<Writer>>,
}

impl Api {
    /// Binds the address, without connecting to the database; port 0 takes a free port.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(config: &ApiConfig, address: &Address, parts: ApiParts) -> Result<Self, BindError> {
        let ApiParts { accounts, metrics, connections, shortage, writer } = parts;
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let pool = |size, idle| database::pool_with(address, Session::API, size, ACQUIRE_TIMEOUT, idle, Duration::ZERO);
        let for_writes = config.connections / 2;
        let reads = pool(config.connections - for_writes, Idle::Kept);
        let writes = pool(for_writes, Idle::GivenUp(shortage));
        // the own account has an empty id
        let accounts = accounts.into_iter().chain([String::new()]).collect();
        let config = config.clone();
        Ok(Self { listener, local_addr, config, accounts, reads, writes, writer, metrics, connections })
    }

    /// The connections for reads, without which nothing can be answered.
    pub fn reads(&self) -> Pool {
        self.reads.clone()
    }

    /// The connections for writes.
    pub fn writes(&self) -> Pool {
        self.writes.clone()
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until shutdown, then answers the requests in flight.
    pub async fn run(self, ending: impl Into<Ending>) {
        let ending = ending.into();
        let Self { listener, config, accounts, reads, writes, writer, metrics, connections, .. } = self;
        let verifier = config.jwt.clone().map(JwtVerifier::new);
        if let Some(verifier) = verifier.clone() {
            // the verifier logs a failure, and tries again at the first token
            tokio::spawn(async move { verifier.load().await });
        }
        let context = ApiContext {
            reads,
            writes: writes.clone(),
            verifier,
            rate: RateLimits::new(config.rate),
            metrics: metrics.clone(),
            prefix: config.workspaces.as_str().to_owned(),
            links_prefix: config.checkout_links.map(|prefix| prefix.as_str().to_owned()),
            max_owned: config.max_owned,
            key_prefix: config.key_prefix,
            live_subscription: config.live_subscription,
            origins: config.cors_origins.clone(),
            writer: writer.clone(),
            accounts,
            waiting: WaitingRequests::default(),
            draining: ending.draining.child_token(),
        };
        let counted = metrics;
        let router = router::router(Arc::new(context), &config.cors_origins);
        let cleanup = tokio::spawn({
            let shutdown = ending.shutdown.clone();
            async move { shutdown.run_until_cancelled(clean_up(&writes)).await }
        });
        Listener::new(listener, ApiHandler { router, metrics: counted }, LIMITS, connections, ending).run().await;
        if let Some(writer) = writer {
            writer.finish().await;
        }
        let _ = cleanup.await;
    }
}

/// Deletes old idempotency keys from time to time.
async fn clean_up(pool: &Pool) {
    loop {
        let forgotten = async { idempotency::forget(&mut pool.acquire().await?).await };
        match forgotten.await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "could not delete old idempotency keys; trying again later"),
        }
        sleep(CLEANUP_INTERVAL).await;
    }
}

/// Answers requests by the router.
struct ApiHandler {
    router: Router,
    metrics: ApiMetrics,
}

impl Handler for ApiHandler {
    async fn answer(&self, request: Request<Incoming>, in_flight: &InFlight) -> Response<Full<Bytes>> {
        let mut request = request.map(Body::new);
        let authenticated = Authenticated::default();
        request.extensions_mut().insert(authenticated.clone());
        // the connection keeps its slot from the moment of authentication, while the request still runs
        let keep_slot = async {
            authenticated.0.cancelled().await;
            in_flight.authenticated();
            pending().await
        };
        let answered = tokio::select! {
            answered = self.router.clone().oneshot(request) => answered,
            never = keep_slot => never,
        };
        if authenticated.0.is_cancelled() {
            in_flight.authenticated();
        }
        let Ok(response) = answered;
        let (head, body) = response.into_parts();
        // every body is in memory already, so collecting it cannot fail
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Response::from_parts(head, Full::new(body))
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        let code = match refusal {
            Refusal::Busy => Code::Busy,
            Refusal::Host | Refusal::TransferEncoding => Code::MalformedRequest,
        };
        let mut problem = Problem::new(code, refusal.to_string());
        if code.is_retryable() {
            problem = problem.retry_after(Duration::from_secs(1));
        }
        self.metrics.problem(code.as_str());
        let id = Uuid::new_v4().to_string();
        let mut response = Response::new(Full::default());
        render(&mut response, &problem, &id);
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        response
    }
}
