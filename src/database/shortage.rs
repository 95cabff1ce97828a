//! Connection shortage: background parts release their connections, so that the receiver and the probes have some.
//!
//! ```text
//! keeper ──connects first, and keeps──▶ receiver, probes
//!    └─── free connections < SPARE, or refused (53300) ──▶ shortage ──▶ the other pools close idle connections
//! ```
//!
//! In a shortage a background connection is closed after each use, so the parts take turns. Other processes find free
//! connections too, because each process measures the free connections, not its own shortfall. Run by
//! [`crate::service`].

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::address::Pooler;
use super::limits::{ConnectionLimit, connection_limits};
use super::pool::Pool;
use super::reason::is_refused;

/// Connections that stay free for others: a starting process, a command.
pub const SPARE: u32 = 2;

/// Interval at which the kept connections are checked.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Interval at which free connections are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// A shortage ends after all parts have had enough connections for this time.
const OVER_AFTER: Duration = Duration::from_mins(1);

/// Whether connections are short. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Shortage(watch::Sender<bool>);

impl Shortage {
    /// Whether connections are short now.
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until there is (`on`) or is no longer a shortage.
    pub async fn until(&self, on: bool) {
        // this cannot fail: the sender is `self`
        let _ = self.0.subscribe().wait_for(|now| *now == on).await;
    }

    /// Sets the state. Returns whether it has changed.
    fn set(&self, on: bool) -> bool {
        self.0.send_replace(on) != on
    }
}

/// Manages the connections of a process.
#[derive(Debug)]
pub struct Keeper {
    /// Each of these pools gets a connection before any other part starts, and keeps it. The last one counts
    /// connections.
    pub first: Vec<Pool>,
    /// These pools close idle connections in a shortage.
    pub others: Vec<Pool>,
    /// Number of connections outside of these pools.
    pub other_connections: u32,
    /// The state that the keeper sets.
    pub shortage: Shortage,
}

impl Keeper {
    /// Runs until `shutdown`. `connected` is set when all pools in `first` have connected.
    pub async fn run(self, connected: CancellationToken, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.keep_connected(&connected)).await;
    }

    async fn keep_connected(&self, connected: &CancellationToken) {
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
                self.close_idle_connections().await;
            }
            sleep(KEEP_EVERY).await;
        }
    }

    /// Connects the pools in `first`; false if one could not connect.
    async fn connect(&self) -> bool {
        for (index, pool) in self.first.iter().enumerate() {
            if pool.num_idle() > 0 {
                continue;
            }
            // only this distinguishes a connection that is being opened from one in use
            if let Err(error) = pool.acquire().await {
                if is_refused(pool, &error).await && self.shortage.set(true) {
                    tracing::warn!(
                        wanted = self.wanted() + SPARE,
                        "the database refuses further connections; closing idle background connections"
                    );
                }
                // later pools release theirs, or the probes would keep the only connection
                for later in self.first.iter().skip(index + 1) {
                    close_idle(later, 0).await;
                }
                return false;
            }
        }
        true
    }

    /// Counts free connections. `fits_since`: time since when all parts have had enough.
    async fn count(&self, fits_since: Option<Instant>) -> Option<Instant> {
        // a pooler keeps its sessions open, up to a limit of its own
        if self.first.last()?.pooler() == Pooler::Transaction {
            return None;
        }
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
                    "database connections are running short; idle background connections are closed and parts take \
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
            tracing::info!("enough database connections again");
        }
        Some(since)
    }

    async fn close_idle_connections(&self) {
        for (pools, keep) in [(&self.first, 1), (&self.others, 0)] {
            for pool in pools {
                close_idle(pool, keep).await;
            }
        }
    }

    /// Number of connections that all parts want.
    fn wanted(&self) -> u32 {
        let pools = self.first.iter().chain(&self.others);
        pools.map(Pool::max_size).sum::<u32>() + self.other_connections
    }

    /// Number of wanted connections that are not open.
    fn not_open(&self) -> u32 {
        let pools = self.first.iter().chain(&self.others);
        let open: u32 = pools.map(Pool::size).sum();
        // the connections in `other_connections` are open if there is no shortage
        let other_connections = if self.shortage.is_on() { 0 } else { self.other_connections };
        self.wanted().saturating_sub(open + other_connections)
    }
}

/// Closes idle connections until `keep` are left.
async fn close_idle(pool: &Pool, keep: usize) {
    while pool.num_idle() > keep
        && let Some(conn) = pool.try_acquire()
    {
        let _ = conn.close().await;
    }
}
