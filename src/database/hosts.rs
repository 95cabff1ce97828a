//! The servers of a connection string, in its order. Several are one database after a failover or before it: the one
//! that can be written to is in use.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

/// One server or several, each with all that is needed to connect. Never empty.
#[derive(Clone)]
pub struct Hosts {
    all: Arc<[PgConnectOptions]>,
    /// How long one attempt may take, where the connection string says so.
    pub connect_timeout: Option<Duration>,
}

impl Hosts {
    /// `None` for an empty list.
    pub fn new(all: Vec<PgConnectOptions>, connect_timeout: Option<Duration>) -> Option<Self> {
        (!all.is_empty()).then(|| Self { all: all.into(), connect_timeout })
    }

    /// The first.
    pub fn first(&self) -> &PgConnectOptions {
        &self.all[0]
    }

    /// All of them.
    pub fn all(&self) -> &[PgConnectOptions] {
        &self.all
    }
}

impl From<PgConnectOptions> for Hosts {
    fn from(options: PgConnectOptions) -> Self {
        Self { all: Arc::new([options]), connect_timeout: None }
    }
}

/// sqlx's own shows the password.
impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosts({})", self.all.len())
    }
}
