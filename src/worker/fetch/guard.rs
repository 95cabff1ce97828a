//! Whether Stripe's API may be asked at all: a key of another account or mode would find nothing, and everything would
//! be marked missing.
//!
//! The mode is compared when the configuration is read. The account cannot be: our own events do not name it. So before
//! the first read some stored events are looked up: a key of their account finds them. On a mismatch, and while Stripe
//! refuses the key, nothing is read, and it is said loudly each time that it is looked at again.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{ApiError, Read, StripeApi, Urgency};
use crate::clock;
use crate::metrics::instance::Instance;
use crate::outbox::sample;
use sqlx::PgPool;

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
    /// There was no event old enough to look up: reads are made, and what they do not find proves nothing.
    Unproven,
    /// A stored event was found.
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
        if let State::Shut(until) = *state
            && let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            return Ok(Pass::Shut(left));
        }
        if *state != State::Open {
            *state = look(api, pool, self.margin).await?;
        }
        metrics.stripe_usable(!matches!(*state, State::Shut(_)));
        Ok(match *state {
            State::Open => Pass::Proven,
            State::Unproven | State::Unchecked => Pass::Unproven,
            State::Shut(_) => Pass::Shut(PAUSE),
        })
    }

    /// Stripe refuses the key: nothing is read for a while.
    pub(super) async fn shut(&self, error: &ApiError, metrics: &Instance) {
        tracing::error!(%error, "Stripe refuses the key: no object is read until it accepts it; check STRIPE_SECRET_KEY");
        metrics.stripe_usable(false);
        *self.state.lock().await = State::Shut(Instant::now() + PAUSE);
    }
}

/// Looks up stored events until one is found. An event that is younger than a read may be stale is missing in any
/// account, so it is not asked for.
async fn look(api: &dyn StripeApi, pool: &PgPool, margin: Duration) -> Result<State, sqlx::Error> {
    let shut = State::Shut(Instant::now() + PAUSE);
    let stripes_time = match api.read("", &Read::Account, Urgency::Normal).await {
        Ok(answer) => answer.at,
        Err(error @ ApiError::Unauthorised { status: 401, .. }) => {
            tracing::error!(%error, "Stripe refuses the key: no object is read until it accepts it; check STRIPE_SECRET_KEY");
            return Ok(shut);
        }
        // a restricted key may not read its account, and that is no harm
        Err(_) => clock::now(),
    };
    let events = sample::recent(&mut *pool.acquire().await?, stripes_time - margin).await?;
    let mut unknown = 0;
    for event_id in &events {
        match api.read("", &Read::Event(event_id.clone()), Urgency::Normal).await {
            Ok(_) => return Ok(State::Open),
            Err(ApiError::NotFound { .. }) => unknown += 1,
            Err(_) => {}
        }
    }
    if unknown == 0 {
        return Ok(State::Unproven);
    }
    tracing::error!(
        events = unknown,
        "Stripe's API knows none of the stored events: STRIPE_SECRET_KEY is of another account or mode, and no object \
         is read until that is mended"
    );
    Ok(shut)
}
