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
    /// The API version of the last processed event of the account, if there is one.
    pub(super) last_version: Option<&'a str>,
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

/// Endpoints that the operator named by a URL. An endpoint of Connect and one of the account may have the same URL: each
/// sends events that the other does not.
pub(super) struct Named<'a> {
    /// Those of the account.
    pub(super) own: Vec<&'a WebhookEndpoint>,
    /// Those of Connect, if they are checked.
    pub(super) connect: Vec<&'a WebhookEndpoint>,
    /// Whether the account needs an endpoint with the URL. It needs none if the URL is that of an endpoint of Connect, and
    /// another endpoint sends the events of the account.
    pub(super) is_own_missing: bool,
}

impl<'a> Named<'a> {
    pub(super) fn find(found: &'a [WebhookEndpoint], url: &str, has_accounts: bool) -> Self {
        let at_url = found.iter().filter(|endpoint| is_at(endpoint, url));
        let (mut connect, own): (Vec<_>, Vec<_>) = at_url.partition(|endpoint| endpoint.is_connect);
        let is_elsewhere =
            found.iter().any(|endpoint| !endpoint.is_connect && endpoint.is_enabled && endpoint.is_useful());
        let is_own_missing = own.is_empty() && (connect.is_empty() || !is_elsewhere);
        if !has_accounts && !own.is_empty() {
            connect.clear();
        }
        Self { own, connect, is_own_missing }
    }
}

fn compare(found: &[WebhookEndpoint], wanted: Wanted<'_>) -> Vec<Check> {
    let named = wanted.url.map(|url| (url, Named::find(found, url, wanted.has_accounts)));
    let mut checks = match &named {
        Some((url, named)) if named.is_own_missing => {
            let detail = format!(
                "Stripe has no webhook endpoint with the URL {url} for events of the account, in the mode of the key"
            );
            let fix = "correct --endpoint-url, or run `billing-sync doctor --fix --endpoint-url …` to create it";
            vec![Check::failed("endpoints", detail, fix)]
        }
        Some((_, named)) if !named.own.is_empty() => named_endpoints(&named.own, wanted),
        _ => group(found.iter().filter(|endpoint| !endpoint.is_connect), false, wanted),
    };
    match &named {
        Some((_, named)) if !named.connect.is_empty() => {
            checks.extend(named_endpoints(&named.connect, wanted));
        }
        _ if wanted.has_accounts => {
            checks.extend(group(found.iter().filter(|endpoint| endpoint.is_connect), true, wanted));
        }
        _ => {}
    }
    checks
}

/// Whether the endpoint has this URL; a final slash makes no difference.
fn is_at(endpoint: &WebhookEndpoint, url: &str) -> bool {
    endpoint.url.trim_end_matches('/') == url.trim_end_matches('/')
}

/// The endpoints that the operator named: without them no event arrives.
fn named_endpoints(named: &[&WebhookEndpoint], wanted: Wanted<'_>) -> Vec<Check> {
    let check = |endpoint: &&WebhookEndpoint| {
        if endpoint.is_enabled {
            return enabled_endpoint(endpoint, wanted, "");
        }
        let detail = format!("{} is disabled at Stripe, so no event is sent", name(endpoint));
        Check::failed("endpoints", detail, ENABLE)
    };
    named.iter().map(check).collect()
}

const ENABLE: &str = "correct what made its deliveries fail, and enable it in the Stripe dashboard, under Developers > \
                      Webhooks";

/// The endpoints that send any of the types, either those of Connect or those of the account.
fn group<'a>(found: impl Iterator<Item = &'a WebhookEndpoint>, is_connect: bool, wanted: Wanted<'_>) -> Vec<Check> {
    let useful: Vec<&WebhookEndpoint> = found.filter(|endpoint| endpoint.is_useful()).collect();
    let (enabled, disabled): (Vec<&WebhookEndpoint>, Vec<&WebhookEndpoint>) =
        useful.into_iter().partition(|endpoint| endpoint.is_enabled);
    let (incomplete, complete): (Vec<&WebhookEndpoint>, Vec<&WebhookEndpoint>) =
        enabled.iter().partition(|endpoint| !endpoint.missing_types().is_empty());
    let mut checks = match (enabled.as_slice(), complete.first()) {
        ([], _) => vec![none(is_connect)],
        ([only], _) => vec![enabled_endpoint(only, wanted, "")],
        (_, Some(complete)) => vec![enabled_endpoint(complete, wanted, &others(&incomplete))],
        (several, None) => vec![several_incomplete(several)],
    };
    checks.extend(disabled.into_iter().map(|endpoint| {
        Check::warning("endpoints", format!("{} is disabled at Stripe: no event is sent there", name(endpoint)), ENABLE)
    }));
    checks
}

/// Names the incomplete endpoints beside a complete one: any of them may be the one that leads to this service.
fn others(incomplete: &[&WebhookEndpoint]) -> String {
    if incomplete.is_empty() {
        return String::new();
    }
    let more = if incomplete.len() > NAMED { ", …" } else { "" };
    let urls: Vec<&str> = incomplete.iter().take(NAMED).map(|endpoint| endpoint.url.as_str()).collect();
    let urls = urls.join(", ");
    match incomplete.len() {
        1 => format!(
            ". 1 other endpoint sends only some of the types ({urls}): if it leads to this service, check it with \
             --endpoint-url"
        ),
        count => format!(
            ". {count} other endpoints send only some of the types ({urls}{more}): if one leads to this service, check \
             it with --endpoint-url"
        ),
    }
}

fn none(is_connect: bool) -> Check {
    let detail = format!(
        "no enabled webhook endpoint{} at Stripe sends an event type that rows need; `stripe listen` and event \
         destinations for thin events are not listed",
        if is_connect { " of Connect" } else { "" }
    );
    // `doctor --fix` creates only endpoints of the account
    let fix = if is_connect {
        "create an endpoint of Connect in the Stripe dashboard, under Developers > Webhooks, with the event types of the \
         README, and add its signing secret to STRIPE_WEBHOOK_SECRET after a comma"
    } else {
        "run `billing-sync doctor --fix --endpoint-url https://…/webhooks/stripe` to create one, or create it in the \
         Stripe dashboard"
    };
    Check::warning("endpoints", detail, fix)
}

/// An enabled endpoint; `note` is added to the detail.
fn enabled_endpoint(endpoint: &WebhookEndpoint, wanted: Wanted<'_>, note: &str) -> Check {
    let name = name(endpoint);
    if let (Some(of_key), Some(of_endpoint)) = (wanted.livemode, endpoint.livemode)
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
        fixes.push(if endpoint.is_connect { REPLACE_CONNECT } else { REPLACE });
    }
    let last_version = wanted.last_version.filter(|_| endpoint.api_version.is_none() && !endpoint.is_connect);
    if let Some(version) = last_version
        && let Some(problem) = webhook_endpoint::version_problem(version)
    {
        details.push(format!(
            "sends events of the default API version of the account, and the last processed event has {version}: {problem}"
        ));
        fixes.push(REPLACE_DEFAULT);
    }
    if details.is_empty() {
        let version = match &endpoint.api_version {
            Some(version) => format!("API version {version}"),
            None if endpoint.is_connect => format!("the default API version of each account, {NOT_SHOWN}"),
            None => match last_version {
                Some(version) => {
                    format!("the default API version of the account; the last processed event has {version}")
                }
                None => format!("the default API version of the account, {NOT_SHOWN}"),
            },
        };
        return Check::ok("endpoints", format!("{name} sends all event types that rows need, in {version}{note}"));
    }
    Check::warning("endpoints", format!("{name} {}{note}", details.join("; it ")), fixes.join(". "))
}

const REPLACE: &str = "Stripe cannot change the API version of an endpoint: delete this one and run `billing-sync doctor \
                       --fix --endpoint-url …` with its URL, then set the new signing secret";

/// `doctor --fix` cannot create an endpoint of Connect.
const REPLACE_CONNECT: &str = "Stripe cannot change the API version of an endpoint: create an endpoint of Connect with the \
                               same URL and a supported version in the Stripe dashboard, add its signing secret to \
                               STRIPE_WEBHOOK_SECRET after a comma, restart `serve`, and then delete this one";

/// Other programs depend on the default version of the account, so the fix leaves it unchanged.
const REPLACE_DEFAULT: &str = "create an endpoint with another URL by `billing-sync doctor --fix --endpoint-url …`: it has \
                               an API version of its own; set its signing secret, and then delete this one";

const NOT_SHOWN: &str = "which Stripe's API does not show";

/// Several endpoints, none of which sends all types.
fn several_incomplete(several: &[&WebhookEndpoint]) -> Check {
    let missing_of = |endpoint: &&WebhookEndpoint| {
        let missing = endpoint.missing_types();
        let more = if missing.len() > NAMED { ", …" } else { "" };
        let first: Vec<&str> = missing.iter().take(NAMED).map(String::as_str).collect();
        format!("{} does not send {} ({}{more})", name(endpoint), missing.len(), first.join(", "))
    };
    let lines: Vec<String> = several.iter().map(missing_of).collect();
    let detail = format!(
        "{} webhook endpoints send events that rows need, but none sends all types: {}",
        several.len(),
        lines.join("; ")
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
