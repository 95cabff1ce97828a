//! A connection as all statements of this crate use it: directly, or through a pooler in transaction mode.
//!
//! Such a pooler gives a client another session of the server for each transaction, and that session may have been used
//! by other clients. So nothing may be expected of the session: every statement runs in a transaction, which begins with
//! our settings ([`Session`]), and no prepared statement has a name. Without such a pooler, a statement outside of a
//! transaction needs one round trip, and is prepared once.

use std::fmt::{self, Debug};
use std::future::ready;
use std::ops::{Deref, DerefMut};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTransactionManager, PgTypeInfo};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Describe, Either, Error, Execute, Executor, PgConnection, Postgres,
    SqlSafeStr, SqlStr,
};
use sqlx_core::transaction::TransactionManager;

use super::address::Address;
use super::session::Session;

/// A connection, of a pool or by itself. Its statements and transactions see the settings of its [`Session`].
pub struct Connection {
    inner: Inner,
    /// The settings that each transaction begins with; `None` if the session keeps them.
    per_transaction: Option<Session>,
}

enum Inner {
    Single(Box<PgConnection>),
    Pooled(PoolConnection<Postgres>),
}

impl Connection {
    /// A connection outside of a pool.
    pub(super) fn single(inner: PgConnection, per_transaction: Option<Session>) -> Self {
        Self { inner: Inner::Single(Box::new(inner)), per_transaction }
    }

    /// A connection of a pool, to which it returns when it is dropped.
    pub(super) fn pooled(inner: PoolConnection<Postgres>, per_transaction: Option<Session>) -> Self {
        Self { inner: Inner::Pooled(inner), per_transaction }
    }

    /// sqlx's connection, for what only sqlx can do. Its statements see our settings only in a transaction.
    pub fn as_sqlx(&mut self) -> &mut PgConnection {
        match &mut self.inner {
            Inner::Single(conn) => conn,
            Inner::Pooled(conn) => conn,
        }
    }

    /// Begins a transaction, or a savepoint in a transaction.
    ///
    /// # Errors
    /// Any error of the database.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        Transaction::begin(Held::Borrowed(self), None).await
    }

    /// Begins a transaction with these statements: BEGIN, up to the first semicolon, then SET LOCAL.
    ///
    /// # Errors
    /// Any error of the database, or an open transaction.
    pub async fn begin_with(&mut self, statements: &'static str) -> Result<Transaction<'_>, Error> {
        Transaction::begin(Held::Borrowed(self), Some(statements)).await
    }

    /// Closes the connection, also one of a pool.
    ///
    /// # Errors
    /// Any error of the network; the connection is closed nevertheless.
    pub async fn close(self) -> Result<(), Error> {
        match self.inner {
            Inner::Single(conn) => conn.close().await,
            Inner::Pooled(conn) => conn.close().await,
        }
    }

    /// Lets a connection of a pool be closed, instead of returned, when it is dropped.
    pub fn close_on_drop(&mut self) {
        if let Inner::Pooled(conn) = &mut self.inner {
            conn.close_on_drop();
        }
    }

    /// After a failed BEGIN with settings: it has begun a transaction that sqlx does not know of, and in which the pooler
    /// would keep the session.
    async fn leave_failed_transaction(&mut self) {
        if self.needs_transaction()
            && sqlx::raw_sql("-- database.leave_failed_transaction\nROLLBACK").execute(self.as_sqlx()).await.is_err()
        {
            self.close_on_drop();
        }
    }

    /// Whether other clients may use the session after each transaction.
    pub fn shares_session(&self) -> bool {
        self.per_transaction.is_some()
    }

    /// What begins a transaction here; `None` for a savepoint, or sqlx's own BEGIN.
    fn beginning(&mut self, statements: Option<&'static str>) -> Option<SqlStr> {
        let per_transaction = self.per_transaction;
        let conn = self.as_sqlx();
        let Some(session) = per_transaction else { return statements.map(SqlStr::from_static) };
        if conn.is_in_transaction() {
            return statements.map(SqlStr::from_static);
        }
        let (begin, others) = match statements {
            // without a session, its default of the isolation level is not ours either
            None => ("BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE", ""),
            Some(statements) => statements.split_once(';').unwrap_or((statements, "")),
        };
        let settings = session.of_transaction(conn.server_version_num().unwrap_or_default());
        Some(AssertSqlSafe(format!("{begin};\n{settings}{others}")).into_sql_str())
    }

    /// Whether a statement must get a transaction of its own.
    fn needs_transaction(&mut self) -> bool {
        self.shares_session() && !self.as_sqlx().is_in_transaction()
    }
}

/// Opens one connection outside of a pool and sets it up.
///
/// # Errors
/// Any error of the network or the database.
pub async fn connect(address: impl Into<Address>, session: Session) -> Result<Connection, sqlx::Error> {
    let Address { options, pooler } = address.into();
    let mut conn = options.connect().await?;
    session.set_up(&mut conn, pooler).await?;
    Ok(Connection::single(conn, session.per_transaction(pooler)))
}

/// A connection without a pooler, whose session is set up already.
impl From<PgConnection> for Connection {
    fn from(inner: PgConnection) -> Self {
        Self::single(inner, None)
    }
}

/// The default shows all that was sent and received.
impl Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("per_transaction", &self.per_transaction).finish_non_exhaustive()
    }
}

/// A statement without a name: a session that others use next must not keep it, or already have another by that name.
struct WithoutName<E>(E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for WithoutName<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if !self.shares_session() {
            return self.as_sqlx().fetch_many(query);
        }
        let query = WithoutName(query);
        if !self.needs_transaction() {
            return self.as_sqlx().fetch_many(query);
        }
        // no row is returned before the commit, which may fail
        streamed(async move {
            let mut tx = self.begin().await?;
            let results = tx.as_sqlx().fetch_many(query).try_collect().await?;
            tx.commit().await?;
            Ok(results)
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if !self.shares_session() {
            return self.as_sqlx().fetch_optional(query);
        }
        let query = WithoutName(query);
        if !self.needs_transaction() {
            return self.as_sqlx().fetch_optional(query);
        }
        Box::pin(async move {
            let mut tx = self.begin().await?;
            let row = tx.as_sqlx().fetch_optional(query).await?;
            tx.commit().await?;
            Ok(row)
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        if self.shares_session() {
            return Box::pin(ready(Err(Error::Protocol(
                "a prepared statement would stay in the pooler's session".into(),
            ))));
        }
        self.as_sqlx().prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        self.as_sqlx().describe(sql)
    }
}

/// A stream of results that are there at once.
pub(super) fn streamed<'e, T: Send + 'e>(
    results: impl Future<Output = Result<Vec<T>, Error>> + Send + 'e,
) -> BoxStream<'e, Result<T, Error>> {
    stream::once(results).map_ok(|results| stream::iter(results).map(Ok)).try_flatten().boxed()
}

/// A transaction, or a savepoint in one. Rolled back when it is dropped without a commit.
#[derive(Debug)]
pub struct Transaction<'c> {
    conn: Held<'c>,
    is_open: bool,
}

/// The connection of a transaction.
#[derive(Debug)]
pub(super) enum Held<'c> {
    Owned(Connection),
    Borrowed(&'c mut Connection),
}

impl<'c> Transaction<'c> {
    pub(super) async fn begin(mut conn: Held<'c>, statements: Option<&'static str>) -> Result<Self, Error> {
        let beginning = conn.beginning(statements);
        if let Err(error) = PgTransactionManager::begin(conn.as_sqlx(), beginning).await {
            conn.leave_failed_transaction().await;
            return Err(error);
        }
        Ok(Self { conn, is_open: true })
    }

    /// Commits, or releases the savepoint.
    ///
    /// # Errors
    /// Any error of the database. After the loss of the connection it is unknown whether the commit took place.
    pub async fn commit(mut self) -> Result<(), Error> {
        PgTransactionManager::commit(self.conn.as_sqlx()).await?;
        self.is_open = false;
        Ok(())
    }

    /// Rolls back, to the savepoint if this is one.
    ///
    /// # Errors
    /// Any error of the network.
    pub async fn rollback(mut self) -> Result<(), Error> {
        PgTransactionManager::rollback(self.conn.as_sqlx()).await?;
        self.is_open = false;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // sent with the next statement, or when the connection returns to its pool
            PgTransactionManager::start_rollback(self.conn.as_sqlx());
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.conn
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.conn
    }
}

impl Deref for Held<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Owned(conn) => conn,
            Self::Borrowed(conn) => conn,
        }
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        match self {
            Self::Owned(conn) => conn,
            Self::Borrowed(conn) => conn,
        }
    }
}
