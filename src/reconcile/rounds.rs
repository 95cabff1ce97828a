//! Compares all accounts at the start and every few minutes. The role reconcile of `serve`.
//!
//! So an endpoint that Stripe has disabled, or an outage longer than Stripe's retries, heals by itself. Any number of
//! processes may do it: each account is compared by whoever comes first. Webhooks go on whatever happens here.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::run::{Compared, Run};
use super::{Doubt, Failure, Reconcile};
use crate::database;
use crate::text::to_the_second;

/// How often it looks whether a comparison is due: another process may have done it, or failed.
const LOOK: Duration = Duration::from_secs(5);

/// At its start a process compares at once, unless somebody has just done it.
const JUST: Duration = Duration::from_secs(15);

/// The part of `serve`.
#[derive(Clone)]
pub struct Rounds {
    /// What it compares, and with what.
    pub reconcile: Reconcile,
    /// From the end of one comparison to the start of the next.
    pub interval: Duration,
}

/// What it has said already and need not say again.
#[derive(Default)]
struct Said {
    /// Accounts whose comparison fails.
    failing: BTreeSet<String>,
    /// Accounts that this process has compared.
    compared: BTreeSet<String>,
}

impl Rounds {
    /// Works until `shutdown`. Begins again after a panic.
    pub async fn run(self, shutdown: CancellationToken) {
        while tokio::spawn(self.clone().keep_comparing(shutdown.clone())).await.is_err() {
            tracing::error!("the comparison with Stripe's events panicked and begins again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn keep_comparing(self, shutdown: CancellationToken) {
        let mut said = Said::default();
        let mut pause = self.interval.min(JUST);
        loop {
            self.round(pause, &mut said, &shutdown).await;
            pause = self.interval;
            let look = tokio::time::sleep(self.interval.min(LOOK));
            if shutdown.run_until_cancelled(look).await.is_none() {
                return;
            }
        }
    }

    /// Compares the accounts whose turn it is.
    async fn round(&self, pause: Duration, said: &mut Said, shutdown: &CancellationToken) {
        let mut run = Run::new(&self.reconcile, None, shutdown);
        for account in self.reconcile.accounts() {
            if shutdown.is_cancelled() {
                return;
            }
            match run.account(&account, Some(pause), &mut |_| ()).await {
                Ok(None) => {}
                Ok(Some(compared)) => said.compared(&compared),
                Err(Failure::Stopped) => return,
                Err(failure) => {
                    let is_foreign = matches!(failure, Failure::Key(Doubt::OtherAccount(_) | Doubt::Refused(_)));
                    let failure = match failure {
                        Failure::Connection(error @ (sqlx::Error::PoolTimedOut | sqlx::Error::Io(_))) => {
                            database::unreachable_reason(&self.reconcile.pool, &error).await
                        }
                        failure => failure.to_string(),
                    };
                    said.failed(account, &failure, is_foreign);
                }
            }
        }
    }
}

impl Said {
    fn compared(&mut self, compared: &Compared) {
        let account = &compared.account;
        let was_failing = self.failing.remove(account);
        if was_failing {
            tracing::info!(account, "the stored events are compared with Stripe's again");
        }
        let is_first = self.compared.insert(account.clone());
        if let Some(gap) = compared.gap.filter(|_| is_first && compared.gap_was_known) {
            gap.say(account);
        }
        let (inserted, missed) = (compared.tally.inserted(), compared.tally.missed);
        let (from, until) = (to_the_second(compared.from), to_the_second(compared.until));
        if missed > 0 {
            tracing::warn!(
                account,
                inserted,
                missed,
                from,
                until,
                "Stripe had events that were not delivered: they are stored now; is the endpoint disabled at Stripe?"
            );
        } else if inserted > 0 {
            tracing::info!(account, inserted, from, until, "events were stored before Stripe delivered them");
        } else {
            tracing::debug!(account, compared = compared.tally.compared, from, until, "no event is lacking");
        }
    }

    /// Once; then it is quiet until that account's comparison has come to its end.
    fn failed(&mut self, account: String, error: &str, is_foreign: bool) {
        if self.failing.contains(&account) {
            tracing::debug!(account, error, "the stored events cannot be compared with Stripe's yet");
        } else if is_foreign {
            tracing::error!(account, error, "the stored events are not compared with Stripe's until the key is mended");
        } else {
            tracing::warn!(
                account,
                error,
                "the stored events cannot be compared with Stripe's now: that is tried again, and nothing is lost; what is \
                 delivered meanwhile is processed as ever"
            );
        }
        self.failing.insert(account);
    }
}
