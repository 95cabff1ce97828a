//! Tests of the fake's faults.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{Shop, read, refusal, send_get};
use crate::support::client::{Client, get, post};
use crate::support::stripe::Fault;

#[tokio::test]
async fn requests_fail_as_often_as_requested_under_their_path() {
    let shop = Shop::open().await;
    let customer = format!("/v1/customers/{}", shop.customer);
    shop.stripe.fail_next_under("/v1/customers", 1, Fault::TooManyRequests { retry_after: Some(7) });
    shop.stripe.fail_next_under("/v1/customers", 1, Fault::TooManyRequests { retry_after: None });
    shop.stripe.fail_next_under("/v1/customers", 1, Fault::ServerError);
    shop.stripe.fail_next_under("/v1/customers", 1, Fault::DeletedStub);
    shop.stripe.fail_next_under("/v1/customers", 1, Fault::NotFound);
    assert_eq!(send_get(&shop.stripe, "/v1/account").await.status, 200);
    let limited = send_get(&shop.stripe, &customer).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("7")));
    let limited = send_get(&shop.stripe, &customer).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, None));
    let broken = send_get(&shop.stripe, &customer).await;
    assert_eq!((broken.status, broken.header("content-type")), (500, Some("text/html")));
    let stub = json!({ "id": shop.customer, "object": "customer", "deleted": true });
    assert_eq!(read(&shop.stripe, &customer).await, stub);
    assert_eq!(refusal(&shop.stripe, &customer).await.0, 404);
    assert_eq!(read(&shop.stripe, &customer).await["name"], "Ada");
}

#[tokio::test]
async fn a_connection_can_be_closed_or_left_hanging() {
    let shop = Shop::open().await;
    let request = get("/v1/account", &[("Authorization", "Bearer sk_test_fake")]);
    shop.stripe.fail_next(1, Fault::Close);
    let mut closed = Client::connect(shop.stripe.addr()).await;
    closed.send(&request).await;
    assert_eq!(closed.reply().await, None);
    shop.stripe.fail_next(1, Fault::Hang);
    let mut hanging = Client::connect(shop.stripe.addr()).await;
    hanging.send(&request).await;
    assert!(timeout(Duration::from_millis(100), hanging.reply()).await.is_err(), "an answer came");
    assert_eq!(send_get(&shop.stripe, "/v1/account").await.status, 200);
    shop.stripe.fail_next(9, Fault::Close);
    shop.stripe.recover();
    assert_eq!(send_get(&shop.stripe, "/v1/account").await.status, 200);
}

#[tokio::test]
async fn stale_reads_return_an_old_state_with_the_current_date() {
    let shop = Shop::open().await;
    let path = format!("/v1/customers/{}", shop.customer);
    shop.stripe.tick(10);
    shop.stripe.update(&shop.customer, json!({ "name": "Grace" }));
    let new_customer = shop.stripe.customer(json!({}));
    shop.stripe.serve_stale(3);
    assert_eq!(read(&shop.stripe, &path).await["name"], "Ada");
    assert_eq!(refusal(&shop.stripe, &format!("/v1/customers/{new_customer}")).await.0, 404);
    assert_eq!(read(&shop.stripe, "/v1/customers").await["data"].as_array().unwrap().len(), 1);
    assert_eq!(read(&shop.stripe, "/v1/events?types[]=customer.updated").await["data"], json!([]));
    assert_eq!(send_get(&shop.stripe, &path).await.header("date"), Some("Thu, 01 Jan 2026 00:00:10 GMT"));
    shop.stripe.tick(3);
    assert_eq!(read(&shop.stripe, &path).await["name"], "Grace");
    shop.stripe.update(&shop.customer, json!({ "name": "Edith" }));
    shop.stripe.recover();
    assert_eq!(read(&shop.stripe, &path).await["name"], "Edith");
}

#[tokio::test]
async fn a_change_can_happen_during_a_read() {
    let shop = Shop::open().await;
    let (stripe, customer) = (shop.stripe.clone(), shop.customer.clone());
    shop.stripe.on_request(move |request| {
        stripe.tick(2);
        stripe.update(&customer, json!({ "name": request.path }));
    });
    let path = format!("/v1/customers/{}", shop.customer);
    assert_eq!(read(&shop.stripe, &path).await["name"], json!(path));
    assert_eq!(shop.stripe.events().pop().unwrap().created, shop.stripe.now());
}

#[tokio::test]
async fn requests_with_a_wrong_key_account_or_method_are_refused() {
    let shop = Shop::open().await;
    let path = format!("/v1/customers/{}", shop.customer);
    let mut client = Client::connect(shop.stripe.addr()).await;
    for headers in [&[][..], &[("Authorization", "Bearer sk_test_wrong")]] {
        client.send(&get(&path, headers)).await;
        assert_eq!(client.reply().await.unwrap().status, 401);
    }
    let before = shop.stripe.key();
    shop.stripe.roll_key();
    client.send(&get(&path, &[("Authorization", &format!("Bearer {before}"))])).await;
    assert_eq!(client.reply().await.unwrap().status, 401);
    assert_eq!(send_get(&shop.stripe, &path).await.status, 200);
    assert_eq!(refusal(&shop.stripe, "/v1/nothing/here").await.0, 404);
    client.send(&post(&path, "", b"")).await;
    assert_eq!(client.reply().await.unwrap().status, 401, "a POST has no key here");
    shop.stripe.become_another_account();
    assert_eq!(refusal(&shop.stripe, &path).await.0, 404);
    assert_eq!(read(&shop.stripe, "/v1/account").await["id"], "acct_another");
    assert_eq!(read(&shop.stripe, "/v1/events").await["data"], json!([]));
}
