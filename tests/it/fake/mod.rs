//! Tests of the fake Stripe itself: its events, its answers and its faults.

mod faults;
mod idempotency;
mod reading;
mod rendering;
mod story;
mod writes;

use serde_json::{Value, json};

use crate::support::client::{Client, Reply, get};
use crate::support::stripe::FakeStripe;

/// Sends a GET with the valid key over a new connection.
async fn send_get(stripe: &FakeStripe, path: &str) -> Reply {
    let key = format!("Bearer {}", stripe.key());
    let mut client = Client::connect(stripe.addr()).await;
    client.send(&get(path, &[("Authorization", &key)])).await;
    client.reply().await.unwrap()
}

/// The JSON of a successful answer.
async fn read(stripe: &FakeStripe, path: &str) -> Value {
    let reply = send_get(stripe, path).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    serde_json::from_str(&reply.text).unwrap()
}

/// Status and message of a refusal.
async fn refusal(stripe: &FakeStripe, path: &str) -> (u16, String) {
    let reply = send_get(stripe, path).await;
    let body: Value = serde_json::from_str(&reply.text).unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error", "{reply:?}");
    (reply.status, body["error"]["message"].as_str().unwrap().to_owned())
}

/// A write with headers beside the key for writes.
fn request(stripe: &FakeStripe, target: &str, form: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let more: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (key, length, more) = (stripe.write_key(), form.len(), more.concat());
    format!(
        "{target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n{more}\r\n{form}"
    )
    .into_bytes()
}

/// Sends a write (`POST /v1/customers`) over a new connection. `None` if the connection is closed.
async fn try_send(stripe: &FakeStripe, target: &str, form: &str, headers: &[(&str, &str)]) -> Option<Reply> {
    let mut client = Client::connect(stripe.addr()).await;
    client.send(&request(stripe, target, form, headers)).await;
    client.reply().await
}

async fn send(stripe: &FakeStripe, target: &str, form: &str) -> Reply {
    try_send(stripe, target, form, &[]).await.unwrap()
}

/// The same with an idempotency key.
async fn send_once(stripe: &FakeStripe, target: &str, form: &str, key: &str) -> Option<Reply> {
    try_send(stripe, target, form, &[("Idempotency-Key", key)]).await
}

/// The object of a successful write.
async fn write(stripe: &FakeStripe, target: &str, form: &str) -> Value {
    let reply = send(stripe, target, form).await;
    assert_eq!(reply.status, 200, "{target}: {reply:?}");
    serde_json::from_str(&reply.text).unwrap()
}

/// Status, code and parameter of an error.
fn error(reply: &Reply) -> (u16, String, String) {
    let error = serde_json::from_str::<Value>(&reply.text).unwrap()["error"].take();
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (reply.status, text("code"), text("param"))
}

/// A customer with a subscription to a price of ten euros.
struct Shop {
    stripe: FakeStripe,
    customer: String,
    price: String,
    subscription: String,
}

impl Shop {
    async fn open() -> Self {
        let stripe = FakeStripe::start().await;
        let customer = stripe.customer(json!({ "name": "Ada", "metadata": { "a": "1" } }));
        let product = stripe.product(json!({}));
        let price = stripe.price(&product, 1000, json!({ "metadata": { "limit_words": "5000" } }));
        let subscription = stripe.subscribe(&customer, &price);
        Self { stripe, customer, price, subscription }
    }

    /// A card that is the customer's default.
    fn card(&self) -> String {
        let card = self.stripe.card("visa", "4242");
        self.stripe.attach(&card, &self.customer);
        self.stripe.set_default_payment_method(&self.customer, &card);
        card
    }
}
