//! Processes isolated events, one per transaction: a poison event runs out of attempts without blocking others.
//!
//! Each attempt is counted in a commit of its own *before* the work, so that an event which kills the process is
//! counted too. An attempt that failed through no fault of the event is released.

use std::sync::Arc;

use super::batch::{BatchStats, begin, begin_isolated, contain_panics, process};
use super::failure::Failure;
use super::state::{RoundResult, Worker};
use crate::metrics::batch::{Step, Stopwatch};
use crate::metrics::process::ApplyResult;
use crate::outbox::attempt::{self, Attempt, Next, NextAttempt};

impl Worker {
    /// Makes one attempt at one isolated event.
    pub(super) async fn process_isolated(&mut self, next: Next) -> Result<RoundResult, Failure> {
        let watch = Stopwatch::default();
        let mut conn = self.context.pool.acquire().await?;
        let config = &self.context.config;
        let max_attempts = i32::try_from(config.max_attempts).unwrap_or(i32::MAX);
        let next = attempt::begin(&mut conn, next, config.attempt_lease, max_attempts).await?;
        drop(conn);
        let attempt = match next {
            None => return Ok(RoundResult::Idle),
            Some(NextAttempt::Attempt(attempt)) => attempt,
            Some(NextAttempt::Exhausted(key, error)) => {
                self.context.metrics.attempt_failed(ApplyResult::Dead);
                tracing::error!(event.id = key.event_id, error, "an event is dead: no attempt is left");
                return Ok(RoundResult::MoreWork);
            }
        };
        // unreleased until its result is known: if this step times out, the attempt is released later
        self.unreleased.push(attempt.clone());
        let tried = self.attempt(&attempt, watch).await;
        self.unreleased.pop();
        match tried {
            Ok(Some(stats)) => stats.count(&self.context),
            Ok(None) => self.release_later(attempt).await?,
            Err(failure @ (Failure::Unavailable(_) | Failure::Contended(_))) => {
                self.context.metrics.attempt_failed(ApplyResult::Transient);
                self.release_later(attempt).await?;
                if let Failure::Unavailable(_) = failure {
                    return Err(failure);
                }
            }
            Err(failure) => self.settle_failure(&attempt, &failure).await?,
        }
        Ok(RoundResult::MoreWork)
    }

    /// Processes the event of an attempt in one transaction. `None`: another session has the event.
    async fn attempt(&self, attempt: &Attempt, mut watch: Stopwatch) -> Result<Option<BatchStats>, Failure> {
        let mut tx = begin_isolated(&self.context, attempt.number).await?;
        let Some(event) = attempt::claim(&mut tx, attempt).await? else { return Ok(None) };
        watch.done(Step::Claim);
        let context = Arc::clone(&self.context);
        contain_panics(async move {
            let mut stats = process(&mut tx, &context, vec![event], watch).await?;
            if let Some((_, field)) = stats.unreadable.first() {
                return Err(Failure::Permanent(format!("{field} is missing or cannot be read")));
            }
            stats.watch.done(Step::Settle);
            tx.commit().await?;
            stats.watch.done(Step::Commit);
            Ok(Some(stats))
        })
        .await
    }

    /// Schedules a retry of the event, or marks it dead.
    async fn settle_failure(&self, attempt: &Attempt, failure: &Failure) -> Result<(), Failure> {
        let policy = self.context.retry_policy();
        let delay = match failure {
            Failure::Permanent(_) => None,
            _ => policy.delay(attempts(attempt), fastrand::f64()),
        };
        let mut tx = begin(&self.context).await?;
        let event_id = attempt.key.event_id.as_str();
        if let Some(delay) = delay {
            attempt::put_back(&mut tx, attempt, delay, &failure.to_string()).await?;
            tx.commit().await?;
            self.context.metrics.attempt_failed(ApplyResult::Retry);
            tracing::warn!(
                event.id = event_id,
                attempt = attempt.number,
                error = %failure,
                "an event failed; it will be retried"
            );
        } else {
            attempt::dead_letter(&mut tx, attempt, &failure.to_string()).await?;
            tx.commit().await?;
            self.context.metrics.attempt_failed(ApplyResult::Dead);
            tracing::error!(
                event.id = event_id,
                attempt = attempt.number,
                error = %failure,
                "an event is dead: see `billing-sync outbox show`"
            );
        }
        Ok(())
    }

    /// Releases an attempt, now or once the database is available again.
    async fn release_later(&mut self, attempt: Attempt) -> Result<(), Failure> {
        self.unreleased.push(attempt);
        self.release_attempts().await
    }

    /// Releases the attempts that must not count. One whose row another session has locked stays unreleased.
    pub(super) async fn release_attempts(&mut self) -> Result<(), Failure> {
        let mut held = Vec::new();
        while let Some(attempt) = self.unreleased.last().cloned() {
            match self.release_attempt(&attempt).await {
                Ok(()) => {}
                Err(Failure::Contended(_)) => held.push(attempt),
                Err(failure) => {
                    self.unreleased.extend(held);
                    return Err(failure);
                }
            }
            self.unreleased.pop();
        }
        self.unreleased.extend(held);
        Ok(())
    }

    async fn release_attempt(&self, attempt: &Attempt) -> Result<(), Failure> {
        let mut tx = begin(&self.context).await?;
        attempt::snooze(&mut tx, attempt).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The number of an attempt, as the retry policy counts.
fn attempts(attempt: &Attempt) -> u32 {
    u32::try_from(attempt.number).unwrap_or(u32::MAX)
}
