//! Reproject jobs: recompute rows from the mirror after another object changed. No call to Stripe.
//!
//! Jobs exist for: a customer found to be affected after locking; the plans of a product; the subscriptions of a price
//! that arrived after them; rows that another session held. An object with many dependants is processed in pages, each
//! a transaction. If one object of a page fails, it gets a failing job of its own, and the page continues without it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::apply::queue_jobs;
use super::batch::{begin, begin_batch, begin_isolated, contain_panics};
use super::change_set::{Causes, Notes};
use super::context::Context;
use super::failure::Failure;
use super::project;
use super::state::{RoundResult, Worker};
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::jobs::requests::JobRequests;
use crate::jobs::{Job, Kind, claim, settle};
use crate::mirror::{locks, related};
use crate::stripe::nested::TRIAL_OFFER;

/// Customers in one transaction.
const PAGE: i64 = 100;

/// Lease of a job: after this its worker is considered dead. A transaction ends within a minute.
const LEASE: Duration = Duration::from_mins(2);

/// The error of a job that is put back although nothing failed.
const HELD: &str = "another session holds a row that is to be written";

impl Worker {
    /// Processes some due reprojects in one transaction. Those that fail are retried individually.
    pub(super) async fn try_reproject(&mut self) -> Result<RoundResult, Failure> {
        let jobs = claim::due(&mut self.context.pool.acquire().await?, Kind::Reproject, PAGE, LEASE).await?;
        if jobs.is_empty() {
            return Ok(RoundResult::Idle);
        }
        let context = Arc::clone(&self.context);
        let these = jobs.clone();
        let work = async move {
            // a job that failed before is claimed by itself
            let mut tx = match these.as_slice() {
                [job] if job.attempt > 1 => begin_isolated(&context, job.attempt).await?,
                _ => begin_batch(&context).await?,
            };
            let requested = serve(&mut tx, &context, &these).await?;
            tx.commit().await?;
            if requested {
                context.reads.notify_waiters();
            }
            context.limits.notify_one();
            Ok(())
        };
        match (contain_panics(work).await, jobs.as_slice()) {
            (Ok(()), _) => {}
            (Err(Failure::Retryable(_) | Failure::Permanent(_)), [job]) if job.key.object_type != "customer" => {
                self.isolate(job).await?;
            }
            (Err(failure), _) => self.put_back(&jobs, failure).await?,
        }
        Ok(RoundResult::MoreWork)
    }

    /// Serves one job object by object, because one of its objects fails. That one is set aside as a job of its own.
    async fn isolate(&self, job: &Job) -> Result<(), Failure> {
        let mut targets = Targets::default();
        targets.add(&mut self.context.pool.acquire().await?, job).await?;
        let mut failed = Vec::new();
        for key in targets.objects() {
            let (context, one, served) = (Arc::clone(&self.context), key.clone(), BTreeSet::from([job.key.clone()]));
            let work = async move {
                let mut tx = begin_isolated(&context, 1).await?;
                let mut job_requests = Targets::of(one).project(&mut tx, &context).await?;
                let held = job_requests.take_held(&served);
                queue_jobs(&mut tx, &context, job_requests).await?;
                tx.commit().await?;
                Ok(!held.is_empty())
            };
            match contain_panics(work).await {
                Ok(false) => {}
                // not queued: that would restart this job without a pause
                Ok(true) => failed.push((job.key.clone(), HELD.to_owned())),
                Err(failure @ Failure::Unavailable(_)) => return Err(failure),
                Err(failure) => failed.push((key, failure.to_string())),
            }
        }
        self.settle_isolated(job, targets, failed).await
    }

    /// Ends a job that was served object by object, or moves it to its next page.
    async fn settle_isolated(
        &self,
        job: &Job,
        targets: Targets,
        failed: Vec<(ObjectKey, String)>,
    ) -> Result<(), Failure> {
        let delay = self.context.backoff(job.attempt);
        let mut tx = begin(&self.context).await?;
        let mut job_requests = JobRequests::default();
        targets.offers.into_iter().for_each(|offer| job_requests.reproject(offer));
        queue_jobs(&mut tx, &self.context, job_requests).await?;
        let (own, others): (Vec<_>, Vec<_>) = failed.into_iter().partition(|(key, _)| *key == job.key);
        for (key, error) in others {
            tracing::error!(
                object.r#type = key.object_type,
                object.id = key.object_id,
                error,
                "rows could not be computed; the object is set aside and retried"
            );
            settle::set_aside(&mut tx, &key, delay, &error).await?;
        }
        let own_error = own.first().map(|(_, error)| error.as_str());
        match (targets.pages.first(), own_error) {
            // each page retries the job's own object, the last one with a pause
            (Some((_, cursor)), error) => settle::continue_paged(&mut tx, job, cursor, error).await?,
            (None, Some(_)) => settle::put_back(&mut tx, job, delay, true, own_error).await?,
            (None, None) => settle::done(&mut tx, &[job]).await?,
        }
        if let Some(error) = own_error {
            let ObjectKey { object_type, object_id, .. } = &job.key;
            tracing::warn!(
                object.r#type = object_type,
                object.id = object_id,
                error,
                "rows could not be written; they will be retried"
            );
        }
        Ok(tx.commit().await?)
    }

    /// Puts jobs back after a failed transaction. Returns the failure if the database is unavailable.
    async fn put_back(&self, jobs: &[Job], failure: Failure) -> Result<(), Failure> {
        tracing::warn!(
            error = %failure,
            jobs = jobs.len(),
            "rows could not be recomputed; their jobs are retried individually"
        );
        let mut tx = begin(&self.context).await?;
        for job in jobs {
            let delay = self.context.backoff(job.attempt);
            settle::put_back(&mut tx, job, delay, true, Some(&failure.to_string())).await?;
        }
        tx.commit().await?;
        if let Failure::Unavailable(_) = failure { Err(failure) } else { Ok(()) }
    }
}

/// Serves `jobs`, all but the commit. Returns whether jobs were queued.
async fn serve(conn: &mut Connection, context: &Context, jobs: &[Job]) -> Result<bool, Failure> {
    let mut targets = Targets::default();
    for job in jobs {
        targets.add(conn, job).await?;
    }
    let mut job_requests = targets.project(conn, context).await?;
    targets.offers.iter().for_each(|offer| job_requests.reproject(offer.clone()));
    let held = job_requests.take_held(&jobs.iter().map(|job| job.key.clone()).collect());
    let requested = !queue_jobs(conn, context, job_requests).await?.is_empty();
    let is_paged = |job: &Job| targets.pages.iter().any(|(paged, _)| paged == job);
    let (put_back, done): (Vec<&Job>, Vec<&Job>) =
        jobs.iter().filter(|job| !is_paged(job)).partition(|job| held.contains(&job.key));
    settle::done(conn, &done).await?;
    for (job, cursor) in &targets.pages {
        settle::continue_paged(conn, job, cursor, held.contains(&job.key).then_some(HELD)).await?;
    }
    for job in put_back {
        settle::put_back(conn, job, context.backoff(job.attempt), true, Some(HELD)).await?;
    }
    Ok(requested || !targets.pages.is_empty())
}

/// The objects that some jobs project.
#[derive(Default)]
struct Targets {
    customers: Causes,
    prices: BTreeSet<ObjectKey>,
    /// Coupons and checkout sessions, which no other row depends on.
    others: BTreeSet<ObjectKey>,
    /// Trial offers that reference a price: a subscription with such an offer references only the offer.
    offers: BTreeSet<ObjectKey>,
    /// Jobs that have more pages, with the cursor of the next one.
    pages: Vec<(Job, String)>,
}

impl Targets {
    /// One object, without its dependants.
    fn of(key: ObjectKey) -> Self {
        let mut targets = Self::default();
        match key.object_type.as_str() {
            "customer" => _ = targets.customers.insert(key, BTreeSet::new()),
            "coupon" | "checkout.session" => _ = targets.others.insert(key),
            _ => _ = targets.prices.insert(key),
        }
        targets
    }

    fn objects(&self) -> Vec<ObjectKey> {
        self.customers.keys().chain(&self.prices).chain(&self.others).cloned().collect()
    }

    async fn add(&mut self, conn: &mut Connection, job: &Job) -> Result<(), sqlx::Error> {
        let key = &job.key;
        match key.object_type.as_str() {
            "customer" => _ = self.customers.entry(key.clone()).or_default(),
            "coupon" | "checkout.session" => _ = self.others.insert(key.clone()),
            "product" => self.prices.extend(related::prices_of(conn, key).await?),
            _ => {
                if job.cursor.is_none() {
                    let referencing = related::referencing(conn, &[(key, TRIAL_OFFER)]).await?;
                    self.offers.extend(referencing.into_iter().map(|(_, offer)| offer));
                }
                let cursor = job.cursor.clone().unwrap_or_default();
                let page = related::customers_referencing(conn, key, &cursor, PAGE).await?;
                if let Some(last) = page.last().filter(|_| i64::try_from(page.len()) == Ok(PAGE)) {
                    self.pages.push((job.clone(), last.object_id.clone()));
                }
                self.customers.extend(page.into_iter().map(|customer| (customer, BTreeSet::new())));
                self.prices.insert(key.clone());
            }
        }
        Ok(())
    }

    /// Locks all objects, then computes and writes the rows. Returns the jobs to queue.
    async fn project(&self, conn: &mut Connection, context: &Context) -> Result<JobRequests, Failure> {
        locks::acquire(conn, &self.objects().into_iter().collect(), &BTreeSet::new()).await?;
        let (mut notes, mut job_requests) = (Notes::new(), JobRequests::default());
        project::customers(conn, context, &self.customers, &mut notes, &mut job_requests).await?;
        project::plans(conn, &self.prices, &Causes::new(), &mut notes, &mut job_requests).await?;
        project::others(conn, &self.others, &Causes::new(), &mut notes, &mut job_requests).await?;
        Ok(job_requests)
    }
}
