//! Checks that the key for writes belongs to the account of the stored data, before anything is written with it.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{ApiError, StripeApi};
use crate::database::Pool;
use crate::stripe_key::check::{KeyStatus, check_key};

/// Interval between checks while nothing is stored with which the account could be compared.
const PAUSE: Duration = Duration::from_mins(1);

/// Remembers the result of the check.
pub(super) struct KeyGuard {
    state: Mutex<State>,
    margin: Duration,
}

enum State {
    Unchecked,
    /// Nothing is stored that could contradict the key; checked again at this time.
    Unverified(Instant),
    Verified,
}

/// Why nothing may be written.
pub(super) enum KeyError {
    Database(sqlx::Error),
    /// Stripe did not answer.
    Unanswered(ApiError),
    /// The key is refused, or belongs to another account, or may not read anything by which that could be checked.
    Refused(String),
}

impl KeyGuard {
    pub(super) fn new(margin: Duration) -> Self {
        Self { state: Mutex::new(State::Unchecked), margin }
    }

    /// Succeeds if the key belongs to our account, or nothing is stored yet.
    pub(super) async fn check(&self, api: &dyn StripeApi, pool: &Pool) -> Result<(), KeyError> {
        let mut state = self.state.lock().await;
        match *state {
            State::Verified => return Ok(()),
            State::Unverified(until) if Instant::now() < until => return Ok(()),
            _ => {}
        }
        let checked = async { check_key(api, &mut pool.acquire().await?, self.margin).await };
        match checked.await.map_err(KeyError::Database)?.status {
            KeyStatus::Verified => *state = State::Verified,
            KeyStatus::Unverified => *state = State::Unverified(Instant::now() + PAUSE),
            KeyStatus::Unanswered(error) if error.is_forbidden() => {
                return Err(KeyError::Refused(
                    "STRIPE_WRITE_KEY may read neither its account nor events nor customers, so its account cannot be \
                     checked: give it the permission Customers (write) in the Stripe dashboard"
                        .to_owned(),
                ));
            }
            KeyStatus::Unanswered(error) => return Err(KeyError::Unanswered(error)),
            KeyStatus::Refused(error) => {
                return Err(KeyError::Refused(format!("STRIPE_WRITE_KEY cannot be used: {error}")));
            }
            KeyStatus::OtherAccount(shown_by) => {
                return Err(KeyError::Refused(format!(
                    "STRIPE_WRITE_KEY belongs to another account than the stored data: {shown_by}"
                )));
            }
        }
        Ok(())
    }
}
