//! One event by itself: how a poison event runs out of attempts while the others flow.
//!
//! Each attempt is counted in a commit of its own *before* the work, so that an event which kills the process
//! is counted too. What was no event's fault is taken back.

use std::sync::Arc;

use super::batch::{Tally, begin, begin_isolated, contain_panics, process};
use super::failure::Failure;
use super::{Round, Worker};
use crate::metrics::batch::{Step, Stopwatch};
use crate::metrics::instance::Consequence;
use crate::outbox::attempt::{self, Attempt, Begun, Next};

impl Worker {
    /// Makes one attempt at one event that goes alone.
    pub(super) async fn try_alone(&mut self, next: Next) -> Result<Round, Failure> {
        let watch = Stopwatch::default();
        let mut conn = self.context.pool.acquire().await?;
        let config = &self.context.config;
        let max_attempts = i32::try_from(config.max_attempts).unwrap_or(i32::MAX);
        let next = attempt::begin(&mut conn, next, config.attempt_lease, max_attempts).await?;
        drop(conn);
        let attempt = match next {
            None => return Ok(Round::Idle),
            Some(Begun::Attempt(attempt)) => attempt,
            Some(Begun::Exhausted(key)) => {
                self.context.metrics.attempt_failed(Consequence::Dead);
                tracing::error!(
                    event.id = key.event_id,
                    "an event is dead: the worker stopped during its last attempt"
                );
                return Ok(Round::Busy);
            }
        };
        // owed until its end is known: should this step run out of time, the attempt is taken back
        self.owed.push(attempt.clone());
        let tried = self.attempt(&attempt, watch).await;
        self.owed.pop();
        match tried {
            Ok(Some(tally)) => tally.count(&self.context),
            Ok(None) => self.owe(attempt).await?,
            Err(failure @ (Failure::Away(_) | Failure::Contended(_))) => {
                self.context.metrics.attempt_failed(Consequence::Transient);
                self.owe(attempt).await?;
                if let Failure::Away(_) = failure {
                    return Err(failure);
                }
            }
            Err(failure) => self.settle_failure(&attempt, &failure).await?,
        }
        Ok(Round::Busy)
    }

    /// Takes the event of an attempt through, in one transaction. `None`: another session has the event.
    async fn attempt(&self, attempt: &Attempt, mut watch: Stopwatch) -> Result<Option<Tally>, Failure> {
        let mut tx = begin_isolated(&self.context, attempt.number).await?;
        let Some(event) = attempt::claim(&mut tx, attempt).await? else { return Ok(None) };
        watch.done(Step::Claim);
        let context = Arc::clone(&self.context);
        contain_panics(async move {
            let mut tally = process(&mut tx, &context, vec![event], watch).await?;
            if let Some((_, field)) = tally.unreadable.first() {
                return Err(Failure::Bury(format!("{field} is missing or cannot be read")));
            }
            tally.watch.done(Step::Settle);
            tx.commit().await?;
            tally.watch.done(Step::Commit);
            Ok(Some(tally))
        })
        .await
    }

    /// Puts the event back for later, or parks it.
    async fn settle_failure(&self, attempt: &Attempt, failure: &Failure) -> Result<(), Failure> {
        let policy = self.context.retry_policy();
        let delay = match failure {
            Failure::Bury(_) => None,
            _ => policy.delay(attempts(attempt), fastrand::f64()),
        };
        let mut tx = begin(&self.context).await?;
        let event_id = attempt.key.event_id.as_str();
        if let Some(delay) = delay {
            attempt::put_back(&mut tx, attempt, delay, &failure.to_string()).await?;
            tx.commit().await?;
            self.context.metrics.attempt_failed(Consequence::Retry);
            tracing::warn!(event.id = event_id, attempt = attempt.number, error = %failure, "an event failed and will be tried again");
        } else {
            attempt::bury(&mut tx, attempt, &failure.to_string()).await?;
            tx.commit().await?;
            self.context.metrics.attempt_failed(Consequence::Dead);
            tracing::error!(event.id = event_id, attempt = attempt.number, error = %failure, "an event is dead: see `billing-sync outbox show`");
        }
        Ok(())
    }

    /// Takes an attempt back, now or when the database is there again.
    async fn owe(&mut self, attempt: Attempt) -> Result<(), Failure> {
        self.owed.push(attempt);
        self.pay_back().await
    }

    /// Takes back the attempts that ended by no fault of their event. One whose row somebody holds stays owed.
    pub(super) async fn pay_back(&mut self) -> Result<(), Failure> {
        let mut held = Vec::new();
        while let Some(attempt) = self.owed.last().cloned() {
            match self.refund(&attempt).await {
                Ok(()) => {}
                Err(Failure::Contended(_)) => held.push(attempt),
                Err(failure) => {
                    self.owed.extend(held);
                    return Err(failure);
                }
            }
            self.owed.pop();
        }
        self.owed.extend(held);
        Ok(())
    }

    async fn refund(&self, attempt: &Attempt) -> Result<(), Failure> {
        let mut tx = begin(&self.context).await?;
        attempt::refund(&mut tx, attempt).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The number of an attempt, as the retry policy counts.
fn attempts(attempt: &Attempt) -> u32 {
    u32::try_from(attempt.number).unwrap_or(u32::MAX)
}
