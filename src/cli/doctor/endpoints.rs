//! The check of the webhook endpoints at Stripe: whether one sends the event types that rows need, in a supported API
//! version. `fix` changes what this check reports.

use super::report::Check;
use crate::client::{ApiError, HttpStripe, Read, StripeApi, Urgency};
use crate::config::settings;
use crate::stripe::webhook_endpoint::{self, WebhookEndpoint, in_words};

/// Maximum number of pages. An account has at most some dozen endpoints, so this ends only a list without an end.
const MOST_PAGES: usize = 20;

/// Number of missing types that a line names if there are several endpoints.
const NAMED: usize = 3;

/// What the operator wants to be checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The URL of the endpoint; without it, the endpoint is the only one that sends any of the types.
    pub(super) url: Option<&'a str>,
    /// The mode of the key, if known.
    pub(super) livemode: Option<bool>,
    /// Whether connected accounts are synced, which need an endpoint of Connect.
    pub(super) has_accounts: bool,
}

/// All endpoints of the account, or why they are unknown.
///
/// # Errors
/// Those of the client.
pub(super) async fn list(api: &HttpStripe) -> Result<Vec<WebhookEndpoint>, ApiError> {
    let mut found: Vec<WebhookEndpoint> = Vec::new();
    for _ in 0..MOST_PAGES {
        let after = found.last().map(|last| last.id.clone());
        let answer = api.read("", &Read::WebhookEndpoints { after }, Urgency::Normal).await?;
        let page = webhook_endpoint::page(&answer.body)
            .ok_or_else(|| ApiError::unavailable("stripe's answer is no list of webhook endpoints"))?;
        let is_last = !page.has_more || page.endpoints.is_empty();
        found.extend(page.endpoints);
        if is_last {
            return Ok(found);
        }
    }
    Err(ApiError::unavailable("stripe's list of webhook endpoints has no end"))
}

/// Compares the endpoints of the account with what rows need.
pub(super) async fn checks(api: &HttpStripe, wanted: Wanted<'_>) -> Vec<Check> {
    match list(api).await {
        Ok(found) => compare(&found, wanted),
        Err(error @ ApiError::Forbidden { .. }) => {
            // nothing but this check needs the permission
            vec![Check::ok("endpoints", format!("not checked: {error}"))]
        }
        Err(error) => {
            let detail = format!("the webhook endpoints could not be read: {error}");
            vec![Check::warning("endpoints", detail, error.fix(settings::STRIPE_SECRET_KEY.name))]
        }
    }
}

fn compare(found: &[WebhookEndpoint], wanted: Wanted<'_>) -> Vec<Check> {
    if let Some(url) = wanted.url {
        let named: Vec<&WebhookEndpoint> = found.iter().filter(|one| is_at(one, url)).collect();
        if named.is_empty() {
            let detail = format!("Stripe has no webhook endpoint with the URL {url}, in the mode of the key");
            let fix = "correct --endpoint-url, or run `billing-sync doctor --fix --endpoint-url …` to create it";
            return vec![Check::failed("endpoints", detail, fix)];
        }
        return named.into_iter().map(|one| named_endpoint(one, wanted.livemode)).collect();
    }
    let mut checks = group(found.iter().filter(|one| !one.is_connect), "", wanted.livemode);
    if wanted.has_accounts {
        checks.extend(group(found.iter().filter(|one| one.is_connect), " of Connect", wanted.livemode));
    }
    checks
}

/// Whether the endpoint has this URL; a final slash makes no difference.
pub(super) fn is_at(endpoint: &WebhookEndpoint, url: &str) -> bool {
    endpoint.url.trim_end_matches('/') == url.trim_end_matches('/')
}

/// The endpoint that the operator named: without it no event arrives.
fn named_endpoint(endpoint: &WebhookEndpoint, livemode: Option<bool>) -> Check {
    if endpoint.is_enabled {
        return one(endpoint, livemode);
    }
    let detail = format!("{} is disabled at Stripe, so no event is sent", name(endpoint));
    Check::failed("endpoints", detail, ENABLE)
}

const ENABLE: &str = "correct what made its deliveries fail, and enable it in the Stripe dashboard, under Developers > \
                      Webhooks";

/// The endpoints that send any of the types.
fn group<'a>(found: impl Iterator<Item = &'a WebhookEndpoint>, kind: &str, livemode: Option<bool>) -> Vec<Check> {
    let useful: Vec<&WebhookEndpoint> = found.filter(|one| one.is_useful()).collect();
    let (enabled, disabled): (Vec<&WebhookEndpoint>, Vec<&WebhookEndpoint>) =
        useful.into_iter().partition(|one| one.is_enabled);
    let mut checks = match enabled.as_slice() {
        [] => vec![none(kind)],
        [only] => vec![one(only, livemode)],
        several => match several.iter().find(|one| one.missing_types().is_empty()) {
            Some(complete) => vec![one(complete, livemode)],
            None => vec![incomplete(several)],
        },
    };
    checks.extend(disabled.into_iter().map(|one| {
        Check::warning("endpoints", format!("{} is disabled at Stripe: no event is sent there", name(one)), ENABLE)
    }));
    checks
}

fn none(kind: &str) -> Check {
    let detail = format!(
        "no enabled webhook endpoint{kind} at Stripe sends an event type that rows need; `stripe listen` and event \
         destinations for thin events are not listed"
    );
    let fix = "run `billing-sync doctor --fix --endpoint-url https://…/webhooks/stripe` to create one, or create it in \
               the Stripe dashboard";
    Check::warning("endpoints", detail, fix)
}

/// An enabled endpoint.
fn one(endpoint: &WebhookEndpoint, livemode: Option<bool>) -> Check {
    let name = name(endpoint);
    if let (Some(of_key), Some(of_endpoint)) = (livemode, endpoint.livemode)
        && of_key != of_endpoint
    {
        let (of_key, of_endpoint) = (mode(of_key), mode(of_endpoint));
        let detail = format!("{name} is for {of_endpoint} mode, but STRIPE_SECRET_KEY for {of_key} mode");
        return Check::failed("endpoints", detail, "use the key and the endpoint of one mode");
    }
    let missing = endpoint.missing_types();
    let mut details = Vec::new();
    let mut fixes = Vec::new();
    if !missing.is_empty() {
        details.push(format!("does not send {} event types that rows need: {}", missing.len(), in_words(&missing)));
        fixes.push("`billing-sync doctor --fix` adds the types");
    }
    if let Some(problem) = endpoint.version_problem() {
        let version = endpoint.api_version.as_deref().unwrap_or_default();
        details.push(format!("sends events of API version {version}: {problem}"));
        fixes.push(
            "Stripe cannot change the API version of an endpoint: delete this one and run `billing-sync doctor --fix \
             --endpoint-url …` with its URL, then set the new signing secret",
        );
    }
    if details.is_empty() {
        let version = match &endpoint.api_version {
            Some(version) => format!("API version {version}"),
            None if endpoint.is_connect => "the default API version of each account".to_owned(),
            None => "the default API version of the account".to_owned(),
        };
        return Check::ok("endpoints", format!("{name} sends all event types that rows need, in {version}"));
    }
    Check::warning("endpoints", format!("{name} {}", details.join("; it ")), fixes.join(". "))
}

/// Several endpoints, none of which sends all types.
fn incomplete(several: &[&WebhookEndpoint]) -> Check {
    let each = several.iter().map(|one| {
        let missing = one.missing_types();
        let more = if missing.len() > NAMED { ", …" } else { "" };
        let first: Vec<&str> = missing.iter().take(NAMED).map(String::as_str).collect();
        format!("{} does not send {} ({}{more})", name(one), missing.len(), first.join(", "))
    });
    let each: Vec<String> = each.collect();
    let detail = format!(
        "{} webhook endpoints send events that rows need, but none sends all types: {}",
        several.len(),
        each.join("; ")
    );
    let fix = "run `billing-sync doctor --endpoint-url …` with the URL of the one that leads to this service; with \
               --fix it adds the types";
    Check::warning("endpoints", detail, fix)
}

pub(super) fn name(endpoint: &WebhookEndpoint) -> String {
    let kind = if endpoint.is_connect { " (Connect)" } else { "" };
    format!("{} {}{kind}", endpoint.id, endpoint.url)
}

fn mode(livemode: bool) -> &'static str {
    if livemode { "live" } else { "test" }
}
