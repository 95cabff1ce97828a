//! The key, the base URL and the mode: which values are accepted, which are refused, and the messages.

use std::ffi::OsString;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;
use crate::config::error::ConfigError;
use crate::config::source::Flags;
use crate::config::sync::SyncConfig;

fn source(environment: &[(&str, &str)]) -> Source {
    Source::new(Flags::new(), environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))))
}

fn read(environment: &[(&str, &str)]) -> Result<StripeConfig, ConfigError> {
    source(environment).collect(StripeConfig::read)
}

fn livemode(environment: &[(&str, &str)]) -> Result<bool, ConfigError> {
    source(environment).collect(SyncConfig::read).map(|sync| sync.livemode)
}

#[test]
fn the_defaults_are_no_key_and_stripes_url() {
    let config = read(&[]).unwrap();
    assert!(config.secret_key.is_none());
    assert_eq!(config.api_base.as_str(), "https://api.stripe.com/");
    assert_eq!((config.rate, config.concurrency), (20, 8));
    assert_eq!((config.timeout, config.read_margin), (Duration::from_secs(20), Duration::from_secs(10)));
}

#[test]
fn the_prefix_of_a_key_contains_its_mode() {
    for (key, mode) in [
        ("sk_live_1", Some(true)),
        ("rk_live_1", Some(true)),
        ("sk_test_1", Some(false)),
        ("rk_test_1", Some(false)),
        ("sk_1", None),
        ("sk_live", None),
        ("pk_live_1", None),
        ("", None),
    ] {
        assert_eq!(mode_of(key), mode, "{key}");
    }
}

#[test]
fn the_default_rate_depends_on_the_mode() {
    let rate = |environment: &[(&str, &str)]| read(environment).unwrap().rate;
    assert_eq!(rate(&[("STRIPE_SECRET_KEY", "rk_live_1")]), 80);
    assert_eq!(rate(&[("STRIPE_SECRET_KEY", "sk_test_1")]), 20);
    assert_eq!(rate(&[("STRIPE_SECRET_KEY", "sk_live_1"), ("BILLING_SYNC_STRIPE_RATE", "5")]), 5);
}

#[test]
fn an_invalid_key_is_refused_without_being_shown() {
    let config = read(&[("STRIPE_SECRET_KEY", "sk_test_1")]).unwrap();
    assert_eq!(config.secret_key.unwrap().expose_secret(), "sk_test_1");
    for (key, message) in [
        ("pk_test_hunter2", "is a publishable key"),
        ("whsec_hunter2", "STRIPE_WEBHOOK_SECRET"),
        ("hunter2", "API keys"),
        ("sk_", "API keys"),
        ("sk_test_hunter2 hunter2", "character 16 is U+0020, a space"),
        ("sk_test_hunter2\nhunter2", "character 16 is U+000A, a line break"),
        ("sk_test_\u{200b}hunter2", "character 9 is U+200B, a zero width space"),
        ("sk_test_\u{2022}\u{2022}hunter2", "stands for hidden characters"),
        ("sk_test_hunter2sk_test_hunter2", "the next one begins at character 16"),
    ] {
        let error = read(&[("STRIPE_SECRET_KEY", key)]).unwrap_err().to_string();
        assert!(error.starts_with("STRIPE_SECRET_KEY: ") && error.contains(message), "{key}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn text_around_a_key_is_dropped() {
    for key in
        [" sk_live_1", "sk_live_1\n\n", "\"sk_live_1\"", "sk_live_1'", "\u{feff}sk_live_1\u{200b}", "sk_live_1\\n"]
    {
        let config = read(&[("STRIPE_SECRET_KEY", key)]).unwrap();
        assert_eq!(config.secret_key.as_ref().unwrap().expose_secret(), "sk_live_1", "{key:?}");
        assert_eq!(config.rate, 80, "{key:?}");
        assert!(livemode(&[("STRIPE_SECRET_KEY", key)]).unwrap(), "{key:?}");
    }
}

#[test]
fn a_base_may_have_a_path_and_a_final_slash() {
    for (text, base) in [
        ("https://api.stripe.com", "https://api.stripe.com/"),
        ("https://proxy.example/stripe", "https://proxy.example/stripe/"),
        ("https://proxy.example/stripe/", "https://proxy.example/stripe/"),
        ("http://127.0.0.1:8420//", "http://127.0.0.1:8420/"),
        ("http://localhost:8420", "http://localhost:8420/"),
        ("http://[::1]:8420", "http://[::1]:8420/"),
    ] {
        assert_eq!(read(&[("STRIPE_API_BASE", text)]).unwrap().api_base.as_str(), base, "{text}");
    }
}

#[test]
fn an_unsafe_or_wrong_base_url_is_refused_with_the_fix() {
    for (text, message) in [
        ("http://api.stripe.com", "http is allowed for 127.0.0.1"),
        ("http://localhost.example", "http is allowed for 127.0.0.1"),
        ("ftp://127.0.0.1", "http is allowed for 127.0.0.1"),
        ("https://api.stripe.com/v1", "without v1"),
        ("https://api.stripe.com/v1/", "without v1"),
        ("https://user:password@api.stripe.com", "nothing but host"),
        ("https://api.stripe.com/?x=1", "nothing but host"),
        ("api.stripe.com", "an https URL such as https://api.stripe.com"),
        ("unix:/tmp/socket", "nothing but host"),
    ] {
        let error = read(&[("STRIPE_API_BASE", text)]).unwrap_err().to_string();
        assert!(error.starts_with("STRIPE_API_BASE: ") && error.contains(message), "{text}: {error}");
    }
}

#[test]
fn the_mode_of_the_key_is_the_default() {
    assert!(!livemode(&[]).unwrap());
    assert!(livemode(&[("STRIPE_SECRET_KEY", "sk_live_1")]).unwrap());
    assert!(!livemode(&[("STRIPE_SECRET_KEY", "sk_test_1")]).unwrap());
    assert!(!livemode(&[("STRIPE_SECRET_KEY", "sk_1")]).unwrap());
    assert!(livemode(&[("BILLING_SYNC_LIVEMODE", "true")]).unwrap());
    assert!(livemode(&[("STRIPE_SECRET_KEY", "rk_live_1"), ("BILLING_SYNC_LIVEMODE", "yes")]).unwrap());
}

#[test]
fn both_keys_have_one_mode() {
    let keys = |read, write| livemode(&[("STRIPE_SECRET_KEY", read), ("STRIPE_WRITE_KEY", write)]);
    assert!(keys("rk_live_1", "rk_live_2").unwrap());
    let error = keys("rk_live_1", "rk_test_2").unwrap_err().to_string();
    assert!(error.starts_with("STRIPE_SECRET_KEY, STRIPE_WRITE_KEY: "), "{error}");
    assert!(livemode(&[("STRIPE_WRITE_KEY", "rk_live_2")]).unwrap());
}

#[test]
fn a_key_of_the_other_mode_is_refused() {
    for (key, mode, message) in [
        ("sk_live_hunter2", "false", "the first is of test mode, and the key is of live mode"),
        ("rk_test_hunter2", "true", "the first is of live mode, and the key is of test mode"),
    ] {
        let error = livemode(&[("STRIPE_SECRET_KEY", key), ("BILLING_SYNC_LIVEMODE", mode)]).unwrap_err().to_string();
        assert!(error.starts_with("BILLING_SYNC_LIVEMODE, STRIPE_SECRET_KEY: ") && error.contains(message), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_key_stays_out_of_debug_output() {
    let config = read(&[("STRIPE_SECRET_KEY", "sk_test_hunter2")]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}
