//! Backfill: everything that Stripe has, read and merged, so that nothing that was ever missed stays missing.
//!
//! ```text
//!  lists, in ranges of creation time ──pages──▶ mirror + facts ──▶ rows     one transaction a page, with its place
//!  what is here and no page named    ──jobs──▶ fetcher                      lists omit what was deleted
//!  every customer and plan, once more ─────────▶ rows ──▶ what they lack ──jobs──▶ fetcher
//! ```
//!
//! A page is merged as a read is, at the version at which it was asked for: an event that is newer stands, so a backfill
//! runs beside the service and nothing has to be stopped. What single objects lack is asked for by the jobs that the service
//! uses too, and only at the end, when all lists have told what they know. [`runs`] keeps the place of every range.
//!
//! [`survey`] looks at customers one by one, each whole: it compares, for `verify` and for trial runs, and mends.
//! [`sampler`] does so with a few of them every hour.

mod covered;
mod list;
mod look;
mod looks;
mod page;
mod range;
mod ranges;
mod run;
pub mod runs;
pub mod sampler;
pub mod survey;
mod unannounced;
mod unnamed;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

pub use self::list::List;
pub use self::look::{Keep, LookError};
pub use self::run::{Notice, Report};
use self::runs::{Open, Run};
use crate::client::{Answer, ApiError, Listed, Read, Span, StripeApi, Urgency};
use crate::jobs::account::Account;
use crate::retry::RetryPolicy;
use crate::stripe::json::Document;
use crate::worker::Context;
use crate::worker::failure::Failure;
use crate::worker::fetch::guard::{self, Verdict};

/// What causes the changes, in `row_changes`.
const CAUSE: &str = "backfill";

/// Waits between two tries of one page: five minutes in all, after which somebody has to look.
pub const PATIENCE: RetryPolicy =
    RetryPolicy { max_attempts: 10, initial: Duration::from_secs(1), max: Duration::from_mins(1) };

/// A backfill of everything, of our own account and the connected ones.
pub struct Backfill {
    /// By which rules it is merged, and with how many connections.
    context: Context,
    api: Arc<dyn StripeApi>,
    /// Our own, as the empty text, and those that are synced beside it.
    accounts: Vec<String>,
    /// Reads may be stale by this much.
    margin: Duration,
    /// Pages at work at a time.
    concurrency: usize,
    patience: RetryPolicy,
    /// When the account began, as Unix time: nothing is older. `None`: this is no Stripe, and no range is cut.
    floor: Option<i64>,
    /// The account of the key, where it may be read.
    stripe_account: Option<Account>,
    /// A stored event shows that the key is of the account of what is stored: what it does not find is not there.
    proven: bool,
}

/// Why a backfill ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The key is of another account than what is stored.
    #[error("STRIPE_SECRET_KEY is of another account or mode than what is stored here ({0}); nothing was read")]
    OtherAccount(String),
    /// Stripe refuses the key, or does not answer.
    #[error("{0}; nothing was read: does this machine reach STRIPE_API_BASE? It can be tried again at any time")]
    Stripe(ApiError),
    /// Another process has taken the run over.
    #[error("another process has taken this backfill over, or it was restarted: this one stops")]
    Relieved,
    /// The database failed.
    #[error("{0}; `billing-sync backfill --resume` goes on where it was")]
    Work(#[from] Failure),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Work(error.into())
    }
}

/// Which run is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// A new one, with only what was created then or later.
    New(Option<OffsetDateTime>),
    /// The one that is open, whoever works on it.
    Resume,
}

impl Backfill {
    /// Looks at the key first: one of another account would mix two of them up.
    ///
    /// `concurrency` is how many pages are read and stored at a time.
    ///
    /// # Errors
    /// Where Stripe refuses the key or does not answer, where it is of another account, and those of the database.
    pub async fn new(
        context: Context,
        api: Arc<dyn StripeApi>,
        accounts: impl IntoIterator<Item = String>,
        concurrency: usize,
        patience: RetryPolicy,
    ) -> Result<Self, Stop> {
        let margin = context.read_margin;
        // what single objects lack is asked for when all lists have told what they know
        let context = Context { fetches: false, ..context };
        let mut conn = context.pool.acquire().await?;
        let (stripe_account, floor) = account(api.as_ref()).await?;
        let proven = prove(&mut conn, api.as_ref(), margin).await?;
        drop(conn);
        let accounts = std::iter::once(String::new()).chain(accounts).collect();
        Ok(Self {
            context,
            api,
            accounts,
            margin,
            concurrency: concurrency.max(1),
            patience,
            floor,
            stripe_account,
            proven,
        })
    }

    /// The run that is neither finished nor abandoned.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(&self) -> Result<Option<Open>, Stop> {
        Ok(runs::open(&mut *self.context.pool.acquire().await?).await?)
    }

    /// Gives that run up, whoever is at work on it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn abandon(&self) -> Result<(), Stop> {
        Ok(runs::abandon(&mut *self.context.pool.acquire().await?).await?)
    }

    /// Begins a run, or takes the open one over.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin(&self, begin: Begin) -> Result<Run, Stop> {
        let mut tx = self.context.pool.begin().await?;
        let run = match begin {
            Begin::Resume => runs::take_over(&mut tx).await?,
            Begin::New(created_after) => {
                runs::begin(&mut tx, &self.accounts, created_after, self.stripe_account.as_ref()).await?
            }
        };
        tx.commit().await?;
        Ok(run)
    }

    /// Reads a page of a list, with what rows need beside its objects. A server refuses the whole list for one field that it
    /// does not know: then it is read plainly, and what is not there is read by itself later.
    async fn read_page(
        &self,
        account: &str,
        of: Listed,
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

    /// The same, with what single objects lack asked for at once.
    fn asking(&self) -> Context {
        self.context.clone().with_fetches(self.margin)
    }
}

/// The account of the key, and when it began. A restricted key may not be allowed to read it, and that is no harm.
async fn account(api: &dyn StripeApi) -> Result<(Option<Account>, Option<i64>), Stop> {
    match api.read("", &Read::Account, Urgency::Normal).await {
        Ok(answer) => {
            let created =
                Document::parse_or_null(&answer.body).root().get("created").integer().unwrap_or(range::OLDEST);
            Ok((guard::account_of(api, &answer.body), Some(created.max(range::OLDEST))))
        }
        // no Stripe, which may not know spans of time either
        Err(error) if error.is_unknown_path() => Ok((None, None)),
        Err(error @ (ApiError::Unauthorised { .. } | ApiError::RateLimited { .. } | ApiError::Unavailable { .. })) => {
            Err(Stop::Stripe(error))
        }
        Err(_) => Ok((None, Some(range::OLDEST))),
    }
}

/// Nothing may be merged that belongs to another account. Says whether anything proves that it is the same.
async fn prove(conn: &mut PgConnection, api: &dyn StripeApi, margin: Duration) -> Result<bool, Stop> {
    match guard::examine(api, conn, margin).await?.verdict {
        Verdict::Proven => Ok(true),
        // a restricted key may not read events, and that is no harm
        Verdict::Unproven | Verdict::Unanswered(ApiError::Forbidden { .. }) => Ok(false),
        Verdict::Unanswered(error) | Verdict::Refused(error) => Err(Stop::Stripe(error)),
        Verdict::OtherAccount(shown_by) => Err(Stop::OtherAccount(shown_by)),
    }
}
