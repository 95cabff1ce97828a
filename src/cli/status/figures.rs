//! The figures of `status`, read from the database. A part that cannot be read is unknown, with the reason, and the
//! others are read all the same: at night a table may be locked, a query slow, or the role without a right.

use crate::admin::status::{self, ComparedDay, Drift, Flow, Server, Size};
use crate::backfill::run_store::{self, UnfinishedRun};
use crate::database::Connection;
use crate::database::instance::{self, Instances};
use crate::metrics::database::{self, Comparison, Jobs, Limits, Outbox, Writes};
use crate::outbox::processes;

/// A part of the figures, or why it is unknown.
pub(super) type Part<T> = Result<T, String>;

/// All figures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) server: Server,
    pub(super) processes: Part<Instances>,
    pub(super) contradicting: Part<Vec<processes::Process>>,
    pub(super) outbox: Part<Outbox>,
    pub(super) flow: Part<Flow>,
    pub(super) jobs: Part<Vec<Jobs>>,
    pub(super) writes: Part<Writes>,
    pub(super) limits: Part<Limits>,
    pub(super) comparison: Part<Comparison>,
    pub(super) days: Part<Vec<ComparedDay>>,
    pub(super) drift: Part<Option<Drift>>,
    pub(super) backfill: Part<Option<UnfinishedRun>>,
    pub(super) size: Part<Size>,
}

/// Why processes are unknown if the operator has named the sessions.
const NAMED: &str = "the connection string sets application_name";
/// Why processes are unknown if sessions do not belong to them.
const SHARED: &str = "processes share sessions, behind a pooler in transaction mode";

impl Figures {
    /// Reads all parts, each in a statement of its own. `is_named`: the connection string sets `application_name`, so
    /// that the sessions do not name their processes.
    ///
    /// # Errors
    /// The connection is lost, or the server shuts down.
    pub(super) async fn read(conn: &mut Connection, is_named: bool) -> Result<Self, sqlx::Error> {
        let server = status::server(conn).await?;
        let processes = match known(instance::instances(conn).await)? {
            Ok(_) if conn.shares_session() => Err(SHARED.to_owned()),
            Ok(found) if is_named && found.processes.is_empty() => Err(NAMED.to_owned()),
            found => found,
        };
        Ok(Self {
            server,
            processes,
            contradicting: known(processes::contradicting(conn).await)?,
            outbox: known(database::outbox(conn).await)?,
            flow: known(status::flow(conn).await)?,
            jobs: known(database::jobs(conn).await)?,
            writes: known(database::writes(conn).await)?,
            limits: known(database::limits(conn).await)?,
            comparison: known(database::comparison(conn).await)?,
            days: known(status::compared_days(conn).await)?,
            drift: known(status::drift(conn).await)?,
            backfill: known(run_store::open(conn).await)?,
            size: known(status::size(conn).await)?,
        })
    }

    /// Each unknown part and the reason. Behind a pooler, processes are never known; that is no problem to solve.
    pub(super) fn unknown(&self) -> Vec<(&'static str, &str)> {
        fn reason<T>(part: &Part<T>) -> Option<&str> {
            part.as_ref().err().map(String::as_str)
        }
        let parts = [
            ("processes", reason(&self.processes).filter(|reason| *reason != SHARED)),
            ("settings of processes", reason(&self.contradicting)),
            ("queue", reason(&self.outbox)),
            ("rates", reason(&self.flow)),
            ("jobs", reason(&self.jobs)),
            ("changes at Stripe", reason(&self.writes)),
            ("limits", reason(&self.limits)),
            ("watermark", reason(&self.comparison)),
            ("days of reconciliation", reason(&self.days)),
            ("drift", reason(&self.drift)),
            ("backfill", reason(&self.backfill)),
            ("size", reason(&self.size)),
        ];
        parts.into_iter().filter_map(|(name, reason)| Some((name, reason?))).collect()
    }
}

/// Separates errors of one statement, which leave its part unknown, from a lost connection.
fn known<T>(read: Result<T, sqlx::Error>) -> Result<Part<T>, sqlx::Error> {
    let error = match read {
        Ok(part) => return Ok(Ok(part)),
        Err(error) => error,
    };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned();
    Ok(Err(match code.as_str() {
        "42501" => "the role may not read it".to_owned(),
        "57014" => "it could not be read within 1 s".to_owned(),
        "55P03" => "another session holds a lock on it".to_owned(),
        // connection exceptions, operator intervention (shutdown), and errors of the connection itself
        code if code.is_empty() || code.starts_with("08") || code.starts_with("57") => return Err(error),
        code => format!("the database answered with error {code}"),
    }))
}
