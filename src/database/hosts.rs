//! The servers of a connection string, in its order. Several are one database, before or after a failover: the one that
//! takes writes is in use.
//!
//! sqlx connects to one server. So a connection is tried at each in turn, and while `serve` runs, [`Hosts::follow`]
//! points its pools to the server that takes writes. Connections that lead elsewhere are closed by the pools' own check.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;

use super::reason::is_too_many;
use super::{Session, connect, is_usable, target};

/// Longer than any network takes that works.
const LIMIT: Duration = Duration::from_secs(10);
/// The same where another server may answer instead.
const LIMIT_OF_SEVERAL: Duration = Duration::from_secs(3);
/// Time for the answer to whether a server takes writes.
const CHECK_LIMIT: Duration = Duration::from_secs(1);
/// Pause before another attempt at a server that has no connection free.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// How often a process asks whether its server still takes writes, where there are others.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// One server or several, each with all that is needed to connect. Never empty.
#[derive(Clone)]
pub struct Hosts {
    all: Arc<[PgConnectOptions]>,
    current: Arc<AtomicUsize>,
    /// How long one attempt may take, where the connection string says so.
    pub connect_timeout: Option<Duration>,
}

/// Why no server can be used, with each that was tried.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// One server, which could not be reached.
    #[error("cannot reach the database at {place}")]
    One {
        /// Where it is.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// One server, which did not answer.
    #[error("the database at {place} did not answer within {seconds} s")]
    Silent {
        /// Where it is.
        place: String,
        /// How long it had.
        seconds: u64,
    },
    /// One server, whose certificate is not accepted.
    #[error("the certificate of the database at {place} is not accepted ({why}): {fix}")]
    Certificate {
        /// Where it is.
        place: String,
        /// The words of the TLS library.
        why: String,
        /// What to do about it.
        fix: &'static str,
    },
    /// None of several.
    #[error("none of the {} servers takes writes: {}", .0.len(), .0.join("; "))]
    Several(Vec<String>),
}

impl Hosts {
    /// `None` for an empty list.
    pub fn new(all: Vec<PgConnectOptions>, connect_timeout: Option<Duration>) -> Option<Self> {
        (!all.is_empty()).then(|| Self { all: all.into(), current: Arc::default(), connect_timeout })
    }

    /// The server in use: the first, until [`Hosts::connect`] has found another one.
    pub fn current(&self) -> &PgConnectOptions {
        // the index was taken from this list
        self.all.get(self.current.load(Ordering::Relaxed)).unwrap_or(&self.all[0])
    }

    /// All of them.
    pub fn all(&self) -> &[PgConnectOptions] {
        &self.all
    }

    /// How long one attempt may take.
    pub fn limit(&self) -> Duration {
        self.connect_timeout.unwrap_or(if self.all.len() > 1 { LIMIT_OF_SEVERAL } else { LIMIT })
    }

    /// Connects, to the first of several that takes writes.
    ///
    /// # Errors
    /// With the place and the reason, of each that was tried.
    pub async fn connect(&self, session: Session) -> Result<PgConnection, Unreachable> {
        if let [one] = &*self.all {
            return self.attempt(one, session).await;
        }
        let mut reasons = Vec::new();
        for (at, options) in self.all.iter().enumerate() {
            match self.attempt(options, session).await {
                Ok(mut conn) => {
                    if is_usable(&mut conn, CHECK_LIMIT).await {
                        self.current.store(at, Ordering::Relaxed);
                        return Ok(conn);
                    }
                    let _ = conn.close().await;
                    reasons.push(format!("the database at {} is read only", target(options)));
                }
                Err(Unreachable::One { place, source }) => reasons.push(format!("{place}: {}", one_line(&source))),
                Err(silent) => reasons.push(silent.to_string()),
            }
        }
        Err(Unreachable::Several(reasons))
    }

    /// One attempt at a server; several where it has no connection free.
    async fn attempt(&self, options: &PgConnectOptions, session: Session) -> Result<PgConnection, Unreachable> {
        let (place, began) = (target(options), Instant::now());
        let attempts = async {
            loop {
                match connect(options, session).await {
                    // another session ends soon, if only one of our own that was closed a moment ago
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

    /// Keeps the pools at the server that takes writes. Ends at once where there is only one; else never.
    pub async fn follow(self, pools: Vec<PgPool>) {
        if self.all.len() < 2 {
            return;
        }
        let mut watched: Option<PgConnection> = None;
        let mut said = false;
        loop {
            let holds = match watched.as_mut() {
                Some(conn) => is_usable(conn, CHECK_LIMIT).await,
                None => false,
            };
            if !holds {
                match self.connect(Session::OPS).await {
                    Ok(conn) => {
                        self.point(&pools);
                        watched = Some(conn);
                        said = false;
                    }
                    Err(error) => {
                        if !said {
                            tracing::warn!("{error}");
                        }
                        watched = None;
                        said = true;
                    }
                }
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    fn point(&self, pools: &[PgPool]) {
        let current = self.current();
        let moved = pools.iter().filter(|pool| target(&pool.connect_options()) != target(current));
        let mut count = 0;
        for pool in moved {
            pool.set_connect_options(current.clone());
            count += 1;
        }
        if count > 0 {
            tracing::info!(
                database = target(current),
                "this server takes writes now: connections lead to it from here on"
            );
        }
    }
}

impl From<PgConnectOptions> for Hosts {
    fn from(options: PgConnectOptions) -> Self {
        Self { all: Arc::new([options]), current: Arc::default(), connect_timeout: None }
    }
}

/// sqlx's own shows the password.
impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosts({})", self.all.len())
    }
}

/// A certificate that is not accepted has a fix of its own, which the words of the TLS library do not have.
fn refused(place: String, source: sqlx::Error) -> Unreachable {
    let text = one_line(&source);
    let Some((_, why)) = text.split_once("invalid peer certificate: ") else {
        return Unreachable::One { place, source };
    };
    let fix = if why.starts_with("UnknownIssuer") {
        "name the authority that signed it by sslrootcert in the connection string, or in SSL_CERT_FILE"
    } else if why.to_lowercase().contains("not valid for") || why.starts_with("NotValidForName") {
        "connect by a name that the certificate has, or set sslmode=verify-ca, which checks no names"
    } else {
        "give the server another one"
    };
    Unreachable::Certificate { place, why: why.to_owned(), fix }
}

fn one_line(error: &sqlx::Error) -> String {
    error.to_string().replace('\n', " ")
}
