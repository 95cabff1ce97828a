//! Checks the API key before reads: with a key of another account or mode nothing would be found, and every object
//! would be marked missing.
//!
//! The mode is compared when the configuration is read. The account cannot be, because events of one's own account do
//! not name it. So some stored events are looked up before the first read: a key of their account finds them. On a
//! mismatch, and while Stripe refuses the key, nothing is read, and each further check logs an error.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::base::clock;
use crate::client::{ApiError, Read, StripeApi, Urgency};
use crate::database::{Connection, Pool};
use crate::metrics::process::ProcessMetrics;
use crate::outbox::{own, sample};
use crate::stripe::json::Document;
use crate::stripe_key::account::{self, Account};

/// Interval between checks while reads are blocked or the key is unverified.
const PAUSE: Duration = Duration::from_mins(1);

/// Checks the key before reads of Stripe's API, and remembers the result.
pub(crate) struct KeyCheck {
    state: Mutex<State>,
    /// Staleness margin of reads, including reads of events.
    margin: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not checked yet.
    Unchecked,
    /// No stored event was old enough to look up. Reads are made, but a 404 proves nothing. Checked again at this time.
    Unverified(Instant),
    /// A stored event was found, or the key belongs to the account of the last backfill.
    Verified,
    /// No reads until this time.
    Blocked(Instant),
}

/// What reads with this key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The key belongs to the account of the stored events.
    Verified,
    /// The key may belong to another account.
    Unverified,
    /// No reads; check again after this time.
    Blocked(Duration),
}

impl KeyCheck {
    pub(crate) fn new(margin: Duration) -> Self {
        Self { state: Mutex::new(State::Unchecked), margin }
    }

    /// Returns whether reads may be made; checks the key first if that is not known.
    pub(crate) async fn access(
        &self,
        api: &dyn StripeApi,
        pool: &Pool,
        metrics: &ProcessMetrics,
    ) -> Result<Access, sqlx::Error> {
        let mut state = self.state.lock().await;
        let holds = match *state {
            State::Verified => true,
            State::Unverified(until) | State::Blocked(until) => Instant::now() < until,
            State::Unchecked => false,
        };
        if !holds {
            *state = recheck(api, pool, self.margin).await?;
        }
        metrics.stripe_usable(!matches!(*state, State::Blocked(_)));
        Ok(match *state {
            State::Verified => Access::Verified,
            State::Unverified(_) | State::Unchecked => Access::Unverified,
            State::Blocked(until) => Access::Blocked(until.saturating_duration_since(Instant::now())),
        })
    }

    /// How long reads stay blocked, by the last check.
    pub(crate) async fn blocked_for(&self) -> Option<Duration> {
        match *self.state.lock().await {
            State::Blocked(until) => {
                Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
            }
            _ => None,
        }
    }

    /// Blocks reads for a while, because Stripe refuses the key.
    pub(crate) async fn block(&self, error: &ApiError, metrics: &ProcessMetrics) {
        metrics.stripe_usable(false);
        *self.state.lock().await = refused(error);
    }
}

/// Logs that Stripe refused the key; returns the state that follows.
fn refused(error: &ApiError) -> State {
    tracing::error!(%error, "no object is read until Stripe accepts the key; check STRIPE_SECRET_KEY");
    State::Blocked(Instant::now() + PAUSE)
}

/// Result of checking a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStatus {
    /// Stripe knows one of the stored events, or the account is that of the last backfill.
    Verified,
    /// There is no stored event to look up.
    Unverified,
    /// Stripe did not answer whether it knows any: it is unreachable, or the key may not read events.
    Unanswered(ApiError),
    /// The key belongs to another account or mode than the stored data; contains the evidence.
    OtherAccount(String),
    /// Stripe refuses the key.
    Refused(ApiError),
}

/// Report of a key check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReport {
    /// Result of the check.
    pub status: KeyStatus,
    /// Time of the check, by Stripe's clock if Stripe sent it.
    pub at: OffsetDateTime,
    /// The account of the key, if the key may read it.
    pub account: Option<Account>,
}

/// Compares the key's account with that of the last backfill; if there was none, looks up stored events until one is
/// found, or customers if the key may not read events. An event younger than `margin`, the staleness of reads, may be
/// missing in any account, so it is not looked up.
///
/// # Errors
/// Database errors.
pub async fn check_key(api: &dyn StripeApi, conn: &mut Connection, margin: Duration) -> Result<KeyReport, sqlx::Error> {
    let (mut unknown, mut unanswered) = (0, None);
    let (at, account) = match api.read("", &Read::Account, Urgency::Normal).await {
        Ok(answer) => {
            let (at, account) = (answer.at, account_of(api, &answer.body));
            match (&account, account::known(conn).await?) {
                (Some(of_key), Some(known)) if *of_key == known => {
                    return Ok(KeyReport { status: KeyStatus::Verified, at, account });
                }
                (Some(of_key), Some(known)) => {
                    let shown_by = format!("it belongs to {of_key}, but the last backfill was of {known}");
                    return Ok(KeyReport { status: KeyStatus::OtherAccount(shown_by), at, account });
                }
                _ => (at, account),
            }
        }
        Err(error @ ApiError::Unauthorised { .. }) => {
            return Ok(KeyReport { status: KeyStatus::Refused(error), at: clock::now(), account: None });
        }
        Err(error) => {
            // a restricted key may not read its account, which is harmless
            let is_harmless = error.is_forbidden() || error.is_unknown_path();
            unanswered = Some(error).filter(|_| !is_harmless);
            (clock::now(), None)
        }
    };
    for event_id in sample::recent(conn, at - margin).await? {
        match api.read("", &Read::Event(event_id), Urgency::Normal).await {
            Ok(_) => return Ok(KeyReport { status: KeyStatus::Verified, at, account }),
            Err(ApiError::NotFound { .. }) => unknown += 1,
            Err(error @ ApiError::Unauthorised { .. }) => {
                return Ok(KeyReport { status: KeyStatus::Refused(error), at, account: None });
            }
            // without the permission, every other event is refused as well
            Err(error @ ApiError::Forbidden { .. }) => {
                unanswered = Some(error);
                break;
            }
            Err(error) => unanswered = Some(error),
        }
    }
    let mut compared = "events";
    if unknown == 0 && unanswered.as_ref().is_some_and(ApiError::is_forbidden) {
        // a key for writes may often read customers only
        compared = "customers";
        for customer in account::customers(conn, at - margin).await? {
            match api.read("", &Read::Customer(customer), Urgency::Normal).await {
                Ok(_) => return Ok(KeyReport { status: KeyStatus::Verified, at, account }),
                Err(ApiError::NotFound { .. }) => unknown += 1,
                Err(_) => break,
            }
        }
    }
    let status = match (unknown, unanswered) {
        (0, None) => KeyStatus::Unverified,
        (0, Some(error)) => KeyStatus::Unanswered(error),
        (unknown, _) => KeyStatus::OtherAccount(format!("Stripe knows none of {unknown} stored {compared}")),
    };
    Ok(KeyReport { status, at, account })
}

/// Stores the id of the key's account as one's own, if a stored event confirms it, or if no event is stored that could
/// contradict it. Events of an organization's endpoint name the account by this id.
///
/// # Errors
/// Database errors.
pub async fn store_account(conn: &mut Connection, report: &KeyReport) -> Result<(), sqlx::Error> {
    let Some(account) = &report.account else { return Ok(()) };
    let is_ours = match report.status {
        KeyStatus::Verified => true,
        KeyStatus::Unverified => !sample::any(conn).await?,
        _ => false,
    };
    if is_ours { own::note(conn, &account.id).await } else { Ok(()) }
}

/// The account in a response, with the mode of the key.
pub fn account_of(api: &dyn StripeApi, body: &str) -> Option<Account> {
    let id = Document::parse(body).ok()?.root().get("id").text()?;
    Some(Account { id, livemode: api.livemode()? })
}

/// Checks the key and returns the resulting state; logs a mismatch and a refusal.
async fn recheck(api: &dyn StripeApi, pool: &Pool, margin: Duration) -> Result<State, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    let report = check_key(api, &mut conn, margin).await?;
    store_account(&mut conn, &report).await?;
    Ok(match report.status {
        KeyStatus::Verified => State::Verified,
        KeyStatus::Unverified | KeyStatus::Unanswered(_) => State::Unverified(Instant::now() + PAUSE),
        KeyStatus::Refused(error) => refused(&error),
        KeyStatus::OtherAccount(shown_by) => {
            tracing::error!(
                shown_by,
                "STRIPE_SECRET_KEY belongs to another account or mode than the stored data; no object is read until \
                 that is fixed"
            );
            State::Blocked(Instant::now() + PAUSE)
        }
    })
}
