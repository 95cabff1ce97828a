//! Each claim: what is accepted, what is refused and with which error, at the edges of the times.

use serde_json::json;
use time::macros::datetime;

use super::*;
use crate::api::principal::jwks::testing::config_with_file;

const NOW: OffsetDateTime = datetime!(2026-11-29 12:00 UTC);
const USER: &str = "9f3c1c52-5a3c-4f0b-8a54-0d8f8ef1a001";

fn settings() -> JwtConfig {
    config_with_file("/nowhere".as_ref())
}

/// Valid claims with others; null removes one.
fn with(changes: &Value) -> Claims {
    let mut claims = json!({
        "iss": "https://id.example/", "aud": "billing", "sub": USER, "exp": NOW.unix_timestamp() + 300,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let Value::Object(mut claims) = claims else { panic!("an object") };
    claims.retain(|_, value| !value.is_null());
    claims
}

fn check(changes: &Value) -> Result<Principal, JwtError> {
    principal(&with(changes), &settings(), NOW)
}

fn is_admin_with(roles_claim: &str, changes: &Value) -> bool {
    let config = JwtConfig { roles_claim: roles_claim.to_owned(), ..settings() };
    principal(&with(changes), &config, NOW).unwrap().may(Scope::WorkspacesAdmin)
}

#[test]
fn a_user_may_read_and_write() {
    let user = Uuid::try_parse(USER).unwrap();
    let expected = Principal {
        id: format!("user:{USER}"),
        user: Some(user),
        profile: Profile::default(),
        legacy_customer: None,
        scopes: vec![Scope::WorkspacesRead, Scope::WorkspacesWrite],
    };
    assert_eq!(check(&json!({})), Ok(expected.clone()));
    // one user has one id, however the provider writes it
    assert_eq!(check(&json!({ "sub": USER.to_uppercase() })), Ok(expected.clone()));
    assert_eq!(check(&json!({ "sub": USER.replace('-', "") })), Ok(expected));
}

#[test]
fn the_issuer_is_compared_exactly() {
    for issuer in [
        json!(null),
        json!(""),
        json!("https://id.example"),
        json!("https://ID.example/"),
        json!("https://id.example/x"),
        json!(["https://id.example/"]),
        json!(1),
    ] {
        assert_eq!(check(&json!({ "iss": issuer })), Err(JwtError::Issuer), "{issuer}");
    }
}

#[test]
fn one_of_the_audiences_must_be_named() {
    for audience in [json!("billing"), json!("workspaces"), json!(["other", "workspaces"]), json!([1, "billing"])] {
        assert!(check(&json!({ "aud": audience })).is_ok(), "{audience}");
    }
    for audience in [
        json!(null),
        json!(""),
        json!("Billing"),
        json!("billing workspaces"),
        json!([]),
        json!(["other"]),
        json!([["billing"]]),
        json!({ "billing": "billing" }),
        json!(true),
    ] {
        assert_eq!(check(&json!({ "aud": audience })), Err(JwtError::Audience), "{audience}");
    }
    let none = JwtConfig { audiences: Vec::new(), ..settings() };
    assert_eq!(principal(&with(&json!({})), &none, NOW), Err(JwtError::Audience));
}

#[test]
fn times_are_checked_to_the_edge_of_the_leeway() {
    let now = NOW.unix_timestamp();
    let at = |seconds: f64| json!(f64::from(u32::try_from(now).unwrap()) + seconds);
    for (claim, error, accepted, refused) in [
        ("exp", JwtError::Expired, vec![json!(now - 29), at(-29.5)], vec![json!(now - 30), at(-30.5)]),
        ("nbf", JwtError::NotYetValid, vec![json!(now + 30), at(30.0)], vec![json!(now + 31), at(30.5)]),
    ] {
        for time in accepted {
            assert!(check(&json!({ claim: time })).is_ok(), "{claim} {time}");
        }
        for time in refused {
            assert_eq!(check(&json!({ claim: time })), Err(error.clone()), "{claim} {time}");
        }
        // a wrong type is not a missing claim: CVE-2026-25537
        for wrong in [json!("9999999999"), json!("0"), json!([0]), json!({}), json!(false)] {
            assert_eq!(check(&json!({ claim: wrong })), Err(error.clone()), "{claim} {wrong}");
        }
    }
    assert_eq!(check(&json!({ "exp": null })), Err(JwtError::Expired));
    for (past, future) in [(json!(-1), json!(u64::MAX)), (json!(-1e300), json!(1e300)), (json!(i64::MIN), json!(1e18))]
    {
        assert_eq!(check(&json!({ "exp": past })), Err(JwtError::Expired));
        assert_eq!(check(&json!({ "nbf": future })), Err(JwtError::NotYetValid));
        assert!(check(&json!({ "exp": future, "nbf": past })).is_ok());
    }
    // null is not a number either
    let mut claims = with(&json!({}));
    claims.insert("nbf".to_owned(), Value::Null);
    assert_eq!(principal(&claims, &settings(), NOW), Err(JwtError::NotYetValid));
    // `iat` says nothing about validity
    assert!(check(&json!({ "iat": now + 86_400 })).is_ok());
}

#[test]
fn a_leeway_of_any_size_works() {
    for (leeway, accepted) in [(std::time::Duration::ZERO, false), (std::time::Duration::MAX, true)] {
        let config = JwtConfig { leeway, ..settings() };
        let expired = with(&json!({ "exp": NOW.unix_timestamp() }));
        assert_eq!(principal(&expired, &config, NOW).is_ok(), accepted);
    }
}

#[test]
fn the_user_claim_is_a_uuid_and_its_value_is_not_shown() {
    for user in [json!(null), json!(""), json!("ada@example.com"), json!("auth0|5f7c"), json!(7), json!([USER])] {
        let error = check(&json!({ "sub": user })).unwrap_err();
        assert_eq!(error, JwtError::UserClaim("sub".to_owned()), "{user}");
        assert_eq!(error.to_string(), "the token's claim sub is not the UUID of a user");
    }
    assert!(check(&json!({ "sub": Uuid::nil() })).is_err());
    let config = JwtConfig { user_claim: "app.user_id".to_owned(), ..settings() };
    let claims = with(&json!({ "sub": "auth0|5f7c", "app": { "user_id": USER } }));
    assert_eq!(principal(&claims, &config, NOW).unwrap().id, format!("user:{USER}"));
    assert_eq!(principal(&with(&json!({})), &config, NOW), Err(JwtError::UserClaim("app.user_id".to_owned())));
}

#[test]
fn a_claim_is_found_by_its_exact_name_and_then_by_path() {
    let admin = json!(["workspaces:admin"]);
    for (name, claims) in [
        ("roles", json!({ "roles": admin })),
        ("realm_access.roles", json!({ "realm_access": { "roles": admin } })),
        ("resource_access.my.api.roles", json!({ "resource_access": { "my.api": { "roles": admin } } })),
        ("https://id.example/roles", json!({ "https://id.example/roles": admin })),
        ("https://id.example/claims.roles", json!({ "https://id.example/claims": { "roles": admin } })),
        // the exact name comes first
        ("a.b", json!({ "a.b": admin, "a": { "b": [] } })),
        ("a.b.c", json!({ "a": {}, "a.b": { "c": admin } })),
    ] {
        assert!(is_admin_with(name, &claims), "{name}");
    }
    for (name, claims) in [
        ("realm_access.roles", json!({ "roles": admin })),
        ("realm_access.roles", json!({ "realm_access": admin })),
        ("a.b", json!({ "a.b": [], "a": { "b": admin } })),
        ("roles.0", json!({ "roles": admin })),
        ("..", json!({ "": { "": { "": "x" } } })),
        ("", json!({ "roles": admin })),
    ] {
        assert!(!is_admin_with(name, &claims), "{name}");
    }
}

#[test]
fn roles_are_an_array_or_a_text() {
    for (roles, admin) in [
        (json!(["user", "workspaces:admin"]), true),
        (json!("user workspaces:admin"), true),
        (json!("user,workspaces:admin"), true),
        (json!("workspaces:admin, user"), true),
        (json!([7, null, ["workspaces:admin"]]), false),
        (json!(["workspaces:admins", "Workspaces:admin", "workspaces:admin user"]), false),
        (json!("workspaces:admin;user"), false),
        (json!({ "workspaces:admin": true }), false),
        (json!(true), false),
        (json!(null), false),
    ] {
        assert_eq!(is_admin_with("roles", &json!({ "roles": roles })), admin, "{roles}");
    }
    let config = JwtConfig { admin_roles: BTreeSet::from([String::new()]), ..settings() };
    let claims = with(&json!({ "roles": "a,,b" }));
    assert!(!principal(&claims, &config, NOW).unwrap().may(Scope::WorkspacesAdmin));
}

#[test]
fn the_legacy_customer_is_a_number_or_digits() {
    for (value, expected) in [
        (json!(42), Some(42)),
        (json!("42"), Some(42)),
        (json!("007"), Some(7)),
        (json!(i64::MAX), Some(i64::MAX)),
        (json!(0), Some(0)),
        (json!(null), None),
        (json!(""), None),
        (json!("4 2"), None),
        (json!("+42"), None),
        (json!("-42"), None),
        (json!(-42), None),
        (json!(4.2), None),
        (json!(u64::MAX), None),
        (json!("99999999999999999999"), None),
        (json!([42]), None),
        (json!(true), None),
    ] {
        let found = check(&json!({ "legacy_customer_id": value })).unwrap().legacy_customer;
        assert_eq!(found, expected, "{value}");
    }
}
