//! Tests the client against a small local server: the requests it sends, and how it handles the responses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use prometheus::Registry;
use secrecy::SecretString;
use stripe_client_core::StripeRequest;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::http::next_attempt;
use super::response::Refusal;
use super::{ApiError, HttpStripe, Read, StripeApi, Urgency};
use crate::base::clock::{self, RemoteClock};
use crate::base::retry::RetryPolicy;
use crate::config::stripe::StripeConfig;

const KEY: &str = "sk_test_hunter2";
const CUSTOMER: &str = r#"{"id": "cus_1", "object": "customer"}"#;
const DATE: (&str, &str) = ("date", "Wed, 25 Nov 2026 10:00:00 GMT");
/// Like the real policy, 1000 times faster.
const FAST: RetryPolicy =
    RetryPolicy { max_attempts: 3, initial: Duration::from_millis(1), max: Duration::from_millis(5) };

/// The fake's reaction to one request.
#[derive(Clone)]
enum Act {
    Answer(u16, &'static [(&'static str, &'static str)], Bytes),
    Hang,
    BreakOff,
}

fn answer(status: u16, headers: &'static [(&'static str, &'static str)], body: &'static str) -> Act {
    Act::Answer(status, headers, Bytes::from_static(body.as_bytes()))
}

fn ok() -> Act {
    answer(200, &[DATE, ("request-id", "req_1")], CUSTOMER)
}

/// The requests that the fake has received.
#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<(String, HeaderMap)>,
}

/// A server that follows a script; the last entry is repeated.
struct Fake {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    count: watch::Receiver<usize>,
}

impl Fake {
    async fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (counted, count) = watch::channel(0);
        tokio::spawn(serve(listener, script.into(), Arc::clone(&seen), counted));
        Self { addr, seen, count }
    }

    fn config(&self) -> StripeConfig {
        config(&format!("http://{}", self.addr))
    }

    fn client(&self) -> HttpStripe {
        client(&self.config())
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().requests.len()
    }

    fn header(&self, request: usize, name: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        seen.requests[request].1.get(name).map(|value| value.to_str().unwrap().to_owned())
    }
}

async fn serve(listener: TcpListener, script: Arc<[Act]>, seen: Arc<Mutex<Seen>>, counted: watch::Sender<usize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.lock().unwrap().connections += 1;
        let (script, seen, counted) = (Arc::clone(&script), Arc::clone(&seen), counted.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let act = note(&script, &seen, &request);
            counted.send_modify(|count| *count += 1);
            act_out(act)
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(http.auto_date_header(false).serve_connection(TokioIo::new(stream), service));
    }
}

fn note(script: &[Act], seen: &Mutex<Seen>, request: &Request<Incoming>) -> Act {
    let mut seen = seen.lock().unwrap();
    seen.requests.push((request.uri().to_string(), request.headers().clone()));
    script[(seen.requests.len() - 1).min(script.len() - 1)].clone()
}

async fn act_out(act: Act) -> Result<Response<Full<Bytes>>, &'static str> {
    match act {
        Act::Answer(status, headers, body) => {
            let response = Response::builder().status(status);
            let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
            Ok(response.body(Full::new(body)).unwrap())
        }
        Act::Hang => std::future::pending::<Result<_, Infallible>>().await.map_err(|never| match never {}),
        Act::BreakOff => Err("broken off"),
    }
}

fn config(base: &str) -> StripeConfig {
    StripeConfig {
        write_key: None,
        egress: crate::config::egress::Egress::default(),
        secret_key: Some(SecretString::from(KEY)),
        api_base: base.parse().unwrap(),
        rate: 1000,
        timeout: Duration::from_secs(20),
        concurrency: 4,
        read_margin: Duration::from_secs(10),
    }
}

fn client(config: &StripeConfig) -> HttpStripe {
    HttpStripe::with_attempts(config, super::metrics(&Registry::new(), &[]).unwrap(), RemoteClock::default(), FAST)
        .unwrap()
}

fn customer() -> Read {
    Read::Customer("cus_1".to_owned())
}

async fn read(client: &HttpStripe) -> Result<super::Answer, ApiError> {
    client.read("", &customer(), Urgency::Normal).await
}

#[tokio::test]
async fn four_reads_use_one_connection() {
    let fake = Fake::start(vec![ok()]).await;
    let client = fake.client();
    for urgency in [Urgency::Normal, Urgency::Confirm, Urgency::Normal, Urgency::Normal] {
        assert_eq!(client.read("", &customer(), urgency).await.unwrap().body, CUSTOMER);
    }
    assert_eq!((fake.requests(), fake.seen.lock().unwrap().connections), (4, 1));
}

#[tokio::test]
async fn every_request_has_key_version_and_account() {
    let fake = Fake::start(vec![ok()]).await;
    let client = fake.client();
    read(&client).await.unwrap();
    client.read("acct_1", &customer(), Urgency::Normal).await.unwrap();
    for request in 0..2 {
        assert_eq!(fake.header(request, "authorization").as_deref(), Some("Bearer sk_test_hunter2"));
        assert_eq!(fake.header(request, "stripe-version").as_deref(), Some("2026-09-30.endive"));
        let agent = concat!("billing-sync/", env!("CARGO_PKG_VERSION"));
        assert_eq!(fake.header(request, "user-agent").as_deref(), Some(agent));
    }
    assert_eq!(fake.header(0, "stripe-account"), None);
    assert_eq!(fake.header(1, "stripe-account").as_deref(), Some("acct_1"));
}

#[tokio::test]
async fn a_base_may_have_a_path_with_or_without_a_final_slash() {
    for (path, expected) in
        [("", "/v1/account"), ("/", "/v1/account"), ("/a/b", "/a/b/v1/account"), ("/a/", "/a/v1/account")]
    {
        let fake = Fake::start(vec![ok()]).await;
        let client = client(&config(&format!("http://{}{path}", fake.addr)));
        client.read("", &Read::Account, Urgency::Normal).await.unwrap();
        assert_eq!(fake.seen.lock().unwrap().requests[0].0, expected, "{path:?}");
    }
}

#[tokio::test]
async fn the_time_of_an_answer_is_the_start_of_its_request() {
    let fake = Fake::start(vec![ok()]).await;
    let answer = read(&fake.client()).await.unwrap();
    let date = datetime!(2026-11-25 10:00:00 UTC);
    assert!(answer.at < date && answer.at > date - Duration::from_secs(20), "{}", answer.at);
    assert_eq!((answer.at.nanosecond(), answer.request_id.as_deref()), (0, Some("req_1")));
}

#[tokio::test]
async fn without_a_valid_date_this_machines_clock_counts() {
    let script = vec![answer(200, &[], CUSTOMER), answer(200, &[("date", "today")], CUSTOMER)];
    let fake = Fake::start(script).await;
    let client = fake.client();
    for _ in 0..2 {
        let before: OffsetDateTime = clock::now() - Duration::from_secs(1);
        let at = read(&client).await.unwrap().at;
        assert!(at >= before && at <= clock::now() && at.nanosecond() == 0, "{at} {before}");
    }
}

#[tokio::test]
async fn transient_errors_are_retried_and_attempts_counted() {
    let locked = answer(409, &[], r#"{"error": {"code": "lock_timeout"}}"#);
    let fake = Fake::start(vec![Act::BreakOff, locked, ok()]).await;
    let registry = Registry::new();
    let metrics = super::metrics(&registry, &[]).unwrap();
    let client = HttpStripe::with_attempts(&fake.config(), metrics, RemoteClock::default(), FAST).unwrap();
    assert_eq!(read(&client).await.unwrap().body, CUSTOMER);
    assert_eq!(fake.requests(), 3);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for outcome in ["ok", "rate_limited", "unavailable"] {
        let series = format!(r#"requests_total{{operation="customer.retrieve",outcome="{outcome}"}} 1"#);
        assert!(text.contains(&series), "{outcome}: {text}");
    }
    assert!(text.contains("billing_sync_stripe_request_duration_seconds_count 3"), "{text}");
}

#[tokio::test]
async fn an_html_page_keeps_its_status_after_the_last_attempt() {
    let fake = Fake::start(vec![answer(502, &[], "<html>Bad gateway of ada@example.com</html>")]).await;
    let error = read(&fake.client()).await.unwrap_err();
    assert_eq!(error.to_string(), "a server that is not Stripe's API answered 502");
    assert_eq!(fake.requests(), 3);
}

#[tokio::test]
async fn stripe_may_forbid_another_attempt() {
    let fake = Fake::start(vec![answer(500, &[("stripe-should-retry", "false")], "{}")]).await;
    assert_eq!(read(&fake.client()).await.unwrap_err().outcome(), "unavailable");
    assert_eq!(fake.requests(), 1);
}

#[tokio::test]
async fn final_errors_are_not_retried() {
    // an expansion may be the cause of a 403: the request is repeated without expansions
    for (status, outcome, requests) in
        [(400, "rejected", 1), (401, "unauthorised", 1), (403, "forbidden", 2), (404, "not_found", 1)]
    {
        let fake = Fake::start(vec![answer(status, &[("request-id", "req_9")], r#"{"error": {}}"#)]).await;
        let error = read(&fake.client()).await.unwrap_err();
        assert_eq!((error.outcome(), error.request_id()), (outcome, Some("req_9")));
        assert_eq!(fake.requests(), requests, "{status}");
    }
}

#[tokio::test]
async fn a_short_retry_after_overrides_the_backoff() {
    let fake = Fake::start(vec![answer(429, &[("retry-after", "0")], "{}"), ok()]).await;
    let metrics = super::metrics(&Registry::new(), &[]).unwrap();
    // with this backoff the test would not end
    let slow = RetryPolicy { initial: Duration::from_hours(1), max: Duration::from_hours(1), ..FAST };
    let client = HttpStripe::with_attempts(&fake.config(), metrics, RemoteClock::default(), slow).unwrap();
    assert!(read(&client).await.is_ok());
}

#[tokio::test]
async fn a_long_retry_after_is_returned_and_pauses_all_requests() {
    let fake = Fake::start(vec![answer(429, &[("retry-after", "50")], "{}"), ok()]).await;
    let client = fake.client();
    let error = read(&client).await.unwrap_err();
    assert_eq!((error.outcome(), error.retry_after()), ("rate_limited", Some(Duration::from_secs(50))));
    for urgency in [Urgency::Normal, Urgency::Confirm] {
        let error = client.read("", &customer(), urgency).await.unwrap_err();
        assert_eq!(error.outcome(), "rate_limited");
        assert!(error.retry_after().is_some_and(|left| left <= Duration::from_secs(50)), "{error:?}");
    }
    assert_eq!(fake.requests(), 1);
}

#[tokio::test]
async fn a_locked_object_does_not_delay_other_requests() {
    let locked = answer(429, &[("retry-after", "50")], r#"{"error": {"code": "lock_timeout"}}"#);
    let fake = Fake::start(vec![locked, ok()]).await;
    let client = fake.client();
    assert_eq!(read(&client).await.unwrap_err().retry_after(), Some(Duration::from_secs(50)));
    assert!(read(&client).await.is_ok());
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let fake = Fake::start(vec![Act::Hang]).await;
    let client = client(&StripeConfig { timeout: Duration::from_millis(20), ..fake.config() });
    let error = read(&client).await.unwrap_err();
    assert_eq!(error.to_string(), "stripe cannot be reached: no answer within 20ms");
}

#[tokio::test]
async fn a_closed_port_is_reported_as_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = read(&client(&config(&base))).await.unwrap_err();
    assert_eq!(error.outcome(), "unavailable");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn an_https_base_url_uses_tls() {
    let fake = Fake::start(vec![ok()]).await;
    let error = read(&client(&config(&format!("https://{}", fake.addr)))).await.unwrap_err();
    assert_eq!((error.outcome(), fake.requests()), ("unavailable", 0), "{error}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_kept() {
    let body = Bytes::from(vec![b' '; super::transport::BODY_LIMIT + 1]);
    let fake = Fake::start(vec![Act::Answer(200, &[], body)]).await;
    let error = read(&fake.client()).await.unwrap_err();
    assert_eq!(error.to_string(), "stripe cannot answer this request (200, its answer is longer than 16 MiB)");
    assert_eq!(fake.requests(), 1);
}

#[tokio::test]
async fn an_unwritable_request_is_not_sent() {
    let fake = Fake::start(vec![ok()]).await;
    let client = fake.client();
    for (account, read) in [("", Read::Customer(String::new())), ("acct_\n1", customer())] {
        let error = client.read(account, &read, Urgency::Normal).await.unwrap_err();
        assert!(error.to_string().contains("not sent: "), "{error}");
    }
    assert_eq!(fake.requests(), 0);
}

#[tokio::test]
async fn a_dropped_read_releases_its_slot() {
    let fake = Fake::start(vec![Act::Hang, ok()]).await;
    let client = client(&StripeConfig { concurrency: 1, ..fake.config() });
    let mut count = fake.count.clone();
    tokio::select! {
        answer = read(&client) => panic!("the fake hangs: {answer:?}"),
        seen = count.wait_for(|count| *count == 1) => assert!(seen.is_ok()),
    }
    assert!(read(&client).await.is_ok());
}

#[tokio::test]
async fn the_builders_use_this_client_and_cannot_write() {
    let list = r#"{"object": "list", "data": [], "has_more": false, "url": "/v1/charges"}"#;
    let fake = Fake::start(vec![answer(200, &[], list), ok()]).await;
    let client = fake.client();
    let charges = stripe_core::charge::ListCharge::new().limit(3);
    let page = charges.customize().account_id("acct_1".into()).send(&client).await.unwrap();
    assert!(page.data.is_empty() && !page.has_more);
    assert_eq!(fake.seen.lock().unwrap().requests[0].0, "/v1/charges?limit=3");
    assert_eq!(fake.header(0, "stripe-account").as_deref(), Some("acct_1"));
    let shapeless = charges.send(&client).await.unwrap_err();
    assert_eq!(shapeless.outcome(), "unavailable");
    let refused = stripe_core::customer::CreateCustomer::new().send(&client).await.unwrap_err();
    assert!(refused.to_string().contains("idempotency key"), "{refused}");
    assert_eq!(fake.requests(), 2);
}

#[tokio::test]
async fn neither_key_nor_body_is_in_debug_output() {
    let fake = Fake::start(vec![ok()]).await;
    let client = fake.client();
    let answer = read(&client).await.unwrap();
    let shown = format!("{client:?} {answer:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("cus_1"), "{shown}");
}

#[test]
fn without_a_key_there_is_no_client() {
    let config = StripeConfig { secret_key: None, ..config("https://api.stripe.com") };
    let error =
        HttpStripe::new(&config, super::metrics(&Registry::new(), &[]).unwrap(), RemoteClock::default()).unwrap_err();
    assert!(error.to_string().contains("STRIPE_SECRET_KEY"));
}

#[test]
fn a_delay_beyond_the_limit_is_returned_to_the_caller() {
    let refusal = |again| Refusal { error: ApiError::unavailable("x"), again, pauses_all: false };
    let (short, long) = (Duration::from_secs(1), Duration::from_secs(6));
    let max_wait = Duration::from_secs(5);
    let next = |number, again, wait| next_attempt(&FAST, number, &refusal(again), wait, max_wait);
    assert_eq!(next(1, true, Some(short)), Some(short));
    assert_eq!(next(2, true, Some(max_wait)), Some(max_wait));
    assert_eq!(next(1, true, Some(long)), None);
    assert_eq!(next(1, false, Some(short)), None);
    assert_eq!(next(3, true, Some(short)), None);
    assert_eq!(next(3, true, None), None);
}
