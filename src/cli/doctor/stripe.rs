//! The checks of the way out to Stripe: whether there is a key, and whether it is of the account of our events.

use prometheus::Registry;
use sqlx::PgConnection;

use super::report::{Check, Report};
use crate::client::{self, ApiError, HttpStripe, Permission, Read, StripeApi, Urgency};
use crate::clock::Heard;
use crate::config::stripe::StripeConfig;
use crate::jobs::Kind;
use crate::metrics::service::{Comparison, Jobs};
use crate::reconcile::gap::Gap;
use crate::worker::fetch::guard::{self, Verdict};

/// Twice the longest `BILLING_SYNC_RECONCILE_INTERVAL`.
const OLD_SECONDS: f64 = 3600.0;

/// Asks Stripe a few things with the key; `conn` is for the stored events.
pub(super) async fn api(config: &StripeConfig, conn: &mut PgConnection) -> Vec<Check> {
    if config.secret_key.is_none() {
        let detail = "no API key: what events do not carry is not fetched (payment methods, discounts, other currencies, \
                      orders in doubt)";
        return vec![Check::warning(
            "stripe",
            detail,
            "set STRIPE_SECRET_KEY; then `rebuild` asks for what is lacking",
        )];
    }
    let made = client::metrics(&Registry::new())
        .ok()
        .and_then(|metrics| HttpStripe::new(config, metrics, Heard::default()).ok());
    let Some(api) = made else {
        let mend = "check STRIPE_SECRET_KEY and STRIPE_API_BASE";
        return vec![Check::failed("stripe", "the client cannot be made", mend)];
    };
    let (check, answers) = account(&api, config, conn).await;
    let mut checks = vec![check];
    if answers {
        checks.push(permissions(&api).await);
    }
    checks
}

/// Whether the key is of the account of the stored events, and whether Stripe answers it at all.
async fn account(api: &HttpStripe, config: &StripeConfig, conn: &mut PgConnection) -> (Check, bool) {
    let at = &config.api_base;
    let verdict = match guard::examine(api, conn, config.read_margin).await {
        Ok(look) => look.verdict,
        Err(error) => {
            let mend = "the database user needs to read the schema billing";
            return (Check::failed("stripe", error.to_string(), mend), false);
        }
    };
    let answers =
        matches!(verdict, Verdict::Proven | Verdict::Unproven | Verdict::Unanswered(ApiError::Forbidden { .. }));
    let check = match verdict {
        Verdict::Proven => Check::ok("stripe", format!("{at} is of the account that is stored here")),
        Verdict::Unproven => {
            let detail = format!("{at} answers; no event is stored yet that could show that the key is of our account");
            Check::ok("stripe", detail)
        }
        Verdict::Unanswered(ApiError::Forbidden { .. }) => {
            let detail = format!("{at} answers; without events nothing shows that the key is of our account");
            Check::ok("stripe", detail)
        }
        Verdict::Unanswered(error) => {
            let mend = format!("see that this machine reaches {at} (STRIPE_API_BASE)");
            Check::failed("stripe", error.to_string(), mend)
        }
        Verdict::OtherAccount(shown_by) => {
            let detail = format!("the key is of another account or mode: {shown_by}");
            Check::failed("stripe", detail, "take the key of the account whose events are received")
        }
        Verdict::Refused(error) => Check::failed("stripe", error.to_string(), "set STRIPE_SECRET_KEY to a valid key"),
    };
    (check, answers)
}

/// Asks for one object of each kind that rows need, to see which permissions a restricted key lacks.
async fn permissions(api: &HttpStripe) -> Check {
    let mut missing = Vec::new();
    for permission in Permission::PROBED {
        match api.read("", &Read::Probe(permission), Urgency::Normal).await {
            Err(ApiError::Forbidden { .. }) => missing.push(permission),
            Err(error @ (ApiError::RateLimited { .. } | ApiError::Unavailable { .. })) if !error.is_unknown_path() => {
                let detail = format!("not all permissions of the key could be checked: {error}");
                return Check::warning("permissions", detail, "run `doctor` again");
            }
            _ => {}
        }
    }
    if missing.is_empty() {
        let count = Permission::PROBED.len();
        return Check::ok("permissions", format!("the key may read all {count} kinds of objects that rows need"));
    }
    let list =
        |name: fn(Permission) -> &'static str| missing.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ");
    let detail = format!("the key may not read {}", list(Permission::objects));
    let mend = format!("give it these permissions (read) in the Stripe dashboard: {}", list(Permission::in_dashboard));
    Check::failed("permissions", detail, mend)
}

/// The way to Stripe's API: the proxy and the trusted certificates.
pub(super) fn egress(config: &StripeConfig) -> Check {
    Check::ok("network", format!("{} is reached {}", config.api_base, config.egress.describe()))
}

/// Jobs that fail again and again.
pub(super) fn jobs(jobs: &[Jobs], report: &mut Report) {
    let count = |of: fn(&Jobs) -> i64| jobs.iter().map(of).sum::<i64>();
    report.add(Check::ok("jobs", format!("{} about objects are queued", count(|jobs| jobs.all))));
    let renewals: i64 = jobs.iter().filter(|jobs| jobs.kind == Kind::Renewal.as_str()).map(|jobs| jobs.all).sum();
    if renewals > 0 {
        let detail = format!("set aside: {renewals} whose limits cannot be renewed; all others are renewed");
        let mend = "SELECT object_id, last_error FROM billing.jobs WHERE kind = 'renewal' says which and why. They are \
                    retried with increasing delay, and all at once by `billing-sync renew`";
        report.add(Check::warning("limits", detail, mend));
    }
    let failing = count(|jobs| jobs.failing) - renewals;
    if failing > 0 {
        let mend = "SELECT * FROM billing.jobs WHERE last_error IS NOT NULL says which and why; they are tried again";
        report.add(Check::warning("jobs", format!("{failing} have failed"), mend));
    }
}

/// How far the stored events are compared with Stripe's, and what never will be.
pub(super) fn comparison(figures: &Comparison, config: Option<&StripeConfig>) -> Vec<Check> {
    let mend = "does `serve` run with the role reconcile and the key? `reconcile` does it once and says what is wrong";
    let mut checks = Vec::new();
    let failing = match &figures.last_error {
        Some(error) => format!("; {} comparisons have failed, the last one because {error}", figures.failures),
        None => String::new(),
    };
    match figures.watermark_age_seconds {
        None if config.is_none_or(|config| config.secret_key.is_none()) => {
            checks.push(Check::ok("reconcile", "without a key the stored events are not compared with Stripe's"));
        }
        Some(_) if !figures.compared && figures.failures > 0 => {
            let detail = format!("the stored events were never compared with Stripe's{failing}");
            checks.push(Check::warning("reconcile", detail, mend));
        }
        None => checks.push(Check::ok("reconcile", "the stored events were not compared with Stripe's yet")),
        Some(age) if age > OLD_SECONDS => {
            let detail =
                format!("nothing of the last {:.0} minutes was compared with Stripe's events{failing}", age / 60.0);
            checks.push(Check::warning("reconcile", detail, mend));
        }
        Some(age) => {
            let detail = format!("everything was compared with Stripe's events up to {age:.0} seconds ago");
            checks.push(Check::ok("reconcile", detail));
        }
    }
    if let (Some(since), Some(until)) = (figures.gap_since, figures.gap_until) {
        let account = figures.gap_account.as_deref().filter(|account| !account.is_empty());
        let of = account.map(|account| format!(" of {account}")).unwrap_or_default();
        let detail = format!("there is a gap{of}: {}", Gap { since, until }.describe());
        checks.push(Check::failed("reconcile", detail, "`backfill`, which closes it"));
    }
    checks
}
