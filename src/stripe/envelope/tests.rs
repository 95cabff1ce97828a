//! Bodies that the envelope accepts and rejects.

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const SNAPSHOT: &str = r#"{"id":"evt_1","object":"event","api_version":"2024-06-20","created":1700000000,
    "data":{"object":{"id":"sub_1","object":"subscription","customer":"cus_1"}},
    "livemode":false,"pending_webhooks":1,"request":{"id":null},"type":"customer.subscription.updated","account":"acct_1"}"#;

const THIN: &str = r#"{"id":"evt_test_65","object":"v2.core.event","type":"v1.customer.updated","livemode":true,
    "created":"2025-03-04T05:06:07.123456789+01:00","context":"acct_2","reason":null,
    "related_object":{"id":"cus_2","type":"customer","url":"/v1/customers/cus_2"}}"#;

/// A minimal event, with more members before its own.
fn event(members: &str) -> String {
    format!(r#"{{{members}"id":"evt_1","object":"event","type":"t","created":1700000000}}"#)
}

fn ok(body: &str) -> Envelope {
    read(body.as_bytes()).unwrap()
}

fn with_object(object: &str) -> Result<Envelope, EnvelopeError> {
    read(event(&format!(r#""data":{{"object":{object}}},"#)).as_bytes())
}

#[test]
fn a_snapshot_names_its_object_and_customer() {
    let expected = Envelope {
        key: EventKey { event_id: "evt_1".into(), created: datetime!(2023-11-14 22:13:20 UTC) },
        format: Format::Snapshot,
        event_type: "customer.subscription.updated".into(),
        object_type: Some("subscription".into()),
        object_id: Some("sub_1".into()),
        customer_id: Some("cus_1".into()),
        account: "acct_1".into(),
        livemode: Some(false),
        api_version: Some("2024-06-20".into()),
    };
    assert_eq!(ok(SNAPSHOT), expected);
}

#[test]
fn a_thin_event_names_its_object_and_its_time_to_the_microsecond() {
    let expected = Envelope {
        key: EventKey { event_id: "evt_test_65".into(), created: datetime!(2025-03-04 04:06:07.123456 UTC) },
        format: Format::Thin,
        event_type: "v1.customer.updated".into(),
        object_type: Some("customer".into()),
        object_id: Some("cus_2".into()),
        customer_id: Some("cus_2".into()),
        account: "acct_2".into(),
        livemode: Some(true),
        api_version: None,
    };
    assert_eq!(ok(THIN), expected);
    assert_eq!(ok(&THIN.replace(r#""type":"customer""#, r#""type":"invoice""#)).customer_id, None);
    let ping = r#"{"id":"evt_2","object":"v2.core.event","type":"v2.core.event_destination.ping","created":"2025-01-01T00:00:00Z","related_object":null}"#;
    assert_eq!(ok(ping).object_id, None);
}

#[test]
fn the_customer_is_the_object_itself_its_reference_or_the_expanded_object() {
    for (object, customer) in [
        (r#"{"id":"cus_1","object":"customer","customer":"cus_other"}"#, Some("cus_1")),
        (r#"{"id":"in_1","object":"invoice","customer":"cus_1"}"#, Some("cus_1")),
        (r#"{"id":"in_1","object":"invoice","customer":{"id":"cus_1","object":"customer"}}"#, Some("cus_1")),
        (r#"{"id":"in_1","object":"invoice","customer":null}"#, None),
        (r#"{"id":"in_1","object":"invoice","customer":7}"#, None),
        (r#"{"id":"price_1","object":"price"}"#, None),
    ] {
        assert_eq!(with_object(object).unwrap().customer_id.as_deref(), customer, "{object}");
    }
}

#[test]
fn fields_that_old_senders_omit_may_be_absent() {
    let least = ok(&event(""));
    assert_eq!((least.object_id, least.account.as_str(), least.livemode), (None, "", None));
    for members in [
        r#""request":null,"api_version":null,"#,
        r#""request":"iar_1","account":null,"#,
        r#""request":{"id":"req_1","idempotency_key":null},"data":null,"#,
        r#""data":{"object":{"object":"invoice","lines":{}}},"#,
        r#""data":[],"livemode":"yes","#,
    ] {
        assert_eq!(ok(&event(members)).key.event_id, "evt_1", "{members}");
    }
}

#[test]
fn odd_values_in_fields_that_are_not_read_are_accepted() {
    let deep = format!(r#""deep":{}{},"#, "[".repeat(10_000), "]".repeat(10_000));
    for members in
        [deep.as_str(), r#""n":1e999999,"m":-0.00000000000000001e-999,"#, r#""s":"\u0000\ud800","\udfff":1,"#]
    {
        assert_eq!(ok(&event(members)).key.event_id, "evt_1");
        let inside = format!(r#"{{{members}"id":"cus_1","object":"customer"}}"#);
        assert_eq!(with_object(&inside).unwrap().customer_id.as_deref(), Some("cus_1"));
    }
    let broken = event(r#""name":"~","#).replace('~', "\u{1}").into_bytes();
    let broken: Vec<u8> = broken.into_iter().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
    assert_eq!(read(&broken).unwrap().key.event_id, "evt_1");
}

#[test]
fn the_last_of_duplicate_keys_wins() {
    assert_eq!(ok(&event(r#""id":7,"type":"other","created":"x","#)).event_type, "t");
    assert_eq!(with_object(r#"{"id":"a","id":"b","customer":"c","customer":"d"}"#).unwrap().customer_id.unwrap(), "d");
}

#[test]
fn bytes_that_are_not_an_event_are_refused() {
    for body in ["", " ", "{", "null", "[]", "\"event\"", "{}x", "\u{feff}{}"] {
        assert_eq!(read(body.as_bytes()), Err(EnvelopeError::NotAnObject), "{body}");
    }
    for body in [r"{}", r#"{"id":"evt_1","type":"t","created":1700000000}"#, &event("").replace("event", "charge")] {
        assert_eq!(read(body.as_bytes()), Err(EnvelopeError::NotAnEvent), "{body}");
    }
}

#[test]
fn id_and_type_are_mandatory_texts() {
    for value in ["null", "7", "{}", r#""""#, "true"] {
        let id = event("").replace(r#""evt_1""#, value);
        assert_eq!(read(id.as_bytes()), Err(EnvelopeError::Missing("id")), "{value}");
        let event_type = event("").replace(r#""t""#, value);
        assert_eq!(read(event_type.as_bytes()), Err(EnvelopeError::Missing("type")), "{value}");
    }
}

#[test]
fn texts_that_fit_no_column_are_refused_by_field() {
    let long = format!(r#""{}""#, "x".repeat(256));
    for value in [r#""a\u0000""#, r#""a\u001fb""#, r#""a\ud800""#, long.as_str()] {
        for (field, body) in [
            ("id", event("").replace(r#""evt_1""#, value)),
            ("type", event("").replace(r#""t""#, value)),
            ("account", event(&format!(r#""account":{value},"#))),
            ("api_version", event(&format!(r#""api_version":{value},"#))),
            ("data.object.id", event(&format!(r#""data":{{"object":{{"id":{value}}}}},"#))),
            ("data.object.object", event(&format!(r#""data":{{"object":{{"object":{value}}}}},"#))),
            ("data.object.customer", event(&format!(r#""data":{{"object":{{"customer":{value}}}}},"#))),
            ("related_object.id", THIN.replace(r#""cus_2""#, value)),
            ("context", THIN.replace(r#""acct_2""#, value)),
        ] {
            assert_eq!(read(body.as_bytes()), Err(EnvelopeError::Text(field)), "{field} {value}");
        }
    }
    assert_eq!(ok(&event("").replace("evt_1", &"x".repeat(255))).key.event_id.len(), 255);
}

#[test]
fn created_lies_within_the_years_2000_to_2100() {
    for (created, accepted) in [
        ("946684800", true),
        ("946684799", false),
        ("4133980799", true),
        ("4133980800", false),
        ("1700000000.0", true),
        ("1700000000.5", false),
        (r#""1700000000""#, false),
        ("99999999999999999999", false),
        ("-1", false),
        ("null", false),
    ] {
        let body = event("").replace("1700000000", created);
        assert_eq!(read(body.as_bytes()).is_ok(), accepted, "{created}");
    }
    assert_eq!(read(event("").replace("created", "made").as_bytes()), Err(EnvelopeError::Created));
    let thin = |created: &str| read(THIN.replace("2025-03-04T05:06:07.123456789+01:00", created).as_bytes());
    assert!(thin("2000-01-01T00:00:00Z").is_ok());
    assert!(thin("2100-12-31T23:59:59.999999999Z").is_ok());
    for created in [
        "2100-12-31T23:59:59-01:00",
        "2000-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-23:00",
        "2025-03-04",
        "1700000000",
    ] {
        assert_eq!(thin(created), Err(EnvelopeError::Created), "{created}");
    }
    assert_eq!(
        read(THIN.replace(r#""2025-03-04T05:06:07.123456789+01:00""#, "1700000000").as_bytes()),
        Err(EnvelopeError::Created)
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body: Vec<u8>) {
        let _ = read(&body);
    }

    #[test]
    fn no_broken_event_makes_it_panic(at in 0..THIN.len(), byte: u8, thin: bool) {
        let mut body = (if thin { THIN } else { SNAPSHOT }).as_bytes().to_vec();
        let at = at % body.len();
        body[at] = byte;
        if let Ok(envelope) = read(&body) {
            prop_assert!(envelope.key.event_id.len() <= 255);
        }
    }
}
