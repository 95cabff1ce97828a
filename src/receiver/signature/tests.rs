//! Tests every rule of the signature header, and two properties.

use proptest::prelude::*;

use super::*;
use crate::config::secret::BlankSecret;

const NOW: i64 = 1_700_000_000;
const BODY: &[u8] = br#"{"id":"evt_1"}"#;

fn secret(text: &str) -> WebhookSecret {
    WebhookSecret::new(text).unwrap()
}

fn ours() -> Vec<WebhookSecret> {
    vec![secret("whsec_test_secret")]
}

/// The `v1` of `BODY` for a timestamp as written.
fn v1(timestamp: &str) -> String {
    hex::encode(mac(&ours()[0], timestamp.as_bytes(), BODY).finalize().into_bytes())
}

fn check(header: &str) -> Result<usize, SignatureError> {
    verify(header.as_bytes(), BODY, &ours(), NOW)
}

#[test]
fn vectors_of_another_implementation_verify() {
    // python3 -c 'import hmac,hashlib; k=b"whsec_test_secret"
    // print(hmac.new(k, b"1700000000."+b"{\"id\":\"evt_1\"}", hashlib.sha256).hexdigest())
    // print(hmac.new(k, b"001700000000."+bytes(range(256)), hashlib.sha256).hexdigest())'
    let plain = "t=1700000000,v1=248a374f50f943a28b0f6ab50faf9a7e7e29b710fa26df9fb1618b9bf8ea9c9a";
    assert_eq!(check(plain), Ok(0));
    assert_eq!(sign(&ours()[0], NOW, BODY), plain);
    let zeros = "t=001700000000,v1=caed517e2a8688ba5b157585af25af3939db1b700a26cfec2ff12de43061a166";
    let every_byte: Vec<u8> = (0..=255).collect();
    assert_eq!(verify(zeros.as_bytes(), &every_byte, &ours(), NOW), Ok(0));
}

#[test]
fn duplicate_signatures_and_secrets_match() {
    let value = v1("1700000000");
    assert_eq!(check(&format!("t=1700000000,v1={value},v1={value}")), Ok(0), "a signature that is sent twice");
    let twice = [ours(), ours()].concat();
    let header = sign(&ours()[0], NOW, BODY);
    assert_eq!(verify(header.as_bytes(), BODY, &twice, NOW), Ok(0), "a secret that is set twice");
}

#[test]
fn another_secret_another_body_another_timestamp_do_not_match() {
    let header = sign(&ours()[0], NOW, BODY);
    assert_eq!(verify(header.as_bytes(), BODY, &[secret("whsec_other")], NOW), Err(SignatureError::NoMatch));
    assert_eq!(verify(header.as_bytes(), b"{}", &ours(), NOW), Err(SignatureError::NoMatch));
    assert_eq!(check(&header.replace("t=17", "t=17000000001,x=")), Err(SignatureError::NoMatch));
    assert_eq!(verify(header.as_bytes(), BODY, &[], NOW), Err(SignatureError::NoMatch));
}

#[test]
fn every_secret_is_tried_against_every_v1() {
    let secrets = [secret("whsec_new"), secret("whsec_old")];
    let wrong = "0".repeat(64);
    for (index, signer) in secrets.iter().enumerate() {
        let last = sign(signer, NOW, BODY).replace(",v1=", &format!(",v1={wrong},v1="));
        let first = format!("{},v1={wrong}", sign(signer, NOW, BODY));
        assert_eq!(verify(last.as_bytes(), BODY, &secrets, NOW), Ok(index));
        assert_eq!(verify(first.as_bytes(), BODY, &secrets, NOW), Ok(index));
    }
}

#[test]
fn of_several_matching_secrets_the_first_is_reported() {
    // while a secret is rolled, Stripe signs with both: the delivery does not depend on the second one
    let (new, old) = (secret("whsec_new"), secret("whsec_old"));
    let v1_of = |signer: &WebhookSecret| sign(signer, NOW, BODY).split_once(",v1=").unwrap().1.to_owned();
    for header in [
        format!("t={NOW},v1={},v1={}", v1_of(&new), v1_of(&old)),
        format!("t={NOW},v1={},v1={}", v1_of(&old), v1_of(&new)),
    ] {
        let secrets = [secret("whsec_other"), new.clone(), old.clone()];
        assert_eq!(verify(header.as_bytes(), BODY, &secrets, NOW), Ok(1));
        assert_eq!(verify(header.as_bytes(), BODY, &secrets[2..], NOW), Ok(0));
    }
}

#[test]
fn at_most_sixteen_v1_signatures_are_checked() {
    let right = v1("1700000000");
    let header = |before: usize| format!("t=1700000000{},v1={right}", format!(",v1={}", "0".repeat(64)).repeat(before));
    assert_eq!(check(&header(15)), Ok(0));
    assert_eq!(check(&header(16)), Err(SignatureError::NoMatch));
}

#[test]
fn odd_items_are_ignored() {
    let right = v1("1700000000");
    for header in [
        format!("  t=1700000000 ,\tv1={right}  "),
        format!("nonsense,t=1700000000,,v1={right},="),
        format!("v2={right},t=1700000000,v0=abc,v1={right},T=5,V1=x"),
        format!("v1={right},t=1700000000"),
        format!("t=1700000000,v1={right},t=1700000000"),
        format!("t=1700000000,v1=,v1=00,v1={right}0,v1={},v1={right}", "g".repeat(64)),
        format!("t=1700000000,v1={}", right.to_uppercase()),
    ] {
        assert_eq!(check(&header), Ok(0), "{header}");
    }
}

#[test]
fn invalid_utf_8_items_are_ignored() {
    let header = [b"\xff\xfe=\x80,\xc3,v1=\xff,".as_slice(), sign(&ours()[0], NOW, BODY).as_bytes()].concat();
    assert_eq!(verify(&header, BODY, &ours(), NOW), Ok(0));
}

#[test]
fn the_unusable_part_of_a_header_is_reported() {
    let right = v1("1700000000");
    for (header, error) in [
        (String::new(), SignatureError::MissingHeader),
        ("  \t".into(), SignatureError::MissingHeader),
        (",,".into(), SignatureError::MalformedTimestamp),
        (format!("v1={right}"), SignatureError::MalformedTimestamp),
        (format!("t=,v1={right}"), SignatureError::MalformedTimestamp),
        (format!("t=+1700000000,v1={right}"), SignatureError::MalformedTimestamp),
        (format!("t=-1,v1={right}"), SignatureError::MalformedTimestamp),
        (format!("t=1700000000x,v1={right}"), SignatureError::MalformedTimestamp),
        (format!("t= 1700000000,v1={right}"), SignatureError::MalformedTimestamp),
        (format!("t=0001700000000,v1={right}"), SignatureError::MalformedTimestamp),
        (format!("t=1700000000,v1={right},t=1700000001"), SignatureError::ConflictingTimestamps),
        (format!("t=1700000000,v1={right},t=01700000000"), SignatureError::ConflictingTimestamps),
        ("t=1700000000".into(), SignatureError::NoSignature),
        (format!("t=1700000000,v0={right}"), SignatureError::NoSignature),
        (format!("t=1700000000,v1={}", &right[1..]), SignatureError::NoSignature),
        (format!("t=1700000000,v1 ={right}"), SignatureError::NoSignature),
    ] {
        assert_eq!(check(&header), Err(error), "{header}");
    }
}

#[test]
fn at_most_five_minutes_are_tolerated_in_both_directions() {
    for (now, result) in [
        (NOW + 300, Ok(0)),
        (NOW - 300, Ok(0)),
        (NOW + 301, Err(SignatureError::Stale)),
        (NOW - 301, Err(SignatureError::Stale)),
        (i64::MAX, Err(SignatureError::Stale)),
        (i64::MIN, Err(SignatureError::Stale)),
    ] {
        assert_eq!(verify(sign(&ours()[0], NOW, BODY).as_bytes(), BODY, &ours(), now), result, "{now}");
    }
}

#[test]
fn unsigned_senders_do_not_learn_that_a_timestamp_is_stale() {
    let header = sign(&secret("whsec_other"), 1, BODY);
    assert_eq!(check(&header), Err(SignatureError::NoMatch));
}

#[test]
fn a_blank_secret_cannot_be_made() {
    for blank in ["", " ", "\n\t"] {
        assert_eq!(WebhookSecret::new(blank).unwrap_err(), BlankSecret);
    }
}

#[test]
fn a_secret_from_a_file_loses_its_final_newline_and_shows_nothing() {
    let header = sign(&secret("whsec_test_secret\n"), NOW, BODY);
    assert_eq!(check(&header), Ok(0));
    assert_eq!(format!("{:?}", ours()), "[WebhookSecret]");
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(header: Vec<u8>, body: Vec<u8>, now: i64) {
        let _ = verify(&header, &body, &ours(), now);
    }

    #[test]
    fn no_header_of_the_right_words_makes_it_panic(header in "(t|v1|v0|=|,|[0-9]{1,13}|[0-9a-f]{64}| ){0,40}", now: i64) {
        prop_assert!(verify(header.as_bytes(), b"", &ours(), now).is_err());
    }

    #[test]
    fn what_is_signed_verifies(body: Vec<u8>, timestamp in 0i64..1_000_000_000_000, key in "[!-~]{1,80}", drift in -300i64..=300) {
        let key = secret(&key);
        let header = sign(&key, timestamp, &body);
        prop_assert_eq!(verify(header.as_bytes(), &body, &[secret("x"), key], timestamp + drift), Ok(1));
    }
}
