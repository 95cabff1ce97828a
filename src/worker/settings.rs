//! Effects of the settings that decide which events are processed. Ignored events are processed after a setting has
//! changed; the process announces its settings, so that contradicting ones are reported.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::config::sync::SyncConfig;
use crate::database::Pool;
use crate::domain::event::Reason;
use crate::outbox::foreign;
use crate::outbox::processes::Announcement;

/// Interval of a process's heartbeat, and of its search for events that another process ignored.
const INTERVAL: Duration = Duration::from_secs(10);

/// State shared by the workers of a process.
#[derive(Debug)]
pub struct SettingsWatch {
    announcement: Announcement,
    checked_at: Mutex<Option<Instant>>,
    named: AtomicBool,
}

impl Default for SettingsWatch {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl SettingsWatch {
    /// State of a process with these settings.
    pub fn new(settings: Vec<String>) -> Self {
        let announcement = Announcement::new(settings);
        Self { announcement, checked_at: Mutex::new(None), named: AtomicBool::new(false) }
    }

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
        self.announcement.heartbeat(&mut conn).await?;
        let events = foreign::put_back(&mut conn, sync.livemode, &sync.accounts).await?;
        if events > 0 {
            tracing::info!(events, "events that were ignored under other settings are processed now");
            // there may be more
            *self.checked_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }
}
