//! `doctor --fix`: subscribes the webhook endpoint to the event types that rows need, or creates it.
//!
//! Only this changes anything at Stripe. It uses `STRIPE_WRITE_KEY`, for reading too, so the endpoint that it lists and
//! the one that it changes belong to the same account. A signing secret is printed once, and is not logged.

use std::fmt::Write as _;
use std::process::ExitCode;

use prometheus::Registry;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::endpoints::{self, Named};
use crate::base::clock::RemoteClock;
use crate::base::text::counted;
use crate::cli::confirm::ConfirmArgs;
use crate::cli::{database, output};
use crate::client::{
    self, API_VERSION, ApiError, HttpStripe, KeyedWrite, Urgency, WriteAnswer, WriteError, WriteRequest,
    create_webhook_endpoint, enable_events,
};
use crate::config::settings;
use crate::config::stripe::StripeConfig;
use crate::database::hosts::Hosts;
use crate::stripe::catalogue;
use crate::stripe::webhook_endpoint::{self, WebhookEndpoint, in_words};
use crate::stripe_key::check::{self, KeyStatus};

/// Where the permission comes from.
const PERMISSION: &str = "give STRIPE_WRITE_KEY the permission Webhook Endpoints (write) in the Stripe dashboard; a \
                          key for this one command will do";

/// What to fix.
pub(super) struct Fix<'a> {
    /// The URL of the endpoint, if it was given.
    pub(super) url: Option<&'a str>,
    pub(super) confirm: &'a ConfirmArgs,
    pub(super) is_json: bool,
    /// Whether connected accounts are synced.
    pub(super) has_accounts: bool,
}

/// What became of it.
pub(super) enum Fixed {
    /// All changes were made, or none was needed.
    Done,
    /// A change was not made, or the operator declined it.
    Failed,
    /// Nothing was tried; the reason is printed.
    Refused(ExitCode),
}

/// One change at Stripe.
enum Change {
    /// Adds event types.
    Add(WebhookEndpoint, Vec<String>),
    /// Creates an endpoint with this URL.
    Create(String),
}

/// Checks a URL for an endpoint. Stripe requires TLS in live mode.
pub(super) fn endpoint_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !["https", "http"].contains(&url.scheme()) || !url.has_host() {
        return Err("expected a URL such as https://billing.example.com/webhooks/stripe".to_owned());
    }
    Ok(text.to_owned())
}

impl Fix<'_> {
    /// Makes the changes after a confirmation.
    pub(super) async fn run(&self, config: Option<&StripeConfig>, hosts: Option<&Hosts>) -> anyhow::Result<Fixed> {
        let refuse = |wrong: &str| Ok(Fixed::Refused(output::refuse(wrong)));
        let (Some(config), Some(hosts)) = (config, hosts) else {
            return refuse("--fix needs valid settings of Stripe and of the database; run `doctor` without it first");
        };
        if config.write_key.is_none() {
            let wrong = "--fix changes webhook endpoints at Stripe, which needs STRIPE_WRITE_KEY: a key with the \
                         permission Webhook Endpoints (write)";
            return refuse(wrong);
        }
        if let Err(code) = self.confirm.check() {
            return Ok(Fixed::Refused(code));
        }
        let metrics = client::metrics(&Registry::new(), &[])?;
        let api = HttpStripe::for_writes(config, metrics, RemoteClock::default(), None)?;
        let mut conn = match database::current(hosts).await? {
            Ok(conn) => conn,
            Err(wrong) => return refuse(&wrong),
        };
        let unverified = match check::check_key(&api, &mut conn, config.read_margin).await?.status {
            KeyStatus::OtherAccount(shown_by) => {
                return refuse(&format!(
                    "STRIPE_WRITE_KEY belongs to another account or mode than the stored data: {shown_by}; nothing was \
                     changed"
                ));
            }
            KeyStatus::Refused(error) => return refuse(&explained(&error)),
            KeyStatus::Unanswered(error) if !error.is_forbidden() && self.confirm.is_given() => {
                return refuse(&format!(
                    "could not check whether STRIPE_WRITE_KEY belongs to the account of the stored data: {error}; try \
                     again, or confirm on a terminal instead of with --yes; nothing was changed"
                ));
            }
            KeyStatus::Unanswered(error) => Some(error.to_string()),
            KeyStatus::Unverified => Some("there is no stored event to check".to_owned()),
            KeyStatus::Verified => None,
        };
        drop(conn);
        let found = match endpoints::list(&api).await {
            Ok(found) => found,
            Err(error) => return refuse(&explained(&error)),
        };
        let changes = match self.plan(&found) {
            Ok(changes) => changes,
            Err(wrong) => return refuse(&wrong),
        };
        self.make(&api, config, changes, unverified.as_deref()).await
    }

    /// The changes that make the endpoint complete.
    fn plan(&self, found: &[WebhookEndpoint]) -> Result<Vec<Change>, String> {
        let add = |endpoint: &WebhookEndpoint| {
            let missing = endpoint.missing_types();
            (!missing.is_empty()).then(|| Change::Add(endpoint.clone(), missing))
        };
        if let Some(url) = self.url {
            let named = Named::find(found, url, self.has_accounts);
            let create = named.is_own_missing.then(|| Change::Create(url.to_owned()));
            return Ok(create.into_iter().chain(named.own.into_iter().chain(named.connect).filter_map(add)).collect());
        }
        let useful = found.iter().filter(|endpoint| endpoint.is_enabled && endpoint.is_useful());
        let (connect, own): (Vec<_>, Vec<_>) = useful.partition(|endpoint| endpoint.is_connect);
        let mut changes = Vec::new();
        for group in [Some(own), self.has_accounts.then_some(connect)].into_iter().flatten() {
            if group.iter().any(|endpoint| endpoint.missing_types().is_empty()) {
                continue;
            }
            if group.len() > 1 {
                let names: Vec<String> = group.iter().map(|endpoint| endpoints::name(endpoint)).collect();
                return Err(format!(
                    "several webhook endpoints send events that rows need: {}; name the one that leads to this service \
                     with --endpoint-url",
                    names.join(", ")
                ));
            }
            changes.extend(group.into_iter().filter_map(add));
        }
        Ok(changes)
    }

    /// Makes the changes; `unverified` is the reason why the account of the key is not known to be the right one.
    async fn make(
        &self,
        api: &HttpStripe,
        config: &StripeConfig,
        changes: Vec<Change>,
        unverified: Option<&str>,
    ) -> anyhow::Result<Fixed> {
        if changes.is_empty() {
            self.print(
                &json!({ "fix": "endpoints", "changes": 0 }),
                "No webhook endpoint at Stripe needs a change.\n",
            )?;
            return Ok(Fixed::Done);
        }
        let mode = match config.write_livemode() {
            Some(true) => " (live mode)",
            Some(false) => " (test mode)",
            None => "",
        };
        let mut plan = format!("This changes webhook endpoints at Stripe{mode}:\n");
        for change in &changes {
            let text = match change {
                Change::Add(endpoint, missing) => {
                    let count = counted(missing.len() as u64, "event type");
                    format!("{} also sends {count}: {}", endpoints::name(endpoint), in_words(missing))
                }
                Change::Create(url) => format!(
                    "a new endpoint with the URL {url} sends all {} event types that rows need, in API version \
                     {API_VERSION}",
                    catalogue::subscribed().count()
                ),
            };
            writeln!(plan, "{}", output::wrapped("  ", &text))?;
        }
        if let Some(why) = unverified {
            let text = format!(
                "Not verified: whether STRIPE_WRITE_KEY belongs to the account of the stored data, because {why}."
            );
            writeln!(plan, "{}", output::wrapped("", &text))?;
        }
        // standard output has only JSON then
        if self.is_json {
            output::complain(plan.trim_end());
        } else {
            output::print(plan.trim_end())?;
        }
        if !self.confirm.ask("Change this at Stripe?")? {
            output::complain("nothing was changed\n");
            return Ok(Fixed::Failed);
        }
        let mut fixed = Fixed::Done;
        for change in changes {
            let request = request(&change);
            match send(api, &request).await {
                Ok(answer) => self.report(&change, &answer)?,
                Err(error) => {
                    let is_checked = config.secret_key.is_some();
                    output::complain(&output::wrapped("error: ", &failure(&change, &error, is_checked)));
                    fixed = Fixed::Failed;
                }
            }
        }
        if !self.is_json {
            output::print("")?;
        }
        Ok(fixed)
    }

    fn report(&self, change: &Change, answer: &WriteAnswer) -> anyhow::Result<()> {
        let url = match change {
            Change::Add(endpoint, missing) => {
                let line =
                    json!({ "fix": "endpoints", "endpoint": endpoint.id, "url": endpoint.url, "added": missing });
                let count = counted(missing.len() as u64, "event type");
                return self.print(&line, &format!("Added {count} to {}.", endpoint.id));
            }
            Change::Create(url) => url,
        };
        let created = webhook_endpoint::created(&answer.body);
        let (id, secret) = (created.id.unwrap_or_else(|| "an endpoint".to_owned()), created.secret);
        let line = json!({ "fix": "endpoints", "endpoint": id, "url": url, "created": true, "signing_secret": secret });
        let secret = secret.as_deref().unwrap_or("(not in Stripe's answer: reveal it in the Stripe dashboard)");
        let next = output::wrapped(
            "",
            "Stripe's API shows this signing secret only once. Set STRIPE_WEBHOOK_SECRET to it, or add it to that \
             setting after a comma if other endpoints lead here too; then restart `serve`.",
        );
        self.print(&line, &format!("Created {id} for {url}. Its signing secret:\n\n  {secret}\n\n{next}"))
    }

    fn print(&self, line: &serde_json::Value, text: &str) -> anyhow::Result<()> {
        if self.is_json { output::print_json(line) } else { output::print(text) }
    }
}

fn request(change: &Change) -> WriteRequest {
    match change {
        Change::Add(endpoint, missing) => {
            enable_events(&endpoint.id, endpoint.enabled_events.iter().chain(missing).map(String::as_str))
        }
        Change::Create(url) => {
            let types: Vec<String> = catalogue::subscribed().collect();
            create_webhook_endpoint(url, API_VERSION, types.iter().map(String::as_str))
        }
    }
}

async fn send(api: &HttpStripe, request: &WriteRequest) -> Result<WriteAnswer, WriteError> {
    let key = Uuid::new_v4().to_string();
    let urgency = Urgency::Interactive;
    api.write(KeyedWrite { account: "", request, key: &key, urgency, may_have_been_sent: false }).await
}

/// Why a change was not made, and the fix. `is_checked`: the webhook endpoints are checked afterwards, which needs
/// `STRIPE_SECRET_KEY`.
fn failure(change: &Change, error: &WriteError, is_checked: bool) -> String {
    let what = match change {
        Change::Add(endpoint, _) => format!("the event types of {} were not changed", endpoint.id),
        Change::Create(url) => format!("no endpoint was created for {url}"),
    };
    match error {
        WriteError::KeyRefused { status: 403, .. } => format!("{what}: {error}; {PERMISSION}"),
        // the text of the error has the fix
        WriteError::KeyRefused { .. } => format!("{what}: {error}"),
        WriteError::Refused { param: Some(param), .. } => {
            format!(
                "{what}: {error}, because of {param}. An endpoint of an old API version may not know a new event type; \
                 change it in the Stripe dashboard"
            )
        }
        WriteError::Refused { .. } => {
            format!("{what}: {error}, and would refuse it again; make the change in the Stripe dashboard")
        }
        WriteError::Unknown { .. } if is_checked => {
            format!("{error}. The checks below show whether the change was made")
        }
        WriteError::Unknown { .. } => {
            format!("{error}. The Stripe dashboard shows under Developers > Webhooks whether the change was made")
        }
        WriteError::Unreachable { .. } | WriteError::Later { .. } => format!("{what}: {error}; run this again"),
    }
}

fn explained(error: &ApiError) -> String {
    match error {
        ApiError::Forbidden { .. } => format!("STRIPE_WRITE_KEY may not read webhook endpoints; {PERMISSION}"),
        error => format!("{error}; {}; nothing was changed", error.fix(settings::STRIPE_WRITE_KEY.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_succeed_is_to_be_run_again() {
        let change = Change::Create("https://a.example".to_owned());
        let refused = |param: Option<&str>| WriteError::Refused {
            status: 400,
            code: None,
            decline_code: None,
            param: param.map(str::to_owned),
            request_id: None,
        };
        let key_refused =
            |status| WriteError::KeyRefused { status, code: None, permissions: Vec::new(), request_id: None };
        let unknown =
            || WriteError::Unknown { why: "the connection was closed".to_owned(), is_saved: false, request_id: None };
        for (error, is_checked, fix) in [
            (WriteError::Unreachable { why: "no answer".to_owned() }, true, "run this again"),
            (
                WriteError::Later { code: "rate_limit", retry_after: None, request_id: None },
                true,
                "stripe asks to retry later (rate_limit); run this again",
            ),
            (key_refused(401), true, "stripe refuses STRIPE_WRITE_KEY (401): check the key in the Stripe dashboard"),
            (key_refused(403), true, PERMISSION),
            (refused(None), true, "would refuse it again; make the change in the Stripe dashboard"),
            (refused(Some("url")), true, "because of url. An endpoint of an old API version may not know"),
            (unknown(), true, "The checks below show whether the change was made"),
            (unknown(), false, "The Stripe dashboard shows under Developers > Webhooks whether the change was made"),
        ] {
            let text = failure(&change, &error, is_checked);
            assert!(text.contains(fix), "{text}");
            let may_succeed = matches!(error, WriteError::Unreachable { .. } | WriteError::Later { .. });
            assert_eq!(text.contains("run this again"), may_succeed, "{text}");
        }
    }
}
