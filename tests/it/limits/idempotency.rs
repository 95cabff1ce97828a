//! Calls of `consume` with an idempotency key: a repeated call gets the same answer and uses nothing.

use super::calls::{call, refused};
use super::rows::{NEW, Rows, process};

#[tokio::test]
async fn a_repeated_call_is_answered_the_same_and_uses_nothing() {
    let rows = Rows::with("words 100, images 5").await;
    let conn = &mut rows.connect().await;
    assert_eq!(call(conn, "consume(w, 'words', 10, 'request 1')").await, Ok(Some(90)));
    assert_eq!(call(conn, "consume(w, 'words', 10)").await, Ok(Some(80)), "without a key each call counts");
    assert_eq!(call(conn, "consume(w, 'words', 10, 'request 1')").await, Ok(Some(90)), "the same answer as before");
    assert_eq!(call(conn, "consume(w, 'words', 10, 'request 2')").await, Ok(Some(70)));
    // the answer stays the same when nothing is left, and after the subscription has ended
    call(conn, "consume(w, 'words', 70)").await.unwrap();
    assert_eq!(call(conn, "consume(w, 'words', 10, 'request 1')").await, Ok(Some(90)));
    rows.becomes("sub", "canceled").await;
    assert_eq!(call(conn, "consume(w, 'words', 10, 'request 1')").await, Ok(Some(90)));
    assert_eq!(rows.balances().await, ["sub images 0 0 0", "sub words 0 100 0"]);
}

#[tokio::test]
async fn a_key_identifies_one_call_of_one_workspace() {
    let rows = Rows::with("words 100, images 5").await;
    rows.subscribe("other", "v", "words 50", NEW).await;
    let conn = &mut rows.connect().await;
    assert_eq!(call(conn, "consume(w, 'words', 1, 'key')").await, Ok(Some(99)));
    assert_eq!(refused(conn, "consume(w, 'words', 2, 'key')").await, "LM005");
    assert_eq!(refused(conn, "consume(w, 'images', 1, 'key')").await, "LM005");
    assert_eq!(refused(conn, "consume(w, 'no such', 1, 'key')").await, "LM005", "also if the limit is wrong");
    assert_eq!(
        call(conn, "consume(v, 'words', 1, 'key')").await,
        Ok(Some(49)),
        "the same key of another workspace is independent"
    );
    assert_eq!(call(conn, "consume(w, 'words', 1, 'KEY')").await, Ok(Some(98)));
    assert_eq!(rows.balances().await, ["other words 0 1 0", "sub images 0 0 0", "sub words 0 2 0"]);
}

#[tokio::test]
async fn a_failed_call_may_be_repeated_and_succeed() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    assert_eq!(refused(conn, "consume(w, 'words', 120, 'key')").await, "LM001");
    call(conn, "grant_bonus(w, 'words', 30, 'bought')").await.unwrap();
    assert_eq!(call(conn, "consume(w, 'words', 120, 'key')").await, Ok(Some(10)));
    assert_eq!(refused(conn, "consume(v, 'words', 1, 'key')").await, "LM003");
    assert_eq!(refused(conn, "consume(w, 'images', 1, 'other')").await, "LM004");
    assert_eq!(call(conn, "consume(w, 'words', 1, 'other')").await, Ok(Some(9)), "a failed call leaves its key free");
}

/// The second call waits for the first and gets the same answer; if the first is rolled back, the second is executed.
#[tokio::test]
async fn of_two_concurrent_calls_with_one_key_one_is_done() {
    let rows = Rows::start().await;
    for undone in [false, true] {
        rows.forget_everything().await;
        rows.subscribe("sub", "w", "words 100", NEW).await;
        let (mut one, mut other) = (rows.connect().await, rows.connect().await);
        sqlx::raw_sql("BEGIN").execute(&mut one).await.unwrap();
        assert_eq!(call(&mut one, "consume(w, 'words', 10, 'key')").await, Ok(Some(90)));
        assert_eq!(call(&mut one, "consume(w, 'words', 10, 'key')").await, Ok(Some(90)), "also in one transaction");
        let waiting = process(&mut other).await;
        let second = tokio::spawn(async move { call(&mut other, "consume(w, 'words', 10, 'key')").await });
        rows.until_blocked(waiting).await;
        sqlx::raw_sql(if undone { "ROLLBACK" } else { "COMMIT" }).execute(&mut one).await.unwrap();
        assert_eq!(second.await.unwrap(), Ok(Some(90)));
        assert_eq!(rows.balances().await, ["sub words 0 10 0"], "undone: {undone}");
    }
}
