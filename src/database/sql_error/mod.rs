//! Texts for errors of the database.
//!
//! [`without_values`] is for what is stored and logged: it names the code and the objects, and contains no value of a
//! row.
//! [`message`] is for an operator at a terminal and contains the server's own message, and [`fix()`] is what to do.

mod conditions;
mod fix;

use std::fmt::Write as _;

use sqlx::Error;
use sqlx::postgres::PgDatabaseError;

pub use self::fix::fix;

/// Longest name in PostgreSQL. `RAISE … USING TABLE` accepts longer ones.
const LONGEST_NAME: usize = 63;

/// Describes an error that the server reported: code, table, column, constraint and function, without its message and
/// its details, which may repeat values. `None` for an error of the connection or of the client.
pub fn describe(error: &Error) -> Option<String> {
    of_server(error).map(|error| {
        let fields = [
            ("table", error.table()),
            ("column", error.column()),
            ("constraint", error.constraint()),
            ("type", error.data_type()),
        ];
        let fields = fields.into_iter().filter_map(|(kind, name)| Some(format!("{kind} {}", short(name?))));
        let names = fields.chain(error.r#where().and_then(function)).collect::<Vec<_>>().join(", ");
        let mut text = format!("database error {}", with_name(error.code()));
        if !names.is_empty() {
            let _ = write!(text, ": {names}");
        }
        text
    })
}

/// Describes any error without values: the text of an error of the connection or of the client contains none.
pub fn without_values(error: &Error) -> String {
    describe(error).unwrap_or_else(|| message(error))
}

/// The server's message with its code, in one line; for other errors the client's text. Without the line of
/// PostgreSQL's source code, which sqlx adds.
pub fn message(error: &Error) -> String {
    let text = match (of_server(error), error) {
        (Some(error), _) => format!("{} ({})", error.message(), error.code()),
        // the operating system's message is enough
        (None, Error::Io(error)) => error.to_string(),
        // the client names its own source code
        (None, Error::Protocol(_)) => "its answer is not of PostgreSQL's protocol".to_owned(),
        (None, error) => error.to_string(),
    };
    text.replace('\n', " ")
}

fn of_server(error: &Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
}

/// A code with its name.
fn with_name(code: &str) -> String {
    conditions::name(code).map_or_else(|| code.to_owned(), |name| format!("{code} ({name})"))
}

fn short(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

/// The innermost function of PL/pgSQL in the context of an error. The rest of a context may contain values.
fn function(context: &str) -> Option<String> {
    context.lines().find_map(|line| {
        let (name, rest) = line.strip_prefix("PL/pgSQL function ")?.split_once('(')?;
        let (_, rest) = rest.split_once(") line ")?;
        let number = rest.split(' ').next()?;
        let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "_.$\"".contains(c));
        (is_name(name) && number.bytes().all(|c| c.is_ascii_digit()))
            .then(|| format!("function {} line {number}", short(name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_yields_a_function_and_no_value() {
        let nested = "SQL statement \"INSERT INTO t VALUES ('jane')\"\nPL/pgSQL function billing.f(uuid[],text) line 12 at SQL statement\nPL/pgSQL function g() line 3 at PERFORM";
        assert_eq!(function(nested).as_deref(), Some("function billing.f line 12"));
        for context in [
            "JSON data, line 1: {\"email\":\"jane@example.com\"",
            "COPY t, line 1, column email: \"jane@example.com\"",
            "PL/pgSQL function jane@example.com() line 1 at RAISE",
            "PL/pgSQL function f() line jane at RAISE",
            "PL/pgSQL function inline_code_block line 3 at RAISE",
            "",
        ] {
            assert_eq!(function(context), None, "{context}");
        }
    }

    #[test]
    fn an_error_of_the_client_is_not_described() {
        assert_eq!(describe(&Error::RowNotFound), None);
        let lost = Error::Io(std::io::Error::other("the connection\nwas reset"));
        assert_eq!(message(&lost), "the connection was reset");
    }

    #[test]
    fn a_code_has_its_name() {
        assert_eq!(with_name("P0001"), "P0001 (raise exception)");
        assert_eq!(with_name("LM008"), "LM008");
    }
}
