//! Stores a document and consumes its words in one transaction: both, or neither. sqlx 0.9, without its macros.
//!
//! ```sh
//! DATABASE_URL=postgres://… cargo run --example consume WORKSPACE_ID WORDS [DOCUMENT_ID]
//! ```
//!
//! Copy what is above [`run`], and replace the INSERT by what your product writes. It needs the crates sqlx (with the
//! features runtime-tokio, postgres and uuid), tokio, uuid and fastrand. The errors are explained in
//! `examples/README.md`. The integration tests call [`run`].

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program of a product, not of billing-sync"
)]

use std::error::Error;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgDatabaseError;
use uuid::Uuid;

const ATTEMPTS: u32 = 5;

/// After these errors the same transaction may succeed: serialization failure, deadlock, server shutdown or start.
const REPEATABLE: [&str; 5] = ["40001", "40P01", "57P01", "57P02", "57P03"];

struct Document {
    workspace_id: Uuid,
    /// Made once, before the first attempt. If the client of your product makes it, the client can repeat its request
    /// too.
    id: Uuid,
    words: i64,
}

enum StoreError {
    /// `billing.consume` refused the document: nothing is stored, and nothing is consumed.
    Refused {
        code: String,
        detail: Option<String>,
        message: String,
    },
    Database(sqlx::Error),
}

/// Stores the document and consumes its words, and repeats that if it met another transaction or lost its connection.
///
/// Returns how many words the workspace has left, `None` if they are unlimited.
///
/// # Errors
///
/// A refusal, which is never repeated, or the error of the last attempt.
async fn store(pool: &PgPool, document: &Document) -> Result<Option<i64>, StoreError> {
    let mut attempt = 1;
    loop {
        match store_once(pool, document).await {
            Ok(remaining) => return Ok(remaining),
            Err(error) if attempt < ATTEMPTS && is_repeatable(&error) => {}
            Err(error) => return Err(refused_or_failed(error)),
        }
        // up to 0.1, 0.2, 0.4 and 0.8 s: random, so that two transactions that met do not meet again
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..50 << attempt))).await;
        attempt += 1;
    }
}

/// One attempt, as one transaction. An error drops the transaction, which rolls it back.
async fn store_once(pool: &PgPool, document: &Document) -> Result<Option<i64>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    // the connection may be lost after the server has committed, so a second attempt may find the row of the first
    sqlx::query("INSERT INTO documents (workspace_id, id, words) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
        .bind(document.workspace_id)
        .bind(document.id)
        .bind(document.words)
        .execute(&mut *tx)
        .await?;
    // last, because it locks the balance until the commit. The idempotency key is the same in every attempt
    let remaining = sqlx::query_scalar("SELECT billing.consume($1, 'words', $2, $3)")
        .bind(document.workspace_id)
        .bind(document.words)
        .bind(document.id.to_string())
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(remaining)
}

fn is_repeatable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| REPEATABLE.contains(&&*code) || code.starts_with("08"))
        }
        // the connection was lost, or none could be made
        error => matches!(error, sqlx::Error::Io(_)),
    }
}

fn refused_or_failed(error: sqlx::Error) -> StoreError {
    let of_server = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    match of_server {
        Some(refusal) if refusal.code().starts_with("LM") => StoreError::Refused {
            code: refusal.code().to_owned(),
            detail: refusal.detail().map(str::to_owned),
            message: refusal.message().to_owned(),
        },
        _ => StoreError::Database(error),
    }
}

/// What a product may say to its user.
fn reason(code: &str, detail: &str, message: &str) -> String {
    match code {
        "LM001" => format!("only {detail} words are left"),
        "LM002" => format!("the subscription is not active: {detail}"),
        "LM003" => "there is no subscription".to_owned(),
        "LM004" => "the plan includes no words".to_owned(),
        "LM008" => "the plan is not known yet, try again in a minute".to_owned(),
        // all others are errors of the product or of the plan: log them
        _ => message.to_owned(),
    }
}

/// Stores a document as the arguments say, and returns what the program prints.
pub(crate) async fn run(database_url: &str, arguments: &[String]) -> Result<String, Box<dyn Error>> {
    let [workspace_id, words, id @ ..] = arguments else { return Err("WORKSPACE_ID and WORDS are missing".into()) };
    let id = id.first().map_or_else(|| Ok(Uuid::new_v4()), |id| id.parse())?;
    let document = Document { workspace_id: workspace_id.parse()?, id, words: words.parse()? };
    let pool = PgPool::connect(database_url).await?;
    match store(&pool, &document).await {
        Ok(remaining) => {
            let remaining = remaining.map_or_else(|| "unlimited".to_owned(), |words| words.to_string());
            Ok(format!("stored {id}, words left: {remaining}"))
        }
        Err(StoreError::Refused { code, detail, message }) => {
            let reason = reason(&code, &detail.unwrap_or_default(), &message);
            Err(format!("not stored: {code}, {reason}").into())
        }
        Err(StoreError::Database(error)) => Err(error.into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&std::env::var("DATABASE_URL")?, &arguments).await {
        Ok(printed) => println!("{printed}"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
    Ok(())
}
