//! Calls the functions of the product as the product does.

use billing_sync::database::Connection;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgDatabaseError;

/// The database error of a refused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

pub(crate) type Answer = Result<Option<i64>, Refusal>;

/// Evaluates a call in SQL, `consume(w, 'words', 10)` for example, where `w` and `v` are the ids of workspaces.
pub(crate) async fn call(conn: &mut Connection, call: &str) -> Answer {
    let sql = format!("SELECT billing.{call} FROM (SELECT md5('w')::uuid AS w, md5('v')::uuid AS v) AS workspaces");
    let answer = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await;
    answer.map_err(|error| {
        let error = error.as_database_error().unwrap_or_else(|| panic!("{call}: {error}"));
        let refusal: &PgDatabaseError = error.downcast_ref();
        Refusal {
            code: refusal.code().to_owned(),
            message: refusal.message().to_owned(),
            detail: refusal.detail().map(str::to_owned),
            hint: refusal.hint().map(str::to_owned),
        }
    })
}

/// The SQLSTATE of a call that must be refused.
pub(crate) async fn refused(conn: &mut Connection, sql: &str) -> String {
    match call(conn, sql).await {
        Ok(answer) => panic!("{sql} was answered {answer:?}"),
        Err(refusal) => refusal.code,
    }
}
