//! The API with a key for writes, the fake Stripe, and a worker that the test controls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::harness::{ADA, ApiClient, ApiTest};
use crate::support::client::Reply;
use crate::support::stripe::{Epoch, FakeStripe};

/// The origin of the product's pages.
pub(super) const ORIGIN: &str = "https://app.example.com";

/// A page of the product to which a checkout returns.
pub(super) const CALLBACK: &str = "https://app.example.com/paid?session_id={CHECKOUT_SESSION_ID}";

/// A product with one workspace, whose owner is Ada, and its customer at Stripe.
pub(crate) struct Shop {
    pub(crate) test: ApiTest,
    pub(crate) stripe: FakeStripe,
    pub(crate) ada: ApiClient,
    pub(crate) workspace: Uuid,
    pub(crate) customer: String,
    pub(super) price: String,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// Opens with further settings of the API.
    pub(super) async fn open_with(settings: &[(&str, &str)]) -> Self {
        let stripe = FakeStripe::start().await;
        let settings: Vec<_> = [("BILLING_SYNC_API_CORS_ORIGINS", ORIGIN)].iter().chain(settings).copied().collect();
        let test = ApiTest::start_writing(&stripe, &settings).await;
        Self::open_at(test, stripe).await
    }

    /// Opens beside a service that only reads: another process writes.
    pub(super) async fn open_reading() -> Self {
        Self::open_at(ApiTest::start().await, FakeStripe::start().await).await
    }

    async fn open_at(test: ApiTest, stripe: FakeStripe) -> Self {
        let ada = test.user(ADA).await;
        let workspace = test.workspace("Ada", ADA).await;
        let fields = json!({ "name": "Ada", "email": "ada@example.com",
            "metadata": { "workspace_id": workspace.to_string() } });
        let customer = stripe.customer(fields);
        let product = stripe.product(json!({ "name": "Writing" }));
        let price = stripe.price(&product, 1000, json!({ "metadata": { "limit_words": "5000" } }));
        let shop = Self { test, stripe, ada, workspace, customer, price };
        shop.deliver(0).await;
        shop
    }

    /// Delivers the events since `mark` and applies them.
    pub(super) async fn deliver(&self, mark: usize) {
        self.test.app.deliver_all(&self.stripe.events_since(mark), Epoch::Endive).await;
        self.test.app.drain().await;
    }

    /// The path of the customer's billing contact.
    pub(crate) async fn contact_path(&self) -> String {
        let contact =
            format!("SELECT id::text FROM billing.billing_contacts WHERE stripe_customer_id = '{}'", self.customer);
        let id = self.text(&contact).await.unwrap();
        format!("/v1/workspaces/{}/billing-contacts/{}", self.workspace, id)
    }

    /// Renames the contact as Ada.
    pub(super) async fn rename(&self, name: &str) -> Reply {
        self.rename_with(name, &[]).await
    }

    pub(crate) async fn rename_with(&self, name: &str, headers: &[(&str, &str)]) -> Reply {
        let body = json!({ "name": name, "email": "ada@example.com" });
        self.ada.send("PUT", &self.contact_path().await, headers, Some(&body)).await
    }

    /// Creates a checkout session as Ada.
    pub(super) async fn checkout(&self, headers: &[(&str, &str)]) -> Reply {
        let body = json!({ "callbackUrl": CALLBACK, "pricingPlanId": self.plan().await });
        self.checkout_with(&body, headers).await
    }

    pub(crate) async fn checkout_with(&self, body: &Value, headers: &[(&str, &str)]) -> Reply {
        let path = format!("{}/stripe-checkout-sessions", self.contact_path().await);
        self.ada.send("POST", &path, headers, Some(body)).await
    }

    /// The plan of the price.
    pub(crate) async fn plan(&self) -> String {
        let plan = format!("SELECT id::text FROM billing.pricing_plans WHERE stripe_price_id = '{}'", self.price);
        self.text(&plan).await.unwrap()
    }

    /// Queries one text value.
    pub(super) async fn text(&self, query: &str) -> Option<String> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&self.test.app.pool).await.unwrap()
    }

    /// Name of the contact in SQL.
    pub(super) async fn name_in_sql(&self) -> String {
        let name = format!("SELECT name FROM billing.billing_contacts WHERE stripe_customer_id = '{}'", self.customer);
        self.text(&name).await.unwrap()
    }

    /// Name of the customer at Stripe.
    pub(super) fn name_at_stripe(&self) -> String {
        self.stripe.stored(&self.customer)["name"].as_str().unwrap().to_owned()
    }

    /// The states of the ledger's lines, in the order in which they were begun.
    pub(super) async fn lines(&self) -> String {
        let lines = "SELECT coalesce(string_agg(operation || ' ' || state, ', ' ORDER BY begun_at, id), '')
            FROM billing.api_writes";
        self.text(lines).await.unwrap()
    }

    /// Makes all lines due, until recovery has finished them.
    pub(super) async fn recover(&self) {
        let began = Instant::now();
        loop {
            self.test
                .execute("UPDATE billing.api_writes SET retry_at = '-infinity' WHERE state IN ('begun', 'sent')")
                .await;
            let open = "SELECT (count(*) FILTER (WHERE state IN ('begun', 'sent') OR follow_up_due AND EXISTS (
                    SELECT FROM billing.checkout_sessions AS s
                    WHERE s.stripe_session_id = object_id AND s.status = 'complete')))::text FROM billing.api_writes";
            if self.text(open).await.unwrap() == "0" {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "recovery does not finish: {}", self.lines().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn finish(self) {
        self.test.finish().await;
    }
}
