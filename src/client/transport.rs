//! One attempt over the wire: a pool of connections, the headers of every request, the limits of every answer.
//!
//! Knows nothing of retries or of what an answer means. The key is exposed here and nowhere else. Called by
//! [`super::http`].

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use secrecy::{ExposeSecret, SecretString};
use stripe_client_core::RequestBuilder;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::API_VERSION;
use super::hints::{self, Hints};
use super::read::V2;
use super::route::{self, Connector};
use crate::clock::{self, Heard};
use crate::config::egress::Egress;
use crate::config::stripe::StripeConfig;

/// The largest answers, pages of a hundred expanded objects, have a few megabytes.
pub(super) const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Time to reach Stripe at all: a part of an attempt's time, so that there is some left.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// An idle connection is closed before Stripe does it, which would cost an attempt.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
const AGENT: &str = concat!("billing-sync/", env!("CARGO_PKG_VERSION"));

/// The pool, and what every request has.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client<Connector, Empty<Bytes>>,
    /// Ends with a slash.
    base: String,
    key: SecretString,
    timeout: Duration,
    egress: Egress,
    /// Stripe's clock, as its last answer told it.
    heard: Heard,
    /// Whether the log has the warning about answers of the future.
    warned: AtomicBool,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) hints: Hints,
    pub(super) body: Bytes,
    /// When it was asked, see [`super::Answer::at`].
    pub(super) at: OffsetDateTime,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was sent: the id, account or key does not fit into a request.
    Unwritable,
    /// No connection, no answer, not in time, or broken off. In one line.
    Unanswered(String),
    /// Longer than [`BODY_LIMIT`].
    TooLong { status: u16, request_id: Option<String> },
}

impl Transport {
    /// The base ends with a slash; the time-out is for one attempt, from its connection to the end of the answer; as many
    /// idle connections are kept as requests are made at a time. `heard` is told Stripe's time.
    pub(super) fn new(config: &StripeConfig, key: SecretString, heard: Heard) -> Self {
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
        Self { client, base, key, timeout, egress: config.egress.clone(), heard, warned: AtomicBool::new(false) }
    }

    /// Sends the request once.
    pub(super) async fn send(&self, request: &RequestBuilder, account: &str) -> Result<Reply, Failure> {
        let request = self.write(request, account).ok_or(Failure::Unwritable)?;
        let limit = humantime::format_duration(self.timeout);
        tokio::time::timeout(self.timeout, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(self.unanswered(format!("no answer within {limit}"))))
    }

    fn write(&self, request: &RequestBuilder, account: &str) -> Option<Request<Empty<Bytes>>> {
        let query = request.query.as_deref().filter(|query| !query.is_empty());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let mut key = HeaderValue::from_str(&format!("Bearer {}", self.key.expose_secret())).ok()?;
        key.set_sensitive(true);
        let mut written = Request::get(format!("{}{}{query}", self.base, path(&request.path)))
            .header(AUTHORIZATION, key)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .header("stripe-version", API_VERSION);
        if !account.is_empty() {
            written = written.header("stripe-account", account);
        }
        written.body(Empty::new()).ok()
    }

    async fn exchange(&self, request: Request<Empty<Bytes>>) -> Result<Reply, Failure> {
        let begin = Instant::now();
        let response = self.client.request(request).await.map_err(|error| self.unanswered(causes(&error)))?;
        // taken here: Stripe writes `Date` with the head, however long the body is on its way
        let (took, now) = (begin.elapsed(), clock::now());
        let hints = Hints::of(response.headers(), now);
        if let Some(date) = hints.date {
            self.heard.says(date);
        }
        let dated = hints::dated(hints.date, now);
        if let Some(date) = hints.date.filter(|date| *date > dated)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%date, "Stripe's API answers with a time of the future: reads count by this machine's clock");
        }
        let at = hints::began(dated, took);
        let status = response.status().as_u16();
        let body = self.collect(response, status, &hints).await?;
        Ok(Reply { status, hints, body, at })
    }

    async fn collect(&self, response: Response<Incoming>, status: u16, hints: &Hints) -> Result<Bytes, Failure> {
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                return Failure::TooLong { status, request_id: hints.request_id.clone() };
            }
            self.unanswered(causes(error.as_ref()))
        })
    }

    /// What happened, and what of this machine's settings it depends on.
    fn unanswered(&self, mut why: String) -> Failure {
        if let Some(proxy) = &self.egress.proxy {
            why = format!("{why} ({})", proxy.describe());
        }
        if why.contains("invalid peer certificate") {
            let roots = self.egress.roots.origin();
            why = format!(
                "{why}; it was checked against {roots}. Where a private CA signs it, SSL_CERT_FILE must name a file \
                 with that CA's certificate"
            );
        }
        Failure::Unanswered(why)
    }
}

/// The builders' paths are those of v1 without the `v1`.
fn path(path: &str) -> String {
    match path.strip_prefix(V2) {
        Some(rest) if rest.starts_with('/') => path.trim_start_matches('/').to_owned(),
        _ => format!("v1{path}"),
    }
}

/// What happened and why, down to the last cause, in one line.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> String {
    let below = |error: &&'a (dyn Error + 'static)| (*error).source();
    let causes = std::iter::successors(Some(error), below).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ").replace('\n', " ")
}
