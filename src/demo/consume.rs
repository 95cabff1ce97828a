//! Calls `billing.consume`, as a product does.
//!
//! Must not know the expected answers.

use sqlx::postgres::PgDatabaseError;

use super::story::Consume;
use crate::database::Connection;

/// An answer of `billing.consume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConsumeAnswer {
    /// What is left; `None` is unlimited.
    Left(Option<i64>),
    /// An error, as a database library shows it.
    Refused { sqlstate: String, message: String, detail: Option<String>, hint: Option<String> },
}

/// The call as a statement, without values to bind.
pub(super) fn statement(call: &Consume) -> String {
    format!("SELECT billing.consume('{}', '{}', {});", call.workspace, call.limit_key, call.amount)
}

/// Calls the function in a transaction of its own.
pub(super) async fn consume(conn: &mut Connection, call: &Consume) -> Result<ConsumeAnswer, sqlx::Error> {
    let query = sqlx::query_scalar("-- demo.consume\nSELECT billing.consume($1, $2, $3)");
    let result = query.bind(call.workspace).bind(call.limit_key).bind(call.amount).fetch_one(conn).await;
    match result {
        Ok(left) => Ok(ConsumeAnswer::Left(left)),
        Err(error) => refusal(&error).ok_or(error),
    }
}

/// The error, if the function raised it: its codes begin with `LM`.
fn refusal(error: &sqlx::Error) -> Option<ConsumeAnswer> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    error.code().starts_with("LM").then(|| ConsumeAnswer::Refused {
        sqlstate: error.code().to_owned(),
        message: error.message().to_owned(),
        detail: error.detail().map(ToOwned::to_owned),
        hint: error.hint().map(ToOwned::to_owned),
    })
}
