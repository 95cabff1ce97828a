//! One comparison of one account: every page of Stripe's list, stored as it comes.
//!
//! Listed are the types that act here, in groups of as many as one request takes, newest first. Nothing but a page is kept
//! in memory. The watermark moves to the time of the *first* request: later ones have seen at least that.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::gap::{self, Gap};
use super::page;
use super::store::{self, Tally};
use super::trust::Trust;
use super::watermark::{self, Watermark};
use super::{Failure, REACH, Reconcile};
use crate::client::{Answer, ApiError, MOST_TYPES, PAGE, Read, Urgency};
use crate::metrics::reconcile::RunOutcome;
use crate::outbox::sample;
use crate::retry::RetryPolicy;
use crate::stripe::catalogue;

/// What lies before the watermark is listed again, in case Stripe's list was slower than its clock.
const OVERLAP: time::Duration = time::Duration::hours(1);

/// Where a listing ends because its place in the list is gone, that place was about as old as Stripe goes back.
const SLACK: time::Duration = time::Duration::hours(1);

/// When a comparison that failed is tried again.
const AGAIN: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, initial: Duration::from_secs(5), max: Duration::from_mins(5) };

/// From when on to compare, instead of from the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago, by Stripe's clock.
    Ago(Duration),
    /// From then on.
    At(OffsetDateTime),
}

/// Some comparisons, one account after another.
pub struct Run<'a> {
    reconcile: &'a Reconcile,
    stop: &'a CancellationToken,
    since: Option<Since>,
    /// The key has been looked at.
    trust: Option<Trust>,
}

/// A comparison that has come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The connected account; empty for our own.
    pub account: String,
    /// The first second that was listed.
    pub from: OffsetDateTime,
    /// Every event created from then up to here is stored, but for those that could not be.
    pub until: OffsetDateTime,
    /// The watermark after it; `None` where the first listing began too late to set one.
    pub watermark: Option<OffsetDateTime>,
    /// What never will be compared, found now or before and not closed yet.
    pub gap: Option<Gap>,
    /// Whether the gap was there before.
    pub gap_was_known: bool,
    /// Runs that had failed before this one.
    pub failures: u32,
    /// What was found.
    pub tally: Tally,
}

/// A listing at work.
struct Listing<'a> {
    account: &'a str,
    from: OffsetDateTime,
    tally: Tally,
    /// When the first and the last request were made, by Stripe's clock.
    asked: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl<'a> Run<'a> {
    /// Comparisons that end at the next page once `stop` says so.
    pub fn new(reconcile: &'a Reconcile, since: Option<Since>, stop: &'a CancellationToken) -> Self {
        Self { reconcile, stop, since, trust: None }
    }

    /// Compares one account and tells after each page how far it is. With a `pause` only where nobody is at it and the last
    /// comparison ended so long ago: else `None`.
    ///
    /// # Errors
    /// What kept it from its end. It is noted, and nobody tries again for a while.
    pub async fn account(
        &mut self,
        account: &str,
        pause: Option<Duration>,
        told: &mut (dyn FnMut(&Tally) + Send),
    ) -> Result<Option<Compared>, Failure> {
        let reconcile = self.reconcile;
        let begun = reconcile.step(async |conn: &mut PgConnection| watermark::begin(conn, account, pause).await);
        let Some(mark) = begun.await? else { return Ok(None) };
        let compared = self.compare(account, mark, told).await;
        let outcome = match &compared {
            Ok(compared) if compared.tally.unreadable > 0 => Some(RunOutcome::Unreadable),
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

    /// Notes a failure. Where that fails too, the lease ends by itself.
    async fn note(&self, account: &str, failures: u32, failure: &Failure) {
        let noted = if failure.outcome().is_none() {
            self.reconcile.step(async |conn: &mut PgConnection| watermark::release(conn, account).await).await
        } else {
            let wait = AGAIN.endless(failures.saturating_add(1), fastrand::f64()).max(failure.retry_after());
            let error = failure.to_string();
            let fail = async |conn: &mut PgConnection| watermark::fail(conn, account, wait, &error).await;
            self.reconcile.step(fail).await
        };
        if let Err(error) = noted {
            tracing::debug!(account, %error, "it could not be noted how a comparison ended");
        }
    }

    async fn compare(
        &mut self,
        account: &str,
        mark: Watermark,
        told: &mut (dyn FnMut(&Tally) + Send),
    ) -> Result<Compared, Failure> {
        let trust = self.trust().await?;
        // the first time there is no watermark, and a start of its own
        let start = match mark.compared_until {
            Some(until) => until,
            None => self.first(account, trust.at).await?,
        };
        let from = match self.since {
            Some(since) => since.resolve(trust.at)?,
            None if mark.compared_until.is_some() => start - OVERLAP,
            None => start,
        };
        let from = from.replace_nanosecond(0).unwrap_or(from);
        // said before the listing, which may take long or fail
        let found_gap = self.look_for_gap(account, mark, trust.at).await?;
        if let Some(gap) = found_gap {
            gap.say(account);
        }
        let mut listing = Listing { account, from, tally: Tally::default(), asked: None };
        let types: Vec<String> = catalogue::handled().collect();
        for types in types.chunks(MOST_TYPES) {
            self.list(&mut listing, types, told).await?;
        }
        let Listing { tally, asked, .. } = listing;
        let (first, last) = asked.unwrap_or((trust.at, trust.at));
        // some of the oldest may have gone while the others were listed
        self.look_for_gap(account, mark, last).await?;
        let until = first - self.reconcile.margin;
        let moves = (from <= start).then_some(until);
        let stripe_account = trust.account.filter(|_| account.is_empty());
        let finish = async |conn: &mut PgConnection| {
            watermark::finish(conn, account, moves, &tally, stripe_account.as_ref()).await
        };
        let after = self.reconcile.step(finish).await?;
        Ok(Compared {
            account: account.to_owned(),
            from,
            until,
            watermark: after.compared_until,
            gap: after.gap,
            gap_was_known: found_gap.is_none(),
            failures: mark.failures,
            tally,
        })
    }

    /// The key is looked at once for all accounts.
    async fn trust(&mut self) -> Result<Trust, Failure> {
        if let Some(trust) = &self.trust {
            return Ok(trust.clone());
        }
        let looked = self.stop.run_until_cancelled(self.reconcile.trust()).await;
        let trust = looked.unwrap_or(Err(Failure::Stopped))?;
        self.trust = Some(trust.clone());
        Ok(trust)
    }

    /// Where the first comparison begins: with the oldest stored event, as far as Stripe goes back. Where none is stored
    /// there is no outage to mend, and a month of history is not for us to import.
    async fn first(&self, account: &str, now: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
        let oldest = async |conn: &mut PgConnection| sample::oldest(conn, account, now - REACH).await;
        let oldest = self.reconcile.step(oldest).await?;
        Ok(oldest.map_or(now - OVERLAP, |oldest| oldest.min(now)))
    }

    /// Notes what lies between the watermark and the oldest event that Stripe lists at `now`.
    async fn look_for_gap(&self, account: &str, mark: Watermark, now: OffsetDateTime) -> Result<Option<Gap>, Failure> {
        let until = now - REACH;
        let Some(since) = mark.compared_until.filter(|since| *since < until) else { return Ok(None) };
        let gap = Gap { since, until };
        self.reconcile.step(async |conn: &mut PgConnection| gap::note(conn, account, gap).await).await?;
        Ok(Some(gap))
    }

    /// Lists the events of some types to the end.
    async fn list(
        &self,
        listing: &mut Listing<'_>,
        types: &[String],
        told: &mut (dyn FnMut(&Tally) + Send),
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
                // it has left Stripe's 30 days while we were listing, and with it all that are older
                Err(Failure::Api(ApiError::NotFound { .. })) if listing.has_gone(after.as_ref()) => return Ok(()),
                // the page was there and too long: so many events of that size are no reason to stop for ever
                Err(Failure::Api(ApiError::Rejected { status: 200, .. })) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                answer => answer?,
            };
            let (first, _) = listing.asked.unwrap_or((answer.at, answer.at));
            listing.asked = Some((first, answer.at));
            let page = page::read(&answer.body, listing.account).ok_or(Failure::Page)?;
            let oldest = page.events.iter().map(|event| event.envelope.key.created).min();
            let next = page.last.clone().zip(oldest.or(after.as_ref().map(|(_, oldest)| *oldest)));
            let has_more = page.has_more;
            store::page(self.reconcile, listing.account, page, answer.at, &mut listing.tally).await?;
            told(&listing.tally);
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
            return Err(Failure::Since("that time is still to come"));
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
    /// Whether the last event of a page, told by the oldest that was on it, can have left Stripe's 30 days.
    fn has_gone(&self, after: Option<&(String, OffsetDateTime)>) -> bool {
        after.zip(self.asked).is_some_and(|((_, created), (_, last))| *created <= last - REACH + SLACK)
    }
}
