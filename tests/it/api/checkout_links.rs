//! `POST /checkout-links`: the payment link that it creates in Stripe, the row beside it, and what is refused.

use std::time::{Duration, Instant};

use billing_sync::api::principal::Scope;
use billing_sync::domain::object::row_id;
use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::{ADA, ApiClient, ApiTest, request};
use super::jwt::{Key, Provider, admin_claims, claims};
use crate::support::client::{Client, Reply};
use crate::support::stripe::{Epoch, FakeStripe, Fault};

const SERVED: (&str, &str) = ("BILLING_SYNC_API_CHECKOUT_LINKS", "/");

/// A product that sells by checkout links.
struct Shop {
    test: ApiTest,
    stripe: FakeStripe,
    service: ApiClient,
    product: String,
    monthly: String,
    yearly: String,
    dollars: String,
    once: String,
    archived: String,
}

impl Shop {
    async fn open() -> Self {
        Self::open_with(&[SERVED]).await
    }

    async fn open_with(settings: &[(&str, &str)]) -> Self {
        let stripe = FakeStripe::start().await;
        let test = ApiTest::start_writing(&stripe, settings).await;
        let product = stripe.product(json!({ "name": "Writing" }));
        let monthly = stripe.price(&product, 1990, json!({}));
        let yearly = json!({ "interval": "year", "interval_count": 1, "usage_type": "licensed" });
        let yearly = stripe.price(&product, 19900, json!({ "recurring": yearly }));
        let dollars = stripe.price(&product, 2100, json!({ "currency": "usd", "currency_options": {} }));
        let once = stripe.price(&product, 5000, json!({ "recurring": null, "type": "one_time" }));
        let archived = stripe.price(&product, 990, json!({ "active": false }));
        test.app.deliver_all(&stripe.events(), Epoch::Endive).await;
        test.app.drain().await;
        let service = test.client(None, &[Scope::CheckoutLinkWrite]).await;
        Self { test, stripe, service, product, monthly, yearly, dollars, once, archived }
    }

    /// An item of type product.
    fn item(&self, price: &str, quantity: u32) -> Value {
        json!({ "type": "product", "product": { "id": self.product }, "price": { "id": price }, "quantity": quantity })
    }

    fn body(&self) -> Value {
        json!({ "items": [self.item(&self.monthly, 2)] })
    }

    async fn create(&self, body: &Value) -> Reply {
        self.create_with(body, &[]).await
    }

    async fn create_with(&self, body: &Value, headers: &[(&str, &str)]) -> Reply {
        self.send(&self.service, "/checkout-links", body, headers).await
    }

    async fn send(&self, client: &ApiClient, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
        let token = format!("Bearer {}", client.token);
        let mut all = vec![("Authorization", token.as_str()), ("Content-Type", "application/json")];
        all.extend(headers);
        let mut connection = Client::connect(self.test.address()).await;
        connection.send(&request("POST", path, &all, Some(body.to_string().as_bytes()))).await;
        connection.reply().await.unwrap()
    }

    /// The pointers of the mistakes in a body.
    async fn mistakes(&self, body: &Value) -> Vec<String> {
        let problem = self.create(body).await.problem("invalid-fields");
        let errors = problem["errors"].as_array().unwrap();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }

    async fn text(&self, query: &str) -> String {
        let query = sqlx::AssertSqlSafe(query.to_owned());
        sqlx::query_scalar::<_, Option<String>>(query).fetch_one(&self.test.app.pool).await.unwrap().unwrap_or_default()
    }

    /// The rows of links, without what differs in each test.
    async fn rows(&self) -> String {
        self.text(
            "SELECT string_agg(concat_ws(' ', coalesce(name, '-'), coalesce(stripe_payment_link_id, '-'),
                coalesce(is_enabled::text, '-')), ', ' ORDER BY created_at) FROM billing.checkout_links",
        )
        .await
    }

    /// The lines of the ledger.
    async fn lines(&self) -> String {
        let lines = "SELECT string_agg(operation || ' ' || state, ', ' ORDER BY begun_at) FROM billing.api_writes";
        self.text(lines).await
    }

    /// Makes all lines due, until recovery has finished them.
    async fn recover(&self) {
        let began = Instant::now();
        loop {
            let due = "UPDATE billing.api_writes SET retry_at = '-infinity' WHERE state IN ('begun', 'sent')";
            self.test.execute(due).await;
            let open = "SELECT count(*)::text FROM billing.api_writes WHERE state IN ('begun', 'sent')";
            if self.text(open).await == "0" {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "recovery does not finish: {}", self.lines().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The payment link of the only row.
    async fn payment_link(&self) -> Value {
        self.stripe.stored(&self.text("SELECT stripe_payment_link_id FROM billing.checkout_links").await)
    }

    async fn finish(self) {
        self.test.finish().await;
    }
}

#[tokio::test]
async fn a_link_is_a_payment_link_with_a_row_beside_it() {
    let shop = Shop::open().await;
    let periods = json!([{ "contract": "12M", "cancellation": "1M" }]);
    let mut item = shop.item(&shop.monthly, 2);
    item["periods"] = periods.clone();
    let after = json!({ "action": "redirect", "url": "https://app.example.com/paid", "confirmationMessage": null,
        "backToProviderUrl": "https://app.example.com/back" });
    let options = json!({ "allowCoupons": true, "forceCompany": true, "quantityEditable": true, "trialDays": 14 });
    let body = json!({ "items": [item], "afterCheckout": after, "options": options });
    let reply = shop.create(&body).await;
    let created = reply.json(201);
    let link = shop.payment_link().await;
    let id = created["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), Some(format!("/checkout-links/{id}").as_str()));
    let plan = row_id("", &shop.monthly).to_string();
    let product = json!({ "customFields": null, "description": null, "id": shop.product, "invoiceVisibility": null,
        "name": "Writing", "type": "product" });
    let price = json!({ "applyTrial": null, "billingInterval": "1M", "charge": null, "checkoutLinks": null,
        "currency": "eur", "customer": null, "freeUnits": null, "id": plan, "internalName": shop.monthly,
        "isCustom": null, "isInUse": null, "isPaidInAdvance": null, "isProrated": null, "price": 19.90,
        "product": product, "productSetOption": null, "salesChannel": null, "showPricePer": null, "status": "active",
        "type": "per_unit" });
    let expected = json!({
        "id": id, "url": link["url"], "name": "Writing", "isEnabled": true, "afterCheckout": after, "options": options,
        "items": [{
            "type": "product", "quantity": 2, "periods": periods, "price": price, "product": product,
            "plan": { "allowCheckout": true, "code": null, "description": null, "family": null, "id": plan,
                "name": "Writing", "originProduct": product, "status": "active" },
        }],
    });
    assert_eq!(created, expected);
    assert!(reply.text.contains("\"price\":19.90,"), "the digits are exact: {}", reply.text);
    assert_eq!(link["active"], true);
    assert_eq!(link["allow_promotion_codes"], true);
    assert_eq!(link["after_completion"]["redirect"]["url"], "https://app.example.com/paid");
    assert_eq!(link["name_collection"]["business"]["enabled"], true);
    assert_eq!(link["tax_id_collection"]["enabled"], true);
    assert_eq!(link["subscription_data"]["trial_period_days"], 14);
    let expected = json!({ "billing_sync_write": id, "name": "Writing", "pricing_plan_ids": plan });
    assert_eq!(link["metadata"], expected);
    assert_eq!(link["line_items"].to_string().matches(&shop.monthly).count(), 1, "{}", link["line_items"]);
    let row = "SELECT concat_ws(' ', id, account, created_by LIKE 'token:%', url) FROM billing.checkout_links";
    assert_eq!(shop.text(row).await, format!("{id}  t {}", link["url"].as_str().unwrap()));
    assert_eq!(shop.text("SELECT request::text FROM billing.checkout_links").await, body.to_string());
    assert_eq!(shop.lines().await, "payment_link.create done");
    shop.finish().await;
}

#[tokio::test]
async fn what_is_not_asked_for_has_defaults_and_ids_have_two_forms() {
    let shop = Shop::open().await;
    let id = row_id("", &shop.yearly);
    for (plan, price) in [(id.to_string(), shop.yearly.clone()), (shop.yearly.clone(), id.to_string().to_uppercase())] {
        let item = json!({ "type": "plan", "plan": { "id": plan }, "price": { "id": price } });
        let mut body = json!({ "items": [item, shop.item(&shop.once, 150)] });
        body["options"] = json!({ "quantityEditable": true, "trialDays": 0 });
        body["unknown"] = json!([]);
        let created = shop.create(&body).await.json(201);
        let items = &created["items"];
        assert_eq!(items[0]["price"]["id"], id.to_string());
        assert_eq!((&items[0]["quantity"], &items[0]["type"]), (&json!(1), &json!("plan")));
        assert_eq!(items[0]["price"]["billingInterval"], "1Y");
        let once = (&items[1]["price"]["billingInterval"], &items[1]["product"]["type"], &items[1]["periods"]);
        assert_eq!(once, (&Value::Null, &json!("charge"), &Value::Null));
        let after = json!({ "action": "confirmation_message", "backToProviderUrl": null, "confirmationMessage": null,
            "url": null });
        assert_eq!(created["afterCheckout"], after);
        let options = json!({ "allowCoupons": false, "forceCompany": false, "quantityEditable": true, "trialDays": 0 });
        assert_eq!(created["options"], options);
    }
    shop.finish().await;
}

#[tokio::test]
async fn a_link_that_is_not_enabled_cannot_be_visited_when_the_answer_comes() {
    let shop = Shop::open().await;
    let mut body = shop.body();
    body["isEnabled"] = json!(false);
    let key = [("Idempotency-Key", "once")];
    let reply = shop.create_with(&body, &key).await;
    assert_eq!(reply.json(201)["isEnabled"], false);
    assert_eq!(shop.payment_link().await["active"], false);
    assert_eq!(shop.lines().await, "payment_link.create done, payment_link.update done");
    let again = shop.create_with(&body, &key).await;
    assert_eq!((again.status, &again.text), (201, &reply.text));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(shop.stripe.effects().len(), 2);
    shop.finish().await;
}

#[tokio::test]
async fn an_interrupted_link_is_completed_without_its_request() {
    for (path, is_enabled, problem, lines) in [
        ("/v1/payment_links", true, "outcome-unknown", "payment_link.create done"),
        ("/v1/payment_links", false, "outcome-unknown", "payment_link.create done, payment_link.update done"),
        ("/v1/payment_links/", false, "outcome-unknown", "payment_link.create done, payment_link.update done"),
    ] {
        for fault in [Fault::CloseAfterEffect, Fault::Close, Fault::ApiErrorAfterEffect] {
            let shop = Shop::open().await;
            let mut body = shop.body();
            body["isEnabled"] = json!(is_enabled);
            let key = [("Idempotency-Key", "once")];
            shop.stripe.fail_next_of("POST", path, 100, fault);
            shop.create_with(&body, &key).await.problem(problem);
            shop.stripe.recover();
            shop.stripe.tick(20);
            shop.recover().await;
            let link = shop.payment_link().await;
            assert_eq!(link["active"], is_enabled, "{path} {fault:?}");
            assert_eq!(shop.lines().await, lines, "{path} {fault:?}");
            let row = format!("Writing {} {is_enabled}", link["id"].as_str().unwrap());
            assert_eq!(shop.rows().await, row, "{path} {fault:?}");
            let created = shop.create_with(&body, &key).await.json(201);
            assert_eq!((&created["url"], &created["isEnabled"]), (&link["url"], &json!(is_enabled)));
            // Stripe has saved an error for the second step, which is made again: that changes nothing
            let is_made_again = path.ends_with('/') && fault == Fault::ApiErrorAfterEffect;
            let effects = 1 + usize::from(!is_enabled) + usize::from(is_made_again);
            assert_eq!(shop.stripe.effects().len(), effects, "{path} {fault:?}");
            shop.finish().await;
        }
    }
}

#[tokio::test]
async fn an_event_does_not_complete_a_link_without_its_url() {
    let shop = Shop::open().await;
    let key = [("Idempotency-Key", "once")];
    shop.stripe.fail_next_of("POST", "/v1/payment_links", 100, Fault::CloseAfterEffect);
    let mark = shop.stripe.mark();
    shop.create_with(&shop.body(), &key).await.problem("outcome-unknown");
    shop.test.app.deliver_all(&shop.stripe.events_since(mark), Epoch::Endive).await;
    shop.test.app.drain().await;
    assert_eq!(shop.lines().await, "payment_link.create sent");
    shop.stripe.recover();
    shop.recover().await;
    let created = shop.create_with(&shop.body(), &key).await.json(201);
    assert_eq!(created["url"], shop.payment_link().await["url"]);
    shop.finish().await;
}

#[tokio::test]
async fn a_refused_link_leaves_no_row_and_no_key() {
    let shop = Shop::open().await;
    let key = [("Idempotency-Key", "once")];
    shop.stripe.fail_next_under("/v1/payment_links", 1, Fault::BadRequest { code: "parameter_unknown" });
    shop.create_with(&shop.body(), &key).await.problem("stripe-rejected");
    assert_eq!(shop.rows().await, "");
    shop.create_with(&shop.body(), &key).await.json(201);
    assert_eq!(shop.lines().await, "payment_link.create refused, payment_link.create done");
    shop.finish().await;
}

/// The link exists and is enabled: the client must know that.
#[tokio::test]
async fn a_refused_second_step_is_no_refusal_of_the_link() {
    let shop = Shop::open().await;
    let mut body = shop.body();
    body["isEnabled"] = json!(false);
    let key = [("Idempotency-Key", "once")];
    shop.stripe.fail_next_under("/v1/payment_links/", 1, Fault::BadRequest { code: "parameter_unknown" });
    for _ in 0..2 {
        let problem = shop.create_with(&body, &key).await.problem("stripe-rejected");
        assert!(problem["detail"].as_str().unwrap().contains("the new object is active"), "{problem}");
    }
    let link = shop.payment_link().await;
    assert_eq!(shop.rows().await, format!("Writing {} true", link["id"].as_str().unwrap()));
    assert_eq!(shop.stripe.effects().len(), 1);
    shop.finish().await;
}

#[tokio::test]
async fn every_mistake_is_named() {
    let shop = Shop::open().await;
    let long = format!("https://app.example.com/{}", "x".repeat(255));
    let body = json!({
        "isEnabled": "1",
        "afterCheckout": { "action": "redirect", "backToProviderUrl": "javascript:alert(1)",
            "confirmationMessage": "x".repeat(256) },
        "options": { "allowCoupons": 1, "trialDays": 731 },
        "items": [
            { "type": "product" },
            { "type": "plan", "price": { "id": 1 }, "quantity": 0, "periods": [1] },
            { "type": "bundle", "price": "price_1", "quantity": 1.5 },
            [],
        ],
    });
    let expected = [
        "/items/0/price",
        "/items/0/product",
        "/items/0/quantity",
        "/items/1/plan",
        "/items/1/price/id",
        "/items/1/quantity",
        "/items/1/periods/0",
        "/items/2/type",
        "/items/2/price",
        "/items/2/quantity",
        "/items/3",
        "/afterCheckout/backToProviderUrl",
        "/afterCheckout/confirmationMessage",
        "/afterCheckout/url",
        "/options/trialDays",
        "/options/allowCoupons",
        "/isEnabled",
    ];
    assert_eq!(shop.mistakes(&body).await, expected);
    for (field, value, pointer) in [
        ("items", json!(null), "/items"),
        ("items", json!([]), "/items"),
        ("items", json!({}), "/items"),
        ("items", json!(vec![shop.item(&shop.monthly, 1); 21]), "/items"),
        ("afterCheckout", json!([]), "/afterCheckout"),
        ("afterCheckout", json!({}), "/afterCheckout/action"),
        ("afterCheckout", json!({ "action": "redirect", "url": long }), "/afterCheckout/url"),
        ("afterCheckout", json!({ "action": "redirect", "url": "app.example.com" }), "/afterCheckout/url"),
        ("options", json!({ "trialDays": -1 }), "/options/trialDays"),
        ("options", json!({ "trialDays": "14" }), "/options/trialDays"),
    ] {
        let mut body = shop.body();
        body[field] = value;
        assert_eq!(shop.mistakes(&body).await, [pointer], "{body}");
    }
    assert_eq!((shop.rows().await, shop.stripe.writes().len()), (String::new(), 0));
    shop.finish().await;
}

#[tokio::test]
async fn prices_that_stripe_cannot_sell_are_refused_before_it_is_asked() {
    let shop = Shop::open().await;
    let other = shop.item(&shop.yearly, 1);
    let named = |plan: Value, product: &str| json!({ "type": "plan", "plan": { "id": plan }, "price": { "id": shop.monthly }, "product": { "id": product } });
    for (items, pointers) in [
        (json!([shop.item("price_unknown", 1)]), vec!["/items/0/price/id"]),
        (json!([shop.item(&Uuid::new_v4().to_string(), 1)]), vec!["/items/0/price/id"]),
        (json!([shop.item(&shop.archived, 1)]), vec!["/items/0/price/id"]),
        (json!([named(json!(shop.yearly), &shop.product)]), vec!["/items/0/plan/id"]),
        (json!([named(json!(shop.monthly), "prod_other")]), vec!["/items/0/product/id"]),
        (json!([shop.item(&shop.monthly, 1), other]), vec!["/items/1/price/id"]),
        (json!([shop.item(&shop.once, 1), shop.item(&shop.monthly, 1), other]), vec!["/items/2/price/id"]),
        (json!([shop.item(&shop.monthly, 1), shop.item(&shop.dollars, 1)]), vec!["/items/1/price/id"]),
        (json!([shop.item(&shop.monthly, 1_000_000)]), vec!["/items/0/quantity"]),
    ] {
        assert_eq!(shop.mistakes(&json!({ "items": items })).await, pointers, "{items}");
    }
    let trial = json!({ "items": [shop.item(&shop.once, 1)], "options": { "trialDays": 7 } });
    assert_eq!(shop.mistakes(&trial).await, ["/options/trialDays"]);
    // a price of a connected account is none of ours
    shop.test.execute("UPDATE billing.pricing_plans SET account = 'acct_known'").await;
    assert_eq!(shop.mistakes(&shop.body()).await, ["/items/0/price/id"]);
    assert_eq!(shop.stripe.writes().len(), 0);
    shop.finish().await;
}

#[tokio::test]
async fn only_the_scope_of_links_creates_links() {
    let shop = Shop::open().await;
    let body = shop.body();
    for scopes in [&[Scope::WorkspacesAdmin][..], &[Scope::WorkspacesWrite, Scope::WorkspacesRead]] {
        let client = shop.test.client(Some(ADA), scopes).await;
        let reply = shop.send(&client, "/checkout-links", &body, &[]).await;
        assert!(reply.problem("insufficient-scope")["detail"].as_str().unwrap().contains("checkout-link:write"));
    }
    shop.send(&shop.test.with_token("bs_x"), "/checkout-links", &body, &[]).await.problem("invalid-token");
    shop.service.get("/v1/workspaces").await.problem("insufficient-scope");
    assert_eq!(shop.stripe.writes().len(), 0);
    shop.finish().await;
}

#[tokio::test]
async fn a_jwt_needs_an_admin_role() {
    let key = Key::p256("a");
    let provider = Provider::start(&[&key]).await;
    let shop = Shop::open_with(&[&provider.settings()[..], &[SERVED]].concat()).await;
    let user = shop.test.with_token(&key.sign(&claims(ADA)));
    shop.send(&user, "/checkout-links", &shop.body(), &[]).await.problem("insufficient-scope");
    let admin = shop.test.with_token(&key.sign(&admin_claims(ADA)));
    shop.send(&admin, "/checkout-links", &shop.body(), &[]).await.json(201);
    assert_eq!(shop.text("SELECT created_by FROM billing.checkout_links").await, format!("user:{ADA}"));
    shop.finish().await;
}

#[tokio::test]
async fn links_are_served_only_below_their_prefix() {
    let off = Shop::open_with(&[]).await;
    off.create(&off.body()).await.problem("not-found");
    off.finish().await;
    let shop = Shop::open_with(&[(SERVED.0, "/sales")]).await;
    shop.create(&shop.body()).await.problem("not-found");
    let reply = shop.send(&shop.service, "/sales/checkout-links", &shop.body(), &[]).await;
    let id = reply.json(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("location"), Some(format!("/sales/checkout-links/{id}").as_str()));
    let mut connection = Client::connect(shop.test.address()).await;
    connection.send(&request("GET", "/sales/checkout-links/openapi.json", &[], None)).await;
    assert_eq!(connection.reply().await.unwrap().json(200)["servers"][0]["url"], "/sales");
    shop.finish().await;
}

#[tokio::test]
async fn without_a_key_for_writes_no_link_is_created() {
    let test = ApiTest::start_with(&[SERVED]).await;
    let token = format!("Bearer {}", test.client(None, &[Scope::CheckoutLinkWrite]).await.token);
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    let mut connection = Client::connect(test.address()).await;
    connection.send(&request("POST", "/checkout-links", &headers, Some(b"{}"))).await;
    connection.reply().await.unwrap().problem("writes-not-configured");
    test.finish().await;
}
