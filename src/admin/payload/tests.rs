//! Masked and revealed payloads, over all fixtures.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::*;

fn redacted(payload: &[u8]) -> Option<String> {
    indented(payload, PersonalData::Revealed)
}

fn masked(payload: &[u8]) -> String {
    indented(payload, PersonalData::Masked).unwrap()
}

#[test]
fn secrets_are_redacted_at_any_depth() {
    let payload = br#"{"id":"evt_1","data":{"object":{"client_secret":"pi_1_secret_x","list":[{"secret":{"a":1}}]}}}"#;
    let shown = redacted(payload).unwrap();
    assert!(!shown.contains("secret_x") && !shown.contains("\"a\""), "{shown}");
    assert_eq!(shown.matches(REDACTED).count(), 2, "{shown}");
}

#[test]
fn escaped_and_duplicate_secret_keys_are_redacted() {
    let shown = redacted(br#"{"client\u005fsecret":"x1","client_secret":null,"client_secret":"x2"}"#).unwrap();
    assert!(!shown.contains("x1") && !shown.contains("x2"), "{shown}");
    assert!(shown.contains("\"client_secret\": null"), "{shown}");
}

#[test]
fn other_values_stay_as_sent() {
    let shown = redacted(br#"{"b":1.50,"a":12345678901234567890123,"e":[],"o":{},"s":"\u00e9"}"#).unwrap();
    let expected =
        "{\n  \"b\": 1.50,\n  \"a\": 12345678901234567890123,\n  \"e\": [],\n  \"o\": {},\n  \"s\": \"\\u00e9\"\n}";
    assert_eq!(shown, expected);
}

#[test]
fn invalid_json_is_not_shown() {
    assert_eq!(redacted(b"client_secret=x"), None);
    assert_eq!(redacted(format!("{}{}", "[".repeat(100), "]".repeat(100)).as_bytes()), None);
}

/// Fields of the fixtures that contain personal data, and access to pages that show it.
const PERSONAL: [&str; 33] = [
    "account_country",
    "account_holder_name",
    "bank_name",
    "bic",
    "business_name",
    "cancel_url",
    "city",
    "country",
    "description",
    "email",
    "fingerprint",
    "hosted_invoice_url",
    "iban_last4",
    "individual_name",
    "invoice_prefix",
    "ip_address",
    "last4",
    "line1",
    "line2",
    "locale",
    "name",
    "nickname",
    "number",
    "phone",
    "postal_code",
    "preferred_locales",
    "receipt_email",
    "return_url",
    "routing_number",
    "state",
    "success_url",
    "url",
    "user_agent",
];

/// All texts with their fields, and whether they are in metadata.
fn texts(field: &str, value: &Value, is_metadata: bool, found: &mut Vec<(String, String, bool)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                texts(name, value, is_metadata || name == "metadata", found);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|value| texts(field, value, is_metadata, found)),
        Value::String(text) => found.push((field.to_owned(), text.clone(), is_metadata)),
        _ => {}
    }
}

fn fixtures() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let versions = fs::read_dir(root.join("events")).unwrap().map(|version| version.unwrap().path());
    let files = versions.chain([root.join("thin")]).flat_map(|folder| fs::read_dir(folder).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn no_personal_data_of_a_fixture_is_shown() {
    let mut hidden = 0;
    for file in fixtures() {
        let payload = fs::read(&file).unwrap();
        let shown = masked(&payload);
        let mut found = Vec::new();
        texts("", &serde_json::from_slice(&payload).unwrap(), false, &mut found);
        for (field, text, is_metadata) in found {
            let is_uuid = text.len() == 36 && text.matches('-').count() == 4;
            let is_personal = PERSONAL.contains(&field.as_str()) || (is_metadata && !is_uuid);
            // no id and no word of Stripe has these
            let is_sentence = text.contains(['@', ' ', '/', '+', 'ü']);
            if !text.is_empty() && (is_personal || is_sentence) {
                hidden += 1;
                let quoted = serde_json::to_string(&text).unwrap();
                assert!(!shown.contains(&quoted), "{}: {field} shows {text}", file.display());
                assert!(!is_sentence || !shown.contains(&text), "{}: {field} shows {text}", file.display());
            }
        }
    }
    assert!(hidden > 500, "only {hidden} personal texts were found: this check is broken");
}

#[test]
fn what_an_operator_needs_stays() {
    let payload = br#"{"id":"evt_1","created":1793268000,"type":"customer.updated","livemode":false,"data":{"object":{
        "id":"cus_1","object":"customer","balance":-150,"default_source":null,"discounts":["di_1"],
        "metadata":{"workspace_id":"3e7a9c52-1f84-4d0b-b6c8-92d5e0a7f413"}}}}"#;
    let [shown, revealed] = [masked(payload), redacted(payload).unwrap()];
    assert_eq!(shown, revealed);
}

#[test]
fn unknown_fields_and_everything_in_metadata_are_masked() {
    for payload in [
        r#"{"new_field":"Ada"}"#,
        r#"{"new_field":["Ada"]}"#,
        r#"["Ada"]"#,
        r#""Ada""#,
        r#"{"Ada":1}"#,
        r#"{"status":{"name":"Ada"}}"#,
        r#"{"id":["Ada Lovelace"]}"#,
        r#"{"previous_attributes":{"metadata":{"id":"Ada"}}}"#,
        r#"{"metadata":{"Ada":"x"}}"#,
        r#"{"metadata":{"a":{"id":"Ada"}}}"#,
        r#"{"metadata":[{"status":"Ada"}]}"#,
        r#"{"metadata":"Ada"}"#,
        r#"{"\u006detadata":{"id":"\u0041da"}}"#,
        r#"{"id":"a","id":"Ada Lovelace"}"#,
    ] {
        let shown = masked(payload.as_bytes());
        assert!(
            !shown.contains("Ada") && !shown.contains("u0041da") && shown.contains("[masked]"),
            "{payload}: {shown}"
        );
        assert!(redacted(payload.as_bytes()).unwrap().contains("da"), "{payload}");
    }
    let shown = masked(br#"{"dob":{"day":10,"month":12,"year":1815},"metadata":{"age":36,"is_ada":true,"none":null}}"#);
    assert!(!shown.contains("1815") && !shown.contains("36") && !shown.contains("true"), "{shown}");
}
