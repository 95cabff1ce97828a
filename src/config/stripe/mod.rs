//! Settings of Stripe's API: key, URL, rate and timeout. Read by every command that sends requests to Stripe, used by
//! the client.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::egress::Egress;
use super::error::{Problem, RefusedSecret};
use super::parse::{self, Expected, Parsed};
use super::pasted;
use super::settings::{self, Setting};
use super::source::Source;

/// Prefixes of secret and restricted keys.
const PREFIXES: [&str; 2] = ["sk_", "rk_"];
/// Requests per second: four fifths of Stripe's limit in live mode (100), because the product sends requests, too.
const LIVE_RATE: u32 = 80;
/// Requests per second: four fifths of Stripe's limit in test mode (25).
const TEST_RATE: u32 = 20;

/// Settings of Stripe's API.
#[derive(Debug, Clone)]
pub struct StripeConfig {
    /// `STRIPE_SECRET_KEY`: a secret or restricted key; without it, Stripe's API is not used.
    pub secret_key: Option<SecretString>,
    /// `STRIPE_WRITE_KEY`: a second key, restricted to what the workspace API writes; without it, nothing is written to
    /// Stripe.
    pub write_key: Option<SecretString>,
    /// `STRIPE_API_BASE`, default `https://api.stripe.com`: the base to which `v1/…` is appended; its path ends with a
    /// slash.
    pub api_base: Url,
    /// `BILLING_SYNC_STRIPE_RATE`, requests per second; by default 80 with a live key, otherwise 20.
    pub rate: u32,
    /// `BILLING_SYNC_STRIPE_TIMEOUT`, default 20s: time for one request, including reading its answer.
    pub timeout: Duration,
    /// `BILLING_SYNC_STRIPE_CONCURRENCY`, default 8: simultaneous requests.
    pub concurrency: usize,
    /// `BILLING_SYNC_READ_MARGIN`, default 10s: staleness margin; a read counts as this much older than its request.
    pub read_margin: Duration,
    /// The way there: a proxy, and the certificates that are trusted.
    pub egress: Egress,
}

impl StripeConfig {
    /// Reads the settings; the key may be absent.
    pub fn read(source: &mut Source) -> Option<Self> {
        let secret_key = source.secret(&settings::STRIPE_SECRET_KEY, key);
        let write_key = source.secret(&settings::STRIPE_WRITE_KEY, write_key);
        let api_base = source.value(&settings::STRIPE_API_BASE, base);
        let rate = source.optional(&settings::STRIPE_RATE, parse::whole(1, 10_000));
        let timeout = parse::duration(Duration::from_millis(100), Duration::from_mins(5));
        let timeout = source.value(&settings::STRIPE_TIMEOUT, timeout);
        let concurrency = source.value(&settings::STRIPE_CONCURRENCY, parse::whole(1, 256));
        let margin = parse::duration(Duration::ZERO, Duration::from_mins(10));
        let read_margin = source.value(&settings::READ_MARGIN, margin);
        let egress = Egress::read(source, api_base.as_ref());
        Some(Self {
            secret_key: secret_key?,
            write_key: write_key?,
            api_base: api_base?,
            rate: rate?.unwrap_or_else(|| default_rate(source)),
            timeout: timeout?,
            concurrency: concurrency?,
            read_margin: read_margin?,
            egress: egress?,
        })
    }
}

/// Reads the settings for a command that requires the key.
pub fn required(source: &mut Source) -> Option<StripeConfig> {
    let config = StripeConfig::read(source)?;
    if config.secret_key.is_none() {
        source.problem(missing());
        return None;
    }
    Some(config)
}

/// The problem of a missing key, if one is required.
pub fn missing() -> Problem {
    Problem::missing(
        &settings::STRIPE_SECRET_KEY,
        "set it to a secret or restricted key (sk_… or rk_…), or STRIPE_SECRET_KEY_FILE to a file",
    )
}

fn default_rate(source: &Source) -> u32 {
    let modes = [&settings::STRIPE_SECRET_KEY, &settings::STRIPE_WRITE_KEY].map(|key| of_key(source, key));
    if modes.contains(&Some(true)) { LIVE_RATE } else { TEST_RATE }
}

/// The mode of a key, by its prefix; `None` without a key, and for keys without a mode. [`StripeConfig::read`] reports an
/// invalid key.
pub(super) fn of_key(source: &Source, setting: &Setting) -> Option<bool> {
    let found = source.look_up(setting).ok().flatten()?;
    mode_of(&pasted::one(&found.text, setting.name).ok()?)
}

impl StripeConfig {
    /// The mode of the key, like Stripe's `livemode`; `None` without a key, and for the oldest keys, which have none.
    pub fn livemode(&self) -> Option<bool> {
        self.secret_key.as_ref().and_then(|key| mode_of(key.expose_secret()))
    }

    /// The mode of the key for writes.
    pub fn write_livemode(&self) -> Option<bool> {
        self.write_key.as_ref().and_then(|key| mode_of(key.expose_secret()))
    }
}

/// The mode in a key's prefix, like Stripe's `livemode` (`true` is live); `None` for the oldest keys, which have none.
fn mode_of(key: &str) -> Option<bool> {
    let rest = PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix))?;
    match rest.split_once('_')?.0 {
        "live" => Some(true),
        "test" => Some(false),
        _ => None,
    }
}

/// Values that are often pasted instead of a key: their prefix, and what they are.
const OTHERS: [(&str, &str); 2] = [
    (
        "pk_",
        "is a publishable key (pk_…), which cannot read anything; copy a secret or restricted key from the same page \
         of the Stripe dashboard, Developers > API keys",
    ),
    ("whsec_", "is a signing secret, which belongs in STRIPE_WEBHOOK_SECRET"),
];

fn key(text: &str) -> Result<SecretString, RefusedSecret> {
    api_key(text, &settings::STRIPE_SECRET_KEY)
}

fn write_key(text: &str) -> Result<SecretString, RefusedSecret> {
    api_key(text, &settings::STRIPE_WRITE_KEY)
}

fn api_key(text: &str, setting: &Setting) -> Result<SecretString, RefusedSecret> {
    let fix =
        "set it to a secret or restricted API key (sk_… or rk_…): in the Stripe dashboard under Developers > API keys";
    let refused = |wrong: String| RefusedSecret { wrong, fix: fix.to_owned() };
    let key = pasted::one(text, setting.name).map_err(|wrong| refused(wrong.to_string()))?;
    if let Some((_, is)) = OTHERS.iter().find(|(start, _)| key.starts_with(start)) {
        return Err(refused((*is).to_owned()));
    }
    let prefix = PREFIXES.iter().find(|prefix| key.strip_prefix(**prefix).is_some_and(|rest| !rest.is_empty()));
    let Some(prefix) = prefix else {
        return Err(refused("is not a secret or restricted API key (its value is not shown)".to_owned()));
    };
    match pasted::wrong_behind(prefix, &key, (1, 1)) {
        Some(wrong) => Err(refused(wrong.to_string())),
        None => Ok(SecretString::from(key)),
    }
}

/// Parses the base URL. `http` would expose the key on the network, so it is allowed for this machine only, for a fake
/// of Stripe.
fn base(text: &str) -> Parsed<Url> {
    let expected = |hint| Expected { what: "an https URL such as https://api.stripe.com".to_owned(), hint };
    let mut url = Url::parse(text.trim()).map_err(|_| expected(""))?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !is_plain || url.password().is_some() || url.host().is_none() {
        return Err(expected(", with nothing but host, port and path"));
    }
    if !parse::is_safe_on_network(&url) {
        return Err(expected(
            "; http is allowed for 127.0.0.1, [::1] and localhost only, because it exposes the key on the network",
        ));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if path.ends_with("/v1") {
        return Err(expected(", without v1, which is appended"));
    }
    url.set_path(&format!("{path}/"));
    Ok(url)
}

#[cfg(test)]
mod tests;
