//! Effects of the settings that decide which events are processed. Ignored events are processed after a setting has
//! changed; processes with contradicting settings are reported.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::failure::Failure;
use crate::config::sync::SyncConfig;
use crate::database::Pool;
use crate::domain::event::Reason;
use crate::outbox::foreign;

/// Interval of a process's heartbeat, and of its search for events that another process ignored.
const INTERVAL: Duration = Duration::from_secs(10);

/// State shared by the workers of a process.
#[derive(Debug)]
pub struct SettingsWatch {
    process: Uuid,
    checked_at: Mutex<Option<Instant>>,
    contradicted: AtomicBool,
    named: AtomicBool,
}

impl Default for SettingsWatch {
    fn default() -> Self {
        let (contradicted, named) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { process: Uuid::new_v4(), checked_at: Mutex::new(None), contradicted, named }
    }
}

impl SettingsWatch {
    /// Whether the interval is over; then the caller does the check.
    fn is_due(&self) -> bool {
        let mut checked_at = self.checked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = checked_at.is_none_or(|at| at.elapsed() >= INTERVAL);
        if due {
            *checked_at = Some(Instant::now());
        }
        due
    }

    /// Logs, once, that this process ignores events of the other mode.
    pub(super) fn ignored(&self, reasons: &[Reason], livemode: bool) {
        if reasons.contains(&Reason::LivemodeMismatch) && !self.named.swap(true, Ordering::Relaxed) {
            let (theirs, ours) = if livemode { ("test", "live") } else { ("live", "test") };
            tracing::warn!(
                "events of {theirs} mode are ignored, because this process is for {ours} mode; to process them, set \
                 BILLING_SYNC_LIVEMODE={}",
                !livemode
            );
        }
    }

    /// Writes the heartbeat, and puts back ignored events that this process's settings accept.
    pub(super) async fn refresh(&self, pool: &Pool, sync: &SyncConfig) -> Result<(), Failure> {
        if !self.is_due() {
            return Ok(());
        }
        let mut conn = pool.acquire().await?;
        let others = foreign::heartbeat(&mut conn, self.process, sync.livemode, &sync.accounts).await?;
        if self.contradicted.swap(!others.is_empty(), Ordering::Relaxed) == others.is_empty() {
            if let Some(other) = others.first() {
                tracing::error!(
                    other = other.name,
                    other.livemode = other.livemode,
                    other.accounts = other.accounts.join(","),
                    livemode = sync.livemode,
                    accounts = sync.accounts.iter().map(String::as_str).collect::<Vec<_>>().join(","),
                    "another process uses this database with other settings; give both the same BILLING_SYNC_LIVEMODE \
                     and BILLING_SYNC_ACCOUNTS"
                );
            } else {
                tracing::info!("all processes on this database have the same settings again");
            }
        }
        let events = foreign::put_back(&mut conn, sync.livemode, &sync.accounts).await?;
        if events > 0 {
            tracing::info!(events, "events that were ignored under other settings are processed now");
            // there may be more
            *self.checked_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }
}
