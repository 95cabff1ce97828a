//! The listener: one request in, one answer out, with Stripe's headers.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE, RETRY_AFTER};
use hyper::http::response::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::FakeStripe;
use super::faults::Fault;
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
    /// The form as sent.
    pub(crate) body: String,
    pub(crate) idempotency_key: Option<String>,
    /// The API key.
    pub(crate) key: Option<String>,
    /// The header `Request-Id` of the answer.
    pub(crate) request_id: String,
}

impl Served {
    async fn of(request: Request<Incoming>) -> Result<Self, Closed> {
        let header = |name: &str| request.headers().get(name)?.to_str().ok().map(str::to_owned);
        let key = header(AUTHORIZATION.as_str());
        let served = Self {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            account: header("stripe-account"),
            body: String::new(),
            idempotency_key: header("idempotency-key"),
            key: key.and_then(|key| key.strip_prefix("Bearer ").map(str::to_owned)),
            request_id: String::new(),
        };
        let body = request.into_body().collect().await.map_err(|_| Closed)?.to_bytes();
        Ok(Self { body: String::from_utf8_lossy(&body).into_owned(), ..served })
    }

    /// Whether the request may change the world.
    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET.as_str()
    }
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
    let mut served = Served::of(request).await?;
    let (hook, fault) = stripe.control().receive(&mut served);
    if let Some(hook) = hook {
        hook(&served);
    }
    match fault {
        Some(Fault::Hang) => match pending::<Infallible>().await {},
        Some(Fault::Close) => return Err(Closed),
        Some(Fault::StillRunning) => return Ok(stripe.reply_later(served).await),
        _ => {}
    }
    let response = stripe.reply(&served, fault);
    match fault {
        Some(Fault::HangAfterEffect) => match pending::<Infallible>().await {},
        Some(Fault::CloseAfterEffect) => Err(Closed),
        _ => Ok(response),
    }
}

impl FakeStripe {
    /// Replies when [`FakeStripe::finish_running`] is called. The execution does not depend on the connection.
    async fn reply_later(&self, served: Served) -> Response<Full<Bytes>> {
        let mut finished = self.control().finished.subscribe();
        if self.refusal(&served).is_some() || !self.begin(&served) {
            return self.reply(&served, None);
        }
        let stripe = self.clone();
        let running = tokio::spawn(async move {
            finished.changed().await.unwrap();
            stripe.end(&served);
            stripe.reply(&served, None)
        });
        running.await.unwrap()
    }

    fn reply(&self, served: &Served, fault: Option<Fault>) -> Response<Full<Bytes>> {
        let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(self.now()).unwrap());
        let response =
            Response::builder().header(DATE, httpdate::fmt_http_date(date)).header("Request-Id", &served.request_id);
        match fault {
            Some(Fault::ServerError) => proxy_error(response),
            Some(Fault::ServerErrorAfterEffect) => {
                self.answer(served, fault);
                proxy_error(response)
            }
            Some(Fault::TooManyRequests { retry_after }) => {
                let response =
                    retry_after.into_iter().fold(response, |response, after| response.header(RETRY_AFTER, after));
                json(response, &Answer::too_many_requests())
            }
            Some(Fault::NotFound) => json(response, &Answer::missing("object", routes::last_segment(&served.path))),
            Some(Fault::DeletedStub) => json(response, &routes::stub(&served.path)),
            Some(Fault::EmptyPage) => {
                let body = serde_json::json!({ "object": "list", "data": [], "has_more": true, "url": served.path });
                json(response, &Answer { status: 200, body })
            }
            Some(Fault::DoubledPage) => {
                let mut answer = self.answer(served, fault).answer;
                if let Some(data) = answer.body["data"].as_array_mut() {
                    *data = data.iter().flat_map(|object| [object.clone(), object.clone()]).collect();
                }
                json(response, &answer)
            }
            fault => self.answer(served, fault).render(response),
        }
    }

    /// Stripe's answer, after the checks of the key.
    fn answer(&self, served: &Served, fault: Option<Fault>) -> Sent {
        if let Some(refusal) = self.refusal(served) {
            return Sent::from(refusal);
        }
        if served.is_write() {
            return self.write(served, fault);
        }
        let stale = self.control().stale_seconds;
        let world = self.world_of(served);
        let view = if world.is_elsewhere { world.view() } else { world.view_before(stale) };
        Sent::from(match fault {
            Some(Fault::ApiError | Fault::ApiErrorAfterEffect) => Answer::api_error(),
            Some(Fault::LockTimeout { status }) => Answer::lock_timeout(status),
            Some(Fault::BadRequest { code }) => Answer::refusal(400, "The request was refused.").with_code(code),
            _ => routes::answer(view, served, &Query::parse(&served.query)),
        })
    }
}

/// An answer, and what its headers say about the idempotency key.
pub(crate) struct Sent {
    pub(crate) answer: Answer,
    pub(crate) key: Option<String>,
    /// Id of the first request with the key.
    pub(crate) original: String,
    pub(crate) is_replayed: bool,
}

impl From<Answer> for Sent {
    fn from(answer: Answer) -> Self {
        Self { answer, key: None, original: String::new(), is_replayed: false }
    }
}

impl Sent {
    fn render(self, mut response: Builder) -> Response<Full<Bytes>> {
        if let Some(key) = self.key {
            response = response.header("Idempotency-Key", key).header("Original-Request", self.original);
        }
        if self.is_replayed {
            response = response.header("Idempotent-Replayed", "true");
        }
        json(response, &self.answer)
    }
}

fn proxy_error(response: Builder) -> Response<Full<Bytes>> {
    let page = Full::from("<html><body><h1>500 Internal Server Error</h1></body></html>");
    response.status(500).header(CONTENT_TYPE, "text/html").body(page).unwrap()
}

fn json(response: Builder, answer: &Answer) -> Response<Full<Bytes>> {
    let response = response.status(answer.status).header(CONTENT_TYPE, "application/json");
    response.body(Full::from(answer.body.to_string())).unwrap()
}
