//! Tests of the fake Stripe itself: its events, its answers and its faults.

mod faults;
mod reading;
mod rendering;
mod story;

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
