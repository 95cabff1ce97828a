//! The checks of changes at Stripe: the key for writes, and lines of the ledger that need an operator.

use prometheus::Registry;
use secrecy::ExposeSecret;

use super::report::Check;
use super::stripe::{listed, missing_permissions};
use crate::base::clock::RemoteClock;
use crate::cli::units::span;
use crate::client::{self, HttpStripe, Permission};
use crate::config::settings;
use crate::config::stripe::StripeConfig;
use crate::database::Connection;
use crate::metrics::database::Writes;
use crate::stripe_key::check::{self, KeyStatus};

/// Age above which an open change is reported: some attempts have failed by then.
pub(crate) const OLD_SECONDS: f64 = 600.0;
/// Where to create the key.
const RESTRICTED: &str = "create a restricted key (rk_…) in the Stripe dashboard, with the permissions Customers, Checkout \
                          Sessions, Subscriptions and Payment Links (write), and set STRIPE_WRITE_KEY to it";

/// Checks the key for writes with a few reads: Stripe has no harmless request that tests a write. No checks without it.
pub(super) async fn key(config: &StripeConfig, conn: &mut Connection) -> Vec<Check> {
    let Some(write_key) = &config.write_key else { return Vec::new() };
    let mut checks = Vec::new();
    if config.secret_key.as_ref().is_some_and(|key| key.expose_secret() == write_key.expose_secret()) {
        let detail = "STRIPE_WRITE_KEY is the same key as STRIPE_SECRET_KEY; a restricted key of its own is safer";
        checks.push(Check::warning("stripe", detail, RESTRICTED));
    }
    let made = client::metrics(&Registry::new(), &[])
        .ok()
        .and_then(|metrics| HttpStripe::for_writes(config, metrics, RemoteClock::default(), None).ok());
    let Some(api) = made else {
        let fix = "check STRIPE_WRITE_KEY and STRIPE_API_BASE";
        checks.push(Check::failed("stripe", "could not create the API client for writes", fix));
        return checks;
    };
    let (check, answers) = account(&api, config, conn).await;
    checks.push(check);
    if answers {
        checks.push(permissions(&api).await);
    }
    checks
}

/// Checks whether Stripe accepts the key, and whether it belongs to the account of the stored data, as a process that
/// writes does.
async fn account(api: &HttpStripe, config: &StripeConfig, conn: &mut Connection) -> (Check, bool) {
    let status = match check::check_key(api, conn, config.read_margin).await {
        Ok(report) => report.status,
        Err(error) => return (Check::broken("stripe", &error), false),
    };
    match status {
        KeyStatus::Verified => {
            (Check::ok("stripe", "STRIPE_WRITE_KEY belongs to the account of the stored events"), true)
        }
        KeyStatus::Unverified => {
            let detail = "the account of STRIPE_WRITE_KEY is not verified yet: there is no stored event to check";
            (Check::ok("stripe", detail), true)
        }
        KeyStatus::Unanswered(error) if error.is_forbidden() => {
            let detail = "STRIPE_WRITE_KEY may read neither its account nor events nor customers, so its account cannot \
                          be checked, and nothing is written";
            let fix = "give it the permission Customers (write) in the Stripe dashboard";
            (Check::failed("stripe", detail, fix), true)
        }
        KeyStatus::Unanswered(error) => {
            let detail = format!("STRIPE_WRITE_KEY was not checked: {error}");
            (Check::failed("stripe", detail, error.fix(settings::STRIPE_WRITE_KEY.name)), false)
        }
        KeyStatus::OtherAccount(shown_by) => {
            let detail =
                format!("STRIPE_WRITE_KEY belongs to another account or mode than the stored data: {shown_by}");
            (Check::failed("stripe", detail, "use a key of the account whose events are received"), false)
        }
        KeyStatus::Refused(error) => (
            Check::failed(
                "stripe",
                format!("STRIPE_WRITE_KEY cannot be used: {error}"),
                error.fix(settings::STRIPE_WRITE_KEY.name),
            ),
            false,
        ),
    }
}

/// Requests one object of each kind that is written. A key that may write may read too.
async fn permissions(api: &HttpStripe) -> Check {
    let missing = match missing_permissions(api, &Permission::WRITTEN).await {
        Ok(missing) => missing,
        Err(error) => {
            let detail = format!("could not check all permissions of STRIPE_WRITE_KEY: {error}");
            return Check::warning("permissions", detail, "run `doctor` again");
        }
    };
    if missing.is_empty() {
        let count = Permission::WRITTEN.len();
        let detail = format!(
            "STRIPE_WRITE_KEY may read all {count} kinds of objects that are written; whether it may write them shows \
             only with the first change"
        );
        return Check::ok("permissions", detail);
    }
    let detail = format!("STRIPE_WRITE_KEY may not even read {}", listed(&missing, Permission::objects));
    let names = listed(&missing, Permission::in_dashboard);
    let fix = format!("grant it these permissions (write) in the Stripe dashboard: {names}");
    Check::failed("permissions", detail, fix)
}

/// Reports changes of unknown outcome, and open ones that processes do not complete.
pub(super) fn ledger(figures: &Writes) -> Vec<Check> {
    let mut checks = Vec::new();
    if figures.unknown > 0 {
        let detail =
            format!("the outcome of {} changes at Stripe is unknown; an operator must decide", figures.unknown);
        let fix = "`billing-sync writes list --state unknown`, then `writes show` and `writes resolve`";
        checks.push(Check::warning("changes", detail, fix));
    }
    let open = figures.begun + figures.sent;
    if figures.oldest_open_seconds > OLD_SECONDS {
        let detail = format!("{open} changes at Stripe are open, the oldest for {}", span(figures.oldest_open_seconds));
        let fix = "`billing-sync writes list --state open` shows the errors; run `serve` with the role api and \
                   STRIPE_WRITE_KEY";
        checks.push(Check::warning("changes", detail, fix));
    } else if checks.is_empty() {
        checks.push(Check::ok("changes", format!("{open} at Stripe are open, none of unknown outcome")));
    }
    checks
}
