//! Too few connections: the parts in the background give theirs up, so that the receiver and the probes have some.
//!
//! ```text
//! keeper ──connects first, and keeps──▶ receiver, probes
//!    └─── free connections < SPARE, or refused (53300) ──▶ shortage ──▶ the other pools close what they do not use
//! ```
//!
//! In a shortage a connection of the background is closed after each use, so the parts take turns. Other processes find
//! free connections too, because each one measures what is free and not what it lacks itself. Run by
//! [`crate::service`].

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::limits::{ConnectionLimit, connection_limits};
use super::reason::is_refused;

/// Connections that stay free for others: a process that starts, a command.
pub const SPARE: u32 = 2;

/// How often the kept connections are looked after.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// How often the free connections are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// A shortage is over when there has been room for all parts for so long.
const OVER_AFTER: Duration = Duration::from_mins(1);

/// Whether connections are short. All clones are one.
#[derive(Debug, Clone, Default)]
pub struct Shortage(watch::Sender<bool>);

impl Shortage {
    /// Whether they are now.
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until they are, or are not.
    pub async fn until(&self, on: bool) {
        // the sender is `self`
        let _ = self.0.subscribe().wait_for(|now| *now == on).await;
    }

    /// Whether that is a change.
    fn set(&self, on: bool) -> bool {
        self.0.send_replace(on) != on
    }
}

/// Looks after the connections of a process.
#[derive(Debug)]
pub struct Keeper {
    /// Each of these has a connection before any other part starts, and always. The last one counts.
    pub first: Vec<PgPool>,
    /// These give up what they do not use in a shortage.
    pub others: Vec<PgPool>,
    /// Connections that are in none of these pools.
    pub besides: u32,
    /// What it sets.
    pub shortage: Shortage,
}

impl Keeper {
    /// Works until `shutdown`; `connected` is set when all that comes first has connected.
    pub async fn run(self, connected: CancellationToken, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.keep_on(&connected)).await;
    }

    async fn keep_on(&self, connected: &CancellationToken) {
        let (mut counted, mut fits_since) = (None::<Instant>, None::<Instant>);
        loop {
            if self.connect().await {
                connected.cancel();
                if counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
                    fits_since = self.count(fits_since).await;
                    counted = Some(Instant::now());
                }
            }
            if self.shortage.is_on() {
                self.give_up_idle_ones().await;
            }
            sleep(KEEP_EVERY).await;
        }
    }

    /// Connects what comes first; false where one of them could not.
    async fn connect(&self) -> bool {
        for (place, pool) in self.first.iter().enumerate() {
            if pool.num_idle() > 0 {
                continue;
            }
            // one that is connecting looks like one that is in use, so only this tells them apart
            if let Err(error) = pool.acquire().await {
                if is_refused(pool, &error).await && self.shortage.set(true) {
                    tracing::warn!(
                        wanted = self.wanted() + SPARE,
                        "the database refuses further connections: idle ones of the background are closed"
                    );
                }
                // who comes later gives way, or the only connection would stay with the probes
                for later in self.first.iter().skip(place + 1) {
                    close_idle(later, 0).await;
                }
                return false;
            }
        }
        true
    }

    /// Counts what is free. `fits_since` is since when there is room for all parts.
    async fn count(&self, fits_since: Option<Instant>) -> Option<Instant> {
        let counted = async {
            let mut conn = self.first.last()?.acquire().await.ok()?;
            connection_limits(&mut conn).await.ok()
        };
        let tightest = counted.await?.into_iter().next()?;
        let spare = i64::from(SPARE);
        if tightest.free() < spare {
            if self.shortage.set(true) {
                let ConnectionLimit { limit, allowed, open } = tightest;
                tracing::warn!(
                    limit,
                    allowed,
                    open,
                    wanted = self.wanted() + SPARE,
                    "connections to the database run short: idle ones of the background are closed, and its parts take \
                     turns; raise the limit"
                );
            }
            return None;
        }
        if tightest.free() - i64::from(self.not_open()) < spare {
            return None;
        }
        let since = fits_since.unwrap_or_else(Instant::now);
        if since.elapsed() >= OVER_AFTER && self.shortage.set(false) {
            tracing::info!("there are enough connections to the database again");
        }
        Some(since)
    }

    async fn give_up_idle_ones(&self) {
        for (pools, keep) in [(&self.first, 1), (&self.others, 0)] {
            for pool in pools {
                close_idle(pool, keep).await;
            }
        }
    }

    /// Connections of all parts.
    fn wanted(&self) -> u32 {
        let pools = self.first.iter().chain(&self.others);
        pools.map(|pool| pool.options().get_max_connections()).sum::<u32>() + self.besides
    }

    /// How many of them are not open.
    fn not_open(&self) -> u32 {
        let pools = self.first.iter().chain(&self.others);
        let open: u32 = pools.map(PgPool::size).sum();
        // those besides are open where there is no shortage
        let besides = if self.shortage.is_on() { 0 } else { self.besides };
        self.wanted().saturating_sub(open + besides)
    }
}

/// Closes idle connections until so many are left.
async fn close_idle(pool: &PgPool, keep: usize) {
    while pool.num_idle() > keep
        && let Some(conn) = pool.try_acquire()
    {
        let _ = conn.close().await;
    }
}
