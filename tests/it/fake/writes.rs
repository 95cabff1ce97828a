//! Tests of the fake's writes: their effects, events, refusals and permissions.

use serde_json::{Value, json};

use super::{Shop, error, read, send, send_get, write};
use crate::support::client::{Client, get};
use crate::support::stripe::{Epoch, FakeStripe};

const SESSION: &str = "mode=subscription&ui_mode=embedded_page&return_url=https://a.example&line_items[0][quantity]=2";

/// Refusals of one endpoint, each with status, code and parameter.
async fn assert_refused(stripe: &FakeStripe, target: &str, cases: &[(&str, u16, &str, &str)]) {
    for (form, status, code, param) in cases {
        let reply = send(stripe, target, form).await;
        assert_eq!(error(&reply), (*status, (*code).to_owned(), (*param).to_owned()), "{form}: {reply:?}");
    }
    assert_eq!(stripe.effects(), [], "a refused write has no effect");
}

#[tokio::test]
async fn customers_are_created_and_changed_with_events() {
    let stripe = FakeStripe::start().await;
    let form = "name=Ada&email=a%40b.example&metadata[a]=1&metadata[b]=&preferred_locales[]=de&preferred_locales[]=en\
                &address[line1]=Here+1&description=&expand[]=test_clock";
    let customer = write(&stripe, "POST /v1/customers", form).await;
    assert_eq!((&customer["name"], &customer["email"]), (&json!("Ada"), &json!("a@b.example")));
    assert_eq!((&customer["metadata"], &customer["description"]), (&json!({ "a": "1" }), &Value::Null));
    assert_eq!(customer["preferred_locales"], json!(["de", "en"]));
    assert_eq!((&customer["address"]["line1"], &customer["address"]["city"]), (&json!("Here 1"), &Value::Null));
    let id = customer["id"].as_str().unwrap();
    assert_eq!(read(&stripe, &format!("/v1/customers/{id}")).await, customer);
    let target = format!("POST /v1/customers/{id}");
    write(&stripe, &target, "name=Ada").await;
    let changed = write(&stripe, &target, "name=&metadata[a]=&metadata[c]=x&address=&preferred_locales=").await;
    assert_eq!((&changed["name"], &changed["address"]), (&Value::Null, &Value::Null));
    assert_eq!((&changed["metadata"], &changed["preferred_locales"]), (&json!({ "c": "x" }), &json!([])));
    assert_eq!(write(&stripe, &target, "metadata=").await["metadata"], json!({}));
    let events: Vec<Value> = stripe.events_of(id).iter().map(|event| event.json(Epoch::Endive)).collect();
    let types: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["customer.created", "customer.updated", "customer.updated"], "the second write changes nothing");
    assert_eq!(events[1]["data"]["previous_attributes"]["name"], "Ada");
    assert_eq!(stripe.effects().len(), 4);
}

#[tokio::test]
async fn wrong_parameters_of_customers_are_refused() {
    let stripe = FakeStripe::start().await;
    let many: Vec<String> = (0..51).map(|key| format!("metadata[k{key}]=1&")).collect();
    let (long, many) = ("x".repeat(501), many.concat());
    let (long, key) = (format!("metadata[a]={long}"), format!("metadata[{}]=1", "k".repeat(41)));
    let cases = [
        ("colour=red", 400, "parameter_unknown", "colour"),
        ("address[colour]=red", 400, "parameter_unknown", "address[colour]"),
        ("email=ada", 400, "email_invalid", "email"),
        ("name[a]=b", 400, "", "name"),
        ("preferred_locales=de", 400, "", "preferred_locales"),
        ("metadata=x", 400, "", "metadata"),
        (&long, 400, "", "metadata[a]"),
        (&key, 400, "", &key[..key.len() - 2]),
        (&many, 400, "", "metadata"),
        ("expand[]=name", 400, "", ""),
    ];
    assert_refused(&stripe, "POST /v1/customers", &cases).await;
    let most = many.replace("metadata[k50]=1&", "");
    assert_eq!(send(&stripe, "POST /v1/customers", &most).await.status, 200);
    let deleted = stripe.customer(json!({}));
    stripe.delete(&deleted);
    let reply = send(&stripe, &format!("POST /v1/customers/{deleted}"), "name=x").await;
    assert_eq!(error(&reply), (404, "resource_missing".to_owned(), "id".to_owned()));
    assert_eq!(send(&stripe, "POST /v1/coupons", "id=x").await.status, 404);
    assert_eq!(send(&stripe, "PUT /v1/customers", "").await.status, 404);
}

#[tokio::test]
async fn a_session_has_a_secret_until_the_visitor_subscribes() {
    let shop = Shop::open().await;
    let (stripe, customer, price) = (&shop.stripe, &shop.customer, &shop.price);
    let form = format!(
        "{SESSION}&customer={customer}&client_reference_id=w1&line_items[0][price]={price}&locale=de&metadata[a]=1\
         &subscription_data[metadata][b]=2&subscription_data[trial_period_days]=14&expand[0]=line_items"
    );
    let before = stripe.mark();
    let session = write(stripe, "POST /v1/checkout/sessions", &form).await;
    assert!(stripe.events_since(before).is_empty(), "Stripe sends no event for a new session");
    let (id, secret) = (session["id"].as_str().unwrap(), session["client_secret"].as_str().unwrap());
    assert!(secret.starts_with(&format!("{id}_secret_fake")), "{secret}");
    assert_eq!((&session["url"], &session["subscription_data"]), (&Value::Null, &Value::Null));
    assert_eq!(session["line_items"]["data"][0]["quantity"], 2);
    let path = format!("/v1/checkout/sessions/{id}");
    assert_eq!(read(stripe, &path).await["client_secret"], secret);
    let subscription = stripe.visit_checkout(id);
    let of = stripe.object(&subscription);
    assert_eq!(
        (&of["status"], &of["metadata"], &of["customer"]),
        (&json!("trialing"), &json!({ "b": "2" }), &json!(customer))
    );
    assert_eq!(
        (&of["items"]["data"][0]["quantity"], &of["items"]["data"][0]["price"]["id"]),
        (&json!(2), &json!(price))
    );
    let events = stripe.events_since(before);
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["customer.subscription.created", "checkout.session.completed"]);
    let completed = events[1].json(Epoch::Endive);
    assert_eq!(
        (&completed["data"]["object"]["client_secret"], &completed["request"]["id"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(completed["data"]["object"]["payment_status"], "no_payment_required");
    assert_eq!(read(stripe, &path).await["client_secret"], Value::Null);
    let reply = send(stripe, &format!("POST {path}/expire"), "").await;
    assert!(reply.status == 400 && reply.text.contains("has a status of `complete`"), "{reply:?}");
}

#[tokio::test]
async fn a_session_without_customer_creates_one_and_an_open_one_expires() {
    let shop = Shop::open().await;
    let (stripe, price) = (&shop.stripe, &shop.price);
    let coupon = stripe.coupon("TEN", 10.0);
    let form = format!(
        "mode=subscription&success_url=https://a.example&line_items[][price]={price}&line_items[][quantity]=1\
         &discounts[0][coupon]={coupon}"
    );
    let session = write(stripe, "POST /v1/checkout/sessions", &form).await;
    assert!(session["url"].is_string() && session["client_secret"].is_null(), "{session}");
    assert_eq!(session["discounts"], json!([{ "coupon": coupon, "promotion_code": null }]));
    let subscription = stripe.object(&stripe.visit_checkout(session["id"].as_str().unwrap()));
    assert_ne!(subscription["customer"], json!(shop.customer));
    assert_eq!(subscription["discounts"].as_array().unwrap().len(), 1);
    let other = write(stripe, "POST /v1/checkout/sessions", &form).await["id"].as_str().unwrap().to_owned();
    let expired = write(stripe, &format!("POST /v1/checkout/sessions/{other}/expire"), "").await;
    assert_eq!((&expired["status"], &expired["client_secret"]), (&json!("expired"), &Value::Null));
    let event = stripe.events().pop().unwrap().json(Epoch::Endive);
    assert_eq!((&event["type"], &event["request"]["id"]), (&json!("checkout.session.expired"), &json!("req_3")));
}

#[tokio::test]
#[should_panic(expected = "cannot be visited")]
async fn an_expired_session_cannot_be_visited() {
    let shop = Shop::open().await;
    let session = shop.stripe.checkout(&shop.price, json!({}));
    shop.stripe.expire_checkout(&session);
    shop.stripe.visit_checkout(&session);
}

#[tokio::test]
async fn wrong_parameters_of_sessions_are_refused() {
    let shop = Shop::open().await;
    shop.stripe.coupon("TEN", 10.0);
    let archived = shop.stripe.price(&shop.stripe.product(json!({})), 1, json!({ "active": false }));
    let with = |more: &str| format!("{SESSION}&line_items[0][price]={}&{more}", shop.price);
    let (archived, hosted) = (with(&format!("line_items[0][price]={archived}")), with("ui_mode=hosted_page"));
    let cases = [
        ("ui_mode=elements", 400, "parameter_missing", "mode"),
        ("mode=payment", 400, "", "mode"),
        ("mode=subscription&ui_mode=embedded_page", 400, "parameter_missing", "return_url"),
        ("mode=subscription", 400, "parameter_missing", "success_url"),
        ("mode=subscription&ui_mode=elements", 400, "parameter_missing", "line_items"),
        (SESSION, 400, "parameter_missing", "line_items[0][price]"),
        (&with("success_url=https://b.example"), 400, "", "success_url"),
        (&hosted, 400, "", "return_url"),
        (&with("customer=cus_x"), 400, "resource_missing", "customer"),
        (&with("customer="), 400, "parameter_invalid_empty", "customer"),
        (&with("line_items[0][price]=price_x"), 400, "resource_missing", "line_items[0][price]"),
        (&archived, 400, "", "line_items[0][price]"),
        (&with("line_items[0][quantity]=two"), 400, "parameter_invalid_integer", "line_items[0][quantity]"),
        (&with("discounts[0][coupon]=x"), 400, "resource_missing", "discounts[0][coupon]"),
        (&with("discounts[0][coupon]=TEN&allow_promotion_codes=true"), 400, "", ""),
        (&with("allow_promotion_codes=yes"), 400, "", "allow_promotion_codes"),
        (&with("subscription_data[trial_period_days]=0"), 400, "", "subscription_data[trial_period_days]"),
    ];
    assert_refused(&shop.stripe, "POST /v1/checkout/sessions", &cases).await;
}

#[tokio::test]
async fn payment_links_are_created_changed_and_listed() {
    let shop = Shop::open().await;
    let (stripe, price) = (&shop.stripe, &shop.price);
    let form = format!(
        "line_items[0][price]={price}&line_items[0][quantity]=1&line_items[0][adjustable_quantity][enabled]=true\
         &line_items[0][adjustable_quantity][maximum]=9&after_completion[type]=redirect\
         &after_completion[redirect][url]=https://a.example&subscription_data[trial_period_days]=7\
         &subscription_data[metadata][a]=1&name_collection[business][enabled]=true&tax_id_collection[enabled]=true\
         &metadata[b]=2&expand[]=line_items"
    );
    let link = write(stripe, "POST /v1/payment_links", &form).await;
    let id = link["id"].as_str().unwrap();
    assert_eq!(link["after_completion"], json!({ "redirect": { "url": "https://a.example" }, "type": "redirect" }));
    assert_eq!(link["line_items"]["data"][0]["adjustable_quantity"]["maximum"], 9);
    assert_eq!(link["line_items"]["url"], json!(format!("/v1/payment_links/{id}/line_items")));
    assert_eq!(link["subscription_data"]["trial_period_days"], 7);
    let target = format!("POST /v1/payment_links/{id}");
    let form = "active=false&allow_promotion_codes=true&after_completion[type]=hosted_confirmation\
                &after_completion[hosted_confirmation][custom_message]=Thanks&metadata[b]=\
                &subscription_data[metadata][c]=3";
    let changed = write(stripe, &target, form).await;
    assert_eq!(changed["after_completion"]["hosted_confirmation"]["custom_message"], "Thanks");
    assert_eq!((&changed["active"], &changed["metadata"]), (&json!(false), &json!({})));
    assert_eq!(changed["subscription_data"]["metadata"], json!({ "a": "1", "c": "3" }));
    assert_eq!(read(stripe, &format!("/v1/payment_links/{id}")).await, changed);
    assert_eq!(read(stripe, "/v1/payment_links?limit=1&active=false").await["data"], json!([changed]));
    assert_eq!(read(stripe, "/v1/payment_links?active=true").await["data"], json!([]));
    for (form, param) in [("active=false", "active"), ("after_completion[type]=redirect", "line_items")] {
        assert_eq!(error(&send(stripe, "POST /v1/payment_links", form).await).2, param);
    }
    let reply = send(stripe, &target, "after_completion[type]=redirect").await;
    assert_eq!(error(&reply), (400, "parameter_missing".to_owned(), "after_completion[redirect][url]".to_owned()));
}

#[tokio::test]
async fn a_subscription_is_cancelled_once() {
    let shop = Shop::open().await;
    let target = format!("DELETE /v1/subscriptions/{}", shop.subscription);
    let refused = send(&shop.stripe, &format!("{target}?prorate=maybe"), "").await;
    assert_eq!(error(&refused), (400, String::new(), "prorate".to_owned()));
    let form = "invoice_now=false&cancellation_details[comment]=Too+many";
    let ended = write(&shop.stripe, &format!("{target}?prorate=true"), form).await;
    assert_eq!((&ended["status"], &ended["cancellation_details"]["comment"]), (&json!("canceled"), &json!("Too many")));
    let event = shop.stripe.events().pop().unwrap();
    assert_eq!(event.event_type, "customer.subscription.deleted");
    assert_eq!(event.thin()["reason"]["request"]["id"], "req_2");
    let again = send(&shop.stripe, &target, "").await;
    assert_eq!(error(&again), (404, "resource_missing".to_owned(), "id".to_owned()));
    assert_eq!(shop.stripe.writes().len(), 3);
    assert_eq!(shop.stripe.effects().len(), 1);
}

#[tokio::test]
async fn writes_can_be_forbidden_while_reads_are_answered() {
    let shop = Shop::open().await;
    let path = format!("/v1/customers/{}", shop.customer);
    shop.stripe.forbid_writes(&["/v1/customers"], "rak_customer_write");
    let reply = send(&shop.stripe, &format!("POST {path}"), "name=x").await;
    assert!(reply.status == 403 && reply.text.contains("Having the 'rak_customer_write' permission"), "{reply:?}");
    assert_eq!(send_get(&shop.stripe, &path).await.status, 200);
    assert_eq!(send(&shop.stripe, "POST /v1/payment_links", "").await.status, 400);
    shop.stripe.permit_all();
    assert_eq!(write(&shop.stripe, &format!("POST {path}"), "name=x").await["name"], "x");
    let served = shop.stripe.writes().pop().unwrap();
    assert_eq!((served.body.as_str(), served.key.as_deref()), ("name=x", Some(shop.stripe.write_key())));
}

#[tokio::test]
async fn a_write_key_of_another_account_writes_there() {
    let shop = Shop::open().await;
    let (stripe, path) = (&shop.stripe, format!("/v1/customers/{}", shop.customer));
    stripe.write_key_belongs_to_another_account();
    assert_eq!(send(stripe, &format!("POST {path}"), "name=x").await.status, 404);
    assert_eq!(stripe.stray_writes(), 0);
    let before = stripe.mark();
    let stray = write(stripe, "POST /v1/customers", "name=x").await["id"].as_str().unwrap().to_owned();
    assert_eq!((stripe.stray_writes(), stripe.effects().len(), stripe.mark()), (1, 0, before));
    assert_eq!(send_get(stripe, &format!("/v1/customers/{stray}")).await.status, 404);
    let mut client = Client::connect(stripe.addr()).await;
    client.send(&get("/v1/account", &[("Authorization", &format!("Bearer {}", stripe.write_key()))])).await;
    assert!(client.reply().await.unwrap().text.contains("acct_another"));
    assert_eq!(read(stripe, "/v1/account").await["id"], "acct_fake");
    stripe.write_key_belongs_to_our_account();
    assert_eq!(write(stripe, &format!("POST {path}"), "name=x").await["name"], "x");
}
