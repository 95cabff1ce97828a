//! What sends and completes the lines of the ledger: its connections, its clients, and what callers may ask it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::key_guard::KeyGuard;
use crate::client::{HttpStripe, StripeApi};
use crate::database::Pool;
use crate::ledger::read::{self, Progress};
use crate::metrics::writes::WriteMetrics;
use crate::worker::Context;

/// Time beyond Stripe's timeout after which a lease ends: for the waits between attempts, and for the merge.
const LEASE_RESERVE: Duration = Duration::from_secs(40);

/// Makes the changes of the ledger.
pub struct Writer {
    pub(super) context: Arc<Context>,
    pub(super) client: HttpStripe,
    pub(super) reads: Arc<dyn StripeApi>,
    pub(super) key: KeyGuard,
    pub(super) metrics: WriteMetrics,
    pub(super) lease: Duration,
    pub(super) running: TaskTracker,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer whose client has the key for writes; `reads` looks at Stripe where the outcome is unknown. `timeout` is
    /// that of one request.
    pub fn new(
        context: Context,
        client: HttpStripe,
        reads: Arc<dyn StripeApi>,
        metrics: WriteMetrics,
        timeout: Duration,
    ) -> Self {
        Self {
            key: KeyGuard::new(context.read_margin),
            context: Arc::new(context),
            client,
            reads,
            metrics,
            lease: timeout + LEASE_RESERVE,
            running: TaskTracker::new(),
        }
    }

    /// The pool of the writer.
    pub fn pool(&self) -> Pool {
        self.context.pool.clone()
    }

    /// Waits for the changes in progress, which a client that hangs up does not end.
    pub async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }

    /// How far a change is.
    ///
    /// # Errors
    /// Database errors.
    pub async fn progress(&self, id: Uuid) -> Result<Option<Progress>, sqlx::Error> {
        read::progress(&mut self.context.pool.acquire().await?, id).await
    }

    /// The change that follows from a change.
    ///
    /// # Errors
    /// Database errors.
    pub async fn following(&self, id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
        read::following(&mut self.context.pool.acquire().await?, id).await
    }

    /// The workspace of a change.
    ///
    /// # Errors
    /// Database errors.
    pub async fn workspace(&self, id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
        read::workspace(&mut self.context.pool.acquire().await?, id).await
    }
}
