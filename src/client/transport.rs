//! One attempt over HTTP: the connection pool, the headers of every request, the limits of every response.
//!
//! Knows nothing of retries or of the meaning of a response. Only this module exposes the key. Called by
//! [`super::http`].

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use secrecy::{ExposeSecret, SecretString};
use stripe_client_core::{RequestBuilder, StripeMethod};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::API_VERSION;
use super::headers::{self, ResponseHeaders};
use super::read::V2;
use super::route::{self, Connector};
use crate::base::clock::{self, RemoteClock};
use crate::config::egress::Egress;
use crate::config::stripe::StripeConfig;

/// Maximum response size. The largest responses, pages of a hundred expanded objects, have a few megabytes.
pub(super) const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Connect timeout. Shorter than an attempt's timeout, so that time is left for the request.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Idle connections are closed after this time, before Stripe closes them: that would make an attempt fail.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
const AGENT: &str = concat!("billing-sync/", env!("CARGO_PKG_VERSION"));

/// The connection pool, and the data of every request.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    /// Base URL, with a final slash.
    base: String,
    key: SecretString,
    timeout: Duration,
    egress: Egress,
    /// Stripe's clock, updated with every response.
    stripe_clock: RemoteClock,
    /// Whether the warning about responses with a future time was logged.
    warned: AtomicBool,
}

/// A response with any status.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) hints: ResponseHeaders,
    pub(super) body: Bytes,
    /// Time of the request, see [`super::Answer::at`].
    pub(super) at: OffsetDateTime,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was sent: the id, account or key does not fit into a request.
    Unwritable,
    /// No connection, or no response, or a late or incomplete one.
    Unanswered {
        /// The reason in one line.
        why: String,
        /// Whether the request may have been received: there was a connection.
        was_sent: bool,
    },
    /// The response is longer than [`BODY_LIMIT`].
    TooLong { status: u16, request_id: Option<String> },
}

impl Transport {
    /// Creates the transport. The timeout covers one attempt, from connecting to the end of the response. The pool
    /// keeps as many idle connections as there are concurrent requests. `stripe_clock` is updated with Stripe's time.
    pub(super) fn new(config: &StripeConfig, key: SecretString, stripe_clock: RemoteClock) -> Self {
        let base = format!("{}/", config.api_base.as_str().trim_end_matches('/'));
        let (timeout, idle) = (config.timeout, config.concurrency);
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT.min(timeout)));
        let connector = route::connector(&config.egress, tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(idle)
            .build(connector);
        Self { client, base, key, timeout, egress: config.egress.clone(), stripe_clock, warned: AtomicBool::new(false) }
    }

    /// Sends the request once; a write with its idempotency key.
    pub(super) async fn send(
        &self,
        request: &RequestBuilder,
        account: &str,
        idempotency_key: Option<&str>,
    ) -> Result<Reply, Failure> {
        let request = self.write(request, account, idempotency_key).ok_or(Failure::Unwritable)?;
        let limit = humantime::format_duration(self.timeout);
        tokio::time::timeout(self.timeout, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(self.unanswered(format!("no answer within {limit}"), true)))
    }

    fn write(
        &self,
        request: &RequestBuilder,
        account: &str,
        idempotency_key: Option<&str>,
    ) -> Option<Request<Full<Bytes>>> {
        let query = request.query.as_deref().filter(|query| !query.is_empty());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let mut key = HeaderValue::from_str(&format!("Bearer {}", self.key.expose_secret())).ok()?;
        key.set_sensitive(true);
        let method = match request.method {
            StripeMethod::Get => Method::GET,
            StripeMethod::Post => Method::POST,
            StripeMethod::Delete => Method::DELETE,
        };
        let mut written = Request::builder()
            .method(method)
            .uri(format!("{}{}{query}", self.base, path(&request.path)))
            .header(AUTHORIZATION, key)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .header("stripe-version", API_VERSION);
        if !account.is_empty() {
            written = written.header("stripe-account", account);
        }
        if let Some(key) = idempotency_key {
            written = written.header("idempotency-key", key);
        }
        if request.body.is_some() {
            written = written.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        written.body(Full::from(request.body.clone().unwrap_or_default())).ok()
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
        let begin = Instant::now();
        let response =
            self.client.request(request).await.map_err(|error| self.unanswered(causes(&error), !error.is_connect()))?;
        // measured here, because Stripe writes `Date` with the head, and the body may take longer
        let (took, now) = (begin.elapsed(), clock::now());
        let hints = ResponseHeaders::of(response.headers(), now);
        if let Some(date) = hints.date {
            self.stripe_clock.record(date);
        }
        let dated = headers::dated(hints.date, now);
        if let Some(date) = hints.date.filter(|date| *date > dated)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%date, "Stripe's API answers with a future time: reads use this machine's clock");
        }
        let at = headers::began(dated, took);
        let status = response.status().as_u16();
        let body = self.collect(response, status, &hints).await?;
        Ok(Reply { status, hints, body, at })
    }

    async fn collect(
        &self,
        response: Response<Incoming>,
        status: u16,
        hints: &ResponseHeaders,
    ) -> Result<Bytes, Failure> {
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                return Failure::TooLong { status, request_id: hints.request_id.clone() };
            }
            self.unanswered(causes(error.as_ref()), true)
        })
    }

    /// Describes the failure, with the local settings that may have caused it.
    fn unanswered(&self, mut why: String, was_sent: bool) -> Failure {
        if let Some(proxy) = &self.egress.proxy {
            why = format!("{why} ({})", proxy.describe());
        }
        if why.contains("invalid peer certificate") {
            let roots = self.egress.roots.origin();
            why = format!(
                "{why}; it was checked against {roots}. If a private CA signs it, SSL_CERT_FILE must name a file \
                 with that CA's certificate"
            );
        }
        Failure::Unanswered { why, was_sent }
    }
}

/// Adds `v1` to the builders' paths, which do not contain it.
fn path(path: &str) -> String {
    match path.strip_prefix(V2) {
        Some(rest) if rest.starts_with('/') => path.trim_start_matches('/').to_owned(),
        _ => format!("v1{path}"),
    }
}

/// The error with all its causes, in one line.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> String {
    let below = |error: &&'a (dyn Error + 'static)| (*error).source();
    let causes = std::iter::successors(Some(error), below).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ").replace('\n', " ")
}
