//! What the programs promise, which repeat a failed transaction: whatever ended it, the words are counted once.

use billing_sync::database::Connection;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::example::Example;
use super::product::{Product, WORKSPACE};

const CONSUME_ONE: &str = "BEGIN; SET LOCAL deadlock_timeout = '10min';
    SELECT billing.consume(md5('w')::uuid, 'words', 1)";

async fn run(conn: &mut Connection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

pub(crate) async fn a_deadlock_is_repeated(example: Example) {
    let mut product = Product::with("words 100").await;
    product.disturb(0, "NULL").await;
    let (login, document) = (product.login.clone(), Uuid::new_v4());
    // its server process checks for a deadlock first, and after the other session has begun to wait
    product.execute(&format!("ALTER ROLE {login} SET deadlock_timeout = '3s'")).await;
    let mut other = product.rows.connect().await;
    run(&mut other, CONSUME_ONE).await;
    let storing = example.store(&product, 25, document);
    let meeting = async {
        product.until_blocked().await;
        run(&mut other, &format!("INSERT INTO {login}.documents VALUES ('{WORKSPACE}', '{document}', 25)")).await;
        run(&mut other, "ROLLBACK").await;
    };
    let (outcome, ()) = tokio::join!(storing, meeting);
    assert!(outcome.is_success, "{outcome:?}");
    assert_eq!(product.attempts().await, 3, "two of the example, and one of the other session");
    stored_once(product, document, 25).await;
}

pub(crate) async fn a_serialization_failure_is_repeated(example: Example) {
    let mut product = Product::with("words 100").await;
    product.disturb(0, "NULL").await;
    let (login, document) = (product.login.clone(), Uuid::new_v4());
    product.execute(&format!("ALTER ROLE {login} SET default_transaction_isolation = 'repeatable read'")).await;
    let mut other = product.rows.connect().await;
    run(&mut other, CONSUME_ONE).await;
    let storing = example.store(&product, 25, document);
    let meeting = async {
        product.until_blocked().await;
        run(&mut other, "COMMIT").await;
    };
    let (outcome, ()) = tokio::join!(storing, meeting);
    assert!(outcome.is_success && outcome.printed.contains("74"), "{outcome:?}");
    assert_eq!(product.attempts().await, 2);
    stored_once(product, document, 26).await;
}

pub(crate) async fn a_session_that_the_server_ends_is_repeated(example: Example) {
    let mut product = Product::with("words 100").await;
    product.disturb(2, "PERFORM pg_terminate_backend(pg_backend_pid())").await;
    let document = Uuid::new_v4();
    let outcome = example.store(&product, 25, document).await;
    assert!(outcome.is_success && outcome.printed.contains("75"), "{outcome:?}");
    assert_eq!(product.attempts().await, 3);
    stored_once(product, document, 25).await;
}

pub(crate) async fn a_lost_answer_to_the_commit_counts_once(example: Example) {
    let mut product = Product::with("words 100").await;
    product.disturb(0, "NULL").await;
    let document = Uuid::new_v4();
    // more than there are attempts: then the caller does not know whether the document is stored
    product.proxy.lose_answers(1000);
    let outcome = example.store(&product, 25, document).await;
    assert!(!outcome.is_success, "{outcome:?}");
    assert_eq!(product.attempts().await, 5);
    assert_eq!(product.documents().await, [(document, 25)], "the server has committed");

    product.proxy.lose_answers(1);
    let outcome = example.store(&product, 25, document).await;
    assert!(outcome.is_success && outcome.printed.contains("75"), "{outcome:?}");
    assert_eq!((product.attempts().await, product.proxy.answers_to_lose()), (7, 0));
    stored_once(product, document, 25).await;
}

pub(crate) async fn the_attempts_are_bounded(example: Example) {
    let mut product = Product::with("words 100").await;
    product.disturb(1000, "RAISE 'disturbed' USING ERRCODE = '40001'").await;
    let outcome = example.store(&product, 25, Uuid::new_v4()).await;
    assert!(!outcome.is_success && outcome.printed.contains("disturbed"), "{outcome:?}");
    assert_eq!(product.attempts().await, 5);
    assert_eq!((product.documents().await, product.used().await), (vec![], 0));
    product.finish().await;
}

pub(crate) async fn other_errors_are_not_repeated(example: Example) {
    let mut product = Product::with("words 100").await;
    product.disturb(1, "RAISE 'disturbed' USING ERRCODE = '57014'").await;
    let outcome = example.store(&product, 25, Uuid::new_v4()).await;
    assert!(!outcome.is_success && outcome.printed.contains("disturbed"), "a canceled statement: {outcome:?}");
    let outcome = example.store(&product, 0, Uuid::new_v4()).await;
    assert!(!outcome.is_success && outcome.printed.contains("above zero"), "22023: {outcome:?}");
    assert_eq!(product.attempts().await, 2);
    assert_eq!((product.documents().await, product.used().await), (vec![], 0));
    product.finish().await;
}

pub(crate) async fn unlimited_words_are_reported_as_such(example: Example) {
    let product = Product::with("words unlimited").await;
    let outcome = example.store(&product, 25, Uuid::new_v4()).await;
    assert!(outcome.is_success && outcome.printed.contains("unlimited"), "{outcome:?}");
    assert_eq!(product.used().await, 25);
    product.finish().await;
}

/// Ends the test: the document exists once with 25 words, and this many are used.
async fn stored_once(product: Product, document: Uuid, used: i64) {
    assert_eq!(product.documents().await, [(document, 25)]);
    assert_eq!(product.used().await, used);
    product.finish().await;
}
