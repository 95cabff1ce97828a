//! Settings of the receiver. Read by `serve`, used by [`crate::receiver`].

use std::net::SocketAddr;
use std::time::Duration;

use super::error::{Problem, RefusedSecret};
use super::parse;
use super::pasted;
use super::settings;
use super::source::Source;
use crate::config::secret::WebhookSecret;

/// Prefix of Stripe's signing secrets.
const PREFIX: &str = "whsec_";

/// Settings of the webhook listener.
///
/// There is no `Default`: a receiver must not start without secrets, and a made-up secret would be worse.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// `BILLING_SYNC_LISTEN`, default `127.0.0.1:8080`: the address of the public listener.
    pub listen: SocketAddr,
    /// `STRIPE_WEBHOOK_SECRET`: the endpoint's signing secrets, several while one replaces another.
    pub secrets: Vec<WebhookSecret>,
    /// `BILLING_SYNC_BODY_LIMIT`, default 1 MiB: maximum size of a body; larger requests get 413.
    pub body_limit: usize,
    /// `BILLING_SYNC_BODY_BUDGET`, default 64 MiB: maximum size of all bodies in flight; further ones wait, then get
    /// 503.
    pub body_budget: usize,
    /// `BILLING_SYNC_HEADER_TIMEOUT`, default 10s: time to receive a request's head; idle connections close after it.
    pub header_timeout: Duration,
    /// `BILLING_SYNC_BODY_TIMEOUT`, default 10s: time to receive a body; slower requests get 408.
    pub body_timeout: Duration,
    /// `BILLING_SYNC_MAX_CONNECTIONS`, default 512: when all are taken, one that is not authenticated is closed for the
    /// next.
    pub max_connections: usize,
    /// `BILLING_SYNC_CONNECTIONS_PER_ADDRESS`, default 0 (no limit): further connections are rejected.
    pub connections_per_address: Option<usize>,
    /// `BILLING_SYNC_QUEUE_CAPACITY`, default 1024: events waiting to be stored; further requests get 503.
    pub queue_capacity: usize,
    /// `BILLING_SYNC_STORE_TIMEOUT`, default 5s: time to store an event; after it, the request gets 503.
    pub store_timeout: Duration,
}

impl ReceiverConfig {
    /// Reads the settings of the public listener; at least one secret is required.
    pub fn read(source: &mut Source) -> Option<Self> {
        let timeout = || parse::duration(Duration::from_millis(100), Duration::from_mins(5));
        let listen = source.value(&settings::LISTEN, parse::address);
        let secrets = secrets(source);
        // Stripe's largest events are a few hundred kilobytes; the upper bound prevents a mistaken unit
        let body_limit = source.value(&settings::BODY_LIMIT, parse::whole(1024, 64 * 1024 * 1024));
        let body_budget = source.value(&settings::BODY_BUDGET, parse::whole(1024, 64 * 1024 * 1024 * 1024));
        let header_timeout = source.value(&settings::HEADER_TIMEOUT, timeout());
        let body_timeout = source.value(&settings::BODY_TIMEOUT, timeout());
        let max_connections = source.value(&settings::MAX_CONNECTIONS, parse::whole(1, 65_535));
        let per_address = source.value(&settings::CONNECTIONS_PER_ADDRESS, parse::whole(0, 65_535));
        let queue_capacity = source.value(&settings::QUEUE_CAPACITY, parse::whole(1, 1_000_000));
        let store_timeout = source.value(&settings::STORE_TIMEOUT, timeout());
        let (body_limit, body_budget) = (body_limit?, body_budget?);
        if body_budget < body_limit {
            source.problem(over_budget(body_limit, body_budget));
            return None;
        }
        Some(Self {
            listen: listen?,
            secrets: secrets?,
            body_limit,
            body_budget,
            header_timeout: header_timeout?,
            body_timeout: body_timeout?,
            max_connections: max_connections?,
            connections_per_address: per_address.map(|limit| (limit > 0).then_some(limit))?,
            queue_capacity: queue_capacity?,
            store_timeout: store_timeout?,
        })
    }
}

/// The problem of a budget below the limit: a body of maximum size could never be read.
fn over_budget(limit: usize, budget: usize) -> Problem {
    let (limit_name, budget_name) = (settings::BODY_LIMIT.name, settings::BODY_BUDGET.name);
    Problem::new(
        format!("{limit_name}, {budget_name}"),
        format!("are {limit} and {budget}: the limit of one body exceeds that of all bodies"),
        format!("make {budget_name} at least as large as {limit_name}; 64 times as large is a good start"),
    )
}

/// The fix: where to find a signing secret, and how to write several.
const SECRET_FIX: &str = "set it to the endpoint's signing secret (whsec_…), or to several separated by commas or line \
                    breaks: in the Stripe dashboard under Developers > Webhooks > your endpoint > \
                    Signing secret, or as printed by `stripe listen`";

/// Values that are often pasted instead of a signing secret: their prefix, and what they are.
const WRONG_VALUES: [(&str, &str); 8] = [
    ("sk_", "is an API key (sk_…), which belongs in STRIPE_SECRET_KEY"),
    ("rk_", "is an API key (rk_…), which belongs in STRIPE_SECRET_KEY"),
    ("pk_", "is a publishable key (pk_…)"),
    ("we_", "is the id of the endpoint (we_…), not its secret"),
    ("acct_", "is the id of an account (acct_…)"),
    ("http://", "is a URL"),
    ("https://", "is a URL"),
    ("${", "is the name of a variable (${…}) that was not replaced by its value"),
];

/// Reads only the signing secrets, for `send`, which signs with the first one.
pub fn secrets(source: &mut Source) -> Option<Vec<WebhookSecret>> {
    let secrets = source.secret(&settings::WEBHOOK_SECRET, parse_secrets)?;
    if secrets.is_none() {
        source.problem(Problem::missing(&settings::WEBHOOK_SECRET, SECRET_FIX));
    }
    warn_of_odd_ones(source, secrets.as_deref().unwrap_or_default());
    secrets
}

/// Reads the signing secrets, if any, for a demo that keeps serving: it has its own secret.
pub(super) fn optional_secrets(source: &mut Source) -> Option<Vec<WebhookSecret>> {
    let secrets = source.secret(&settings::WEBHOOK_SECRET, parse_secrets)?.unwrap_or_default();
    warn_of_odd_ones(source, &secrets);
    Some(secrets)
}

/// Parses secrets from text, without duplicates.
pub(crate) fn parse_secrets(text: &str) -> Result<Vec<WebhookSecret>, RefusedSecret> {
    let refused = |wrong: String| RefusedSecret { wrong, fix: SECRET_FIX.to_owned() };
    let is_known = |word: &str| word.starts_with(PREFIX);
    let found =
        pasted::several(text, settings::WEBHOOK_SECRET.name, is_known).map_err(|wrong| refused(wrong.to_string()))?;
    let count = found.len();
    for (at, secret) in found.iter().enumerate() {
        if let Some(wrong) = wrong_with(secret, (at + 1, count)) {
            return Err(refused(wrong));
        }
    }
    found.iter().map(|secret| WebhookSecret::new(secret).map_err(|error| refused(error.to_string()))).collect()
}

/// Describes what is wrong with a secret. Another value in its place is a common mistake, and every delivery would be
/// refused. With an empty secret after the prefix, any sender could sign.
fn wrong_with(secret: &str, position: (usize, usize)) -> Option<String> {
    let which = pasted::which(position.0, position.1);
    if let Some((_, is)) = WRONG_VALUES.iter().find(|(start, _)| secret.starts_with(start)) {
        return Some(format!("{which} {is} (the value is not shown)"));
    }
    if secret == PREFIX {
        return Some(format!("{which} has nothing after {PREFIX}"));
    }
    pasted::wrong_behind(PREFIX, secret, position).map(|wrong| wrong.to_string())
}

/// Warns of secrets that do not look like Stripe's. It is not an error, because other senders have other secrets.
fn warn_of_odd_ones(source: &mut Source, secrets: &[WebhookSecret]) {
    let odd = secrets.iter().filter(|secret| !secret.expose().starts_with(PREFIX)).count();
    if odd > 0 {
        let (name, count) = (settings::WEBHOOK_SECRET.name, secrets.len());
        let which = if count == 1 { "does".to_owned() } else { format!("has {odd} of {count} secrets that do") };
        source.warn(format!(
            "{name} {which} not begin with {PREFIX}, as all signing secrets of Stripe's do; take it from the Stripe \
             dashboard, unless another sender signs with it"
        ));
    }
}
