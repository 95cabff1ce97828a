//! A backfill of the accounts of one key: checks the key, begins or resumes a run, and reads pages of lists.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::range;
use super::run_store::{self, Run, UnfinishedRun};
use crate::base::retry::RetryPolicy;
use crate::base::waits::Waits;
use crate::client::{Answer, ApiError, ListKind, Read, Span, StripeApi, Urgency};
use crate::database::Connection;
use crate::stripe::json::Document;
use crate::stripe_key::account::Account;
use crate::stripe_key::check::{self, KeyStatus};
use crate::worker::Context;
use crate::worker::failure::Failure;

/// The cause of these changes in `row_changes`.
pub(crate) const CAUSE: &str = "backfill";

/// Retry policy of one page: five minutes in all, after which the operator must act.
pub const PAGE_RETRY: RetryPolicy =
    RetryPolicy { max_attempts: 10, initial: Duration::from_secs(1), max: Duration::from_mins(1) };

/// A backfill of the key's own account and the connected accounts.
pub struct Backfill {
    /// Database pool and merge rules.
    pub(crate) context: Context,
    pub(crate) api: Arc<dyn StripeApi>,
    /// The key's own account, as the empty string, and the synced connected accounts.
    pub(crate) accounts: Vec<String>,
    /// Staleness margin: reads may be stale by this much.
    pub(crate) margin: Duration,
    /// Maximum number of pages in flight.
    pub(crate) concurrency: usize,
    pub(crate) page_retry: RetryPolicy,
    /// Creation time of the account, as Unix time: no object is older. `None`: the server is not Stripe, and no range
    /// is split.
    pub(crate) floor: Option<i64>,
    /// The account of the key, if the key may read it.
    pub(crate) stripe_account: Option<Account>,
    /// Whether a stored event verified that the key belongs to the account of the stored data. Only then does a 404
    /// mean that an object does not exist.
    pub(crate) verified: bool,
    /// Where waits are registered, except those of the API client.
    pub(crate) waits: Waits,
}

/// Why a backfill stopped early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The key belongs to another account than the stored data.
    #[error("STRIPE_SECRET_KEY belongs to another account or mode than the stored data ({0}); nothing was read")]
    OtherAccount(String),
    /// Stripe refuses the key, or does not answer.
    #[error("{error}; nothing was read: {fix}", error = .0, fix = .0.fix("STRIPE_SECRET_KEY"))]
    Stripe(ApiError),
    /// Another process has taken over the run.
    #[error("lease lost: another process took over this backfill or started a new one; this process stops")]
    LeaseLost,
    /// The database failed.
    #[error("{0}; `billing-sync backfill --resume` continues from the last stored page")]
    Work(#[from] Failure),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Work(error.into())
    }
}

/// The run to process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSelection {
    /// A new run, optionally limited to objects created at this time or later.
    New(Option<OffsetDateTime>),
    /// The unfinished run, whichever process owns it.
    Resume,
}

impl Backfill {
    /// Checks the key first: a key of another account would mix the data of two accounts.
    ///
    /// `concurrency` is how many pages are read and stored at a time.
    ///
    /// # Errors
    /// If Stripe refuses the key or does not answer, if the key belongs to another account, and database errors.
    pub async fn new(
        context: Context,
        api: Arc<dyn StripeApi>,
        accounts: impl IntoIterator<Item = String>,
        concurrency: usize,
        page_retry: RetryPolicy,
    ) -> Result<Self, Stop> {
        let margin = context.read_margin;
        // missing data of single objects is queued after all lists are read
        let context = Context { fetches: false, ..context };
        let mut conn = context.pool.acquire().await?;
        let (stripe_account, floor) = account(api.as_ref()).await?;
        let verified = check_account(&mut conn, api.as_ref(), margin).await?;
        drop(conn);
        let accounts = std::iter::once(String::new()).chain(accounts).collect();
        Ok(Self {
            context,
            api,
            accounts,
            margin,
            concurrency: concurrency.max(1),
            page_retry,
            floor,
            stripe_account,
            verified,
            waits: Waits::default(),
        })
    }

    /// Registers each wait in `waits`.
    #[must_use]
    pub fn with_waits(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// Returns the run that is neither finished nor abandoned.
    ///
    /// # Errors
    /// Database errors.
    pub async fn open(&self) -> Result<Option<UnfinishedRun>, Stop> {
        Ok(run_store::open(&mut self.context.pool.acquire().await?).await?)
    }

    /// Abandons the unfinished run, even if another process is running it.
    ///
    /// # Errors
    /// Database errors.
    pub async fn abandon(&self) -> Result<(), Stop> {
        Ok(run_store::abandon(&mut self.context.pool.acquire().await?).await?)
    }

    /// Begins a run, or takes over the unfinished one.
    ///
    /// # Errors
    /// Database errors.
    pub async fn begin(&self, begin: RunSelection) -> Result<Run, Stop> {
        let mut tx = self.context.pool.begin().await?;
        let run = match begin {
            RunSelection::Resume => run_store::take_over(&mut tx).await?,
            RunSelection::New(created_after) => {
                run_store::begin(&mut tx, &self.accounts, created_after, self.stripe_account.as_ref()).await?
            }
        };
        tx.commit().await?;
        Ok(run)
    }

    /// Reads a page of a list with the expansions that rows need. A server rejects the whole request for one unknown
    /// field. Then the page is read without expansions, and the missing fields are fetched individually later.
    pub(crate) async fn read_page(
        &self,
        account: &str,
        of: ListKind,
        span: Span,
        after: Option<String>,
    ) -> Result<Answer, ApiError> {
        let page = |of, after, expand| Read::List { of, span, after, expand };
        match self.api.read(account, &page(of.clone(), after.clone(), true), Urgency::Normal).await {
            Err(ApiError::Rejected { status: 400, .. }) => {
                self.api.read(account, &page(of, after, false), Urgency::Normal).await
            }
            answer => answer,
        }
    }

    /// The context of this backfill, but with missing objects queued at once.
    pub(crate) fn with_fetches(&self) -> Context {
        self.context.clone().with_fetches(self.margin)
    }
}

/// Reads the account of the key and its creation time. A restricted key without that permission is accepted.
async fn account(api: &dyn StripeApi) -> Result<(Option<Account>, Option<i64>), Stop> {
    match api.read("", &Read::Account, Urgency::Normal).await {
        Ok(answer) => {
            let created =
                Document::parse_or_null(&answer.body).root().get("created").integer().unwrap_or(range::OLDEST);
            Ok((check::account_of(api, &answer.body), Some(created.max(range::OLDEST))))
        }
        // not Stripe: the server may not support `created` filters either
        Err(error) if error.is_unknown_path() => Ok((None, None)),
        Err(error @ (ApiError::Unauthorised { .. } | ApiError::RateLimited { .. } | ApiError::Unavailable { .. })) => {
            Err(Stop::Stripe(error))
        }
        Err(_) => Ok((None, Some(range::OLDEST))),
    }
}

/// Checks the key, so that no data of another account is merged. Returns whether the key could be verified.
async fn check_account(conn: &mut Connection, api: &dyn StripeApi, margin: Duration) -> Result<bool, Stop> {
    match check::check_key(api, conn, margin).await?.status {
        KeyStatus::Verified => Ok(true),
        // a restricted key without the permission to read events is accepted
        KeyStatus::Unverified | KeyStatus::Unanswered(ApiError::Forbidden { .. }) => Ok(false),
        KeyStatus::Unanswered(error) | KeyStatus::Refused(error) => Err(Stop::Stripe(error)),
        KeyStatus::OtherAccount(shown_by) => Err(Stop::OtherAccount(shown_by)),
    }
}
