//! The functions of the product, called as the product calls them.

use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, PgConnection};

/// What was said instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

pub(crate) type Answer = Result<Option<i64>, Refusal>;

/// Evaluates what is written as in SQL: `consume(w, 'words', 10)`, where `w` and `v` are the ids of workspaces.
pub(crate) async fn call(conn: &mut PgConnection, call: &str) -> Answer {
    let sql = format!("SELECT billing.{call} FROM (SELECT md5('w')::uuid AS w, md5('v')::uuid AS v) AS workspaces");
    let answer = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await;
    answer.map_err(|error| {
        let error = error.as_database_error().unwrap_or_else(|| panic!("{call}: {error}"));
        let told: &PgDatabaseError = error.downcast_ref();
        Refusal {
            code: told.code().to_owned(),
            message: told.message().to_owned(),
            detail: told.detail().map(str::to_owned),
            hint: told.hint().map(str::to_owned),
        }
    })
}

/// The SQLSTATE of what must be refused.
pub(crate) async fn refused(conn: &mut PgConnection, sql: &str) -> String {
    match call(conn, sql).await {
        Ok(answer) => panic!("{sql} was answered {answer:?}"),
        Err(refusal) => refusal.code,
    }
}
