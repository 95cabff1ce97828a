//! Each kind of difference between the contract and a document is found, and the forms of utoipa are read.

#![expect(dead_code, reason = "utoipa reads these types and functions; no code uses them")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};

use super::differences;

const PREFIX: &str = "/api/service";

/// A contract with every form that the public pages have.
fn contract() -> Value {
    let id = json!({ "type": "string", "required": true });
    json!({ "endpoints": [
        {
            "method": "GET", "path": "/v1/things/{thingId}", "pathParameters": { "thingId": id },
            "queryParameters": { "page": { "type": "integer", "required": false } },
            "response": {
                "_embedded": { "type": "object", "children": {
                    "owner": { "type": "object", "children": { "email": { "type": "string" } } },
                } },
                "labels": { "type": "array<string>" },
                "lines": { "type": "array<object>", "children": { "count": { "type": "integer" } } },
                "prices": { "type": "object", "values": "number" },
                "status": { "type": "string" },
            },
        },
        {
            "method": "PUT", "path": "/v1/things/{thingId}", "pathParameters": { "thingId": id },
            "queryParameters": {},
            "request": {
                "name": { "type": "string", "required": true }, "city": { "type": "string", "required": false },
            },
        },
        { "method": "POST", "path": "/v1/things", "served": false, "pathParameters": {}, "queryParameters": {} },
    ] })
}

#[derive(ToSchema)]
struct Owner {
    #[schema(required)]
    email: Option<String>,
}

#[derive(ToSchema)]
struct Embedded {
    /// The owner, if there is one.
    #[schema(required)]
    owner: Option<Owner>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Status {
    Open,
    Done,
}

#[derive(ToSchema)]
struct Line {
    count: i64,
}

#[derive(ToSchema)]
struct Thing {
    /// The rows beside the thing: a description beside a reference.
    #[schema(rename = "_embedded")]
    embedded: Embedded,
    labels: Vec<String>,
    lines: Vec<Line>,
    #[schema(required)]
    prices: Option<BTreeMap<String, f64>>,
    /// The present status.
    status: Status,
}

#[derive(ToSchema)]
struct ThingWrite {
    name: String,
    city: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct Paging {
    page: Option<u32>,
}

#[utoipa::path(
    get, path = "/v1/things/{thingId}", params(("thingId" = uuid::Uuid, Path), Paging),
    responses((status = 200, body = Thing), (status = 404, body = String))
)]
fn read() {}

#[utoipa::path(
    put, path = "/v1/things/{thingId}", params(("thingId" = uuid::Uuid, Path)), request_body = ThingWrite,
    responses((status = 204))
)]
fn write() {}

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

#[derive(OpenApi)]
#[openapi(
    paths(read, write), modifiers(&Bearer), security(("token" = [])),
    servers((url = "https://host.example/api/service"))
)]
struct Document;

fn document() -> Value {
    serde_json::to_value(Document::openapi()).unwrap()
}

/// The differences after a change of the document.
fn after(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut document = document();
    change(&mut document);
    differences(&contract(), &document, PREFIX, &[])
}

/// Replaces the part of the document at a JSON pointer.
fn set(pointer: &str, value: Value) -> impl FnOnce(&mut Value) {
    move |document| *document.pointer_mut(pointer).unwrap() = value
}

fn properties<'a>(document: &'a mut Value, schema: &str) -> &'a mut serde_json::Map<String, Value> {
    document["components"]["schemas"][schema]["properties"].as_object_mut().unwrap()
}

const READ: &str = "/paths/~1v1~1things~1{thingId}/get";
const WRITE: &str = "/paths/~1v1~1things~1{thingId}/put";

#[test]
fn a_document_that_utoipa_generates_from_the_same_fields_has_no_difference() {
    assert_eq!(after(|_| {}), Vec::<String>::new());
}

#[test]
fn the_prefix_may_be_in_the_paths_instead_of_the_server() {
    let moved = |document: &mut Value| {
        let paths = document["paths"].as_object().unwrap().clone();
        let paths = paths.into_iter().map(|(path, item)| (format!("{PREFIX}{path}"), item));
        document["paths"] = paths.collect::<serde_json::Map<_, _>>().into();
        document["servers"] = json!([]);
    };
    assert_eq!(after(moved), Vec::<String>::new());
    let found = after(|document| document["servers"] = json!([]));
    assert_eq!(found, ["no path begins with /api/service: name it in `servers` or in the paths"]);
}

#[test]
fn a_missing_endpoint_and_an_additional_one_are_found() {
    let found = after(|document| {
        let paths = document["paths"].as_object_mut().unwrap();
        let item = paths.remove("/v1/things/{thingId}").unwrap();
        paths.insert("/v1/things/{id}".to_owned(), json!({ "get": item["get"] }));
    });
    let expected = [
        "GET /v1/things/{thingId} is missing",
        "PUT /v1/things/{thingId} is missing",
        "GET /v1/things/{id} is an addition that is not listed as an extension",
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_endpoint_that_the_contract_still_calls_unserved_is_found() {
    let found = after(|document| document["paths"]["/v1/things"] = json!({ "post": { "responses": {} } }));
    assert_eq!(found, ["POST /v1/things is served: remove `\"served\": false`"]);
}

#[test]
fn an_endpoint_without_authentication_is_found() {
    let expected = "GET /v1/things/{thingId} does not require `Authorization: Bearer`";
    let optional = json!([{ "token": [] }, {}]);
    for security in [json!([]), optional, json!([{ "key": [] }])] {
        let found = after(|document| document["paths"]["/v1/things/{thingId}"]["get"]["security"] = security);
        assert_eq!(found, [expected]);
    }
}

#[test]
fn a_missing_parameter_is_found_and_one_at_another_location_too() {
    let found = after(set(&format!("{READ}/parameters/1/in"), json!("header")));
    let expected = [
        "GET /v1/things/{thingId} query page is missing",
        "GET /v1/things/{thingId} header page is an addition that is not listed as an extension",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_wrong_type_of_a_parameter_is_found_and_so_is_a_wrong_requirement() {
    let found = after(set(&format!("{READ}/parameters/1/schema"), json!({ "type": "string" })));
    assert_eq!(found, ["GET /v1/things/{thingId} query page is string instead of integer"]);
    let found = after(set(&format!("{READ}/parameters/1/required"), json!(true)));
    assert_eq!(found, ["GET /v1/things/{thingId} query page is required, but optional in the contract"]);
}

#[test]
fn a_missing_field_is_found_once_by_the_name_of_its_component() {
    let found = after(|document| drop(properties(document, "Owner").remove("email")));
    assert_eq!(found, ["response Owner.email is missing"]);
}

#[test]
fn a_wrong_type_is_found_in_each_form() {
    for (field, schema, expected) in [
        ("labels", json!({ "type": "string" }), "string instead of array<string>"),
        (
            "labels",
            json!({ "type": "array", "items": { "type": "integer" } }),
            "array<integer> instead of array<string>",
        ),
        ("lines", json!({ "type": "array", "items": { "type": "string" } }), "array<string> instead of array<object>"),
        ("prices", json!({ "type": "object" }), "object instead of map<number>"),
        ("status", json!({ "type": ["integer", "null"] }), "integer instead of string"),
        ("status", json!({}), "any instead of string"),
        (
            "status",
            json!({ "oneOf": [{ "$ref": "#/components/schemas/Line" }, { "title": "Text" }] }),
            "one of Line, Text instead of string",
        ),
    ] {
        let found = after(|document| drop(properties(document, "Thing").insert(field.to_owned(), schema)));
        assert_eq!(found, [format!("response Thing.{field} is {expected}")]);
    }
}

#[test]
fn lost_nesting_is_found_in_both_directions() {
    let found = after(|document| {
        let owner = properties(document, "Embedded").remove("owner").unwrap();
        properties(document, "Thing").insert("owner".to_owned(), owner);
    });
    let expected = [
        "response Embedded.owner is missing",
        "response Thing.owner is an addition that is not listed as an extension",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_response_field_that_may_be_left_out_is_found_and_a_container_that_may_be_null() {
    let found = after(set("/components/schemas/Thing/required", json!(["_embedded", "labels", "lines", "prices"])));
    assert_eq!(found, ["response Thing.status is not required: send null instead"]);
    let nullable = json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/components/schemas/Embedded" }] });
    let found = after(set("/components/schemas/Thing/properties/_embedded", nullable));
    assert_eq!(found, ["response Thing._embedded may be null"]);
}

#[test]
fn a_wrong_requirement_of_a_request_field_is_found_in_both_directions() {
    let found = after(set("/components/schemas/ThingWrite/required", json!(["city"])));
    let expected = [
        "request ThingWrite.city is required, but optional in the contract",
        "request ThingWrite.name is not required",
    ];
    assert_eq!(found, expected);
    let found = after(set("/components/schemas/ThingWrite/properties/name/type", json!(["string", "null"])));
    assert_eq!(found, ["request ThingWrite.name may be null"]);
    let found = after(set(&format!("{WRITE}/requestBody/required"), json!(false)));
    assert_eq!(found, ["PUT /v1/things/{thingId} request body is not required"]);
}

#[test]
fn a_missing_body_is_found() {
    let found =
        after(|document| drop(document.pointer_mut(WRITE).unwrap().as_object_mut().unwrap().remove("requestBody")));
    assert_eq!(found, ["PUT /v1/things/{thingId} request body is missing"]);
    let found = after(set(&format!("{READ}/responses/200"), json!({ "description": "" })));
    assert_eq!(found, ["GET /v1/things/{thingId} response body is missing"]);
}

#[test]
fn an_addition_is_found_unless_it_is_listed_and_a_listed_one_must_exist() {
    let mut document = document();
    properties(&mut document, "Thing").insert("limits".to_owned(), json!({}));
    let header = json!({ "name": "If-Match", "in": "header", "schema": { "type": "string" } });
    document.pointer_mut(&format!("{WRITE}/parameters")).unwrap().as_array_mut().unwrap().push(header);
    let state = json!({ "name": "state", "in": "query", "schema": { "type": "string" } });
    document.pointer_mut(&format!("{READ}/parameters")).unwrap().as_array_mut().unwrap().push(state);
    document.pointer_mut(&format!("{READ}/responses/200")).unwrap()["headers"] = json!({ "ETag": {} });
    document.pointer_mut(&format!("{WRITE}/responses/204")).unwrap()["content"] = json!({ "text/plain": {} });
    let additions = [
        "GET /v1/things/{thingId} query state",
        "GET /v1/things/{thingId} response header ETag",
        "PUT /v1/things/{thingId} header If-Match",
        "PUT /v1/things/{thingId} response text/plain",
        "response Thing.limits",
    ];
    let found = differences(&contract(), &document, PREFIX, &[]);
    assert_eq!(found, additions.map(|name| format!("{name} is an addition that is not listed as an extension")));
    assert_eq!(differences(&contract(), &document, PREFIX, &additions), Vec::<String>::new());
    // a header may be listed once for all operations
    let listed = [additions[0], "response header ETag", "header If-Match", additions[3], additions[4], "header Prefer"];
    let found = differences(&contract(), &document, PREFIX, &listed);
    assert_eq!(found, ["header Prefer is listed as an extension and not in the document"]);
}
