//! Which proxy is used, which hosts bypass it, and which values are refused without showing the password.

use std::ffi::OsString;
use std::io::Write;

use super::*;
use crate::config::error::ConfigError;
use crate::config::source::Flags;

fn read_for(base: &str, environment: &[(&str, &str)]) -> Result<Egress, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    let base = Url::parse(base).unwrap();
    Source::new(Flags::new(), environment).collect(|source| Egress::read(source, Some(&base)))
}

fn proxy_of(environment: &[(&str, &str)]) -> Option<String> {
    read_for("https://api.stripe.com/", environment).unwrap().proxy.map(|proxy| proxy.describe())
}

#[test]
fn https_proxy_comes_before_all_proxy() {
    assert_eq!(proxy_of(&[]), None);
    let through = |place: &str| Some(format!("through the proxy {place}"));
    for (environment, place) in [
        (&[("HTTPS_PROXY", "http://p:3128")][..], "http://p:3128 (HTTPS_PROXY)"),
        (&[("https_proxy", "http://p:3128/")], "http://p:3128 (HTTPS_PROXY)"),
        (&[("ALL_PROXY", "p:1")], "http://p:1 (ALL_PROXY)"),
        (&[("all_proxy", "socks5h://p")], "socks5h://p:1080 (ALL_PROXY)"),
        (&[("ALL_PROXY", "http://a"), ("HTTPS_PROXY", "https://b")], "https://b (HTTPS_PROXY)"),
        (&[("HTTPS_PROXY", "http://a"), ("https_proxy", "http://b")], "http://a (HTTPS_PROXY)"),
        (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://a")], "http://a (ALL_PROXY)"),
    ] {
        assert_eq!(proxy_of(environment), through(place), "{environment:?}");
    }
    // for plain HTTP, which is for this machine only
    assert_eq!(proxy_of(&[("HTTP_PROXY", "http://p:3128")]), None);
    let local = read_for("http://127.0.0.1:8420/", &[("ALL_PROXY", "http://p:1")]).unwrap();
    assert!(local.proxy.is_none());
}

#[test]
fn no_proxy_accepts_names_ports_networks_and_the_star() {
    for (entries, base, bypassed) in [
        ("api.stripe.com", "https://api.stripe.com/", true),
        ("stripe.com", "https://api.stripe.com/", true),
        (".stripe.com", "https://api.stripe.com/", true),
        ("*.stripe.com", "https://api.stripe.com/", true),
        ("STRIPE.com", "https://api.stripe.com/", true),
        ("ripe.com", "https://api.stripe.com/", false),
        ("api.stripe.com.example", "https://api.stripe.com/", false),
        ("*", "https://api.stripe.com/", true),
        ("a, stripe.com", "https://api.stripe.com/", true),
        ("a stripe.com", "https://api.stripe.com/", true),
        ("stripe.com:443", "https://api.stripe.com/", true),
        ("stripe.com:8443", "https://api.stripe.com/", false),
        ("stripe.com:8443", "https://api.stripe.com:8443/", true),
        ("10.0.0.0/8", "https://10.1.2.3/", true),
        ("10.0.0.0/8", "https://11.1.2.3/", false),
        ("127.0.0.1:9", "https://127.0.0.1:9/", true),
        ("127.0.0.1:8", "https://127.0.0.1:9/", false),
        ("::1", "https://[::1]:9/", true),
        ("[::1]:9", "https://[::1]:9/", true),
        ("[::1]:8", "https://[::1]:9/", false),
        ("fd00::/8", "https://[fd00::1]/", true),
        ("", "https://api.stripe.com/", false),
    ] {
        for name in ["NO_PROXY", "no_proxy"] {
            let egress = read_for(base, &[("HTTPS_PROXY", "http://p:1"), (name, entries)]).unwrap();
            assert_eq!(egress.proxy.is_none(), bypassed, "{name}={entries} for {base}");
        }
    }
}

#[test]
fn a_login_is_kept_and_never_shown() {
    let egress = read_for("https://h/", &[("HTTPS_PROXY", "http://ada:hunter2%40@p:1")]).unwrap();
    let proxy = egress.proxy.as_ref().unwrap();
    assert!(matches!(&proxy.login, Login::Basic(value) if value == "Basic YWRhOmh1bnRlcjJA"));
    let shown = format!("{egress:?} {}", egress.describe());
    assert!(!shown.contains("hunter2") && !shown.contains("ada") && !shown.contains("YWRh"), "{shown}");
    let egress = read_for("https://h/", &[("ALL_PROXY", "socks5://ada:hunter2@p")]).unwrap();
    let proxy = egress.proxy.as_ref().unwrap();
    assert!(matches!(&proxy.login, Login::Socks(user, _) if user == "ada"));
    assert_eq!(proxy.kind, ProxyKind::Socks5 { resolve_here: true });
    assert!(!format!("{egress:?}").contains("hunter2"));
}

#[test]
fn an_invalid_proxy_is_refused_by_its_variable() {
    for wrong in [
        "ftp://u:hunter2@p",
        "socks4://u:hunter2@p",
        "http://u:hun@ter2@p:1",
        "http://u:hunter2@",
        "http:// hunter2",
        "http://u:hunter2",
        "u:hunter2",
        "http://u:hun/ter2@p:1",
        "http://u:hun#ter2@p:1",
        "http://u:hun?ter2@p:1",
        "http://u:hun\\ter2@p:1",
    ] {
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
            let error = read_for("https://h/", &[(name, wrong)]).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{}: is not the URL of a proxy", name.to_uppercase())),
                "{wrong}: {error}"
            );
            assert!(!error.contains("hunter2") && !error.contains("ter2"), "{error}");
        }
    }
}

#[test]
fn roots_come_from_the_named_files_or_are_built_in() {
    let built_in = read_for("https://h/", &[]).unwrap();
    assert!(
        built_in.describe().starts_with("directly; certificates are checked against the "),
        "{}",
        built_in.describe()
    );
    let mut junk = tempfile::NamedTempFile::new().unwrap();
    junk.write_all(b"no certificate").unwrap();
    let (junk, folder) = (junk.path().to_str().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path().to_str().unwrap();
    for (name, value, message) in [
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("SSL_CERT_FILE", junk, "has no certificate"),
        ("SSL_CERT_DIR", "/nowhere/certs", "/nowhere/certs"),
        ("SSL_CERT_DIR", folder, "has no certificate"),
    ] {
        let error = read_for("https://h/", &[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")) && error.contains(message), "{error}");
    }
}
