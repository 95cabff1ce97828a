//! Reprojects: rows that depend on something that changed elsewhere, computed again from the mirror. No call to Stripe.
//!
//! A customer that was touched too late to be locked; the plans of a product; the subscriptions of a price that became
//! known after them. What many depend on goes in pages, each a transaction of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;

use super::batch::{begin, contain_panics};
use super::effect::ask;
use super::failure::Failure;
use super::project::{self, Causes, Notes};
use super::{Context, Round, Worker};
use crate::domain::object::ObjectKey;
use crate::jobs::demand::Demands;
use crate::jobs::{Job, Kind, claim, settle};
use crate::mirror::{locks, related};
use crate::stripe::nested::TRIAL_OFFER;

/// Customers in one transaction.
const PAGE: i64 = 100;

/// After this a worker that holds jobs is taken for dead. A transaction ends within a minute.
const LEASE: Duration = Duration::from_mins(2);

impl Worker {
    /// Takes some due reprojects through, in one transaction. Those that fail are tried again alone.
    pub(super) async fn try_reproject(&mut self) -> Result<Round, Failure> {
        let jobs = claim::due(&mut *self.context.pool.acquire().await?, Kind::Reproject, PAGE, LEASE).await?;
        if jobs.is_empty() {
            return Ok(Round::Idle);
        }
        let context = Arc::clone(&self.context);
        let these = jobs.clone();
        let work = async move {
            let mut tx = begin(&context).await?;
            let demanded = serve(&mut tx, &context, &these).await?;
            tx.commit().await?;
            if demanded {
                context.reads.notify_waiters();
            }
            context.limits.notify_one();
            Ok(())
        };
        if let Err(failure) = contain_panics(work).await {
            self.put_back(&jobs, failure).await?;
        }
        Ok(Round::Busy)
    }

    /// Puts jobs back after a failed transaction; the database being away is told to the caller.
    async fn put_back(&self, jobs: &[Job], failure: Failure) -> Result<(), Failure> {
        tracing::warn!(error = %failure, jobs = jobs.len(), "rows could not be computed again and will be tried alone");
        let mut tx = begin(&self.context).await?;
        for job in jobs {
            let delay = self.context.backoff(job.attempt);
            settle::put_back(&mut tx, job, delay, true, Some(&failure.to_string())).await?;
        }
        tx.commit().await?;
        if let Failure::Away(_) = failure { Err(failure) } else { Ok(()) }
    }
}

/// Serves `jobs` all but the commit. Says whether something new was asked for.
async fn serve(conn: &mut PgConnection, context: &Context, jobs: &[Job]) -> Result<bool, Failure> {
    let mut targets = Targets::default();
    for job in jobs {
        targets.add(conn, job).await?;
    }
    let locked: BTreeSet<ObjectKey> = targets.customers.keys().chain(&targets.prices).cloned().collect();
    locks::acquire(conn, &locked).await?;
    let (mut notes, mut demands) = (Notes::new(), Demands::default());
    project::customers(conn, context, &targets.customers, &mut notes, &mut demands).await?;
    project::plans(conn, &targets.prices, &Causes::new(), &mut notes, &mut demands).await?;
    targets.offers.into_iter().for_each(|offer| demands.reproject(offer));
    let demanded = !ask(conn, context, demands).await?.is_empty();
    let done: Vec<&Job> = jobs.iter().filter(|job| !targets.pages.iter().any(|(paged, _)| *paged == **job)).collect();
    settle::done(conn, &done).await?;
    for (job, position) in &targets.pages {
        settle::go_on(conn, job, position).await?;
    }
    Ok(demanded || !targets.pages.is_empty())
}

/// What some jobs come to.
#[derive(Default)]
struct Targets {
    customers: Causes,
    prices: BTreeSet<ObjectKey>,
    /// Trial offers that lead to a price: whoever has such an offer names the offer only.
    offers: BTreeSet<ObjectKey>,
    /// Jobs that have more pages, and where they go on.
    pages: Vec<(Job, String)>,
}

impl Targets {
    async fn add(&mut self, conn: &mut PgConnection, job: &Job) -> Result<(), sqlx::Error> {
        let key = &job.key;
        match key.object_type.as_str() {
            "customer" => _ = self.customers.entry(key.clone()).or_default(),
            "product" => self.prices.extend(related::prices_of(conn, key).await?),
            _ => {
                if job.position.is_none() {
                    let naming = related::naming(conn, &[(key, TRIAL_OFFER)]).await?;
                    self.offers.extend(naming.into_iter().map(|(_, offer)| offer));
                }
                let position = job.position.clone().unwrap_or_default();
                let page = related::customers_of_holders(conn, key, &position, PAGE).await?;
                if let Some(last) = page.last().filter(|_| i64::try_from(page.len()) == Ok(PAGE)) {
                    self.pages.push((job.clone(), last.object_id.clone()));
                }
                self.customers.extend(page.into_iter().map(|customer| (customer, BTreeSet::new())));
                self.prices.insert(key.clone());
            }
        }
        Ok(())
    }
}
