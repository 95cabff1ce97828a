//! A fake Stripe that stores nothing: it generates object number `n` when a page with that object is requested.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::DATE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Creation time of the first customer; each further one is an hour later.
const OPENED: i64 = 1_500_000_000;

/// The objects that exist.
#[derive(Clone, Copy)]
pub(crate) struct Shop {
    pub(crate) customers: u32,
    /// Whether each subscription has an invoice and its payment.
    pub(crate) with_past: bool,
    /// Objects on a page.
    pub(crate) page: usize,
}

/// The objects and the requests so far.
struct State {
    shop: Shop,
    /// The JSON of one object of each kind, for customer `{n}`.
    customer: String,
    subscription: String,
    invoice: String,
    payment: String,
    requests: Mutex<Vec<Instant>>,
    delay: Mutex<Duration>,
}

/// The server and its requests.
pub(crate) struct Stripe {
    addr: SocketAddr,
    state: Arc<State>,
}

impl Stripe {
    pub(crate) async fn open(shop: Shop) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State::new(shop));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    let stream = TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
                });
            }
        });
        Self { addr, state }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}/", self.addr)
    }

    pub(crate) fn answer_after(&self, delay: Duration) {
        *self.state.delay.lock().unwrap() = delay;
    }

    pub(crate) fn request_count(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }

    /// The used share of the budget, without the first and last fifth of all requests: the burst at the start would
    /// make it look better, and the single pages at the end worse.
    pub(crate) fn used_in_the_middle(&self, rate: u32) -> f64 {
        let requests = self.state.requests.lock().unwrap();
        let middle = &requests[requests.len() / 5..requests.len() * 4 / 5];
        let took = (*middle.last().unwrap() - middle[0]).as_secs_f64();
        f64::from(u32::try_from(middle.len() - 1).unwrap()) / took / f64::from(rate)
    }

    /// Time to read all pages, `concurrency` at a time, without processing them.
    pub(crate) async fn read_all(&self, concurrency: u32) -> Duration {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let lists = if self.state.shop.with_past { &LISTS[..] } else { &LISTS[..2] };
        let began = Instant::now();
        for list in lists {
            let mut readers = JoinSet::new();
            for part in 0..concurrency {
                let (client, base) = (client.clone(), self.base());
                let share = self.state.shop.customers / concurrency;
                let (first, last) = (i64::from(part * share), i64::from((part + 1) * share));
                let span = format!("created[gte]={}&created[lt]={}", OPENED + 3600 * first, OPENED + 3600 * last);
                readers.spawn(async move {
                    let mut after = String::new();
                    loop {
                        let url = format!("{base}v1/{list}?{span}{after}");
                        let body = client.get(url.parse().unwrap()).await.unwrap().into_body();
                        let body = body.collect().await.unwrap().to_bytes();
                        let page: Value = serde_json::from_slice(&body).unwrap();
                        let Some(last) = page["data"].as_array().unwrap().last() else { break };
                        after = format!("&starting_after={}", last["id"].as_str().unwrap());
                        if page["has_more"] != true {
                            break;
                        }
                    }
                });
            }
            readers.join_all().await;
        }
        self.state.requests.lock().unwrap().clear();
        began.elapsed()
    }
}

/// The lists with one object per customer.
const LISTS: [&str; 4] = ["customers", "subscriptions", "invoices", "invoice_payments"];

impl State {
    fn new(shop: Shop) -> Self {
        let mut charge = object(include_str!("../../fixtures/events/2026-10-28.endive/charge.succeeded.card.json"));
        let mut intent = object(include_str!("../../fixtures/events/2026-10-28.endive/payment_intent.succeeded.json"));
        let mut payment = object(include_str!("../../fixtures/events/2026-10-28.endive/invoice_payment.paid.json"));
        let mut invoice = object(include_str!("../../fixtures/events/2026-10-28.endive/invoice.paid.json"));
        let mut method = object(include_str!("../../fixtures/events/2026-10-28.endive/payment_method.attached.json"));
        let mut customer = object(include_str!("../../fixtures/events/2026-10-28.endive/customer.created.json"));
        let mut subscription =
            object(include_str!("../../fixtures/events/2026-10-28.endive/customer.subscription.created.json"));
        let own = |object: &mut Value, prefix: &str| {
            object["id"] = json!(format!("{prefix}_{{n}}"));
            object["created"] = json!("{created}");
        };
        for (object, prefix) in [
            (&mut charge, "ch"),
            (&mut intent, "pi"),
            (&mut payment, "inpay"),
            (&mut invoice, "in"),
            (&mut method, "pm"),
            (&mut customer, "cus"),
            (&mut subscription, "sub"),
        ] {
            own(object, prefix);
            if object.get("customer").is_some() {
                object["customer"] = json!("cus_{n}");
            }
        }
        charge["payment_intent"] = json!("pi_{n}");
        intent["latest_charge"] = charge;
        payment["invoice"] = json!("in_{n}");
        payment["payment"] = json!({ "type": "payment_intent", "payment_intent": intent });
        invoice["parent"]["subscription_details"]["subscription"] = json!("sub_{n}");
        customer["invoice_settings"]["default_payment_method"] = method;
        subscription["latest_invoice"] = if shop.with_past { json!("in_{n}") } else { Value::Null };
        subscription["items"]["data"][0]["id"] = json!("si_{n}");
        subscription["items"]["data"][0]["subscription"] = json!("sub_{n}");
        subscription["schedule"] = Value::Null;
        subscription["discounts"] = json!([]);
        let text = |object: &Value| object.to_string().replace("\"{created}\"", "{created}");
        Self {
            shop,
            customer: text(&customer),
            subscription: text(&subscription),
            invoice: text(&invoice),
            payment: text(&payment),
            requests: Mutex::default(),
            delay: Mutex::default(),
        }
    }

    /// Builds a page.
    fn page(&self, list: &str, query: &str) -> String {
        let template = match list {
            "customers" => &self.customer,
            "subscriptions" => &self.subscription,
            "invoices" if self.shop.with_past => &self.invoice,
            "invoice_payments" if self.shop.with_past => &self.payment,
            "prices" | "products" => return catalogue(list),
            _ => return r#"{"object":"list","data":[],"has_more":false}"#.to_owned(),
        };
        let value = |name: &str| {
            let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            pair.map(|text| text.rsplit('_').next().unwrap().parse::<i64>().unwrap())
        };
        let number =
            |created: i64| (created - OPENED).div_euclid(3600) + i64::from((created - OPENED).rem_euclid(3600) > 0);
        let first = value("created[gte]").map_or(0, number).max(0);
        let end = value("created[lt]").map_or(i64::MAX, number).min(i64::from(self.shop.customers));
        let end = value("starting_after").map_or(end, |after| after.min(end));
        let begin = first.max(end - i64::try_from(self.shop.page).unwrap());
        let mut data = String::with_capacity(self.shop.page * (template.len() + 100));
        for n in (begin..end).rev() {
            if !data.is_empty() {
                data.push(',');
            }
            let created = (OPENED + 3600 * n).to_string();
            data.push_str(&template.replace("{n}", &n.to_string()).replace("{created}", &created));
        }
        format!(r#"{{"object":"list","data":[{data}],"has_more":{}}}"#, begin > first)
    }
}

/// The object of an event of the fixtures.
fn object(event: &str) -> Value {
    let event: Value = serde_json::from_str(event).unwrap();
    event["data"]["object"].clone()
}

fn catalogue(list: &str) -> String {
    let subscription =
        object(include_str!("../../fixtures/events/2026-10-28.endive/customer.subscription.created.json"));
    let mut price = subscription["items"]["data"][0]["price"].clone();
    price["currency_options"] = json!({});
    let product = json!({ "id": price["product"], "object": "product", "active": true, "name": "Writing",
        "created": 1_400_000_000, "livemode": false, "metadata": {} });
    let one = if list == "prices" { price } else { product };
    json!({ "object": "list", "data": [one], "has_more": false }).to_string()
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    state.requests.lock().unwrap().push(Instant::now());
    let delay = *state.delay.lock().unwrap();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let list = request.uri().path().trim_start_matches("/v1/").to_owned();
    let body = match list.as_str() {
        "account" => json!({ "id": "acct_bench", "object": "account", "created": OPENED }).to_string(),
        list => state.page(list, request.uri().query().unwrap_or_default()),
    };
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(1_900_000_000));
    Ok(Response::builder().header(DATE, date).body(Full::from(body)).unwrap())
}
