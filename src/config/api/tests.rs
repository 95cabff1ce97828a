//! Which values of the API's settings are accepted, which are refused, and the messages.

use std::ffi::OsString;

use super::*;
use crate::config::error::ConfigError;
use crate::config::source::Flags;

const ISSUER: (&str, &str) = ("BILLING_SYNC_API_JWT_ISSUER", "https://id.example.com/");
const AUDIENCE: (&str, &str) = ("BILLING_SYNC_API_JWT_AUDIENCE", "billing");
const KEYS: (&str, &str) = ("BILLING_SYNC_API_JWT_KEYS", "https://id.example.com/jwks.json");

fn read(environment: &[(&str, &str)]) -> Result<ApiConfig, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    Source::new(Flags::new(), environment).collect(ApiConfig::read)
}

/// Reads an identity provider with one more setting, which may replace one of the three.
fn read_jwt(name: &str, value: &str) -> Result<JwtConfig, ConfigError> {
    let others = [ISSUER, AUDIENCE, KEYS].into_iter().filter(|(other, _)| *other != name);
    read(&others.chain([(name, value)]).collect::<Vec<_>>()).map(|config| config.jwt.unwrap())
}

#[test]
fn the_defaults_are_no_identity_provider_and_no_origin() {
    let config = read(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.workspaces.as_str(), "/api/workspace-service");
    assert!(config.jwt.is_none() && config.cors_origins.is_empty());
    assert_eq!((config.rate.get(), config.connections, config.key_prefix.as_str()), (100, 8, "WS"));
    let jwt = read(&[ISSUER, AUDIENCE, KEYS]).unwrap().jwt.unwrap();
    assert_eq!(jwt.leeway, Duration::from_secs(30));
    assert_eq!([jwt.user_claim, jwt.roles_claim, jwt.legacy_customer_claim], ["sub", "roles", "legacy_customer_id"]);
    assert_eq!(Vec::from_iter(jwt.admin_roles), ["workspaces:admin"]);
}

#[test]
fn an_identity_provider_needs_issuer_audience_and_keys() {
    for (set, subject, wrong) in [
        (&[ISSUER][..], [AUDIENCE.0, KEYS.0].join(", "), "are not set, but BILLING_SYNC_API_JWT_ISSUER is"),
        (&[AUDIENCE], [ISSUER.0, KEYS.0].join(", "), "are not set, but BILLING_SYNC_API_JWT_AUDIENCE is"),
        (
            &[ISSUER, AUDIENCE],
            KEYS.0.to_owned(),
            "is not set, but BILLING_SYNC_API_JWT_ISSUER and BILLING_SYNC_API_JWT_AUDIENCE are",
        ),
        (
            &[ISSUER, KEYS],
            AUDIENCE.0.to_owned(),
            "is not set, but BILLING_SYNC_API_JWT_ISSUER and BILLING_SYNC_API_JWT_KEYS are",
        ),
    ] {
        let problems = read(set).unwrap_err().problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((&problems[0].subject, problems[0].wrong.as_str()), (&subject, wrong));
        assert!(problems[0].fix.contains("omit all three"), "{}", problems[0].fix);
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let environment = [
        ISSUER,
        ("BILLING_SYNC_API_LISTEN", "localhost:8081"),
        ("BILLING_SYNC_API_WORKSPACES", "api"),
        ("BILLING_SYNC_API_JWT_LEEWAY", "1h"),
        ("BILLING_SYNC_API_CORS_ORIGINS", "*"),
        ("BILLING_SYNC_API_RATE", "0"),
        ("BILLING_SYNC_API_CONNECTIONS", "101"),
        ("BILLING_SYNC_API_KEY_PREFIX", "ws"),
    ];
    assert_eq!(read(&environment).unwrap_err().problems.len(), environment.len());
}

#[test]
fn a_prefix_begins_with_a_slash_and_ends_without_one() {
    for (text, prefix) in [
        ("/api/workspace-service", "/api/workspace-service"),
        (" /api/workspace-service/ ", "/api/workspace-service"),
        ("/A-b.c_d~0", "/A-b.c_d~0"),
        ("/v1beta", "/v1beta"),
        ("/", ""),
    ] {
        assert_eq!(read(&[("BILLING_SYNC_API_WORKSPACES", text)]).unwrap().workspaces.as_str(), prefix, "{text}");
    }
}

const LINKS: &str = "BILLING_SYNC_API_CHECKOUT_LINKS";

#[test]
fn checkout_links_are_off_or_have_a_prefix() {
    assert_eq!(read(&[]).unwrap().checkout_links, None);
    for (text, prefix) in [
        ("/", ""),
        ("/sales/", "/sales"),
        ("/api/v1", "/api/v1"),
        ("/api/workspace-service/links", "/api/workspace-service/links"),
    ] {
        assert_eq!(read(&[(LINKS, text)]).unwrap().checkout_links.unwrap().as_str(), prefix, "{text}");
    }
    assert!(read(&[(LINKS, "sales")]).unwrap_err().to_string().contains("a slash at its start"));
}

#[test]
fn prefixes_that_share_paths_are_refused() {
    for (workspaces, links) in [
        ("/api", "/api"),
        ("/", "/"),
        ("/", "/v1"),
        ("/api", "/api/v1/workspaces"),
        ("/api", "/api/docs"),
        ("/checkout-links", "/"),
        ("/api/checkout-links/x", "/api"),
    ] {
        let problems = read(&[("BILLING_SYNC_API_WORKSPACES", workspaces), (LINKS, links)]).unwrap_err().problems;
        assert_eq!((problems.len(), problems[0].subject.as_str()), (1, LINKS), "{workspaces} {links}");
    }
    for (workspaces, links) in [("/", "/sales"), ("/api", "/"), ("/api", "/api/v1beta"), ("/checkout", "/")] {
        assert!(read(&[("BILLING_SYNC_API_WORKSPACES", workspaces), (LINKS, links)]).is_ok(), "{workspaces} {links}");
    }
}

#[test]
fn an_invalid_prefix_is_refused_with_the_fix() {
    for (text, hint) in [
        ("https://app.example.com/api", "only the path of the URL"),
        ("api/workspace-service", "a slash at its start"),
        ("app.example.com/api", "a slash at its start"),
        ("//", "single slashes"),
        ("/api//x", "single slashes"),
        ("/api/../x", "single slashes"),
        ("/api/./x", "single slashes"),
        ("/api/{workspace}", "single slashes"),
        ("/api/*rest", "single slashes"),
        ("/api/%20", "single slashes"),
        ("/api?x=1", "single slashes"),
        ("/äpi", "single slashes"),
        ("/api/workspace-service/v1", "without v1"),
        ("/v1/", "without v1"),
    ] {
        let error = read(&[("BILLING_SYNC_API_WORKSPACES", text)]).unwrap_err().to_string();
        assert!(error.starts_with("BILLING_SYNC_API_WORKSPACES: ") && error.contains(hint), "{text}: {error}");
    }
}

#[test]
fn an_issuer_is_trimmed_and_otherwise_kept() {
    for (text, issuer) in [
        (" https://id.example.com/ ", "https://id.example.com/"),
        ("https://id.example.com\t", "https://id.example.com"),
        ("urn:Example:Id", "urn:Example:Id"),
    ] {
        assert_eq!(read_jwt(ISSUER.0, text).unwrap().issuer, issuer);
    }
    for (text, message) in [
        ("https://id.example.com/.well-known/openid-configuration", "the value of issuer in the discovery document"),
        ("https://a.example https://b.example", "is not the issuer of tokens (their claim iss)"),
    ] {
        let error = read_jwt(ISSUER.0, text).unwrap_err().to_string();
        assert!(error.starts_with("BILLING_SYNC_API_JWT_ISSUER: ") && error.contains(message), "{text}: {error}");
    }
}

#[test]
fn lists_are_trimmed_and_a_blank_entry_is_refused() {
    assert_eq!(read_jwt(AUDIENCE.0, "billing, app ,billing").unwrap().audiences, ["billing", "app"]);
    let roles = read_jwt("BILLING_SYNC_API_ADMIN_ROLES", "support, Admin").unwrap().admin_roles;
    assert_eq!(Vec::from_iter(roles), ["Admin", "support"]);
    for name in [AUDIENCE.0, "BILLING_SYNC_API_ADMIN_ROLES"] {
        assert!(read_jwt(name, "a,").unwrap_err().to_string().contains("separated by commas"), "{name}");
    }
}

#[test]
fn claims_may_have_any_name() {
    let jwt = read_jwt("BILLING_SYNC_API_JWT_ROLES_CLAIM", " https://example.com/roles ").unwrap();
    assert_eq!(jwt.roles_claim, "https://example.com/roles");
}

#[test]
fn keys_are_a_url_or_a_file() {
    for url in [
        "https://id.example.com/jwks.json",
        "https://id.example.com/.well-known/openid-configuration/jwks",
        "https://id.example.com/keys?policy=1",
        "http://127.0.0.1:8420/jwks.json",
        "http://localhost/jwks.json",
        "http://[::1]/jwks.json",
    ] {
        assert_eq!(read_jwt(KEYS.0, url).unwrap().keys, KeySource::Url(Url::parse(url).unwrap()));
    }
    for path in ["/etc/billing-sync/jwks.json", "jwks.json", "./jwks.json"] {
        assert_eq!(read_jwt(KEYS.0, &format!(" {path}\n")).unwrap().keys, KeySource::File(PathBuf::from(path)));
    }
}

#[test]
fn invalid_keys_are_refused_without_being_shown() {
    for (text, message) in [
        ("https://id.example.com/hunter2/.well-known/openid-configuration", "contains as jwks_uri"),
        ("https://id.example.com/hunter2/.well-known/openid-configuration/?x=1", "contains as jwks_uri"),
        ("https://id.example.com/hunter2/.well-known/oauth-authorization-server", "contains as jwks_uri"),
        ("https://ada:hunter2@id.example.com/jwks.json", "a user or a password"),
        ("https://hunter2@id.example.com/jwks.json", "a user or a password"),
        ("http://id.example.com/hunter2", "http is allowed for 127.0.0.1"),
        ("http://localhost.example/hunter2", "http is allowed for 127.0.0.1"),
        ("file:///etc/hunter2", "neither an https URL nor the path of a file"),
        ("https:// hunter2", "is not a valid URL"),
        (r#"{"keys":[{"kty":"oct","k":"hunter2"}]}"#, "without _FILE, to its path"),
        ("-----BEGIN PRIVATE KEY-----\nhunter2", "without _FILE, to its path"),
    ] {
        let error = read_jwt(KEYS.0, text).unwrap_err().to_string();
        assert!(error.starts_with("BILLING_SYNC_API_JWT_KEYS: ") && error.contains(message), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_url_of_keys_is_reached_through_the_proxy_and_a_file_is_not() {
    let proxy = ("HTTPS_PROXY", "http://ada:hunter2@p:3128");
    let through = |keys: &str| {
        let config = read(&[ISSUER, AUDIENCE, (KEYS.0, keys), proxy]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        config.jwt.unwrap().egress.proxy.is_some()
    };
    assert!(through(KEYS.1));
    assert!(!through("http://127.0.0.1:8420/jwks.json"));
    assert!(!through("/etc/billing-sync/jwks.json"));
    // and a file needs none of these settings
    assert!(read(&[ISSUER, AUDIENCE, (KEYS.0, "jwks.json"), ("SSL_CERT_FILE", "/nowhere")]).is_ok());
    assert!(read(&[ISSUER, AUDIENCE, KEYS, ("SSL_CERT_FILE", "/nowhere")]).is_err());
}

#[test]
fn origins_are_written_as_browsers_send_them() {
    for (text, origins) in [
        ("https://app.example.com", &["https://app.example.com"][..]),
        (
            " http://localhost:3000 , https://app.example.com:8443",
            &["http://localhost:3000", "https://app.example.com:8443"],
        ),
        ("HTTPS://App.Example.com:443,https://app.example.com", &["https://app.example.com"]),
        ("https://bücher.example", &["https://xn--bcher-kva.example"]),
        ("http://[::1]:3000", &["http://[::1]:3000"]),
    ] {
        assert_eq!(read(&[("BILLING_SYNC_API_CORS_ORIGINS", text)]).unwrap().cors_origins, origins, "{text}");
    }
}

#[test]
fn an_invalid_origin_is_refused_with_the_fix() {
    for (text, hint) in [
        ("*", "; list each one, because * would let pages of unknown origin call the API"),
        ("https://*.example.com", "; list each one, because *"),
        ("https://app.example.com/", "without a path or a final slash"),
        ("https://app.example.com/billing", "without a path or a final slash"),
        ("https://app.example.com?x=1", "without a path or a final slash"),
        ("https://user@app.example.com", "without user and password"),
        ("app.example.com", "each begins with https:// or http://"),
        ("null", "each begins with https:// or http://"),
        ("ftp://app.example.com", "each begins with https:// or http://"),
        ("https://", "a list of origins such as"),
        ("https://app.example.com:port", "a list of origins such as"),
        ("https://a.example,", "separated by commas"),
        ("https://a.example https://b.example", "without a path or a final slash"),
    ] {
        let error = read(&[("BILLING_SYNC_API_CORS_ORIGINS", text)]).unwrap_err().to_string();
        assert!(error.starts_with("BILLING_SYNC_API_CORS_ORIGINS: ") && error.contains(hint), "{text}: {error}");
    }
}

#[test]
fn numbers_and_the_key_prefix_have_bounds() {
    for (name, fine, wrong) in [
        ("BILLING_SYNC_API_RATE", &["1", "1000000"][..], &["0", "1000001"][..]),
        ("BILLING_SYNC_API_CONNECTIONS", &["2", "100"], &["1", "101"]),
        ("BILLING_SYNC_API_MAX_OWNED", &["1", "1000000000"], &["0", "1000000001"]),
        ("BILLING_SYNC_API_KEY_PREFIX", &["W", "NF", "ABCDEF12"], &["ws", "ABCDEF123", "W-", "Ä"]),
        ("BILLING_SYNC_API_JWT_LEEWAY", &["0s", "5m"], &["301s", "30"]),
    ] {
        for value in fine {
            assert!(read(&[(name, value)]).is_ok(), "{name}={value}");
        }
        for value in wrong {
            let problems = read(&[(name, value)]).unwrap_err().problems;
            assert_eq!((problems.len(), problems[0].subject.as_str()), (1, name), "{value}");
        }
    }
}
