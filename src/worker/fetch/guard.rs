//! Whether Stripe's API may be asked at all: a key of another account or mode would find nothing, and everything would
//! be marked missing.
//!
//! The mode is compared when the configuration is read. The account cannot be: our own events do not name it. So before
//! the first read some stored events are looked up: a key of their account finds them. On a mismatch, and while Stripe
//! refuses the key, nothing is read, and it is said loudly each time that it is looked at again.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{ApiError, Read, StripeApi, Urgency};
use crate::clock;
use crate::jobs::account::{self, Account};
use crate::metrics::instance::Instance;
use crate::outbox::{own, sample};
use crate::stripe::json::Document;

/// While shut, the door is tried this often.
const PAUSE: Duration = Duration::from_mins(1);

/// The door to Stripe's API.
pub(super) struct Guard {
    state: Mutex<State>,
    /// Reads may be stale by this much, those of events too.
    margin: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has looked yet.
    Unchecked,
    /// There was no event old enough to look up: reads are made, and what they do not find proves nothing. Looked at
    /// again then.
    Unproven(Instant),
    /// A stored event was found, or the key is of the account of the last backfill.
    Open,
    /// Not before then.
    Shut(Instant),
}

/// How far the API can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It is the account of our events.
    Proven,
    /// It may be another.
    Unproven,
    /// Ask again after this time.
    Shut(Duration),
}

impl Guard {
    pub(super) fn new(margin: Duration) -> Self {
        Self { state: Mutex::new(State::Unchecked), margin }
    }

    /// Says whether reads may be made, looking first where that is not known.
    pub(super) async fn pass(
        &self,
        api: &dyn StripeApi,
        pool: &PgPool,
        metrics: &Instance,
    ) -> Result<Pass, sqlx::Error> {
        let mut state = self.state.lock().await;
        let holds = match *state {
            State::Open => true,
            State::Unproven(until) | State::Shut(until) => Instant::now() < until,
            State::Unchecked => false,
        };
        if !holds {
            *state = look(api, pool, self.margin).await?;
        }
        metrics.stripe_usable(!matches!(*state, State::Shut(_)));
        Ok(match *state {
            State::Open => Pass::Proven,
            State::Unproven(_) | State::Unchecked => Pass::Unproven,
            State::Shut(until) => Pass::Shut(until.saturating_duration_since(Instant::now())),
        })
    }

    /// How long the API is not asked, as far as that is known already.
    pub(super) async fn shut_for(&self) -> Option<Duration> {
        match *self.state.lock().await {
            State::Shut(until) => Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()),
            _ => None,
        }
    }

    /// Stripe refuses the key: nothing is read for a while.
    pub(super) async fn shut(&self, error: &ApiError, metrics: &Instance) {
        metrics.stripe_usable(false);
        *self.state.lock().await = refused(error);
    }
}

/// The state after Stripe has refused the key, told.
fn refused(error: &ApiError) -> State {
    tracing::error!(%error, "Stripe refuses the key: no object is read until it accepts it; check STRIPE_SECRET_KEY");
    State::Shut(Instant::now() + PAUSE)
}

/// What a key is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Stripe knows one of the stored events.
    Proven,
    /// There is no stored event to look up.
    Unproven,
    /// Stripe did not say whether it knows any: it cannot be reached, or the key may not read events.
    Unanswered(ApiError),
    /// The key is of another account or mode than what is stored; says what shows it.
    OtherAccount(String),
    /// Stripe refuses the key.
    Refused(ApiError),
}

/// What a look at the key has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What the key is.
    pub verdict: Verdict,
    /// When it was looked at, by Stripe's clock where Stripe has told it.
    pub at: OffsetDateTime,
    /// The account of the key, where it may be read.
    pub account: Option<Account>,
}

/// Compares the key's account with that of the last backfill; where there was none, looks up stored events until one is
/// found. An event that is younger than `margin`, by which a read may be stale, is
/// missing in any account, so it is not asked for.
///
/// # Errors
/// Those of the database.
pub async fn examine(api: &dyn StripeApi, conn: &mut PgConnection, margin: Duration) -> Result<Look, sqlx::Error> {
    let (mut unknown, mut unanswered) = (0, None);
    let (at, account) = match api.read("", &Read::Account, Urgency::Normal).await {
        Ok(answer) => {
            let (at, account) = (answer.at, account_of(api, &answer.body));
            match (&account, account::known(conn).await?) {
                (Some(of_key), Some(known)) if *of_key == known => {
                    return Ok(Look { verdict: Verdict::Proven, at, account });
                }
                (Some(of_key), Some(known)) => {
                    let shown_by = format!("it is of {of_key}, and the last backfill was of {known}");
                    return Ok(Look { verdict: Verdict::OtherAccount(shown_by), at, account });
                }
                _ => (at, account),
            }
        }
        Err(error @ ApiError::Unauthorised { .. }) => {
            return Ok(Look { verdict: Verdict::Refused(error), at: clock::now(), account: None });
        }
        Err(error) => {
            // a restricted key may not read its account, and that is no harm
            let is_harmless = error.is_forbidden() || error.is_unknown_path();
            unanswered = Some(error).filter(|_| !is_harmless);
            (clock::now(), None)
        }
    };
    for event_id in sample::recent(conn, at - margin).await? {
        match api.read("", &Read::Event(event_id), Urgency::Normal).await {
            Ok(_) => return Ok(Look { verdict: Verdict::Proven, at, account }),
            Err(ApiError::NotFound { .. }) => unknown += 1,
            Err(error @ ApiError::Unauthorised { .. }) => {
                return Ok(Look { verdict: Verdict::Refused(error), at, account: None });
            }
            // without the permission every other event is refused as well
            Err(error @ ApiError::Forbidden { .. }) => {
                unanswered = Some(error);
                break;
            }
            Err(error) => unanswered = Some(error),
        }
    }
    let verdict = match (unknown, unanswered) {
        (0, None) => Verdict::Unproven,
        (0, Some(error)) => Verdict::Unanswered(error),
        (unknown, _) => Verdict::OtherAccount(format!("Stripe knows none of {unknown} stored events")),
    };
    Ok(Look { verdict, at, account })
}

/// Notes the id of our own account, by which events of an organization's endpoint name it: the key's account, where a stored
/// event shows that it is ours, or where none is stored that could contradict it.
///
/// # Errors
/// Those of the database.
pub async fn learn(conn: &mut PgConnection, look: &Look) -> Result<(), sqlx::Error> {
    let Some(account) = &look.account else { return Ok(()) };
    let is_ours = match look.verdict {
        Verdict::Proven => true,
        Verdict::Unproven => !sample::any(conn).await?,
        _ => false,
    };
    if is_ours { own::note(conn, &account.id).await } else { Ok(()) }
}

/// The account that an answer and the key tell of.
pub fn account_of(api: &dyn StripeApi, body: &str) -> Option<Account> {
    let id = Document::parse(body).ok()?.root().get("id").text()?;
    Some(Account { id, livemode: api.livemode()? })
}

/// The state that follows, told where it is bad.
async fn look(api: &dyn StripeApi, pool: &PgPool, margin: Duration) -> Result<State, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    let look = examine(api, &mut conn, margin).await?;
    learn(&mut conn, &look).await?;
    Ok(match look.verdict {
        Verdict::Proven => State::Open,
        Verdict::Unproven | Verdict::Unanswered(_) => State::Unproven(Instant::now() + PAUSE),
        Verdict::Refused(error) => refused(&error),
        Verdict::OtherAccount(shown_by) => {
            tracing::error!(
                shown_by,
                "STRIPE_SECRET_KEY is of another account or mode than what is stored, and no object is read until that is \
                 mended"
            );
            State::Shut(Instant::now() + PAUSE)
        }
    })
}
