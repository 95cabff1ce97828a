//! A pool of connections, whose statements and transactions need nothing of a session that a pooler may replace.

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, TryStreamExt};
use sqlx::postgres::{PgListener, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, PgPool, Postgres, SqlStr};

use super::address::{Address, Pooler};
use super::connection::{Connection, Held, Transaction, streamed};
use super::session::Session;

/// A pool of connections. Its clones share the connections.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: PgPool,
    /// The settings that each transaction begins with; `None` if the sessions keep them.
    per_transaction: Option<Session>,
}

impl Pool {
    /// A pool whose connections are set up for `session`, unless each transaction sets itself up.
    pub(super) fn new(inner: PgPool, pooler: Pooler, session: Session) -> Self {
        Self { inner, per_transaction: session.per_transaction(pooler) }
    }

    /// Waits for a connection until the pool's timeout.
    ///
    /// # Errors
    /// Any error of the network or the database, or the timeout.
    pub async fn acquire(&self) -> Result<Connection, Error> {
        Ok(Connection::pooled(self.inner.acquire().await?, self.per_transaction))
    }

    /// A connection that is idle now; `None` if there is none.
    pub fn try_acquire(&self) -> Option<Connection> {
        self.inner.try_acquire().map(|conn| Connection::pooled(conn, self.per_transaction))
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    pub async fn begin(&self) -> Result<Transaction<'static>, Error> {
        Transaction::begin(Held::Owned(self.acquire().await?), None).await
    }

    /// Begins a transaction with these statements: BEGIN, up to the first semicolon, then SET LOCAL.
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    pub async fn begin_with(&self, statements: &'static str) -> Result<Transaction<'static>, Error> {
        Transaction::begin(Held::Owned(self.acquire().await?), Some(statements)).await
    }

    /// A connection that can listen for notifications. A pooler in transaction mode drops them.
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    pub async fn listener(&self) -> Result<PgListener, Error> {
        PgListener::connect_with(&self.inner).await
    }

    /// The pooler in front of the server.
    pub fn pooler(&self) -> Pooler {
        self.per_transaction.map_or(Pooler::Session, |_| Pooler::Transaction)
    }

    /// Where new connections go.
    pub fn address(&self) -> Address {
        Address { options: self.inner.connect_options().as_ref().clone(), pooler: self.pooler() }
    }

    /// Lets new connections go to another server.
    pub fn set_address(&self, address: &Address) {
        self.inner.set_connect_options(address.options.clone());
    }

    /// Maximum number of connections.
    pub fn max_size(&self) -> u32 {
        self.inner.options().get_max_connections()
    }

    /// Number of open connections.
    pub fn size(&self) -> u32 {
        self.inner.size()
    }

    /// Number of open connections that are not in use.
    pub fn num_idle(&self) -> usize {
        self.inner.num_idle()
    }

    /// Waits until all connections are returned, and closes them.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}

/// Each statement takes a connection of the pool.
impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        streamed(async move { self.acquire().await?.fetch_many(query).try_collect().await })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move { self.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.acquire().await?.describe(sql).await })
    }
}

/// A pool without a pooler, whose sessions are set up already.
impl From<PgPool> for Pool {
    fn from(inner: PgPool) -> Self {
        Self { inner, per_transaction: None }
    }
}
