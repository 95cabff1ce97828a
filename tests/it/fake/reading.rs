//! Tests of the fake's answers: single objects, lists and their pages, expanded fields.

use serde_json::{Value, json};

use super::{Shop, read, refusal, send_get};
use crate::support::client::{Client, get};
use crate::support::stripe::FakeStripe;

/// The ids of a whole list, read page by page.
async fn list_all(stripe: &FakeStripe, path: &str, limit: usize) -> Vec<String> {
    let (mut ids, mut cursor): (Vec<String>, String) = (Vec::new(), String::new());
    loop {
        let page = read(stripe, &format!("{path}limit={limit}{cursor}")).await;
        let rows = page["data"].as_array().unwrap();
        ids.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        if page["has_more"] == false {
            return ids;
        }
        assert_eq!(rows.len(), limit);
        cursor = format!("&starting_after={}", ids.last().unwrap());
    }
}

#[tokio::test]
async fn pages_list_every_customer_once_newest_first() {
    let stripe = FakeStripe::start().await;
    let mut all: Vec<String> = Vec::new();
    for second in 0..23 {
        all.push(stripe.customer(json!({})));
        stripe.tick(second % 2);
    }
    stripe.delete(&all.remove(5));
    all.reverse();
    for limit in [5, 11, 22] {
        let before = stripe.served().len();
        assert_eq!(list_all(&stripe, "/v1/customers?", limit).await, all);
        assert_eq!(stripe.served().len() - before, all.len().div_ceil(limit), "no page is requested without need");
    }
    assert_eq!(read(&stripe, "/v1/customers").await["data"].as_array().unwrap().len(), 10);
    let bounds = |id: &String| stripe.object(id)["created"].as_i64().unwrap();
    let range = format!("/v1/customers?created[gte]={}&created[lt]={}&", bounds(&all[15]), bounds(&all[3]));
    let expected: Vec<String> =
        all.iter().filter(|id| bounds(id) >= bounds(&all[15]) && bounds(id) < bounds(&all[3])).cloned().collect();
    assert!(!expected.is_empty());
    assert_eq!(list_all(&stripe, &range, 3).await, expected);
    assert_eq!(refusal(&stripe, "/v1/customers?limit=101").await.0, 400);
    assert_eq!(refusal(&stripe, "/v1/customers?starting_after=cus_x").await.0, 400);
    assert_eq!(refusal(&stripe, "/v1/customers?colour=red").await, (400, "Received unknown parameter".to_owned()));
}

#[tokio::test]
async fn events_are_listed_newest_first_by_type_and_for_thirty_days() {
    let shop = Shop::open().await;
    shop.stripe.tick(31 * 86_400);
    shop.stripe.pause_collection(&shop.subscription);
    shop.stripe.update(&shop.customer, json!({ "name": "Grace" }));
    shop.stripe.resume_collection(&shop.subscription);
    let newest: Vec<String> = shop.stripe.events().into_iter().rev().take(3).map(|event| event.id).collect();
    assert_eq!(list_all(&shop.stripe, "/v1/events?", 2).await, newest);
    let path = "/v1/events?types[0]=customer.updated&types[]=customer.created&";
    assert_eq!(list_all(&shop.stripe, path, 2).await, newest[1..2]);
    let many = "types[]=customer.updated&".repeat(21);
    assert_eq!(refusal(&shop.stripe, &format!("/v1/events?{many}")).await, (400, "Too many types".to_owned()));
    let event = read(&shop.stripe, &format!("/v1/events/{}", newest[1])).await;
    assert_eq!(event["data"]["previous_attributes"], json!({ "name": "Ada" }));
    assert_eq!(event["api_version"], "2026-10-28.endive");
}

#[tokio::test]
async fn every_kind_can_be_read_singly_and_in_lists() {
    let shop = Shop::open().await;
    let stripe = &shop.stripe;
    let card = shop.card();
    let (old, source) = (stripe.legacy_card(&shop.customer, "Visa", "1"), stripe.sepa_source(&shop.customer, "2"));
    let coupon = stripe.coupon("25 % off", 25.0);
    let code = stripe.promotion_code(&coupon, "HELLO");
    let invoice = stripe.bill(&shop.subscription, 1000);
    let charge = stripe.charge_succeeded(&invoice, &card);
    let dispute = stripe.dispute(&charge);
    let session = stripe.checkout(&shop.price, json!({}));
    let schedule = stripe.schedule(&shop.subscription, &[(&shop.price, 1, 2)], "release");
    let sub = stripe.object(&shop.subscription);
    let (item, product) = (&sub["items"]["data"][0], &sub["items"]["data"][0]["price"]["product"]);
    let intent = stripe.object(&charge)["payment_intent"].as_str().unwrap().to_owned();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (item, product) = (text(&item["id"]), text(product));
    let (customer, price, sub) = (&shop.customer, &shop.price, &shop.subscription);
    let objects = [
        ("subscriptions", sub),
        ("customers", customer),
        ("payment_methods", &card),
        ("sources", &source),
        ("invoices", &invoice),
        ("payment_intents", &intent),
        ("charges", &charge),
        ("disputes", &dispute),
        ("subscription_schedules", &schedule),
        ("promotion_codes", &code),
        ("products", &product),
        ("prices", price),
        ("plans", price),
        ("checkout/sessions", &session),
        ("subscription_items", &item),
    ];
    for (collection, id) in objects {
        assert_eq!(read(stripe, &format!("/v1/{collection}/{id}")).await["id"], json!(id));
        let missing = send_get(stripe, &format!("/v1/{collection}/{id}x")).await;
        let error: Value = serde_json::from_str(&missing.text).unwrap();
        assert_eq!((missing.status, &error["error"]["code"]), (404, &json!("resource_missing")), "{missing:?}");
    }
    assert_eq!(read(stripe, "/v1/coupons/25%20%25%20off").await["percent_off"], 25.0);
    for id in [&old, &source] {
        assert_eq!(read(stripe, &format!("/v1/customers/{customer}/sources/{id}")).await["id"], json!(id));
        assert_eq!(refusal(stripe, &format!("/v1/customers/cus_x/sources/{id}")).await.0, 404);
    }
    let lists = [
        (format!("subscriptions?customer={customer}&status=all&price={price}"), sub),
        (format!("subscription_items?subscription={sub}"), &item),
        (format!("payment_methods?customer={customer}"), &card),
        (format!("customers/{customer}/payment_methods?type=card"), &card),
        (format!("invoice_payments?invoice={invoice}&status=paid"), &"inpay_1".to_owned()),
        (
            format!("invoice_payments?payment[type]=payment_intent&payment[payment_intent]={intent}"),
            &"inpay_1".to_owned(),
        ),
        (format!("charges?payment_intent={intent}"), &charge),
        (format!("invoices?subscription={sub}&status=paid"), &invoice),
        (format!("subscription_schedules?customer={customer}"), &schedule),
        (format!("promotion_codes?coupon={}&code=HELLO", "25+%25+off"), &code),
        (format!("prices?product={product}&active=true"), price),
        ("plans?".to_owned(), price),
        ("coupons?".to_owned(), &coupon),
        ("products?".to_owned(), &product),
        (format!("checkout/sessions?created[lte]={}", stripe.now()), &session),
    ];
    for (list, id) in lists {
        assert_eq!(list_all(stripe, &format!("/v1/{list}&"), 5).await, std::slice::from_ref(id), "{list}");
    }
    assert_eq!(read(stripe, "/v1/account").await["id"], "acct_fake");
}

#[tokio::test]
async fn a_deleted_customer_is_a_stub_and_other_objects_are_404() {
    let shop = Shop::open().await;
    let coupon = shop.stripe.coupon("TEN", 10.0);
    shop.stripe.delete(&coupon);
    shop.stripe.delete(&shop.customer);
    let stub = json!({ "id": shop.customer, "object": "customer", "deleted": true });
    assert_eq!(read(&shop.stripe, &format!("/v1/customers/{}", shop.customer)).await, stub);
    assert_eq!(refusal(&shop.stripe, "/v1/coupons/TEN").await, (404, "No such coupon: 'TEN'".to_owned()));
    let ended = read(&shop.stripe, &format!("/v1/subscriptions/{}?expand[]=customer", shop.subscription)).await;
    assert_eq!((&ended["status"], &ended["customer"]), (&json!("canceled"), &stub));
    let list = format!("/v1/subscriptions?customer={}", shop.customer);
    assert_eq!(read(&shop.stripe, &list).await["data"], json!([]));
    assert_eq!(read(&shop.stripe, &format!("{list}&status=ended")).await["data"][0]["id"], json!(shop.subscription));
}

#[tokio::test]
async fn references_are_expanded_at_most_four_levels_deep() {
    let shop = Shop::open().await;
    let stripe = &shop.stripe;
    let card = shop.card();
    let coupon = stripe.coupon("TEN", 10.0);
    stripe.discount(&shop.customer, &coupon);
    stripe.discount(&shop.subscription, &coupon);
    let invoice = stripe.bill(&shop.subscription, 1000);
    stripe.charge_succeeded(&invoice, &card);
    stripe.schedule(&shop.subscription, &[(&shop.price, 1, 2)], "release");
    let session = stripe.checkout(&shop.price, json!({}));
    let (customer, sub, price) = (&shop.customer, &shop.subscription, &shop.price);
    let expanded = [
        (format!("customers/{customer}"), "invoice_settings.default_payment_method", "/card/last4", json!("4242")),
        (format!("customers/{customer}"), "discount.source.coupon", "/percent_off", json!(10.0)),
        (format!("subscriptions/{sub}"), "discounts.source.coupon", "/id", json!("TEN")),
        (format!("subscriptions/{sub}"), "latest_invoice.payments", "/data/0/status", json!("paid")),
        (format!("subscriptions/{sub}"), "items.data.price.currency_options", "/eur/unit_amount", json!(1000)),
        ("subscriptions".to_owned(), "data.customer.invoice_settings.default_payment_method", "/id", json!(card)),
        (
            format!("invoice_payments?invoice={invoice}"),
            "data.payment.payment_intent.latest_charge",
            "/payment_method_details/card/last4",
            json!("4242"),
        ),
        ("subscription_schedules".to_owned(), "data.phases.items.price", "/id", json!(price)),
        (format!("checkout/sessions/{session}"), "line_items", "/data/0/price/id", json!(price)),
        (format!("prices/{price}"), "product", "/object", json!("product")),
    ];
    for (location, path, pointer, value) in expanded {
        let separator = if location.contains('?') { '&' } else { '?' };
        let found = read(stripe, &format!("/v1/{location}{separator}expand[]={path}")).await;
        // takes the first element of every array in the path
        let at = path.split('.').fold(&found, |at, name| {
            let at = at.get(0).unwrap_or(at);
            at.get(name).unwrap_or_else(|| panic!("{path} ends at {name}: {at}"))
        });
        assert_eq!(at.pointer(pointer).cloned().unwrap_or_default(), value, "{path}: {at}");
    }
}

#[tokio::test]
async fn fields_on_request_are_omitted_by_default() {
    let shop = Shop::open().await;
    let session = shop.stripe.checkout(&shop.price, json!({}));
    let invoice = shop.stripe.bill(&shop.subscription, 1000);
    shop.stripe.charge_succeeded(&invoice, &shop.card());
    let bare = [
        ("prices", &shop.price, "currency_options"),
        ("checkout/sessions", &session, "line_items"),
        ("invoices", &invoice, "payments"),
    ];
    for (collection, id, field) in bare {
        assert_eq!(read(&shop.stripe, &format!("/v1/{collection}/{id}")).await.get(field), None);
    }
    let sub = format!("/v1/subscriptions/{}?expand[]=", shop.subscription);
    let both = ["payments.data.payment.payment_intent", "payments"].map(|path| format!("expand[]={path}")).join("&");
    let paid = read(&shop.stripe, &format!("/v1/invoices/{invoice}?{both}")).await;
    assert_eq!(paid["payments"]["data"][0]["payment"]["payment_intent"]["status"], "succeeded", "in any order");
    for wrong in ["colour", "items", "customer.name", "latest_invoice.payments.data.payment.payment_intent"] {
        assert_eq!(refusal(&shop.stripe, &format!("{sub}{wrong}")).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_test_clock_is_read_singly_and_expanded() {
    let stripe = FakeStripe::start().await;
    let clock = stripe.test_clock(stripe.now() + 50);
    let customer = stripe.customer(json!({ "test_clock": clock }));
    stripe.advance_test_clock(&clock, stripe.now() + 90);
    let single = read(&stripe, &format!("/v1/test_helpers/test_clocks/{clock}")).await;
    let inside = read(&stripe, &format!("/v1/customers/{customer}?expand[]=test_clock")).await;
    assert_eq!((&single["frozen_time"], &inside["test_clock"]), (&json!(stripe.now() + 90), &single));
}

#[tokio::test]
async fn a_payload_can_show_fewer_items_than_there_are() {
    let shop = Shop::open().await;
    let second = shop.stripe.add_item(&shop.subscription, &shop.price);
    shop.stripe.show_items(1);
    let sub = read(&shop.stripe, &format!("/v1/subscriptions/{}", shop.subscription)).await;
    assert_eq!((sub["items"]["data"].as_array().unwrap().len(), &sub["items"]["has_more"]), (1, &json!(true)));
    let items = list_all(&shop.stripe, &format!("/v1/subscription_items?subscription={}&", shop.subscription), 1).await;
    assert_eq!(items[1], second);
}

#[tokio::test]
async fn requests_are_recorded_and_answers_carry_the_clock() {
    let shop = Shop::open().await;
    let key = format!("Bearer {}", shop.stripe.key());
    let mut client = Client::connect(shop.stripe.addr()).await;
    for path in ["/v1/account?a=b", "/v1/customers"] {
        client.send(&get(path, &[("Authorization", &key), ("Stripe-Account", "acct_known")])).await;
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("date")), (200, Some("Thu, 01 Jan 2026 00:00:00 GMT")));
        assert!(reply.header("request-id").unwrap().starts_with("req_"));
    }
    let served = shop.stripe.served();
    assert_eq!((served[0].method.as_str(), served[0].path.as_str()), ("GET", "/v1/account"));
    assert_eq!((served[0].query.as_str(), served[1].account.as_deref()), ("a=b", Some("acct_known")));
    assert_eq!((shop.stripe.connections(), shop.stripe.open_connections()), (1, 1));
    assert_eq!(shop.stripe.base(), format!("http://{}/", shop.stripe.addr()));
}
