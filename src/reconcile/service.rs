//! Compares all accounts at startup and every few minutes: the role `reconcile` of `serve`.
//!
//! So events missed while Stripe had disabled the endpoint, or in an outage longer than Stripe's retries, are loaded
//! without an operator. Any number of processes may run this; the first one compares an account. Webhook processing
//! does not depend on it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::run::{ComparisonReport, Run};
use super::{Failure, KeyError, Reconcile};
use crate::base::text::to_the_second;
use crate::database;

/// Interval of checks whether a comparison is due: another process may have made it, or failed.
const LOOK: Duration = Duration::from_secs(5);

/// At startup a process compares at once, unless a comparison ended less than this ago.
const JUST: Duration = Duration::from_secs(15);

/// The reconciliation service of `serve`.
#[derive(Clone)]
pub struct ReconcileService {
    /// Dependencies of the comparisons.
    pub reconcile: Reconcile,
    /// Time from the end of one comparison to the start of the next.
    pub interval: Duration,
}

/// What was logged already and is not repeated.
#[derive(Default)]
struct LoggedState {
    /// Accounts whose comparison fails.
    failing: BTreeSet<String>,
    /// Accounts that this process has compared.
    compared: BTreeSet<String>,
}

impl ReconcileService {
    /// Runs until `shutdown`. Restarts after a panic.
    pub async fn run(self, shutdown: CancellationToken) {
        while tokio::spawn(self.clone().keep_comparing(shutdown.clone())).await.is_err() {
            tracing::error!("the comparison with Stripe's events panicked; restarting");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn keep_comparing(self, shutdown: CancellationToken) {
        let mut logged = LoggedState::default();
        let mut pause = self.interval.min(JUST);
        loop {
            self.round(pause, &mut logged, &shutdown).await;
            pause = self.interval;
            let look = tokio::time::sleep(self.interval.min(LOOK));
            if shutdown.run_until_cancelled(look).await.is_none() {
                return;
            }
        }
    }

    /// Compares the accounts that are due.
    async fn round(&self, pause: Duration, logged: &mut LoggedState, shutdown: &CancellationToken) {
        let mut run = Run::new(&self.reconcile, None, shutdown);
        for account in self.reconcile.accounts() {
            if shutdown.is_cancelled() {
                return;
            }
            match run.account(&account, Some(pause), &mut |_| ()).await {
                Ok(None) => {}
                Ok(Some(compared)) => logged.compared(&compared),
                Err(Failure::Stopped) => return,
                Err(failure) => {
                    let is_foreign = matches!(failure, Failure::Key(KeyError::OtherAccount(_) | KeyError::Refused(_)));
                    let failure = match failure {
                        Failure::Connection(error) => database::reason(&self.reconcile.pool, &error).await,
                        failure => failure.to_string(),
                    };
                    logged.failed(account, &failure, is_foreign);
                }
            }
        }
    }
}

impl LoggedState {
    fn compared(&mut self, compared: &ComparisonReport) {
        let account = &compared.account;
        let was_failing = self.failing.remove(account);
        if was_failing {
            tracing::info!(account, "the comparison with Stripe's event list works again");
        }
        let is_first = self.compared.insert(account.clone());
        if let Some(gap) = compared.gap.filter(|_| is_first && compared.gap_was_known) {
            gap.log(account);
        }
        let (inserted, missed) = (compared.stats.inserted(), compared.stats.missed);
        let (from, until) = (to_the_second(compared.from), to_the_second(compared.until));
        if missed > 0 {
            tracing::warn!(
                account,
                inserted,
                missed,
                from,
                until,
                "stored undelivered events from Stripe's event list; check the webhook endpoint in the Stripe dashboard"
            );
        } else if inserted > 0 {
            tracing::info!(
                account,
                inserted,
                from,
                until,
                "stored events from Stripe's event list before their delivery"
            );
        } else {
            tracing::debug!(account, compared = compared.stats.compared, from, until, "no event is missing");
        }
    }

    /// Logs a failure once, until a comparison of that account succeeds.
    fn failed(&mut self, account: String, error: &str, is_foreign: bool) {
        if self.failing.contains(&account) {
            tracing::debug!(account, error, "could not compare the stored events with Stripe's event list again");
        } else if is_foreign {
            tracing::error!(
                account,
                error,
                "cannot compare the stored events with Stripe's event list until the key is corrected"
            );
        } else {
            tracing::warn!(
                account,
                error,
                "could not compare the stored events with Stripe's event list; retrying. No event is lost, and \
                 delivered events are processed as usual"
            );
        }
        self.failing.insert(account);
    }
}
