//! Changes at Stripe, exactly once: sends the lines of the ledger, and merges Stripe's answers like reads.
//!
//! ```text
//! api ──begin──▶ ledger (committed) ──lease──▶ send: Stripe, outside any transaction ──▶ complete: merge, project,
//!                   ▲                            one idempotency key for every attempt      render, done; one commit
//!                   │ due                          │
//!                recovery ◀────────────────────────┘ outcome unknown, process killed
//!                   └── look_up: reads the object, where the key says nothing any more
//! ```
//!
//! A request that is killed at any point leaves a line, which [`recovery`] completes with the same key: Stripe executes
//! it once. A webhook that carries the key closes the line as well (`ledger::prove`). Must not know HTTP, nor the names
//! of a dialect. Runs in processes with the role `api`, with the rights of the owner of the tables, because it merges.

mod complete;
mod key_guard;
mod look_up;
pub mod recovery;
mod send;
mod version;

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::complete::{Completed, Render};
use self::key_guard::KeyGuard;
pub use self::send::{Patience, SendError};
use crate::client::{HttpStripe, KeyedWrite, StripeApi, Urgency, Write, WriteRequest};
use crate::ledger::read::Progress;
use crate::ledger::{self, NewLine, read, stripe_key};
use crate::metrics::writes::WriteMetrics;
use crate::stripe::json::Document;
use crate::stripe::secrets::client_secret;
use crate::worker::Context;

/// The field of `metadata` by which a new object names its line.
pub const MARK: &str = "billing_sync_write";

/// Time beyond Stripe's timeout after which a lease ends: for the waits between attempts, and for the merge.
const LEASE_RESERVE: Duration = Duration::from_secs(40);

/// Makes the changes of the ledger.
pub struct Writer {
    context: Arc<Context>,
    client: HttpStripe,
    reads: Arc<dyn StripeApi>,
    key: KeyGuard,
    metrics: WriteMetrics,
    lease: Duration,
    running: TaskTracker,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// A change that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct NewWrite<'a> {
    /// A new id, also in the metadata of a new object ([`MARK`]).
    pub id: Uuid,
    /// Who asks for it.
    pub principal: &'a str,
    /// Connected account, or empty.
    pub account: &'a str,
    /// What the change belongs to, as `type/id`: changes of one target are made one after the other.
    pub target: &'a str,
    /// The workspace for which it is made.
    pub workspace: Option<Uuid>,
    /// The change.
    pub write: &'a Write,
    /// The subscription that ends once the new checkout session is complete.
    pub replaces: Option<&'a str>,
    /// Whether a new payment link cannot be visited.
    pub is_inactive: bool,
}

/// Begins a change in the caller's transaction; nothing is sent before its commit. Returns false while another change of
/// the target is in progress.
///
/// # Errors
/// Database errors.
pub async fn begin(conn: &mut PgConnection, new: &NewWrite<'_>) -> Result<bool, sqlx::Error> {
    begin_after(conn, new, None).await
}

async fn begin_after(conn: &mut PgConnection, new: &NewWrite<'_>, previous: Option<Uuid>) -> Result<bool, sqlx::Error> {
    let WriteRequest { operation, path, form, .. } = new.write.request();
    let (object_type, object_id) = object_of(new.write);
    let line = NewLine {
        id: new.id,
        principal: new.principal,
        account: new.account,
        target: new.target,
        workspace: new.workspace,
        object_type,
        object_id,
        operation,
        path: &path,
        form: &form,
        previous,
        replaces: new.replaces,
        is_follow_up_due: new.replaces.is_some() || new.is_inactive,
    };
    ledger::begin(conn, &line).await
}

/// Stripe's type of the object that a change is about, and its id unless it is created.
fn object_of(write: &Write) -> (&'static str, Option<&str>) {
    match write {
        Write::CreateCustomer { .. } => ("customer", None),
        Write::UpdateCustomer { customer, .. } => ("customer", Some(customer)),
        Write::CreateCheckoutSession(_) => ("checkout.session", None),
        Write::CreatePaymentLink(_) => ("payment_link", None),
        Write::SetPaymentLinkActive { payment_link, .. } => ("payment_link", Some(payment_link)),
        Write::CancelSubscription { subscription, .. } => ("subscription", Some(subscription)),
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
    pub fn pool(&self) -> PgPool {
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
        read::progress(&mut *self.context.pool.acquire().await?, id).await
    }

    /// The workspace of a change.
    ///
    /// # Errors
    /// Database errors.
    pub async fn workspace(&self, id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
        read::workspace(&mut *self.context.pool.acquire().await?, id).await
    }

    /// The client secret of a session that was created, which is stored nowhere: Stripe repeats its answer for a day.
    ///
    /// # Errors
    /// [`SendError::Expired`] if Stripe does not have the answer any more.
    pub async fn client_secret(&self, id: Uuid) -> Result<Option<String>, SendError> {
        let request = read::sent_request(&mut *self.context.pool.acquire().await?, id).await?;
        let request = request.ok_or(SendError::Expired)?;
        let key = stripe_key(id, request.key_number);
        let account = request.account.clone();
        let request = WriteRequest::stored(&request.operation, request.path, request.form).ok_or(SendError::Expired)?;
        let write = KeyedWrite {
            account: &account,
            request: &request,
            key: &key,
            urgency: Urgency::Interactive,
            may_have_been_sent: true,
        };
        let answer = self.client.write(write).await.map_err(SendError::Stripe)?;
        Ok(client_secret(Document::parse_or_null(&answer.body).root()))
    }
}
