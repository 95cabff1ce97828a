//! Checks several customers and objects concurrently, and reports the findings of each.
//!
//! Called by [`super::compare`], which selects what is checked.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use uuid::Uuid;

use super::customer::{CheckError, CheckResult, SHARED, WriteMode};
use super::finding::{CompareProgress, Finding};
use crate::backfill::Backfill;
use crate::client::ApiError;
use crate::domain::object::ObjectKey;
use crate::store::Change;
use crate::worker::failure::Failure;
use crate::worker::fetched::FetchedObject;

/// The checks in progress.
pub(crate) struct Checks<'a> {
    pub(crate) backfill: &'a Arc<Backfill>,
    pub(crate) mode: WriteMode,
    /// Whether the checkout sessions of a customer are compared with it.
    pub(crate) with_sessions: bool,
    pub(crate) running: JoinSet<(ObjectKey, Result<CheckResult, CheckError>)>,
    /// During a first pass, the keys of objects that differ are collected here instead of being reported.
    pub(crate) recheck: Option<Vec<ObjectKey>>,
    /// Shared rows that were reported already. In a dry run every customer with the same plan or coupon would report
    /// them again.
    pub(crate) shared: HashSet<Uuid>,
}

impl Checks<'_> {
    /// Reports rows that differ, or collects their keys for a second check.
    pub(crate) fn found(
        &mut self,
        keys: Vec<ObjectKey>,
        customer: Option<String>,
        mut changes: Vec<Change>,
        report: &mut impl FnMut(Finding),
    ) {
        let objects = keys.len();
        if let Some(recheck) = self.recheck.as_mut().filter(|_| !changes.is_empty()) {
            recheck.extend(keys);
            return report(Finding::Progress(CompareProgress::Deferred(objects)));
        }
        let is_own = |change: &Change| !SHARED.contains(&change.table);
        changes.retain(|change| is_own(change) || self.shared.insert(change.row_id));
        report(Finding::Seen { customer, objects, changes });
    }

    /// Starts one more check; waits for another one to end if `concurrency` checks are in progress.
    pub(crate) async fn add(
        &mut self,
        key: ObjectKey,
        listed: Option<FetchedObject>,
        report: &mut impl FnMut(Finding),
    ) -> Result<(), CheckError> {
        if self.running.len() >= self.backfill.concurrency {
            self.next(report).await?;
        }
        let (backfill, mode, with_sessions) = (Arc::clone(self.backfill), self.mode, self.with_sessions);
        self.running.spawn(async move {
            let seen = backfill.check(&key, listed, mode, with_sessions).await;
            (key, seen)
        });
        Ok(())
    }

    pub(crate) async fn end(&mut self, report: &mut impl FnMut(Finding)) -> Result<(), CheckError> {
        while !self.running.is_empty() {
            self.next(report).await?;
        }
        Ok(())
    }

    async fn next(&mut self, report: &mut impl FnMut(Finding)) -> Result<(), CheckError> {
        // panics of the merge are caught inside the task; otherwise the runtime is shutting down
        let Some(Ok((key, seen))) = self.running.join_next().await else { return Ok(()) };
        match seen {
            Ok(CheckResult { changes, forbidden }) => {
                for error in forbidden {
                    report(Finding::Forbidden(error));
                }
                let customer = (key.object_type == "customer").then(|| key.object_id.clone());
                self.found(vec![key], customer, changes, report);
            }
            Err(CheckError::Work(failure @ Failure::Unavailable(_))) => return Err(failure.into()),
            Err(CheckError::Api(error @ ApiError::Unauthorised { status: 401, .. })) => return Err(error.into()),
            Err(CheckError::Api(error)) if error.is_forbidden() => report(Finding::Forbidden(error)),
            Err(error) => report(Finding::Failed { what: key.object_id, error }),
        }
        Ok(())
    }
}

impl Backfill {
    /// Checks one customer or object; retries while Stripe limits the rate or is unavailable, or live events lock its
    /// rows.
    async fn check(
        &self,
        key: &ObjectKey,
        listed: Option<FetchedObject>,
        mode: WriteMode,
        with_sessions: bool,
    ) -> Result<CheckResult, CheckError> {
        let mut tries = 0;
        loop {
            let result = if key.object_type == "customer" {
                self.customer(key, listed.clone(), mode, with_sessions).await
            } else {
                self.other(key, mode).await
            };
            let error = match result {
                Err(CheckError::Api(error @ (ApiError::RateLimited { .. } | ApiError::Unavailable { .. }))) => {
                    CheckError::Api(error)
                }
                Err(CheckError::Work(failure @ Failure::Contended(_))) => CheckError::Work(failure),
                seen => return seen,
            };
            tries += 1;
            let Some(backoff) = self.page_retry.delay(tries, fastrand::f64()) else { return Err(error) };
            let (wait, awaited) = match &error {
                CheckError::Api(error) => (error.retry_after().unwrap_or_default(), error.awaited()),
                CheckError::Work(failure) => (Duration::ZERO, failure.awaited()),
                CheckError::NoCustomer(_) => return Err(error),
            };
            self.waits.sleep(awaited, wait.max(backoff)).await;
        }
    }
}
