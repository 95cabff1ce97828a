//! Heads of requests: odd characters, sizes, syntax, several requests in one write, and methods.

use serde_json::json;
use uuid::Uuid;

use super::{LIST, bytes, names, number_of_workspaces, raw, send};
use crate::api::harness::{ADA, ApiTest, PREFIX, request};
use crate::support::client::Client;

#[tokio::test]
async fn control_characters_are_refused_or_stored_and_never_become_a_header() {
    let test = ApiTest::start().await;
    let (ada, id) = (test.user(ADA).await, test.workspace("Team", ADA).await);
    let unknown = Uuid::new_v4();
    let mut replies = Vec::new();
    for path in [
        "/%00".to_owned(),
        format!("{LIST}/%00"),
        format!("{LIST}/{id}%00"),
        format!("{LIST}/x%0D%0AX-Evil:%201"),
        format!("{LIST}/{id}%0D%0AX-Evil:%201"),
        format!("{LIST}/%2e%2e/{id}"),
        format!("{LIST}/{id}/billing-contacts/{unknown}%00"),
        format!("{LIST}/{id}/billing-contacts/{unknown}/stripe-checkout-sessions/cs_%00"),
        format!("{LIST}/{id}/billing-contacts/{unknown}/stripe-checkout-sessions/cs_%0D%0AX-Evil:1"),
        "/v1/state?workspace=%00".to_owned(),
        "/v1/state?customer=cus_%00".to_owned(),
        "/v1/state?customer=cus_%0D%0AX-Evil:1".to_owned(),
        "/docs/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        "/docs/%00".to_owned(),
    ] {
        let reply = ada.get(&path).await;
        reply.problem("not-found");
        replies.push(reply);
    }
    let consume = format!("{LIST}/{id}/limits/words%00/consume");
    ada.post(&consume, &json!({ "amount": 1 })).await.problem("not-found");
    ada.get(&format!("{LIST}/%FF")).await.problem("not-found");
    for query in ["search=%FF%FE", "search=a%0D%0AX-Evil:%201", "%FF=%FF", "search=%25_%5C'%22", "&&==&=&"] {
        replies.push(ada.get(&format!("{LIST}?{query}")).await);
        assert_eq!(replies.last().unwrap().status, 200, "{query}");
    }
    for name in
        ["a\r\nX-Evil: 1", "\u{202e}a\u{200b}", "<script>alert(1)</script>", "'; DROP TABLE x; --", "\u{10ffff}"]
    {
        let reply = ada.post(LIST, &json!({ "name": name })).await;
        assert_eq!(reply.json(201)["name"], name);
        replies.push(reply);
    }
    assert!(names(&ada.post(LIST, &json!({ "name": "a\0b" })).await, "/name"));
    for reply in replies {
        assert!(!reply.headers.to_lowercase().contains("x-evil"), "{reply:?}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
    test.finish().await;
}

#[tokio::test]
async fn an_idempotency_key_is_one_header_of_visible_characters() {
    let test = ApiTest::start().await;
    let (ada, address) = (test.user(ADA).await, test.address());
    let post = async |lines: &str| {
        let body = b"{\"name\":\"x\"}";
        let lines = format!("Content-Type: application/json\r\nContent-Length: {}\r\n{lines}", body.len());
        send(address, &bytes(&ada, "POST", LIST, &lines, body)).await
    };
    for wrong in [String::new(), " ".to_owned(), "x".repeat(256), "ä".to_owned(), "a\r\nIdempotency-Key: b".to_owned()]
    {
        let reply = post(&format!("Idempotency-Key: {wrong}\r\n")).await;
        assert!(names(&reply, "header Idempotency-Key"), "{wrong:?}");
    }
    assert_eq!(number_of_workspaces(&ada).await, 0);
    for (number, key) in ["a b", "\"quoted\"", "'; DROP TABLE x; --", &"x".repeat(255)].into_iter().enumerate() {
        let line = format!("Idempotency-Key:  {key} \r\n");
        let (first, again) = (post(&line).await, post(&line).await);
        assert_eq!((first.status, first.header("idempotent-replayed")), (201, None), "{key}");
        assert_eq!((again.header("idempotent-replayed"), &again.text), (Some("true"), &first.text), "{key}");
        assert_eq!(number_of_workspaces(&ada).await, number + 1);
    }
    test.finish().await;
}

#[tokio::test]
async fn heads_that_are_too_long_or_malformed_are_4xx_and_the_service_stays_alive() {
    let test = ApiTest::start().await;
    let (ada, address) = (test.user(ADA).await, test.address());
    let get = |path: &str, lines: &str| bytes(&ada, "GET", path, &format!("{lines}Connection: close\r\n"), b"");
    let (long, longer) = ("a".repeat(9_000), "a".repeat(40_000));
    let many = "X-Many: 1\r\n".repeat(150);
    let no_token = |text: &str| text.as_bytes().to_vec();
    for (sent, statuses) in [
        (get(LIST, &format!("X-Long: {long}\r\n")), [200, 200]),
        (get(&format!("{LIST}/{long}"), ""), [404, 404]),
        (get(&format!("{LIST}?search={long}"), ""), [422, 422]),
        (get(&format!("{LIST}/{longer}"), ""), [414, 431]),
        (get(&format!("{LIST}?search={longer}"), ""), [414, 431]),
        (get(LIST, &format!("X-Long: {longer}\r\n")), [431, 431]),
        (get(LIST, &many), [431, 431]),
        (get(LIST, "X Space: 1\r\n"), [400, 400]),
        (get(LIST, "X-Nul: a\0b\r\n"), [400, 400]),
        (get(LIST, "X-Folded: a\r\n b\r\n"), [400, 400]),
        (get(LIST, "Content-Length: 1\r\nContent-Length: 2\r\n"), [400, 400]),
        (get(LIST, "Content-Length: -1\r\n"), [400, 400]),
        (get(LIST, "Transfer-Encoding: gzip, chunked\r\n"), [400, 400]),
        (get(LIST, "Host: y\r\n"), [400, 400]),
        (no_token("GET /v1/workspaces\r\n\r\n"), [400, 400]),
        (no_token("GET / HTTP/9.9\r\n\r\n"), [400, 505]),
        (no_token("\x16\x03\x01\x02"), [400, 400]),
        (no_token("CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), [404, 405]),
    ] {
        let answer = raw(address, &sent).await;
        let status: u16 = answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
        assert!(statuses.contains(&status), "{statuses:?}: {answer}");
    }
    assert_eq!(number_of_workspaces(&ada).await, 0);
    test.finish().await;
}

#[tokio::test]
async fn a_request_that_the_listener_refuses_has_a_request_id_too() {
    let test = ApiTest::start().await;
    let reply = send(test.address(), format!("GET {PREFIX}{LIST} HTTP/1.1\r\n\r\n").as_bytes()).await;
    reply.problem("malformed-request");
    assert!(reply.header("x-request-id").is_some_and(|id| Uuid::try_parse(id).is_ok()), "{reply:?}");
    test.finish().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order_and_none_after_an_unauthenticated_one() {
    let test = ApiTest::start().await;
    let (ada, address) = (test.user(ADA).await, test.address());
    let post = |name: &str| {
        let body = json!({ "name": name }).to_string();
        let lines = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        bytes(&ada, "POST", LIST, &lines, body.as_bytes())
    };
    let mut client = Client::connect(address).await;
    client.send(&[post("one"), post("two"), bytes(&ada, "GET", LIST, "", b"")].concat()).await;
    for name in ["one", "two"] {
        assert_eq!(client.reply().await.unwrap().json(201)["name"], name);
    }
    assert_eq!(client.reply().await.unwrap().json(200)["page"]["totalElements"], 2);
    let anonymous = request("GET", &format!("{PREFIX}{LIST}"), &[], None);
    let answers = raw(address, &[anonymous, post("three"), post("four")].concat()).await;
    assert!(answers.starts_with("HTTP/1.1 401 ") && answers.matches("HTTP/1.1 ").count() == 1, "{answers}");
    // a body that looks like a request is a body
    let hidden = post("hidden");
    let lines = format!("Content-Length: {}\r\nConnection: close\r\n", hidden.len());
    let answers = raw(address, &bytes(&ada, "GET", LIST, &lines, &hidden)).await;
    assert!(answers.starts_with("HTTP/1.1 200 ") && answers.matches("HTTP/1.1 ").count() == 1, "{answers}");
    assert_eq!(number_of_workspaces(&ada).await, 2);
    test.finish().await;
}

#[tokio::test]
async fn head_is_a_get_without_a_body_and_other_methods_are_405() {
    let test = ApiTest::start().await;
    let (ada, address, id) = (test.user(ADA).await, test.address(), test.workspace("Team", ADA).await);
    let (path, close) = (format!("{LIST}/{id}"), "Connection: close\r\n");
    let got = ada.get(&path).await;
    let head = raw(address, &bytes(&ada, "HEAD", &path, close, b"")).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    for name in ["etag", "content-length"] {
        assert!(head.contains(&format!("{name}: {}\r\n", got.header(name).unwrap())), "{name}: {head}");
    }
    let unknown = raw(address, &bytes(&ada, "HEAD", &format!("{LIST}/{}", Uuid::new_v4()), close, b"")).await;
    assert!(unknown.starts_with("HTTP/1.1 404 ") && unknown.ends_with("\r\n\r\n"), "{unknown}");
    let anonymous = raw(address, format!("HEAD {PREFIX}{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    assert!(anonymous.starts_with("HTTP/1.1 401 ") && anonymous.ends_with("\r\n\r\n"), "{anonymous}");
    for method in ["PATCH", "TRACE", "POST", "PROPFIND"] {
        let reply = ada.send(method, &path, &[("X-HTTP-Method-Override", "DELETE")], None).await;
        reply.problem("method-not-allowed");
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET,HEAD,PUT,DELETE")), "{method}");
    }
    assert_eq!(ada.get(&path).await.json(200)["name"], "Team");
    test.finish().await;
}
