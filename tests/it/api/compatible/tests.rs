//! Each kind of breaking change is found, and each kind of addition is allowed.

use serde_json::{Value, json};

use super::{breaking, review};

/// A document with every form that is compared.
fn document() -> Value {
    json!({
        "info": { "version": "1.4.0" },
        "servers": [{ "url": "/api" }],
        "security": [{ "token": [] }, { "jwt": [] }],
        "paths": { "/things": {
            "get": {
                "parameters": [
                    {
                        "name": "size", "in": "query",
                        "schema": { "type": ["integer", "null"], "maximum": 100, "minimum": 1 },
                    },
                    { "name": "If-Match", "in": "header", "required": true, "schema": { "type": "string" } },
                ],
                "responses": {
                    "200": {
                        "headers": { "ETag": { "schema": { "type": "string" } } },
                        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Thing" } } },
                    },
                    "404": { "$ref": "#/components/responses/Problem" },
                },
            },
            "post": {
                "requestBody": {
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ThingWrite" } } },
                },
                "responses": { "204": { "description": "written" } },
            },
        } },
        "components": {
            "responses": {
                "Problem": { "content": { "application/problem+json": { "schema": { "type": "object" } } } },
            },
            "schemas": {
                "Thing": {
                    "type": "object",
                    "required": ["id", "status"],
                    "properties": {
                        "id": { "type": "string", "format": "uuid" },
                        "count": { "type": "integer", "format": "int32" },
                        "labels": { "type": "array", "items": { "type": "string" } },
                        "parts": { "type": "array", "items": { "$ref": "#/components/schemas/Thing" } },
                        "prices": { "type": "object", "additionalProperties": { "type": "number" } },
                        "status": { "type": "string", "enum": ["open", "done"] },
                        "source": { "oneOf": [{ "$ref": "#/components/schemas/Status" }, { "title": "Other" }] },
                    },
                },
                "ThingWrite": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": { "type": "string" },
                        "city": { "type": ["string", "null"], "maxLength": 80 },
                        "status": { "oneOf": [{ "type": "null" }, { "$ref": "#/components/schemas/Status" }] },
                    },
                },
                "Status": { "type": "string", "enum": ["open", "done"] },
            },
        },
    })
}

/// The breaking changes after the part at a JSON pointer was replaced; null removes a member.
fn after(pointer: &str, value: Value) -> Vec<String> {
    breaking(&document(), &changed(pointer, value))
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut document = document();
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let member = member.replace("~1", "/");
    let parent = document.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(parent), Value::Null) => drop(parent.remove(&member).unwrap()),
        (Value::Object(parent), value) => drop(parent.insert(member, value)),
        (Value::Array(parent), Value::Null) => drop(parent.remove(member.parse::<usize>().unwrap())),
        (Value::Array(parent), value) if member == "-" => parent.push(value),
        (parent, value) => parent[member.parse::<usize>().unwrap()] = value,
    }
    document
}

const GET: &str = "/paths/~1things/get";
const POST: &str = "/paths/~1things/post";
const THING: &str = "/components/schemas/Thing";
const WRITE: &str = "/components/schemas/ThingWrite";

/// The same for a member below one of the parts above.
fn below(part: &str, member: &str, value: Value) -> Vec<String> {
    after(&format!("{part}/{member}"), value)
}

const NONE: [String; 0] = [];

#[test]
fn an_unchanged_document_breaks_nothing() {
    assert_eq!(breaking(&document(), &document()), NONE);
}

#[test]
fn a_removed_path_or_method_is_found() {
    assert_eq!(after("/paths/~1things", Value::Null), ["GET /api/things was removed", "POST /api/things was removed"]);
    assert_eq!(after(POST, Value::Null), ["POST /api/things was removed"]);
    let found = after("/servers", json!([{ "url": "/v2" }]));
    assert_eq!(found, ["GET /api/things was removed", "POST /api/things was removed"]);
}

#[test]
fn a_removed_parameter_is_found_and_one_that_becomes_required() {
    assert_eq!(below(GET, "parameters/0", Value::Null), ["GET /api/things query size was removed"]);
    assert_eq!(below(GET, "parameters/0/required", json!(true)), ["GET /api/things query size is now required"]);
    let new = json!({ "name": "sort", "in": "query", "required": true, "schema": { "type": "string" } });
    assert_eq!(below(GET, "parameters/-", new), ["GET /api/things query sort was added and is required"]);
}

#[test]
fn a_parameter_that_accepts_fewer_values_is_found() {
    let found = below(GET, "parameters/0/schema/type", json!("string"));
    let expected = [
        "GET /api/things query size may no longer be null",
        "GET /api/things query size: the type was integer and is string",
    ];
    assert_eq!(found, expected);
    let found = below(GET, "parameters/0/schema/maximum", json!(50));
    assert_eq!(found, ["GET /api/things query size: maximum was 100 and is 50"]);
    let found = below(GET, "parameters/0/schema/minimum", json!(2));
    assert_eq!(found, ["GET /api/things query size: minimum was 1 and is 2"]);
    let found = below(GET, "parameters/1/schema/pattern", json!("^[0-9]+$"));
    assert_eq!(found, ["GET /api/things header if-match: pattern was absent and is \"^[0-9]+$\""]);
}

#[test]
fn a_parameter_that_accepts_more_is_allowed() {
    assert_eq!(below(GET, "parameters/1/required", json!(false)), NONE);
    assert_eq!(below(GET, "parameters/1/name", json!("if-match")), NONE);
    assert_eq!(below(GET, "parameters/0/schema/maximum", json!(200)), NONE);
    assert_eq!(below(GET, "parameters/0/schema/maximum", Value::Null), NONE);
    assert_eq!(below(GET, "parameters/0/schema/minimum", json!(0)), NONE);
    let new = json!({ "name": "sort", "in": "query", "schema": { "type": "string" } });
    assert_eq!(below(GET, "parameters/-", new), NONE);
}

#[test]
fn a_removed_way_to_authenticate_is_found() {
    let found = below(GET, "security", json!([{ "token": [] }]));
    assert_eq!(found, ["GET /api/things no longer accepts authentication by jwt"]);
    assert_eq!(below(GET, "security", json!([])), NONE);
    let found = breaking(&changed("/security", json!([])), &document());
    assert_eq!(found, ["GET /api/things now requires authentication", "POST /api/things now requires authentication"]);
}

#[test]
fn a_request_body_that_is_removed_or_required_now_is_found() {
    let found = below(POST, "requestBody", Value::Null);
    assert_eq!(found, ["request POST /api/things: the body was removed"]);
    let found = below(POST, "requestBody/required", json!(true));
    assert_eq!(found, ["request POST /api/things: the body is now required"]);
    let found = below(POST, "requestBody/content", json!({ "text/plain": {} }));
    assert_eq!(found, ["request POST /api/things: application/json was removed"]);
}

#[test]
fn a_request_field_that_is_removed_or_required_now_is_found() {
    assert_eq!(below(WRITE, "properties/city", Value::Null), ["request ThingWrite.city was removed"]);
    let found = below(WRITE, "required", json!(["name", "city"]));
    assert_eq!(found, ["request ThingWrite.city is now required"]);
    let mut new = changed(&format!("{WRITE}/required"), json!(["name", "key"]));
    new.pointer_mut(&format!("{WRITE}/properties")).unwrap()["key"] = json!({ "type": "string" });
    assert_eq!(breaking(&document(), &new), ["request ThingWrite.key was added and is required"]);
}

#[test]
fn a_request_field_that_accepts_fewer_values_is_found() {
    let found = below(WRITE, "properties/city/type", json!("string"));
    assert_eq!(found, ["request ThingWrite.city may no longer be null"]);
    let found = below(WRITE, "properties/city/maxLength", json!(40));
    assert_eq!(found, ["request ThingWrite.city: maxLength was 80 and is 40"]);
    let found = below(WRITE, "properties/city/format", json!("uuid"));
    assert_eq!(found, ["request ThingWrite.city: the format was no format and is uuid"]);
    let found = below(WRITE, "properties/name/type", json!("integer"));
    assert_eq!(found, ["request ThingWrite.name: the type was string and is integer"]);
    let found = below(WRITE, "properties/name/enum", json!(["a"]));
    assert_eq!(found, ["request ThingWrite.name: only listed values are valid now"]);
    let found = below(WRITE, "additionalProperties", json!(false));
    assert_eq!(found, ["request POST /api/things: unknown fields are invalid now"]);
    let found = after("/components/schemas/Status/enum", json!(["open"]));
    assert_eq!(found, ["request ThingWrite.status: the value \"done\" was removed"]);
}

#[test]
fn a_request_that_accepts_more_is_allowed() {
    assert_eq!(below(WRITE, "properties/key", json!({ "type": "string" })), NONE);
    assert_eq!(below(WRITE, "required", json!([])), NONE);
    assert_eq!(below(WRITE, "properties/name/type", json!(["string", "null"])), NONE);
    assert_eq!(after("/components/schemas/Status/enum", json!(["open", "done", "late"])), NONE);
}

#[test]
fn a_removed_response_status_header_or_content_is_found() {
    assert_eq!(below(GET, "responses/404", Value::Null), ["response GET /api/things 404 was removed"]);
    let found = below(GET, "responses/200/headers", Value::Null);
    assert_eq!(found, ["response GET /api/things 200 header etag was removed"]);
    let found = below(GET, "responses/200/headers/ETag/schema/type", json!("integer"));
    assert_eq!(found, ["response GET /api/things 200 header etag: the type was string and is integer"]);
    let found = after("/components/responses/Problem/content", json!({}));
    assert_eq!(found, ["response GET /api/things 404: application/problem+json was removed"]);
}

#[test]
fn a_response_field_that_is_removed_or_may_be_left_out_is_found() {
    assert_eq!(below(THING, "properties/id", Value::Null), ["response Thing.id was removed"]);
    assert_eq!(below(THING, "required", json!(["id"])), ["response Thing.status may now be left out"]);
}

#[test]
fn a_response_field_of_another_type_is_found() {
    for (field, schema, expected) in [
        ("id", json!({ "type": "integer" }), ": the type was string and is integer"),
        ("id", json!({ "type": ["string", "null"], "format": "uuid" }), " may now be null"),
        ("id", json!({ "type": "string" }), ": the format was uuid and is no format"),
        ("count", json!({ "type": "integer", "format": "int64" }), ": the format was int32 and is int64"),
        ("count", json!({}), ": the type was integer and is any"),
        (
            "labels",
            json!({ "type": "array", "items": { "type": "integer" } }),
            " items: the type was string and is integer",
        ),
        ("labels", json!({ "type": "string" }), ": the type was array<string> and is string"),
        ("prices", json!({ "type": "object" }), ": the type was map<number> and is object"),
        ("source", json!({ "type": "string" }), ": the type was one of Other, Status and is string"),
        (
            "source",
            json!({ "oneOf": [{ "title": "Other" }, { "title": "New" }] }),
            ": the variant Status was removed or changed",
        ),
    ] {
        assert_eq!(below(THING, &format!("properties/{field}"), schema), [format!("response Thing.{field}{expected}")]);
    }
}

#[test]
fn an_addition_to_a_response_is_allowed() {
    assert_eq!(below(THING, "properties/name", json!({ "type": "string" })), NONE);
    assert_eq!(below(THING, "required", json!(["id", "status", "count"])), NONE);
    assert_eq!(below(THING, "properties/status/enum", json!(["open", "done", "late"])), NONE);
    assert_eq!(below(GET, "responses/429", json!({ "description": "too many requests" })), NONE);
    assert_eq!(below(GET, "responses/200/headers/Billing-As-Of", json!({})), NONE);
    assert_eq!(below("/paths", "~1state", json!({ "get": { "responses": {} } })), NONE);
}

#[test]
fn a_breaking_change_needs_a_new_major_number() {
    let committed = serde_json::to_string(&document()).unwrap();
    let mut new = changed(POST, Value::Null);
    for version in ["1.4.0", "1.9.0", "0.9.0"] {
        new["info"]["version"] = json!(version);
        let refusal = review(&committed, &new, true).unwrap_err();
        assert!(refusal.contains("POST /api/things was removed") && refusal.contains("major"), "{refusal}");
    }
    new["info"]["version"] = json!("2.0.0");
    assert!(review(&committed, &new, false).unwrap_err().contains("INSTA_UPDATE=always"));
    assert!(review(&committed, &new, true).unwrap().is_some());
}

#[test]
fn the_committed_file_is_written_only_on_request() {
    let new = changed("/info/title", json!("things"));
    for committed in ["", &serde_json::to_string(&document()).unwrap()] {
        assert!(review(committed, &new, false).unwrap_err().contains("INSTA_UPDATE=always"));
        let text = review(committed, &new, true).unwrap().unwrap();
        assert_eq!(review(&text, &new, false), Ok(None));
    }
    assert!(review("<<<<<<< HEAD", &new, true).unwrap_err().contains("restore it"));
}
