//! The settings of a process that must be the same in all processes, and its heartbeats if it has no worker.
//!
//! A setting is here if two values at the same time do harm: one process ignores what the other processes (mode,
//! accounts), writes other values of the same rows (rules), or removes what the other keeps (retention). Settings that
//! only decide how fast, how often or when a process works are not.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::config::ServiceConfig;
use crate::config::parse::in_words;
use crate::config::settings;
use crate::config::sync::SyncConfig;
use crate::database::Pool;
use crate::outbox::processes::Announcement;

/// Interval of the heartbeats. Workers write their own at the same interval.
const INTERVAL: Duration = Duration::from_secs(10);

/// The settings that the roles of a process use, as `NAME=value`.
pub(super) fn settings(config: &ServiceConfig) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |setting: &settings::Setting, value: &str| found.push(format!("{}={value}", setting.name));
    if let Some((_, sync)) = &config.worker {
        add(&settings::LIVEMODE, &sync.livemode.to_string());
        add(&settings::ACCOUNTS, &sync.accounts.iter().map(String::as_str).collect::<Vec<_>>().join(","));
    }
    let of_writes = config.writes.as_ref().and(config.api.as_ref()).map(|(_, sync)| sync);
    let of_rows: Option<&SyncConfig> =
        config.worker.as_ref().map(|(_, sync)| sync).or(config.renewals.as_ref()).or(of_writes);
    if let Some(sync) = of_rows {
        add(&settings::PAST_DUE_ACTIVE, &sync.past_due_active.to_string());
    }
    if let Some(sync) = &config.renewals {
        add(&settings::RENEWAL_ANCHOR, sync.renewal_anchor.as_str());
    }
    if let Some(kept) = &config.maintenance {
        add(&settings::RETENTION, &in_words(kept.retention));
        add(&settings::REDACT_AFTER, &kept.redact_after.map_or_else(|| "never".to_owned(), in_words));
    }
    found
}

/// Writes heartbeats until `shutdown`. One that fails is not repeated: the next one follows soon.
pub(super) async fn run(pool: Pool, announcement: Announcement, shutdown: CancellationToken) {
    let beat = async || {
        let heartbeat = async { announcement.heartbeat(&mut pool.acquire().await?).await };
        if let Err(error) = heartbeat.await {
            tracing::debug!(%error, "could not announce the settings of this process");
        }
        sleep(INTERVAL).await;
    };
    while shutdown.run_until_cancelled(beat()).await.is_some() {}
}
