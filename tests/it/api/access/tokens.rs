//! Credentials that are missing or not accepted.

use billing_sync::api::principal::token::TokenId;
use billing_sync::api::principal::token_store;

use super::{Ids, LIST, routes, start};
use crate::api::harness::{ADA, ApiTest, PREFIX, request};
use crate::api::jwt::{Key, claims};
use crate::support::client::{Client, Reply};

/// The id of a token.
fn id(token: &str) -> TokenId {
    TokenId::named_by(token).unwrap()
}

async fn without_token(test: &ApiTest, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut client = Client::connect(test.address()).await;
    client.send(&request(method, &format!("{PREFIX}{path}"), headers, None)).await;
    client.reply().await.unwrap()
}

#[tokio::test]
async fn every_route_requires_credentials_in_one_authorization_header() {
    let test = start().await;
    let token = test.admin().await.token;
    let (bearer, cookie) = (format!("Bearer {token}"), format!("token={token}"));
    let (token, bearer, cookie) = (token.as_str(), bearer.as_str(), cookie.as_str());
    let headers: [&[(&str, &str)]; 7] = [
        &[],
        &[("Authorization", "")],
        &[("Authorization", "Bearer")],
        &[("Authorization", token)],
        &[("Authorization", "Basic eDp5")],
        &[("Cookie", cookie), ("X-API-Key", token)],
        &[("Authorization", bearer), ("Authorization", bearer)],
    ];
    for (method, template) in routes() {
        let path = format!("{}?access_token={token}", Ids::unknown().fill(&template));
        for headers in headers {
            let reply = without_token(&test, &method, &path, headers).await;
            reply.problem("authentication-required");
            let (challenge, connection) = (reply.header("www-authenticate"), reply.header("connection"));
            let expected = (401, Some("Bearer realm=\"billing-sync\""), Some("close"));
            assert_eq!((reply.status, challenge, connection), expected, "{method} {path} {headers:?}");
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_401() {
    let test = start().await;
    let [valid, revoked, expired, later] =
        [test.admin().await, test.admin().await, test.admin().await, test.admin().await].map(|client| client.token);
    for (token, change) in [
        (&revoked, "revoked_at = clock_timestamp()"),
        (&expired, "expires_at = clock_timestamp()"),
        (&later, "expires_at = clock_timestamp() + interval '1 hour'"),
    ] {
        test.execute(&format!("UPDATE billing.api_tokens SET {change} WHERE id = '{}'", id(token))).await;
    }
    let (unknown, secret) = (token_store::random_token().unwrap().expose(), valid.rsplit('_').next().unwrap());
    let refused = [
        revoked.clone(),
        expired,
        unknown.clone(),
        // the secret of another token
        format!("bs_{}_{secret}", id(&unknown)),
        format!("bs_{}_{secret}", id(&later)),
        format!("bs_{}_{}", id(&valid), "0".repeat(64)),
        valid.to_uppercase().replacen("BS", "bs", 1),
        valid[..valid.len() - 1].to_owned(),
        format!("{valid}0"),
        format!("{valid} 0"),
        format!("bs_{}", id(&valid)),
        "bs_".to_owned(),
        format!("bs_{}", "0".repeat(10_000)),
        // without an identity provider
        Key::p256("a").sign(&claims(ADA)),
        "x".to_owned(),
    ];
    let challenge = Some("Bearer realm=\"billing-sync\", error=\"invalid_token\"");
    for token in &refused {
        let reply = test.with_token(token).get(LIST).await;
        let problem = reply.problem("invalid-token");
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, challenge), "{token}");
        assert!(!problem["detail"].as_str().unwrap().contains(secret), "{problem}");
    }
    for token in [&valid, &later, &format!(" {valid} ")] {
        test.with_token(token).get(LIST).await.json(200);
    }
    for call in Ids::unknown().calls() {
        call.send(&test.with_token(&revoked)).await.problem("invalid-token");
    }
    test.finish().await;
}

#[tokio::test]
async fn a_token_is_revoked_on_an_open_connection_too() {
    let test = start().await;
    let client = test.admin().await;
    let bearer = format!("Bearer {}", client.token);
    let bytes = request("GET", &format!("{PREFIX}{LIST}"), &[("Authorization", bearer.as_str())], None);
    let mut connection = Client::connect(test.address()).await;
    connection.send(&bytes).await;
    let reply = connection.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, None));
    token_store::revoke(&mut test.app.pool.acquire().await.unwrap(), &id(&client.token)).await.unwrap();
    connection.send(&bytes).await;
    connection.reply().await.unwrap().problem("invalid-token");
    assert_eq!(connection.reply().await, None, "it is closed");
    test.finish().await;
}
