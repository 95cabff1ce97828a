//! Completes what was interrupted: lines whose process was killed, or whose outcome at Stripe is unknown. And begins the
//! end of subscriptions that a completed checkout replaces.
//!
//! Runs in every process that writes; leases keep them apart.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::begin::{NewWrite, Then, begin_after};
use super::complete::Completed;
use super::send::{OnFailure, SendError};
use super::writer::Writer;
use crate::client::{Urgency, Write};
use crate::database::without_values;
use crate::ledger::{self, open};

/// Interval between searches.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval between deletions of old lines.
const CLEANUP_EVERY: u32 = 300;
/// Lines and sessions of one search.
const BATCH: i64 = 20;
/// Who asks for a step that follows from another.
const OWN: &str = "billing-sync";

impl Writer {
    /// Works until `shutdown`; a line in progress is completed first.
    pub async fn recover(self: Arc<Self>, shutdown: CancellationToken) {
        let mut round = 0_u32;
        while !shutdown.is_cancelled() {
            if let Err(error) = self.recover_once(&shutdown).await {
                tracing::warn!(
                    error = without_values(&error),
                    "interrupted changes at Stripe could not be completed; trying again"
                );
            }
            if round.is_multiple_of(CLEANUP_EVERY) {
                self.clean_up().await;
            }
            round = round.wrapping_add(1);
            shutdown.run_until_cancelled(tokio::time::sleep(INTERVAL)).await;
        }
    }

    /// Sends every line that is due. Returns how many there were.
    ///
    /// # Errors
    /// Database errors; failures of single lines are recorded in them.
    pub async fn recover_once(self: &Arc<Self>, shutdown: &CancellationToken) -> Result<usize, sqlx::Error> {
        self.begin_replacements().await?;
        let due = open::due(&mut self.context.pool.acquire().await?, BATCH).await?;
        let found = due.len();
        for id in due {
            if shutdown.is_cancelled() {
                break;
            }
            // every other failure is logged and recorded
            if let Err(SendError::Database(error)) =
                self.run(id, OnFailure::Keep, Urgency::Normal, Completed::nothing()).await
            {
                return Err(error);
            }
        }
        Ok(found)
    }

    /// Begins the end of each subscription whose replacement was bought.
    async fn begin_replacements(&self) -> Result<(), sqlx::Error> {
        let mut tx = self.context.pool.begin().await?;
        for found in open::completed_replacements(&mut tx, BATCH).await? {
            let write = Write::CancelSubscription {
                subscription: found.replaced.clone(),
                comment: "replaced by a subscription that was bought in checkout".to_owned(),
            };
            let new = NewWrite {
                id: Uuid::new_v4(),
                principal: OWN,
                account: &found.account,
                workspace: found.workspace,
                write: &write,
                then: Then::Nothing,
            };
            // false: it is being canceled already
            let begun = begin_after(&mut tx, found.line, &new).await?;
            tracing::info!(
                subscription.id = found.replaced,
                begun,
                "a checkout replaces a subscription, which ends now"
            );
        }
        tx.commit().await
    }

    async fn clean_up(&self) {
        loop {
            let forgotten = async { ledger::forget(&mut self.context.pool.acquire().await?).await };
            match forgotten.await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    return tracing::warn!(
                        error = without_values(&error),
                        "could not delete old lines of the ledger; trying again later"
                    );
                }
            }
        }
    }
}
