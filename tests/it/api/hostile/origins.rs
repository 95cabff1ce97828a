//! Pages of other origins, which browsers let call only with the headers of CORS.

use super::{LIST, send};
use crate::api::harness::{ADA, ApiClient, ApiTest, PREFIX, request};
use crate::support::client::Reply;

/// The reply to a request of a page, before which a browser asks with a preflight request, which has no token.
async fn from_page(test: &ApiTest, client: &ApiClient, origin: &str) -> [Reply; 3] {
    let preflight = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "authorization,content-type,if-match"),
    ];
    let path = format!("{PREFIX}{LIST}");
    [
        send(test.address(), &request("OPTIONS", &path, &preflight, None)).await,
        client.send("GET", LIST, &[("Origin", origin)], None).await,
        // also the refusal, so that the page can read it
        send(test.address(), &request("GET", &path, &[("Origin", origin)], None)).await,
    ]
}

#[tokio::test]
async fn only_pages_of_configured_origins_may_call() {
    const ALLOWED: &str = "https://app.example.com";
    let header = "access-control-allow-origin";
    let test = ApiTest::start().await;
    let ada = test.user(ADA).await;
    for reply in from_page(&test, &ada, ALLOWED).await {
        assert_eq!(reply.header(header), None, "no origin by default: {reply:?}");
    }
    test.finish().await;
    let test =
        ApiTest::start_with(&[("BILLING_SYNC_API_CORS_ORIGINS", "https://app.example.com, http://localhost:3000")])
            .await;
    let ada = test.user(ADA).await;
    for origin in [ALLOWED, "http://localhost:3000"] {
        let replies = from_page(&test, &ada, origin).await;
        assert_eq!([&replies[0], &replies[1], &replies[2]].map(|reply| reply.status), [200, 200, 401]);
        for reply in &replies {
            assert_eq!(reply.header(header), Some(origin), "{reply:?}");
            assert!(reply.headers.contains("vary: origin"), "caches must not mix them up: {reply:?}");
            assert_eq!(reply.header("access-control-allow-credentials"), None, "no cookies");
        }
        let [methods, headers] = ["access-control-allow-methods", "access-control-allow-headers"]
            .map(|name| replies[0].header(name).unwrap().to_lowercase());
        assert!(["get", "post", "put", "delete"].iter().all(|method| methods.contains(method)), "{methods}");
        assert!(["authorization", "content-type", "if-match"].iter().all(|name| headers.contains(name)), "{headers}");
        assert!(replies[1].header("access-control-expose-headers").unwrap().contains("etag"));
    }
    for origin in [
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "https://app.example.com:444",
        "https://app.example.com, https://evil.example",
        "null",
        "*",
    ] {
        for reply in from_page(&test, &ada, origin).await {
            assert_eq!(reply.header(header), None, "{reply:?}");
        }
    }
    test.finish().await;
}
