//! Compares all or some customers with Stripe, each completely; also plans, coupons and checkout sessions, which belong
//! to no customer.
//!
//! "All" includes the objects that Stripe lists and the stored objects that it does not list. An object that differs is
//! checked again after a delay, because the event of a recent change may still be on its way.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::checks::Checks;
use super::customer::{CheckError, WriteMode};
use super::finding::{CompareProgress, Finding};
use crate::backfill::list::{List, Page};
use crate::backfill::{Backfill, unlisted};
use crate::client::{Answer, ApiError, Span};
use crate::domain::object::ObjectKey;
use crate::worker::failure::Failure;
use crate::worker::fetched::FetchedObject;

/// Number of stored keys that are loaded at a time.
const PAGE: i64 = 500;

/// The customers and objects to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All customers and checkout sessions, optionally only those created at this time or later; and the whole
    /// catalogue.
    All(Option<OffsetDateTime>),
    /// A random sample of this many stored customers, and of as many plans, coupons and checkout sessions.
    Sample(u32),
    /// These customers of the key's own account, with their checkout sessions.
    Named(Vec<String>),
}

/// Hashes of the objects that were seen, to save memory: eight bytes each.
#[derive(Default)]
struct SeenCustomers {
    hasher: RandomState,
    seen: HashSet<u64>,
}

impl SeenCustomers {
    fn insert(&mut self, key: &ObjectKey) -> bool {
        self.seen.insert(self.hasher.hash_one((&key.account, &key.object_type, &key.object_id)))
    }
}

/// Stored objects to compare after all lists were read.
#[derive(Clone, Copy)]
enum Unlisted {
    Customers,
    /// Plans, coupons and checkout sessions.
    Others,
}

impl Backfill {
    /// Compares the selection and reports each finding to `report`. With [`WriteMode::Yes`] differences are repaired.
    /// With `again_after`, a difference is reported only if it persists for that time: the event of a recent change may
    /// still be on its way.
    ///
    /// # Errors
    /// If the database is unavailable, or Stripe refuses the key. Errors of a single customer are findings.
    pub async fn compare(
        self: &Arc<Self>,
        selection: &Selection,
        mode: WriteMode,
        again_after: Option<Duration>,
        report: &mut impl FnMut(Finding),
    ) -> Result<(), CheckError> {
        let mut forbidden = HashSet::new();
        let report = &mut |one| match &one {
            Finding::Forbidden(error) if !forbidden.insert(error.to_string()) => {}
            _ => report(one),
        };
        let first = if again_after.is_some() { WriteMode::No } else { mode };
        let recheck = again_after.map(|_| Vec::new());
        let with_sessions = matches!(selection, Selection::Named(_));
        let running = JoinSet::new();
        let mut checks =
            Checks { backfill: self, mode: first, with_sessions, running, recheck, shared: HashSet::new() };
        match selection {
            Selection::Named(ids) => {
                report(Finding::Progress(CompareProgress::Expected(ids.len())));
                for id in ids {
                    checks.add(ObjectKey::new("", "customer", id), None, report).await?;
                }
            }
            Selection::Sample(count) => {
                let mut conn = self.context.pool.acquire().await?;
                let mut keys = unlisted::sample(&mut conn, &self.accounts, i64::from(*count)).await?;
                keys.extend(unlisted::sample_of_others(&mut conn, &self.accounts, i64::from(*count)).await?);
                drop(conn);
                report(Finding::Progress(CompareProgress::Expected(keys.len())));
                for key in keys {
                    checks.add(key, None, report).await?;
                }
            }
            Selection::All(created_after) => self.all(*created_after, &mut checks, report).await?,
        }
        checks.end(report).await?;
        let recheck = checks.recheck.take().unwrap_or_default();
        if let Some(wait) = again_after.filter(|_| !recheck.is_empty()) {
            self.waits.sleep("events of recent changes", wait).await;
            report(Finding::Progress(CompareProgress::Again(recheck.len())));
            checks.mode = mode;
            for key in recheck {
                checks.add(key, None, report).await?;
            }
            checks.end(report).await?;
        }
        Ok(())
    }

    async fn all(
        self: &Arc<Self>,
        created_after: Option<OffsetDateTime>,
        checks: &mut Checks<'_>,
        report: &mut impl FnMut(Finding),
    ) -> Result<(), CheckError> {
        let mut seen = SeenCustomers::default();
        for account in &self.accounts {
            let span = Span { from: created_after.map(OffsetDateTime::unix_timestamp), until: None };
            for list in [List::Products, List::Prices, List::Coupons, List::Sessions] {
                let span = if list.is_catalogue() { Span::default() } else { span };
                self.pages(account, list, span, &mut seen, checks, report).await?;
            }
            let mut after = None;
            while let Some((parts, next)) = self.next_page(account, List::Customers, span, after.take(), report).await?
            {
                for part in parts {
                    if seen.insert(&part.key) {
                        checks.add(part.key.clone(), Some(part), report).await?;
                    }
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        if created_after.is_none() {
            for of in [Unlisted::Customers, Unlisted::Others] {
                self.unlisted_objects(of, &mut seen, checks, report).await?;
            }
        }
        Ok(())
    }

    /// Compares stored objects that no list contained: deleted objects, and objects on test clocks.
    async fn unlisted_objects(
        &self,
        of: Unlisted,
        seen: &mut SeenCustomers,
        checks: &mut Checks<'_>,
        report: &mut impl FnMut(Finding),
    ) -> Result<(), CheckError> {
        let mut last: Option<ObjectKey> = None;
        loop {
            let mut conn = self.context.pool.acquire().await?;
            let keys = match of {
                Unlisted::Customers => unlisted::customers(&mut conn, &self.accounts, last.as_ref(), PAGE).await?,
                Unlisted::Others => unlisted::others(&mut conn, &self.accounts, last.as_ref(), PAGE).await?,
            };
            drop(conn);
            let Some(end) = keys.last() else { return Ok(()) };
            last = Some(end.clone());
            for key in keys {
                if seen.insert(&key) {
                    checks.add(key, None, report).await?;
                }
            }
        }
    }

    /// Compares a list of objects that belong to no customer, one page at a time.
    async fn pages(
        &self,
        account: &str,
        list: List,
        span: Span,
        seen: &mut SeenCustomers,
        checks: &mut Checks<'_>,
        report: &mut impl FnMut(Finding),
    ) -> Result<(), CheckError> {
        let mut after = None;
        while let Some((parts, next)) = self.next_page(account, list, span, after.take(), report).await? {
            let keys: Vec<ObjectKey> = parts.iter().map(|part| part.key.clone()).collect();
            for key in &keys {
                seen.insert(key);
            }
            match self.catalogue(parts, checks.mode).await {
                Ok(changes) => checks.found(keys, None, changes, report),
                Err(CheckError::Work(failure @ Failure::Unavailable(_))) => return Err(failure.into()),
                Err(error) => report(Finding::Failed { what: list.as_str().to_owned(), error }),
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Reads the next page of a list, and the cursor of the page after it. `None` if the page cannot be read, which is
    /// reported as a finding.
    async fn next_page(
        &self,
        account: &str,
        list: List,
        span: Span,
        after: Option<String>,
        report: &mut impl FnMut(Finding),
    ) -> Result<Option<(Vec<FetchedObject>, Option<String>)>, CheckError> {
        let answer = match self.read_with_retry(account, list, span, after.as_ref()).await {
            Ok(answer) => answer,
            Err(error) if matches!(error, ApiError::NotFound { .. }) || error.is_unknown_path() => {
                report(Finding::NoList(list));
                return Ok(None);
            }
            Err(error @ ApiError::Unauthorised { status: 401, .. }) => return Err(error.into()),
            Err(error) if error.is_forbidden() => {
                report(Finding::Forbidden(error));
                return Ok(None);
            }
            Err(error) => {
                report(Finding::Failed { what: format!("the list of {}", list.as_str()), error: error.into() });
                return Ok(None);
            }
        };
        if let Some(error) = answer.forbidden {
            report(Finding::Forbidden(error));
        }
        let Ok(page) = Page::read(list, &answer.body) else {
            let error = ApiError::unavailable("a list from Stripe has no `data`").into();
            report(Finding::Failed { what: format!("the list of {}", list.as_str()), error });
            return Ok(None);
        };
        let next = page.elements.last().map(|element| element.id.clone());
        let next = next.filter(|next| page.has_more && after.as_ref() != Some(next));
        Ok(Some((page.into_parts(account, list, span, answer.at, self.margin), next)))
    }

    /// Reads a page with the retry policy of a backfill, waiting when Stripe asks for it.
    async fn read_with_retry(
        &self,
        account: &str,
        list: List,
        span: Span,
        after: Option<&String>,
    ) -> Result<Answer, ApiError> {
        let mut tries = 0;
        loop {
            let error = match self.read_page(account, list.listed(), span, after.cloned()).await {
                Err(error @ (ApiError::RateLimited { .. } | ApiError::Unavailable { .. }))
                    if !error.is_unknown_path() =>
                {
                    error
                }
                answer => return answer,
            };
            tries += 1;
            let Some(backoff) = self.page_retry.delay(tries, fastrand::f64()) else { return Err(error) };
            let wait = error.retry_after().map_or(backoff, |wait| wait.max(backoff));
            self.waits.sleep(error.awaited(), wait).await;
        }
    }
}
