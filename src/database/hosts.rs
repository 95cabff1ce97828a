//! The servers of a connection string, in its order. Several servers are one database before or after a failover: the
//! one that accepts writes is used.
//!
//! sqlx connects to one server only. So this module tries each server in turn, and while `serve` runs,
//! [`Hosts::follow`] points its pools to the server that accepts writes. The pools' own check closes connections to
//! other servers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::time::timeout;

use super::address::{Address, Pooler};
use super::connection::{Connection, connect};
use super::instance;
use super::opening::is_usable;
use super::pool::Pool;
use super::reason::{is_too_many, target};
use super::session::Session;
use super::sql_error::{fix, message};

/// Connect timeout: longer than any working network needs.
const LIMIT: Duration = Duration::from_secs(10);
/// Connect timeout if another server may answer instead.
const LIMIT_OF_SEVERAL: Duration = Duration::from_secs(3);
/// Timeout of the check whether a server accepts writes.
const CHECK_LIMIT: Duration = Duration::from_secs(1);
/// Pause before another attempt at a server without a free connection.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// Interval of the check whether the current server still accepts writes, if there are several.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// One or several servers, each with its connect options. Never empty.
#[derive(Clone)]
pub struct Hosts {
    all: Arc<[Address]>,
    current: Arc<AtomicUsize>,
    /// Timeout of one attempt, if the connection string sets it.
    pub connect_timeout: Option<Duration>,
}

/// Why no server can be used, with the servers that were tried.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The only server could not be reached.
    #[error("cannot use the database at {place}: {}", message(.source))]
    One {
        /// Address, database and user.
        place: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// The only server did not answer.
    #[error("the database at {place} did not answer within {seconds} s")]
    Silent {
        /// Address, database and user.
        place: String,
        /// The timeout.
        seconds: u64,
    },
    /// The certificate of the only server is not accepted.
    #[error("the certificate of the database at {place} is not accepted ({why})")]
    Certificate {
        /// Address, database and user.
        place: String,
        /// Message of the TLS library.
        why: String,
        /// The fix.
        fix: &'static str,
    },
    /// None of several servers can be used.
    #[error("none of the {} servers accepts writes: {}", .0.len(), .0.join("; "))]
    Several(Vec<String>),
}

impl Unreachable {
    /// What the operator can do.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::One { source, .. } => fix(source),
            Self::Silent { .. } => "check the network and the firewalls between this machine and the server",
            Self::Certificate { fix, .. } => fix,
            Self::Several(_) => "start or promote one of them, or correct DATABASE_URL",
        }
    }
}

impl Hosts {
    /// `None` for an empty list.
    pub fn new(all: Vec<PgConnectOptions>, pooler: Pooler, connect_timeout: Option<Duration>) -> Option<Self> {
        let all: Arc<[Address]> = all.into_iter().map(|options| Address { options, pooler }).collect();
        (!all.is_empty()).then(|| Self { all, current: Arc::default(), connect_timeout })
    }

    /// The same servers, whose sessions name this process and its roles.
    #[must_use]
    pub fn named(&self, roles: &[&str]) -> Self {
        let named =
            |address: &Address| Address { options: instance::named(&address.options, roles), pooler: address.pooler };
        let all = self.all.iter().map(named).collect();
        Self { all, current: Arc::clone(&self.current), connect_timeout: self.connect_timeout }
    }

    /// The current server: the first, until [`Hosts::connect`] finds another one.
    pub fn current(&self) -> &Address {
        // the index was taken from this list
        self.all.get(self.current.load(Ordering::Relaxed)).unwrap_or(&self.all[0])
    }

    /// All servers.
    pub fn all(&self) -> &[Address] {
        &self.all
    }

    /// Timeout of one attempt.
    pub fn limit(&self) -> Duration {
        self.connect_timeout.unwrap_or(if self.all.len() > 1 { LIMIT_OF_SEVERAL } else { LIMIT })
    }

    /// Connects to the first server that accepts writes.
    ///
    /// # Errors
    /// The address and the reason for each server that was tried.
    pub async fn connect(&self, session: Session) -> Result<Connection, Unreachable> {
        if let [one] = &*self.all {
            return self.attempt(one, session).await;
        }
        let mut reasons = Vec::new();
        for (at, address) in self.all.iter().enumerate() {
            match self.attempt(address, session).await {
                Ok(mut conn) => {
                    if is_usable(conn.as_sqlx(), CHECK_LIMIT).await {
                        self.current.store(at, Ordering::Relaxed);
                        return Ok(conn);
                    }
                    let _ = conn.close().await;
                    reasons.push(format!("the database at {} is read-only", target(&address.options)));
                }
                Err(Unreachable::One { place, source }) => reasons.push(format!("{place}: {}", message(&source))),
                Err(silent) => reasons.push(silent.to_string()),
            }
        }
        Err(Unreachable::Several(reasons))
    }

    /// Connects to one server. Retries while it has no free connection.
    async fn attempt(&self, address: &Address, session: Session) -> Result<Connection, Unreachable> {
        let (place, began) = (target(&address.options), Instant::now());
        let attempts = async {
            loop {
                match connect(address, session).await {
                    // another session ends soon, for example one of ours that was closed a moment ago
                    Err(error) if is_too_many(&error) && began.elapsed() < self.limit() / 2 => {
                        tokio::time::sleep(FULL_PAUSE).await;
                    }
                    connected => return connected,
                }
            }
        };
        match timeout(self.limit(), attempts).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(source)) => Err(refused(place, source)),
            Err(_) => Err(Unreachable::Silent { place, seconds: self.limit().as_secs() }),
        }
    }

    /// Keeps the pools pointed to the server that accepts writes. Returns at once if there is only one server;
    /// otherwise never.
    pub async fn follow(self, pools: Vec<Pool>) {
        if self.all.len() < 2 {
            return;
        }
        let mut watched: Option<Connection> = None;
        let mut is_logged = false;
        loop {
            let holds = match watched.as_mut() {
                Some(conn) => is_usable(conn.as_sqlx(), CHECK_LIMIT).await,
                None => false,
            };
            if !holds {
                match self.connect(Session::OPS).await {
                    Ok(conn) => {
                        self.point(&pools);
                        watched = Some(conn);
                        is_logged = false;
                    }
                    Err(error) => {
                        if !is_logged {
                            tracing::warn!("{error}");
                        }
                        watched = None;
                        is_logged = true;
                    }
                }
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    fn point(&self, pools: &[Pool]) {
        let current = self.current();
        let moved = pools.iter().filter(|pool| target(&pool.address().options) != target(&current.options));
        let mut count = 0;
        for pool in moved {
            pool.set_address(current);
            count += 1;
        }
        if count > 0 {
            tracing::info!(
                database = target(&current.options),
                "this server accepts writes now; new connections go to it"
            );
        }
    }
}

impl From<PgConnectOptions> for Hosts {
    fn from(options: PgConnectOptions) -> Self {
        Self { all: Arc::new([options.into()]), current: Arc::default(), connect_timeout: None }
    }
}

/// Written by hand, because sqlx's `Debug` shows the password.
impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosts({})", self.all.len())
    }
}

/// Adds the fix for a certificate that is not accepted, because the TLS library's message does not contain it.
fn refused(place: String, source: sqlx::Error) -> Unreachable {
    let text = message(&source);
    let Some((_, why)) = text.split_once("invalid peer certificate: ") else {
        return Unreachable::One { place, source };
    };
    let fix = if why.starts_with("UnknownIssuer") {
        "set sslrootcert in the connection string, or SSL_CERT_FILE, to the authority that signed it"
    } else if why.to_lowercase().contains("not valid for") || why.starts_with("NotValidForName") {
        "connect by a name in the certificate, or set sslmode=verify-ca, which does not check names"
    } else {
        "install a valid certificate on the server"
    };
    Unreachable::Certificate { place, why: why.to_owned(), fix }
}
