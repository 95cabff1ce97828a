//! Where a database is, and through which kind of pooler it is reached.

use std::fmt;

use sqlx::postgres::PgConnectOptions;

/// The pooler between this process and the server, as the operator declares it (`BILLING_SYNC_POOLER`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pooler {
    /// None, or one that gives each client a session of its own.
    #[default]
    Session,
    /// One that gives a client another session for each transaction.
    Transaction,
}

/// A server, the database and the login, and the pooler in front.
#[derive(Clone)]
pub struct Address {
    /// How to connect.
    pub options: PgConnectOptions,
    /// What is in front of the server.
    pub pooler: Pooler,
}

impl From<PgConnectOptions> for Address {
    fn from(options: PgConnectOptions) -> Self {
        Self { options, pooler: Pooler::default() }
    }
}

impl From<&PgConnectOptions> for Address {
    fn from(options: &PgConnectOptions) -> Self {
        options.clone().into()
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

/// Written by hand, because sqlx's `Debug` shows the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("pooler", &self.pooler).finish_non_exhaustive()
    }
}
