//! Bodies and parameters: too large, not JSON, of another type, with wrong values.

use std::collections::BTreeSet;
use std::time::Duration;

use billing_sync::api::openapi;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{LIST, bytes, create, names, number_of_workspaces, send};
use crate::api::harness::{ADA, ApiTest, PREFIX};
use crate::api::schema::{self, Schema};
use crate::writes::harness::Shop;

/// Maximum size of a body.
const MAX_BODY: usize = 64 * 1024;

/// A body of this size with the name of a workspace.
fn padded(size: usize) -> Vec<u8> {
    let body = json!({ "name": "x" }).to_string();
    let blanks = " ".repeat(size - body.len());
    (body + &blanks).into_bytes()
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_declared_or_chunked() {
    let test = ApiTest::start().await;
    let (ada, address) = (test.user(ADA).await, test.address());
    for (size, status) in [(MAX_BODY, 201), (MAX_BODY + 1, 413)] {
        let body = padded(size);
        let chunks =
            body.chunks(9_000).map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        let chunks = [chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat();
        let lines = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
        let chunked = send(address, &bytes(&ada, "POST", LIST, lines, &chunks)).await;
        for reply in [create(&ada, address, &body).await, chunked] {
            assert_eq!(reply.status, status, "{reply:?}");
            if status == 413 {
                reply.problem("body-too-large");
            }
        }
    }
    assert_eq!(number_of_workspaces(&ada).await, 2);
    test.finish().await;
}

#[tokio::test]
async fn a_body_that_is_declared_too_large_is_refused_before_it_is_sent() {
    let test = ApiTest::start().await;
    let ada = test.user(ADA).await;
    let lines = "Content-Type: application/json\r\nContent-Length: 100000000\r\n";
    let begin = Instant::now();
    send(test.address(), &bytes(&ada, "POST", LIST, lines, b"{")).await.problem("body-too-large");
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    test.finish().await;
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_400_or_422() {
    let test = ApiTest::start().await;
    let (ada, address) = (test.user(ADA).await, test.address());
    let (deep, nested) =
        ("[".repeat(60_000), format!("{{\"name\":\"x\",\"x\":{}{}}}", "[".repeat(200), "]".repeat(200)));
    let malformed: [&[u8]; 18] = [
        b"",
        b" ",
        b"{",
        b"{\"name\":\"x\"",
        b"{\"name\":\"x\",}",
        b"{\"name\":\"x\"} {}",
        b"{'name':'x'}",
        b"{\"name\":NaN}",
        b"{\"name\":\"a\nb\"}",
        b"{\"name\":\"\\ud800\"}",
        b"{\"name\":\"\xff\"}",
        b"{\"name\":\"\xed\xa0\x80\"}",
        b"{\"name\":\"x\",\"x\":\"\xc3\"}",
        b"{\"name\":\"x\",\"x\":1e999}",
        b"\xef\xbb\xbf{\"name\":\"x\"}",
        b"name=x",
        deep.as_bytes(),
        nested.as_bytes(),
    ];
    for body in malformed {
        let reply = create(&ada, address, body).await;
        reply.problem("malformed-request");
        assert_eq!(reply.status, 400);
    }
    for body in ["[]", "null", "1", "\"name\"", "[{\"name\":\"x\"}]", "{}"] {
        let reply = create(&ada, address, body.as_bytes()).await;
        reply.problem("invalid-fields");
        assert_eq!(reply.status, 422);
    }
    assert_eq!(number_of_workspaces(&ada).await, 0);
    let last = create(&ada, address, b"{\"name\":\"first\",\"x\":{\"name\":\"inner\"},\"name\":\"last\"}").await;
    assert_eq!(last.json(201)["name"], "last", "of a repeated field, the last counts");
    test.finish().await;
}

#[tokio::test]
async fn a_body_of_another_type_is_415() {
    let test = ApiTest::start().await;
    let (ada, address, body) = (test.user(ADA).await, test.address(), b"{\"name\":\"x\"}");
    for kind in [
        "",
        "text/plain",
        "text/json",
        "application/jsonp",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain, application/json",
        "ä/application/json",
        "applicatiön/x+json",
    ] {
        for (method, path) in
            [("POST", LIST), ("PUT", "/v1/workspaces/x"), ("POST", "/v1/workspaces/x/limits/x/consume")]
        {
            let lines = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
            let lines = if kind.is_empty() { lines.split_once("\r\n").unwrap().1 } else { lines.as_str() };
            let reply = send(address, &bytes(&ada, method, path, lines, body)).await;
            reply.problem("unsupported-media-type");
            assert_eq!(reply.status, 415, "{kind}");
        }
    }
    assert_eq!(number_of_workspaces(&ada).await, 0);
    test.finish().await;
}

#[tokio::test]
async fn every_field_of_a_wrong_type_is_named() {
    let shop = Shop::open().await;
    let (ada, id, contact) = (&shop.ada, shop.workspace.to_string(), shop.contact_path().await);
    let contact = contact.rsplit_once('/').unwrap().1;
    let document = serde_json::to_value(openapi::workspaces()).unwrap();
    let mut fields = BTreeSet::new();
    for ((method, path), operation) in schema::operations(&document) {
        let Some(body) = operation.request() else { continue };
        let path = path.strip_prefix(PREFIX).unwrap().replace("{workspaceId}", &id).replace("{key}", "words");
        let path = path.replace("{billingContactId}", contact);
        for (field, property) in Schema::read(&document, schema::content(body)[schema::JSON]).properties {
            let schema = Schema::read(&document, property);
            for (kind, value) in [
                ("null", Value::Null),
                ("boolean", json!(true)),
                ("integer", json!(1)),
                ("number", json!(1.5)),
                ("string", json!("1")),
                ("array", json!(["1"])),
                ("object", json!({ "1": 1 })),
            ] {
                let is_valid = schema.types.contains(kind) || kind == "null" && schema.is_nullable;
                if !is_valid {
                    let body = Value::Object(Map::from_iter([(field.to_owned(), value)]));
                    let reply = ada.send(&method, &path, &[], Some(&body)).await;
                    assert!(names(&reply, &format!("/{field}")), "{method} {path} {body}: {reply:?}");
                }
            }
            fields.insert(field);
        }
    }
    assert_eq!(
        fields,
        BTreeSet::from([
            "activeDiscount",
            "addressLine1",
            "addressLine2",
            "amount",
            "callbackUrl",
            "city",
            "country",
            "defaultPaymentCardNumberLastFourDigits",
            "defaultPaymentMethod",
            "defaultPaymentMethodCardBrand",
            "email",
            "language",
            "legacyPricingPlanId",
            "name",
            "postalCode",
            "pricingPlanId",
            "state"
        ]),
        "the loop found the fields"
    );
    assert_eq!(ada.get(&format!("{LIST}/{id}")).await.json(200)["name"], "Ada");
    shop.finish().await;
}

#[tokio::test]
async fn every_parameter_with_an_invalid_value_is_named() {
    let test = ApiTest::start().await;
    let (ada, id) = (test.user(ADA).await, test.workspace("Team", ADA).await);
    let history = format!("{LIST}/{id}/history");
    let (long, numbers) = ("a".repeat(256), ["0", "-1", "1.5", "x", "%2B", "9223372036854775808", "1%00"]);
    let lists = ["x", "1,", ",", "1,x", "1.5", "9223372036854775808", "%00"];
    let mut tested: BTreeSet<&str> = ["workspace", "customer"].into();
    for (path, name, values) in [
        (LIST, "page", &[&numbers[..], &["1000001"]].concat()),
        (LIST, "size", &[&numbers[..], &["101"]].concat()),
        (history.as_str(), "size", &[&numbers[..], &["101"]].concat()),
        (history.as_str(), "before", &numbers.to_vec()),
        (LIST, "order", &vec!["ASC", "up", "asc,desc", "%00"]),
        (LIST, "sort", &vec!["createdat", "name;", "name desc", "id", "1"]),
        (LIST, "importedFromLegacyTeamIds", &lists.to_vec()),
        (LIST, "ownerLegacyCustomerIds", &lists.to_vec()),
        (LIST, "search", &vec![long.as_str(), "a%00b"]),
    ] {
        for value in values {
            let reply = ada.get(&format!("{path}?{name}={}", value.replace(' ', "%20"))).await;
            assert!(names(&reply, &format!("query {name}")), "{path} {name} {value}: {reply:?}");
        }
        tested.insert(name);
    }
    for query in ["", "?", "?workspace=", "?x=1", &format!("?workspace={id}&customer=cus_1")] {
        assert!(names(&ada.get(&format!("/v1/state{query}")).await, "query workspace"), "{query}");
    }
    let document = serde_json::to_value(openapi::workspaces()).unwrap();
    let operations = schema::operations(&document).into_values();
    let documented = operations.flat_map(|operation| operation.parameters().into_keys());
    let documented = documented.filter(|(place, _)| *place == "query").map(|(_, name)| name);
    let tested: BTreeSet<String> = tested.into_iter().map(str::to_owned).collect();
    assert_eq!(documented.collect::<BTreeSet<_>>(), tested, "the table has every parameter");
    test.finish().await;
}
