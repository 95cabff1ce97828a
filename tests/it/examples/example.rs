//! Runs an example as a product engineer does, and returns what it prints.

use std::process::Stdio;

use billing_sync::database::Connection;
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::process::Command;
use uuid::Uuid;

use super::product::{Product, WORKSPACE};
use super::rust_consume;
use crate::support::cluster;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SQL: &str = include_str!("../../../examples/sql/consume.sql");

/// What `make test-examples` installs.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/examples/venv/bin/python");

/// Seconds after which a program is ended. Each takes a few seconds.
const TIMEOUT: &str = "60";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Example {
    Rust,
    Python,
    Node,
    /// The statements of the file for psql, on a connection of this process.
    Sql,
    Psql,
}

/// Result of a program.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) is_success: bool,
    /// Both its outputs.
    pub(crate) printed: String,
}

impl From<Result<String, String>> for Outcome {
    fn from(result: Result<String, String>) -> Self {
        let is_success = result.is_ok();
        Self { is_success, printed: result.unwrap_or_else(|error| error) }
    }
}

impl Example {
    /// Stores a document of the workspace `w` with this many words.
    pub(crate) async fn store(self, product: &Product, words: i64, document: Uuid) -> Outcome {
        self.store_for(product, WORKSPACE, words, document).await
    }

    pub(crate) async fn store_for(self, product: &Product, workspace: Uuid, words: i64, document: Uuid) -> Outcome {
        let (workspace, words, document) = (workspace.to_string(), words.to_string(), document.to_string());
        match self {
            Self::Rust => {
                let printed = rust_consume::run(&product.url, &[workspace, words, document]).await;
                printed.map_err(|error| error.to_string()).into()
            }
            Self::Python => python(product, "consume.py", &[&workspace, &words, &document]).await,
            Self::Node => {
                // Node.js looks for packages in the folders above a file
                let copy = format!("{ROOT}/target/examples/consume-{document}.mjs");
                std::fs::copy(format!("{ROOT}/examples/node/consume.mjs"), &copy).unwrap();
                let outcome = run(product, "node", &[&copy, &workspace, &words, &document]).await;
                std::fs::remove_file(copy).unwrap();
                outcome
            }
            Self::Sql => {
                let variables = [("workspace", &*workspace), ("words", &*words), ("document", &*document)];
                run_statements(product, &variables).await.into()
            }
            Self::Psql => {
                let variables =
                    [format!("workspace={workspace}"), format!("words={words}"), format!("document={document}")];
                let mut arguments = vec!["--no-psqlrc"];
                arguments.extend(variables.iter().flat_map(|variable| ["--set", variable]));
                arguments.extend([
                    "--file",
                    concat!(env!("CARGO_MANIFEST_DIR"), "/examples/sql/consume.sql"),
                    &product.url,
                ]);
                run(product, "psql", &arguments).await
            }
        }
    }
}

/// Runs a program of `examples/python/`.
pub(crate) async fn python(product: &Product, file: &str, arguments: &[&str]) -> Outcome {
    let path = format!("{ROOT}/examples/python/{file}");
    run(product, PYTHON, &[&[path.as_str()], arguments].concat()).await
}

async fn run(product: &Product, program: &str, arguments: &[&str]) -> Outcome {
    let mut command = Command::new("timeout");
    command.args([TIMEOUT, program]).args(arguments).kill_on_drop(true).stdin(Stdio::null());
    command.env_clear().env("PATH", cluster::search_path()).env("DATABASE_URL", &product.url);
    // without a cache beside the file
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().await.unwrap();
    assert!(output.status.code().is_some_and(|code| code < 124), "{program} {arguments:?}: {output:?}");
    let printed = [output.stdout, output.stderr].concat();
    Outcome { is_success: output.status.success(), printed: String::from_utf8(printed).unwrap() }
}

/// Runs the statements of the SQL example up to the first error, as psql does. Returns the remaining words.
async fn run_statements(product: &Product, variables: &[(&str, &str)]) -> Result<String, String> {
    let lines: Vec<&str> = SQL.lines().filter(|line| !line.starts_with("--") && !line.starts_with('\\')).collect();
    let text = variables.iter().fold(lines.join("\n"), |text, (name, value)| {
        let variable = format!(":'{name}'");
        assert!(text.contains(&variable), "{text} has no {variable}");
        text.replace(&variable, &format!("'{value}'"))
    });
    let mut conn = Connection::from(sqlx::PgConnection::connect(&product.url).await.unwrap());
    let mut remaining: Option<i64> = None;
    for statement in text.split_inclusive(';').map(str::trim) {
        let statement = AssertSqlSafe(statement.to_owned());
        let result = if statement.0.starts_with("SELECT") {
            sqlx::query_scalar(statement).fetch_one(&mut conn).await.map(|words| remaining = words)
        } else {
            sqlx::raw_sql(statement).execute(&mut conn).await.map(|_| ())
        };
        if let Err(error) = result {
            let error: &PgDatabaseError = error.as_database_error().unwrap().downcast_ref();
            return Err(format!("{}: {} {:?}", error.code(), error.message(), error.detail()));
        }
    }
    Ok(format!("{remaining:?}"))
}
