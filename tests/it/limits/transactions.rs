//! The functions inside transactions of the product, of any isolation level and with any search path.

use super::calls::{call, refused};
use super::rows::{DUE, NEW, Rows};

async fn run(conn: &mut billing_sync::database::Connection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(conn).await.unwrap();
}

#[tokio::test]
async fn a_rollback_undoes_usage_bonus_key_and_renewal() {
    let rows = Rows::start().await;
    rows.subscribe("sub", "w", "words 100, members 3", DUE).await;
    let conn = &mut rows.connect().await;
    call(conn, "grant_bonus(w, 'words', 10, 'bought')").await.unwrap();
    let state = "SELECT (SELECT jsonb_agg(to_jsonb(b) ORDER BY limit_key) FROM billing.subscription_limits AS b)::text
        || (SELECT count(*) FROM billing.limit_renewals) || (SELECT count(*) FROM billing.consumptions)
        || (SELECT count(*) FROM billing.bonus_grants) || (SELECT amount FROM billing.workspace_bonus)";
    let before = rows.lines(state).await;

    run(conn, "BEGIN").await;
    assert_eq!(call(conn, "consume(w, 'words', 205, 'key')").await, Ok(Some(5)));
    call(conn, "consume(w, 'members', 2)").await.unwrap();
    call(conn, "release(w, 'members', 1)").await.unwrap();
    call(conn, "grant_bonus(w, 'words', 1000, 'mistyped')").await.unwrap();
    assert_eq!(rows.lines(state).await, before, "no other session sees it yet");
    run(conn, "ROLLBACK").await;
    assert_eq!(rows.lines(state).await, before);

    // a savepoint is enough to continue after a refusal
    run(conn, "BEGIN").await;
    call(conn, "consume(w, 'words', 100)").await.unwrap();
    run(conn, "SAVEPOINT optional").await;
    assert_eq!(refused(conn, "consume(w, 'words', 500)").await, "LM001");
    run(conn, "ROLLBACK TO optional").await;
    assert_eq!(call(conn, "consume(w, 'words', 50)").await, Ok(Some(60)));
    run(conn, "COMMIT").await;
    assert_eq!(rows.balances().await, ["sub members 0 0 0", "sub words 100 150 0"]);
}

/// A transaction with a stale snapshot must not write: it fails with a serialization error, and the product retries it.
#[tokio::test]
async fn a_stale_snapshot_fails_and_nothing_is_lost() {
    let rows = Rows::start().await;
    let (conn, other) = (&mut rows.connect().await, &mut rows.connect().await);
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for (mine, theirs) in [
            // only one of the two transactions sees the change of the other
            ("consume(w, 'words', 60)", "consume(w, 'words', 60)"),
            ("consume(w, 'words', 105)", "grant_bonus(w, 'words', -10, 'paid back')"),
            ("consume(w, 'words', 105)", "consume(w, 'words', 101)"),
            ("release(w, 'members', 1)", "consume(w, 'members', 1)"),
            ("grant_bonus(w, 'words', -10, 'paid back')", "consume(w, 'words', 105)"),
            ("consume(w, 'words', 1, 'key')", "consume(w, 'words', 1, 'key')"),
        ] {
            rows.forget_everything().await;
            rows.subscribe("sub", "w", "words 100, members 3", NEW).await;
            call(conn, "consume(w, 'members', 2)").await.unwrap();
            call(conn, "grant_bonus(w, 'words', 10, 'bought')").await.unwrap();
            let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM billing.subscription_limits");
            sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *conn).await.unwrap();
            call(other, theirs).await.unwrap();
            let between = (rows.balances().await, rows.bonuses().await);
            assert_eq!(refused(conn, mine).await, "40001", "{level}: {mine} after {theirs}");
            run(conn, "ROLLBACK").await;
            assert_eq!((rows.balances().await, rows.bonuses().await), between, "{level}: {mine} after {theirs}");
        }
    }
}

#[tokio::test]
async fn a_fresh_snapshot_works_at_every_isolation_level() {
    let rows = Rows::start().await;
    let conn = &mut rows.connect().await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        rows.forget_everything().await;
        rows.subscribe("sub", "w", "words 100", DUE).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN ISOLATION LEVEL {level}"))).execute(&mut *conn).await.unwrap();
        assert_eq!(call(conn, "consume(w, 'words', 150)").await, Ok(Some(50)));
        assert_eq!(call(conn, "consume(w, 'words', 10)").await, Ok(Some(40)));
        assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(40)));
        run(conn, "COMMIT").await;
        assert_eq!(rows.balances().await, ["sub words 100 160 0"]);
    }
}

/// The functions run as their owner, so no object of the caller may run in them.
#[tokio::test]
async fn the_functions_ignore_the_search_path_of_the_caller() {
    let rows = Rows::start().await;
    rows.subscribe("sub", "w", "words 100, members 3", DUE).await;
    let conn = &mut rows.connect().await;
    run(
        conn,
        "CREATE SCHEMA mine;
        CREATE FUNCTION mine.taken(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'mine'; END $$;
        CREATE FUNCTION mine.taken(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'mine'; END $$;
        CREATE FUNCTION mine.taken(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'mine'; END $$;
        CREATE FUNCTION mine.plus(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'mine'; END $$;
        CREATE FUNCTION mine.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'mine'; END $$;
        CREATE FUNCTION mine.btrim(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'mine'; END $$;
        CREATE OPERATOR mine.= (FUNCTION = mine.taken, LEFTARG = uuid, RIGHTARG = uuid);
        CREATE OPERATOR mine.= (FUNCTION = mine.taken, LEFTARG = text, RIGHTARG = text);
        CREATE OPERATOR mine.<= (FUNCTION = mine.taken, LEFTARG = bigint, RIGHTARG = bigint);
        CREATE OPERATOR mine.+ (FUNCTION = mine.plus, LEFTARG = bigint, RIGHTARG = bigint);
        CREATE TEMPORARY TABLE subscription_limits (mine integer);
        CREATE TEMPORARY TABLE pg_class (mine integer);
        SET search_path = mine, pg_temp, pg_catalog",
    )
    .await;
    assert!(
        sqlx::query("SELECT clock_timestamp()").execute(&mut *conn).await.unwrap_err().to_string().contains("mine")
    );
    assert_eq!(call(conn, "grant_bonus(w, 'words', 10, 'bought')").await, Ok(Some(10)));
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(210)));
    assert_eq!(call(conn, "consume(w, 'words', 205, 'key')").await, Ok(Some(5)), "with a renewal");
    assert_eq!(call(conn, "consume(w, 'words', 205, 'key')").await, Ok(Some(5)));
    assert_eq!(call(conn, "consume(w, 'members', 2)").await, Ok(Some(1)));
    assert_eq!(call(conn, "release(w, 'members', 1)").await, Ok(Some(2)));
    for view in ["SELECT FROM billing.workspace_limits", "SELECT FROM billing.subscription_words"] {
        assert_eq!(
            sqlx::query(view).execute(&mut *conn).await.unwrap().rows_affected(),
            if view.contains("words") { 1 } else { 2 }
        );
    }
}
