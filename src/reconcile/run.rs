//! One comparison of one account: lists Stripe's events and stores each page as it arrives.
//!
//! Lists the handled types, newest first, in groups of the maximum size of one request. Only one page is kept in
//! memory. The watermark moves to the time of the *first* request, because later requests include everything up to it.

use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::gap::Gap;
use super::key_check::VerifiedKey;
use super::page;
use super::state::{self, Watermark};
use super::stats::ReconcileStats;
use super::store;
use super::{Failure, REACH, Reconcile};
use crate::base::retry::RetryPolicy;
use crate::client::{Answer, ApiError, MOST_TYPES, PAGE, Read, Urgency};
use crate::database::Connection;
use crate::metrics::reconcile::RunOutcome;
use crate::outbox::sample;
use crate::stripe::catalogue;

/// Span before the watermark that is listed again, in case an event entered Stripe's list late.
const OVERLAP: time::Duration = time::Duration::hours(1);

/// If the cursor of a listing is not found, it left Stripe's 30 days only if it was older than those less this
/// tolerance.
const SLACK: time::Duration = time::Duration::hours(1);

/// Retry policy after a failed comparison.
const AGAIN: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, initial: Duration::from_secs(5), max: Duration::from_mins(5) };

/// Start of a comparison, instead of the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// This long ago, by Stripe's clock.
    Ago(Duration),
    /// At this time.
    At(OffsetDateTime),
}

/// Comparisons of several accounts, one after another.
pub struct Run<'a> {
    reconcile: &'a Reconcile,
    stop: &'a CancellationToken,
    since: Option<Since>,
    /// Result of the key check, once it is made.
    verified_key: Option<VerifiedKey>,
}

/// Result of a complete comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparisonReport {
    /// The connected account; empty for the key's own account.
    pub account: String,
    /// The first second that was listed.
    pub from: OffsetDateTime,
    /// All events created from `from` to this time are stored, except those that cannot be.
    pub until: OffsetDateTime,
    /// The watermark after the comparison; `None` if the first listing began too late to set one.
    pub watermark: Option<OffsetDateTime>,
    /// The gap that is not closed yet, found by this comparison or before.
    pub gap: Option<Gap>,
    /// Whether the gap was recorded before this comparison.
    pub gap_was_known: bool,
    /// Consecutive failed runs before this one.
    pub failures: u32,
    /// Statistics of the comparison.
    pub stats: ReconcileStats,
}

/// A listing in progress.
struct Listing<'a> {
    account: &'a str,
    from: OffsetDateTime,
    stats: ReconcileStats,
    /// Times of the first and the last request, by Stripe's clock.
    requested: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl<'a> Run<'a> {
    /// Creates a run that stops at the next page once `stop` is cancelled.
    pub fn new(reconcile: &'a Reconcile, since: Option<Since>, stop: &'a CancellationToken) -> Self {
        Self { reconcile, stop, since, verified_key: None }
    }

    /// Compares one account and reports the statistics after each page. With a `pause`, returns `None` if another
    /// process holds the lease or the last comparison ended less than that ago.
    ///
    /// # Errors
    /// Errors that ended the comparison early. They are recorded, and no process retries for a while.
    pub async fn account(
        &mut self,
        account: &str,
        pause: Option<Duration>,
        progress: &mut (dyn FnMut(&ReconcileStats) + Send),
    ) -> Result<Option<ComparisonReport>, Failure> {
        let reconcile = self.reconcile;
        let begun = reconcile.step(async |conn: &mut Connection| state::begin(conn, account, pause).await);
        let Some(mark) = begun.await? else { return Ok(None) };
        let compared = self.compare(account, mark, progress).await;
        let outcome = match &compared {
            Ok(compared) if compared.stats.unreadable > 0 => Some(RunOutcome::Partial),
            Ok(_) => Some(RunOutcome::Complete),
            Err(failure) => failure.outcome(),
        };
        if let Some(outcome) = outcome {
            reconcile.metrics.reconciled(outcome);
        }
        if let Err(failure) = &compared {
            self.note(account, mark.failures, failure).await;
        }
        compared.map(Some)
    }

    /// Records a failure. If that fails too, the lease expires.
    async fn note(&self, account: &str, failures: u32, failure: &Failure) {
        let noted = if failure.outcome().is_none() {
            self.reconcile.step(async |conn: &mut Connection| state::release(conn, account).await).await
        } else {
            let wait = AGAIN.unlimited(failures.saturating_add(1), fastrand::f64()).max(failure.retry_after());
            let error = failure.to_string();
            let fail = async |conn: &mut Connection| state::fail(conn, account, wait, &error).await;
            self.reconcile.step(fail).await
        };
        if let Err(error) = noted {
            tracing::debug!(account, %error, "could not record how a comparison ended");
        }
    }

    async fn compare(
        &mut self,
        account: &str,
        mark: Watermark,
        progress: &mut (dyn FnMut(&ReconcileStats) + Send),
    ) -> Result<ComparisonReport, Failure> {
        let verified_key = self.verify_key().await?;
        // the first comparison has no watermark, and starts differently
        let start = match mark.compared_until {
            Some(until) => until,
            None => self.first(account, verified_key.at).await?,
        };
        let from = match self.since {
            Some(since) => since.resolve(verified_key.at)?,
            None if mark.compared_until.is_some() => start - OVERLAP,
            None => start,
        };
        let from = from.replace_nanosecond(0).unwrap_or(from);
        // logged before the listing, which may take long or fail
        let found_gap = self.look_for_gap(account, mark, verified_key.at).await?;
        if let Some(gap) = found_gap {
            gap.log(account);
        }
        let mut listing = Listing { account, from, stats: ReconcileStats::default(), requested: None };
        let types: Vec<String> = catalogue::handled().collect();
        for types in types.chunks(MOST_TYPES) {
            self.list(&mut listing, types, progress).await?;
        }
        let Listing { stats, requested, .. } = listing;
        let (first, last) = requested.unwrap_or((verified_key.at, verified_key.at));
        // the oldest events may have left Stripe's list during the listing
        self.look_for_gap(account, mark, last).await?;
        let until = first - self.reconcile.margin;
        let moves = (from <= start).then_some(until);
        let stripe_account = verified_key.account.filter(|_| account.is_empty());
        let finish =
            async |conn: &mut Connection| state::finish(conn, account, moves, &stats, stripe_account.as_ref()).await;
        let after = self.reconcile.step(finish).await?;
        Ok(ComparisonReport {
            account: account.to_owned(),
            from,
            until,
            watermark: after.compared_until,
            gap: after.gap,
            gap_was_known: found_gap.is_none(),
            failures: mark.failures,
            stats,
        })
    }

    /// Checks the key once for all accounts.
    async fn verify_key(&mut self) -> Result<VerifiedKey, Failure> {
        if let Some(verified_key) = &self.verified_key {
            return Ok(verified_key.clone());
        }
        let looked = self.stop.run_until_cancelled(self.reconcile.verify_key()).await;
        let verified_key = looked.unwrap_or(Err(Failure::Stopped))?;
        self.verified_key = Some(verified_key.clone());
        Ok(verified_key)
    }

    /// Returns the start of the first comparison: the oldest stored event within Stripe's 30 days. If no event is
    /// stored, there is no outage to repair, and reconcile does not import a month of history.
    async fn first(&self, account: &str, now: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
        let oldest = async |conn: &mut Connection| sample::oldest(conn, account, now - REACH).await;
        let oldest = self.reconcile.step(oldest).await?;
        Ok(oldest.map_or(now - OVERLAP, |oldest| oldest.min(now)))
    }

    /// Records the gap between the watermark and the oldest event that Stripe lists at `now`.
    async fn look_for_gap(&self, account: &str, mark: Watermark, now: OffsetDateTime) -> Result<Option<Gap>, Failure> {
        let until = now - REACH;
        let Some(since) = mark.compared_until.filter(|since| *since < until) else { return Ok(None) };
        let gap = Gap { since, until };
        self.reconcile.step(async |conn: &mut Connection| state::note_gap(conn, account, gap).await).await?;
        Ok(Some(gap))
    }

    /// Lists the events of some types to the end.
    async fn list(
        &self,
        listing: &mut Listing<'_>,
        types: &[String],
        progress: &mut (dyn FnMut(&ReconcileStats) + Send),
    ) -> Result<(), Failure> {
        let mut after: Option<(String, OffsetDateTime)> = None;
        let mut limit = PAGE;
        loop {
            let read = Read::Events {
                types: types.to_vec(),
                from: listing.from,
                after: after.as_ref().map(|(id, _)| id.clone()),
                limit,
            };
            let answer = match self.read(listing.account, &read).await {
                // the cursor left Stripe's 30 days during the listing, and so did all older events
                Err(Failure::Api(ApiError::NotFound { .. })) if listing.has_gone(after.as_ref()) => return Ok(()),
                // the response was too large: retry with a smaller page, or this listing would never end
                Err(Failure::Api(ApiError::Rejected { status: 200, .. })) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                answer => answer?,
            };
            let (first, _) = listing.requested.unwrap_or((answer.at, answer.at));
            listing.requested = Some((first, answer.at));
            let page = page::read(&answer.body, listing.account).ok_or(Failure::Page)?;
            let oldest = page.events.iter().map(|event| event.envelope.key.created).min();
            let next = page.last.clone().zip(oldest.or(after.as_ref().map(|(_, oldest)| *oldest)));
            let has_more = page.has_more;
            store::page(self.reconcile, listing.account, page, answer.at, &mut listing.stats).await?;
            progress(&listing.stats);
            if !has_more {
                return Ok(());
            }
            if next.is_none() || next.as_ref().map(|(id, _)| id) == after.as_ref().map(|(id, _)| id) {
                return Err(Failure::Page);
            }
            after = next;
        }
    }

    async fn read(&self, account: &str, read: &Read) -> Result<Answer, Failure> {
        let answer = self.stop.run_until_cancelled(self.reconcile.api.read(account, read, Urgency::Normal));
        answer.await.map_or(Err(Failure::Stopped), |answer| answer.map_err(Failure::Api))
    }
}

impl Since {
    fn resolve(self, now: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
        let from = match self {
            Self::Ago(ago) => now - ago,
            Self::At(from) => from,
        };
        if from > now {
            return Err(Failure::Since("the start time is in the future"));
        }
        if from < now - REACH {
            return Err(Failure::Since(
                "Stripe lists the events of the last 30 days only; `billing-sync backfill` reads what is older",
            ));
        }
        Ok(from)
    }
}

impl Listing<'_> {
    /// Whether the last event of a page can have left Stripe's 30 days, judged by the oldest event on that page.
    fn has_gone(&self, after: Option<&(String, OffsetDateTime)>) -> bool {
        after.zip(self.requested).is_some_and(|((_, created), (_, last))| *created <= last - REACH + SLACK)
    }
}
