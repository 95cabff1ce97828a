//! The listener: one request in, one answer out, with Stripe's headers.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::FakeStripe;
use super::faults::{Fault, NO_ACCESS};
use super::query::Query;
use super::routes::{self, Answer};

/// A recorded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The query as sent.
    pub(crate) query: String,
    /// The header `Stripe-Account`.
    pub(crate) account: Option<String>,
}

/// Binds a port of the loopback interface and serves until the runtime ends.
pub(crate) async fn serve(stripe: impl FnOnce(SocketAddr) -> FakeStripe) -> FakeStripe {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let stripe = stripe(listener.local_addr().unwrap());
    let serving = stripe.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(serving.clone(), stream));
        }
    });
    stripe
}

/// Counts a connection as open until dropped.
struct Open(FakeStripe);

impl Open {
    fn new(stripe: FakeStripe) -> Self {
        let mut control = stripe.control();
        control.open += 1;
        control.connections += 1;
        drop(control);
        Self(stripe)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.control().open -= 1;
    }
}

async fn connection(stripe: FakeStripe, stream: TcpStream) {
    let open = Open::new(stripe);
    let service = service_fn(|request| respond(&open.0, request));
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    // a requested `Close` is an error here, and clients may hang up at any time
    drop(served);
}

/// The error that makes hyper close the connection without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("closed, as the test requested")
    }
}

impl std::error::Error for Closed {}

async fn respond(stripe: &FakeStripe, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let header = |name: &str| request.headers().get(name)?.to_str().ok().map(str::to_owned);
    let served = Served {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        account: header("stripe-account"),
    };
    let bearer = header(AUTHORIZATION.as_str());
    let (hook, fault) = stripe.control().receive(&served);
    if let Some(hook) = hook {
        hook(&served);
    }
    match fault {
        Some(Fault::Hang) => match pending::<Infallible>().await {},
        Some(Fault::Close) => Err(Closed),
        fault => Ok(stripe.reply(&served, bearer.as_deref(), fault)),
    }
}

impl FakeStripe {
    fn reply(&self, served: &Served, bearer: Option<&str>, fault: Option<Fault>) -> Response<Full<Bytes>> {
        let stale = self.control().stale_seconds;
        let number = self.control().served.len();
        let missing_permission = self.control().missing_permission(served);
        let world = self.world();
        let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(world.now).unwrap());
        let response = Response::builder()
            .header(DATE, httpdate::fmt_http_date(date))
            .header("Request-Id", format!("req_{number}"));
        let ordinary = || {
            if bearer != Some(&format!("Bearer {}", world.key)) {
                return Answer::refusal(401, "Invalid API Key provided: sk_test_****");
            }
            if let Some(permission) = missing_permission {
                return if permission == NO_ACCESS { Answer::no_access() } else { Answer::forbidden(permission) };
            }
            if served.method != Method::GET.as_str() {
                return Answer::unknown_url(served);
            }
            let is_elsewhere = world.owner.is_some_and(|owner| served.account.as_deref() != Some(owner));
            let view = if world.is_foreign || is_elsewhere { world.view_at(0) } else { world.view_before(stale) };
            routes::answer(view, served, &Query::parse(&served.query))
        };
        match fault {
            Some(Fault::ServerError) => {
                let page = Full::from("<html><body><h1>500 Internal Server Error</h1></body></html>");
                response.status(500).header(CONTENT_TYPE, "text/html").body(page).unwrap()
            }
            Some(Fault::TooManyRequests { retry_after: Some(seconds) }) => {
                json(response.header(RETRY_AFTER, seconds), &Answer::too_many_requests())
            }
            Some(Fault::TooManyRequests { retry_after: None }) => json(response, &Answer::too_many_requests()),
            Some(Fault::NotFound) => json(response, &Answer::missing("object", routes::last_segment(&served.path))),
            Some(Fault::DeletedStub) => json(response, &routes::stub(&served.path)),
            Some(Fault::EmptyPage) => {
                let body = serde_json::json!({ "object": "list", "data": [], "has_more": true, "url": served.path });
                json(response, &Answer { status: 200, body })
            }
            Some(Fault::DoubledPage) => {
                let mut answer = ordinary();
                if let Some(data) = answer.body["data"].as_array_mut() {
                    *data = data.iter().flat_map(|object| [object.clone(), object.clone()]).collect();
                }
                json(response, &answer)
            }
            _ => json(response, &ordinary()),
        }
    }
}

fn json(response: hyper::http::response::Builder, answer: &Answer) -> Response<Full<Bytes>> {
    let body: &Value = &answer.body;
    let response = response.status(answer.status).header(CONTENT_TYPE, "application/json");
    response.body(Full::from(body.to_string())).unwrap()
}
