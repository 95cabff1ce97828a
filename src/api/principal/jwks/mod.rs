//! The identity provider's current keys: when they are loaded, and which requests wait for that.
//!
//! ```text
//! no keys yet ───────────────▶ load, wait          (after a failure: at most every 5 s)
//! kid unknown ───────────────▶ load, wait          (at most every minute)
//! loaded 15 minutes ago ─────▶ load, do not wait   (at most every minute)
//! not checked for an hour ───▶ load, wait
//! ```
//!
//! Concurrent requests share one load, which runs in a task of its own: a client that disconnects does not cancel it.
//! If a load fails, the last keys stay in use. Time is an argument, so that tests need not wait. Knows nothing of
//! tokens; called by [`super::jwt`].

mod key_set;
mod source;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub(crate) use self::key_set::{Algorithm, KeySet};
use self::source::Source;
use crate::config::api::JwtConfig;

/// Shortest time between two loads while there are keys: tokens with invented `kid`s must not become requests to the
/// identity provider.
const RELOAD_INTERVAL: Duration = Duration::from_mins(1);
/// Shortest time between two loads while there are no keys, because no JWT can be verified until then.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Age from which the keys are loaded again, so that a removed key stops being accepted.
const REFRESH_AGE: Duration = Duration::from_mins(15);
/// A request waits for a load if there was none, not even a failed one, for this time: after an idle night, a key that
/// was removed in the evening must not be accepted once more.
const UNCHECKED_AGE: Duration = Duration::from_hours(1);

/// Result of a load: the number of usable keys, or the cause of the failure in one line.
type Loaded = Result<usize, String>;

/// A load in progress. It has no value until the load has ended.
type Progress = watch::Receiver<Option<Loaded>>;

/// The keys of the identity provider. Clones share them.
#[derive(Clone)]
pub(super) struct Jwks(Arc<Shared>);

struct Shared {
    source: Source,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The keys, and the start of the load that they come from.
    keys: Option<(Arc<KeySet>, Instant)>,
    /// Start of the last load that has ended.
    checked_at: Option<Instant>,
    is_failing: bool,
    in_progress: Option<Progress>,
}

impl Jwks {
    /// Creates the store without keys; does not connect.
    pub(super) fn new(config: &JwtConfig) -> Self {
        let source = Source::new(&config.keys, &config.egress);
        Self(Arc::new(Shared { source, state: Mutex::default() }))
    }

    /// The source of the keys: a path, or a URL without credentials and query.
    pub(super) fn source(&self) -> String {
        self.0.source.describe()
    }

    /// Loads the keys now, or joins the load in progress.
    ///
    /// # Errors
    /// The cause of the failure in one line.
    pub(super) async fn load(&self, now: Instant) -> Loaded {
        let progress = self.join(&mut self.0.lock(), now, Duration::ZERO);
        match progress {
            Some(progress) => ended(progress).await,
            None => Err(format!("{}: no load was begun", self.source())),
        }
    }

    /// The current keys. Waits for a load only if there are none, or if they were not checked for long. `None` if they
    /// could not be loaded.
    pub(super) async fn current(&self, now: Instant) -> Option<Arc<KeySet>> {
        let progress = {
            let mut state = self.0.lock();
            match &state.keys {
                None => self.join(&mut state, now, RETRY_INTERVAL),
                Some(_) if state.is_due(now, UNCHECKED_AGE) => self.join(&mut state, now, UNCHECKED_AGE),
                Some((_, loaded_at)) => {
                    if now.saturating_duration_since(*loaded_at) >= REFRESH_AGE {
                        self.join(&mut state, now, RELOAD_INTERVAL);
                    }
                    None
                }
            }
        };
        if let Some(progress) = progress {
            // the result is in the state
            let _ = ended(progress).await;
        }
        self.0.lock().keys()
    }

    /// Newer keys than `seen`, for a token that `seen` cannot verify. `None` if there are none: a load is not due, or
    /// it failed.
    pub(super) async fn newer(&self, seen: &Arc<KeySet>, now: Instant) -> Option<Arc<KeySet>> {
        let is_newer = |keys: &Arc<KeySet>| !Arc::ptr_eq(keys, seen);
        let progress = {
            let mut state = self.0.lock();
            if let Some(keys) = state.keys().filter(is_newer) {
                return Some(keys);
            }
            self.join(&mut state, now, RELOAD_INTERVAL)?
        };
        // the result is in the state
        let _ = ended(progress).await;
        self.0.lock().keys().filter(is_newer)
    }

    /// The load in progress, or a new one if the last one was at least `interval` ago.
    fn join(&self, state: &mut State, now: Instant, interval: Duration) -> Option<Progress> {
        // a channel without its sender belongs to a load that was interrupted
        if let Some(progress) = state.in_progress.as_ref().filter(|progress| progress.has_changed().is_ok()) {
            return Some(progress.clone());
        }
        if !state.is_due(now, interval) {
            return None;
        }
        let (sender, progress) = watch::channel(None);
        state.in_progress = Some(progress.clone());
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move { sender.send_replace(Some(shared.load(now).await)) });
        Some(progress)
    }
}

/// Waits for the end of a load.
async fn ended(mut progress: Progress) -> Loaded {
    let ended = progress.wait_for(Option::is_some).await;
    ended.ok().and_then(|loaded| loaded.clone()).unwrap_or_else(|| Err("the load was interrupted".to_owned()))
}

impl State {
    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.as_ref().map(|(keys, _)| Arc::clone(keys))
    }

    /// Whether the last load was at least `interval` ago.
    fn is_due(&self, now: Instant, interval: Duration) -> bool {
        self.checked_at.is_none_or(|at| now.saturating_duration_since(at) >= interval)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self, started: Instant) -> Loaded {
        let read = self.source.read().await.and_then(|json| KeySet::parse(&json));
        let mut state = self.lock();
        state.in_progress = None;
        state.checked_at = Some(started);
        let error = match read {
            Ok(keys) if keys.len() > 0 => {
                let (count, ignored) = (keys.len(), keys.ignored());
                state.keys = Some((Arc::new(keys), started));
                let has_failed = std::mem::take(&mut state.is_failing);
                drop(state);
                self.log_success(count, ignored, has_failed);
                return Ok(count);
            }
            Ok(none) => {
                // a valid answer: the identity provider withdrew its keys
                state.keys = None;
                format!(
                    "none of its {} keys is usable: RSA keys of at least 2048 bits (RS256), P-256 keys (ES256) and \
                     Ed25519 keys (EdDSA) for signatures are",
                    none.ignored()
                )
            }
            Err(error) => error,
        };
        state.is_failing = true;
        let has_keys = state.keys.is_some();
        drop(state);
        self.log_failure(&error, has_keys);
        Err(format!("{}: {error}", self.source.describe()))
    }

    fn log_success(&self, keys: usize, ignored: usize, has_failed: bool) {
        let source = self.source.describe();
        if has_failed {
            tracing::info!(source, keys, ignored, "the keys of the identity provider load again");
        } else {
            tracing::debug!(source, keys, ignored, "loaded the keys of the identity provider");
        }
    }

    fn log_failure(&self, error: &str, has_keys: bool) {
        let source = self.source.describe();
        if has_keys {
            tracing::warn!(
                source,
                error,
                "could not load the keys of the identity provider; the last ones stay in use"
            );
        } else {
            tracing::warn!(
                source,
                error,
                "could not load the keys of the identity provider; no JWT can be verified until they load"
            );
        }
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
