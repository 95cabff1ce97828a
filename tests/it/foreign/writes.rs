//! Writes to localstripe: customers, the end of a subscription, and a change through the workspace API.
//!
//! localstripe ignores idempotency keys, so that each attempt is executed. It refuses parameters that it does not know,
//! except those of a cancellation, which it does not read.

use std::time::Duration;

use billing_sync::base::clock::RemoteClock;
use billing_sync::client::{HttpStripe, KeyedWrite, Urgency, Write, WriteError, WriteRequest, metrics};
use billing_sync::config::egress::Egress;
use billing_sync::config::stripe::StripeConfig;
use prometheus::Registry;
use serde_json::{Value, json};

use super::localstripe::{KEY, Localstripe, WORKSPACE};
use super::reads::backfill;
use crate::api::harness::{ADA, ApiTest};

fn config(stripe: &Localstripe) -> StripeConfig {
    StripeConfig {
        egress: Egress::default(),
        secret_key: Some(KEY.into()),
        write_key: Some(KEY.into()),
        api_base: stripe.base().parse().unwrap(),
        rate: 1_000,
        timeout: Duration::from_secs(5),
        concurrency: 8,
        read_margin: Duration::ZERO,
    }
}

/// A client for writes.
struct Writer(HttpStripe);

impl Writer {
    fn new(stripe: &Localstripe) -> Self {
        let metrics = metrics(&Registry::new(), &Write::OPERATIONS).unwrap();
        Self(HttpStripe::for_writes(&config(stripe), metrics, RemoteClock::default(), None).unwrap())
    }

    /// Returns the object after the write.
    async fn write(&self, request: &WriteRequest) -> Result<Value, WriteError> {
        let urgency = Urgency::Interactive;
        let write = KeyedWrite { account: "", request, key: "key_1", urgency, may_have_been_sent: false };
        let answer = self.0.write(write).await?;
        assert!(!answer.is_replayed, "localstripe replays nothing");
        Ok(serde_json::from_str(&answer.body).unwrap())
    }

    async fn status(&self, request: &WriteRequest) -> Option<u16> {
        self.write(request).await.unwrap_err().status()
    }
}

fn new_customer() -> WriteRequest {
    let create = Write::CreateCustomer {
        name: Some("Müller & Söhne = 100% + [1]".to_owned()),
        email: Some("a+b@example.com".to_owned()),
        locale: Some("de-AT".to_owned()),
        metadata: vec![("workspace_id", WORKSPACE.to_owned()), ("billing_sync_write", "1".to_owned())],
    };
    create.request()
}

#[tokio::test]
#[ignore = "needs localstripe: make test-foreign"]
async fn customers_are_created_and_changed() {
    let stripe = Localstripe::start().await;
    let writer = Writer::new(&stripe);
    let created = writer.write(&new_customer()).await.unwrap();
    assert_eq!(created["name"], "Müller & Söhne = 100% + [1]");
    assert_eq!(created["email"], "a+b@example.com");
    assert_eq!(created["preferred_locales"], json!(["de-AT"]));
    assert_eq!(created["metadata"], json!({ "workspace_id": WORKSPACE, "billing_sync_write": "1" }));
    let customer = created["id"].as_str().unwrap().to_owned();
    let update = Write::UpdateCustomer { customer, name: "李 🚀".to_owned(), email: "c@example.com".to_owned() };
    let changed = writer.write(&update.request()).await.unwrap();
    assert_eq!((&changed["id"], &changed["name"]), (&created["id"], &json!("李 🚀")));
    assert_eq!(changed["email"], "c@example.com");
    assert_eq!(changed["metadata"], created["metadata"]);
    // the same key: Stripe would answer as before, and would refuse the other form above
    assert_ne!(writer.write(&new_customer()).await.unwrap()["id"], created["id"]);
}

#[tokio::test]
#[ignore = "needs localstripe: make test-foreign"]
async fn unknown_parameters_and_customers_are_refused() {
    let stripe = Localstripe::start().await;
    let writer = Writer::new(&stripe);
    let unknown = |request: WriteRequest| WriteRequest { form: format!("{}&namee=x", request.form), ..request };
    assert_eq!(writer.status(&unknown(new_customer())).await, Some(400));
    let (customer, name, email) = ("cus_none".to_owned(), "Ada".to_owned(), "ada@example.com".to_owned());
    let update = Write::UpdateCustomer { customer, name, email }.request();
    assert_eq!(writer.status(&update).await, Some(404));
    let known = writer.write(&new_customer()).await.unwrap();
    let path = format!("/customers/{}", known["id"].as_str().unwrap());
    assert_eq!(writer.status(&unknown(WriteRequest { path, ..update })).await, Some(400));
}

#[tokio::test]
#[ignore = "needs localstripe: make test-foreign"]
async fn a_subscription_is_cancelled() {
    let stripe = Localstripe::start().await;
    stripe.sell(0).await;
    let (customer, subscription) = stripe.customer(0).await;
    let cancel = Write::CancelSubscription { subscription, comment: "replaced".to_owned() }.request();
    let ended = Writer::new(&stripe).write(&cancel).await.unwrap();
    assert_eq!((&ended["object"], &ended["status"]), (&json!("subscription"), &json!("canceled")));
    assert_eq!(ended["customer"], customer);
    assert!(ended["ended_at"].is_i64(), "{ended:#}");
}

#[tokio::test]
#[ignore = "needs localstripe: make test-foreign"]
async fn a_contact_is_changed_through_the_api() {
    let stripe = Localstripe::start().await;
    let api = ApiTest::start_writing_with(config(&stripe), &[]).await;
    api.execute(&format!(
        "INSERT INTO billing.workspaces (id, name) VALUES ('{WORKSPACE}', 'Ada');
        INSERT INTO billing.workspace_members (workspace_id, user_id, role) VALUES ('{WORKSPACE}', '{ADA}', 'owner')"
    ))
    .await;
    stripe.sell(1).await;
    let output = backfill(&api.app, &stripe, &[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "unsupported lists fail the command");
    let id = api.app.text("SELECT id::text FROM billing.billing_contacts").await.unwrap();
    let path = format!("/v1/workspaces/{WORKSPACE}/billing-contacts/{id}");
    let ada = api.user(ADA).await;
    let changed = ada.put(&path, &json!({ "name": "Ada", "email": "ada@example.com" })).await.json(200);
    assert_eq!((&changed["name"], &changed["email"]), (&json!("Ada"), &json!("ada@example.com")));
    let stored = "SELECT name || ' ' || email FROM billing.billing_contacts";
    assert_eq!(api.app.text(stored).await.as_deref(), Some("Ada ada@example.com"));
    let lines = "SELECT string_agg(operation || ' ' || state, ', ') FROM billing.api_writes";
    assert_eq!(api.app.text(lines).await.as_deref(), Some("customer.update done"));
    api.finish().await;
}
