//! The checks of Stripe's API: whether there is a key, and whether it belongs to the account of the stored events.

use prometheus::Registry;
use time::Duration;

use super::endpoints::{self, Wanted};
use super::report::{Check, Report};
use crate::base::clock::RemoteClock;
use crate::cli::units::span;
use crate::client::{self, ApiError, HttpStripe, Permission, Read, StripeApi, Urgency};
use crate::config::settings;
use crate::config::stripe::StripeConfig;
use crate::database::Connection;
use crate::jobs::Kind;
use crate::metrics::database::{Comparison, Jobs};
use crate::reconcile::gap::Gap;
use crate::stripe_key::check::{self, KeyStatus};

/// Age of the watermark above which it is reported: twice the longest `BILLING_SYNC_RECONCILE_INTERVAL`.
pub(crate) const OLD_SECONDS: f64 = 3600.0;

/// Difference of the clocks that is reported: NTP keeps within a second.
const CLOCK_TOLERANCE: Duration = Duration::seconds(30);
/// Difference above which signatures count as stale and renewals are halted.
const CLOCK_LIMIT: Duration = Duration::minutes(5);

/// Checks the key, Stripe's clock and the webhook endpoints with a few requests to Stripe; `conn` is for the stored
/// events.
pub(super) async fn api(config: &StripeConfig, wanted: Wanted<'_>, conn: &mut Connection) -> Vec<Check> {
    if config.secret_key.is_none() {
        let detail = "no API key: data that events omit is not fetched (payment methods, discounts, other currencies, \
                      ambiguous order)";
        return vec![Check::warning(
            "stripe",
            detail,
            "set STRIPE_SECRET_KEY; then `rebuild` queues the missing objects",
        )];
    }
    let clock = RemoteClock::default();
    let made = client::metrics(&Registry::new(), &[])
        .ok()
        .and_then(|metrics| HttpStripe::new(config, metrics, clock.clone()).ok());
    let Some(api) = made else {
        let fix = "check STRIPE_SECRET_KEY and STRIPE_API_BASE";
        return vec![Check::failed("stripe", "could not create the API client", fix)];
    };
    let (check, answers) = account(&api, config, conn).await;
    let mut checks = vec![check];
    checks.extend(clock.ahead().map(clock_check));
    if answers {
        checks.push(permissions(&api).await);
        checks.extend(endpoints::checks(&api, wanted).await);
    }
    checks
}

/// Compares Stripe's clock with this machine's. Stripe's answers contain whole seconds, and take some time to arrive.
fn clock_check(ahead: Duration) -> Check {
    let apart = ahead.abs();
    let differ = if apart < Duration::seconds(2) { "less than 2 s".to_owned() } else { span(apart.as_seconds_f64()) };
    let detail = format!("the clocks of Stripe and of this machine differ by {differ}");
    if apart <= CLOCK_TOLERANCE {
        return Check::ok("clock", detail);
    }
    let direction = if ahead.is_negative() { "ahead" } else { "behind" };
    let detail = format!("{detail}; this machine is {direction}");
    if apart <= CLOCK_LIMIT {
        let fix = "synchronise this machine's clock (NTP), before the difference exceeds 5 minutes";
        return Check::warning("clock", detail, fix);
    }
    let detail = format!("{detail}, so deliveries fail the signature check and limits are not renewed");
    Check::failed("clock", detail, "synchronise this machine's clock (NTP)")
}

/// Checks whether Stripe accepts the key, and whether it belongs to the account of the stored events.
async fn account(api: &HttpStripe, config: &StripeConfig, conn: &mut Connection) -> (Check, bool) {
    let at = &config.api_base;
    let status = match check::check_key(api, conn, config.read_margin).await {
        Ok(look) => look.status,
        Err(error) => return (Check::broken("stripe", &error), false),
    };
    let answers = matches!(
        status,
        KeyStatus::Verified | KeyStatus::Unverified | KeyStatus::Unanswered(ApiError::Forbidden { .. })
    );
    let check = match status {
        KeyStatus::Verified => {
            Check::ok("stripe", format!("{at} answers; the key belongs to the account of the stored events"))
        }
        KeyStatus::Unverified => {
            let detail =
                format!("{at} answers; the key's account is not verified yet: there is no stored event to check");
            Check::ok("stripe", detail)
        }
        KeyStatus::Unanswered(ApiError::Forbidden { .. }) => {
            let detail = format!("{at} answers; the key's account cannot be verified, as the key may not read events");
            Check::ok("stripe", detail)
        }
        KeyStatus::Unanswered(error) | KeyStatus::Refused(error) => {
            Check::failed("stripe", error.to_string(), error.fix(settings::STRIPE_SECRET_KEY.name))
        }
        KeyStatus::OtherAccount(shown_by) => {
            let detail = format!("the key belongs to another account or mode: {shown_by}");
            Check::failed("stripe", detail, "use a key of the account whose events are received")
        }
    };
    (check, answers)
}

/// Requests one object of each kind that rows need, to find out which permissions a restricted key does not have.
async fn permissions(api: &HttpStripe) -> Check {
    let missing = match missing_permissions(api, &Permission::PROBED).await {
        Ok(missing) => missing,
        Err(error) => {
            let detail = format!("could not check all permissions of the key: {error}");
            return Check::warning("permissions", detail, "run `doctor` again");
        }
    };
    if missing.is_empty() {
        let count = Permission::PROBED.len();
        return Check::ok("permissions", format!("the key may read all {count} kinds of objects that rows need"));
    }
    let detail = format!("the key may not read {}", listed(&missing, Permission::objects));
    let names = listed(&missing, Permission::in_dashboard);
    let fix = format!("grant it these permissions (read) in the Stripe dashboard: {names}");
    Check::failed("permissions", detail, fix)
}

/// The permissions that the key does not have, by a request for each.
pub(super) async fn missing_permissions(api: &HttpStripe, tested: &[Permission]) -> Result<Vec<Permission>, ApiError> {
    let mut missing = Vec::new();
    for permission in tested {
        match api.read("", &Read::Probe(*permission), Urgency::Normal).await {
            Err(ApiError::Forbidden { .. }) => missing.push(*permission),
            Err(error @ (ApiError::RateLimited { .. } | ApiError::Unavailable { .. })) if !error.is_unknown_path() => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(missing)
}

/// Names of permissions in a sentence.
pub(super) fn listed(permissions: &[Permission], name: fn(Permission) -> &'static str) -> String {
    permissions.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ")
}

/// Describes the way of requests to Stripe: the proxy and the trusted certificates. None is sent here.
pub(super) fn egress(config: &StripeConfig) -> Check {
    Check::ok("network", format!("requests to {} go {}", config.api_base, config.egress.describe()))
}

/// Checks for jobs that fail repeatedly, and for limits that are set aside.
pub(super) fn jobs(jobs: &[Jobs], report: &mut Report) {
    let count = |of: fn(&Jobs) -> i64| jobs.iter().map(of).sum::<i64>();
    report.add(Check::ok("jobs", format!("{} are queued", count(|jobs| jobs.all))));
    let renewals: i64 = jobs.iter().filter(|jobs| jobs.kind == Kind::Renewal.as_str()).map(|jobs| jobs.all).sum();
    if renewals > 0 {
        let detail = format!("set aside: {renewals} whose limits cannot be renewed; all others are renewed");
        let fix = "SELECT object_id, last_error FROM billing.jobs WHERE kind = 'renewal' shows which and why. They are \
                    retried with increasing delay, and immediately by `billing-sync renew`";
        report.add(Check::warning("limits", detail, fix));
    }
    let failing = count(|jobs| jobs.failing) - renewals;
    if failing > 0 {
        let fix = "SELECT * FROM billing.jobs WHERE last_error IS NOT NULL shows which and why; they are retried";
        report.add(Check::warning("jobs", format!("{failing} have failed"), fix));
    }
}

/// Checks how far the stored events are compared with Stripe's event list, and whether there is a gap.
pub(super) fn comparison(figures: &Comparison, config: Option<&StripeConfig>) -> Vec<Check> {
    let fix = "run `serve` with the role reconcile and the key; `reconcile` does it once and shows the error";
    let mut checks = Vec::new();
    let failing = match &figures.last_error {
        Some(error) => format!("; {} comparisons failed, the last one because {error}", figures.failures),
        None => String::new(),
    };
    match figures.watermark_age_seconds {
        None if config.is_none_or(|config| config.secret_key.is_none()) => {
            checks.push(Check::ok("reconcile", "stored events are not compared with Stripe's list without a key"));
        }
        Some(_) if !figures.compared && figures.failures > 0 => {
            let detail = format!("stored events were never compared with Stripe's list{failing}");
            checks.push(Check::warning("reconcile", detail, fix));
        }
        None => checks.push(Check::ok("reconcile", "stored events have not been compared with Stripe's list yet")),
        Some(age) if age > OLD_SECONDS => {
            let detail = format!("events of the last {} were not compared with Stripe's list{failing}", span(age));
            checks.push(Check::warning("reconcile", detail, fix));
        }
        Some(age) => {
            let detail = format!("all events up to {age:.0} seconds ago were compared with Stripe's event list");
            checks.push(Check::ok("reconcile", detail));
        }
    }
    if let (Some(since), Some(until)) = (figures.gap_since, figures.gap_until) {
        let account = figures.gap_account.as_deref().filter(|account| !account.is_empty());
        let of = account.map(|account| format!(" of {account}")).unwrap_or_default();
        let detail = format!("there is a gap{of}: {}", Gap { since, until }.describe());
        checks.push(Check::failed("reconcile", detail, "run `backfill`, which closes it"));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_clock_is_fine_up_to_half_a_minute() {
        for (seconds, expected) in [
            (0, r#""status":"ok","detail":"the clocks of Stripe and of this machine differ by less than 2 s"}"#),
            (-30, r#""status":"ok","detail":"the clocks of Stripe and of this machine differ by 30 s"}"#),
            (31, r#"differ by 31 s; this machine is behind","fix":"synchronise this machine's clock (NTP), before"#),
            (-300, r#""status":"warning""#),
            (-301, "differ by 5 min; this machine is ahead, so deliveries fail the signature check"),
            (301, r#""status":"failed""#),
        ] {
            let check = serde_json::to_string(&clock_check(Duration::seconds(seconds))).unwrap();
            assert!(check.contains(expected), "{seconds}: {check}");
        }
    }
}
