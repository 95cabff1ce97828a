//! Failures behind the API, and the test that each code of the catalogue has a test.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use billing_sync::api::problem::Code;
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::time::{sleep, timeout};

use super::{LIMIT, LIST};
use crate::api::harness::{ADA, ApiTest};

#[tokio::test]
async fn a_locked_row_is_503_busy_and_a_lost_connection_503_unavailable() {
    let test = ApiTest::start().await;
    let (ada, id) = (test.user(ADA).await, test.workspace("Team", ADA).await);
    let (path, body) = (format!("{LIST}/{id}"), json!({ "name": "New" }));
    let mut lock = test.app.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM billing.workspaces FOR UPDATE").execute(&mut *lock).await.unwrap();
    let reply = ada.put(&path, &body).await;
    let problem = reply.problem("busy");
    assert_eq!((reply.status, &problem["retryable"], reply.header("retry-after")), (503, &json!(true), Some("1")));
    let end = async {
        let query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while sqlx::query(query).fetch_all(&test.app.pool).await.unwrap().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let (reply, ended) = tokio::join!(ada.put(&path, &body), timeout(LIMIT, end));
    ended.expect("a request that waits for the lock");
    let problem = reply.problem("database-unavailable");
    assert_eq!((reply.status, &problem["retryable"], reply.header("retry-after")), (503, &json!(true), Some("2")));
    lock.rollback().await.unwrap();
    assert_eq!(ada.get(&path).await.json(200)["name"], "Team", "nothing was changed");
    assert_eq!(ada.put(&path, &body).await.json(200)["name"], "New");
    test.finish().await;
}

#[tokio::test]
async fn a_database_that_refuses_connections_is_503_until_it_accepts_them() {
    let test = ApiTest::start().await;
    let (ada, database) = (test.user(ADA).await, &test.app.database);
    let mut admin = database.options.clone().database("postgres").connect().await.unwrap();
    for sql in [
        format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", database.name),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", database.name),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    }
    for _ in 0..3 {
        let reply = ada.get(LIST).await;
        let problem = reply.problem("database-unavailable");
        assert_eq!((reply.status, &problem["retryable"], reply.header("retry-after")), (503, &json!(true), Some("2")));
    }
    let allow = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", database.name);
    sqlx::raw_sql(AssertSqlSafe(allow)).execute(&mut admin).await.unwrap();
    ada.get(LIST).await.json(200);
    test.finish().await;
}

#[tokio::test]
async fn a_bug_is_500_without_its_cause_and_changes_nothing() {
    let test = ApiTest::start().await;
    let (ada, id) = (test.user(ADA).await, test.workspace("Team", ADA).await);
    test.execute("DROP TABLE billing.workspace_avatars").await;
    let body = json!({ "name": "New" });
    let key = [("Idempotency-Key", "k")];
    for reply in [
        ada.get(&format!("{LIST}/{id}")).await,
        ada.get(LIST).await,
        ada.put(&format!("{LIST}/{id}"), &body).await,
        ada.send("POST", LIST, &key, Some(&body)).await,
    ] {
        let problem = reply.problem("internal-error");
        assert_eq!((reply.status, &problem["retryable"]), (500, &json!(false)));
        for cause in ["avatar", "SELECT", "relation", "Team"] {
            assert!(!reply.text.contains(cause), "{problem}");
        }
    }
    ada.get(&format!("{LIST}/{id}/limits")).await.json(200);
    let rows = "SELECT concat_ws(' ', string_agg(name, ','), (SELECT count(*) FROM billing.api_requests))
        FROM billing.workspaces";
    assert_eq!(test.app.text(rows).await.as_deref(), Some("Team 0"), "no workspace, no name, no idempotency key");
    test.finish().await;
}

/// In two parts, so that this line is not an attribute.
const ATTRIBUTE: &str = concat!("#[", "tokio::test");

/// The tests below `folder` that check a problem, with their text.
fn tests_of(folder: &Path) -> BTreeMap<String, String> {
    let mut tests = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests.extend(tests_of(&path));
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for test in source.split(ATTRIBUTE).skip(1) {
            // a test ends at the first brace at the beginning of a line
            let test = test.split_once("\n}").map_or(test, |(test, _)| test);
            let name = test.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).unwrap().0;
            if test.contains("problem(") || test.contains("names(") {
                tests.insert(name.to_owned(), test.to_owned());
            }
        }
    }
    tests
}

/// Which test provokes which code; `--nocapture` shows the list. A code that no request can provoke has no place in the
/// catalogue.
#[test]
fn every_code_of_the_catalogue_is_provoked_by_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut tests = tests_of(&folder.join("api"));
    tests.extend(tests_of(&folder.join("writes")));
    let mut without_test = Vec::new();
    for code in Code::ALL.map(Code::as_str) {
        let provoked_by = tests.iter().filter(|(_, text)| text.contains(&format!("\"{code}\"")));
        let provoked_by: Vec<&str> = provoked_by.map(|(name, _)| name.as_str()).collect();
        println!("{code}: {}", provoked_by.join(", "));
        if provoked_by.is_empty() {
            without_test.push(code);
        }
    }
    assert!(without_test.is_empty(), "add a test of the API that provokes {}", without_test.join(", "));
}
