//! `token`: creating, listing and revoking the tokens of the API, and what such a token permits.

use std::fs::File;
use std::process::Output;
use std::time::Duration;

use billing_sync::api::principal::token::Token;
use billing_sync::api::principal::token_store::{authenticate, random_token};
use billing_sync::api::principal::{Access, Principal, Profile, Scope};
use billing_sync::database::Connection;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions};
use uuid::Uuid;

use super::{binary, code, migrated, run, words};
use crate::support::cluster::TestDatabase;

const USER: &str = "6f9619ff-8b86-4d01-b42d-00c04fc964ff";

fn token(database: &TestDatabase, arguments: &[&str]) -> Output {
    run(&[&["token"], arguments].concat(), &[("DATABASE_URL", &database.url)])
}

/// Creates a token and returns its text.
fn created(database: &TestDatabase, arguments: &[&str]) -> String {
    let output = token(database, &[&["create"], arguments].concat());
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    words(&output.stdout)
}

fn admin(database: &TestDatabase) -> String {
    created(database, &["--scopes", "workspaces:admin"])
}

fn id(text: &str) -> String {
    Token::parse(text).unwrap().id().to_string()
}

fn secret(text: &str) -> &str {
    text.rsplit('_').next().unwrap()
}

/// Every form in which the secret of a token must not be shown.
fn private(text: &str) -> [String; 2] {
    [secret(text).to_owned(), hex::encode(Token::parse(text).unwrap().hash().as_bytes())]
}

/// The tokens in the order of `token list --json`.
fn listed(database: &TestDatabase) -> Vec<Value> {
    let output = token(database, &["list", "--json"]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn execute(conn: &mut Connection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(conn).await.unwrap();
}

async fn last_use(conn: &mut Connection) -> Option<String> {
    sqlx::query_scalar("SELECT last_used_at::text FROM billing.api_tokens").fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn a_created_token_is_alone_on_standard_output() {
    let (database, _conn) = migrated().await;
    let scopes = "workspaces:write,workspaces:read,workspaces:write";
    let output = token(&database, &["create", "--scopes", scopes, "--user", USER, "--expires", "90d"]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let text = printed.strip_suffix('\n').unwrap();
    let id = id(text);
    let errors = words(&output.stderr);
    for part in [&id, "with workspaces:read, workspaces:write", USER, "expires 20", "shown only this once"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(private(text).iter().all(|private| !errors.contains(private)), "{errors}");
}

#[tokio::test]
async fn two_tokens_have_nothing_in_common() {
    let (database, _conn) = migrated().await;
    let (one, other) = (admin(&database), admin(&database));
    assert!(id(&one) != id(&other) && secret(&one) != secret(&other), "{one} {other}");
}

#[tokio::test]
async fn only_the_hash_of_the_secret_is_stored() {
    let (database, mut conn) = migrated().await;
    let text = admin(&database);
    let row: String =
        sqlx::query_scalar("SELECT token::text FROM billing.api_tokens AS token").fetch_one(&mut conn).await.unwrap();
    let [secret, hash] = private(&text);
    assert!(row.contains(&hash) && !row.contains(&secret), "{row}");
}

#[tokio::test]
async fn a_token_authenticates_its_user_with_its_scopes() {
    let (database, mut conn) = migrated().await;
    let text = created(&database, &["--scopes", "workspaces:read,workspaces:write", "--user", USER]);
    let user: Uuid = USER.parse().unwrap();
    let expected = Principal {
        id: format!("token:{}", id(&text)),
        user: Some(user),
        profile: Profile::default(),
        legacy_customer: None,
        scopes: vec![Scope::WorkspacesRead, Scope::WorkspacesWrite],
    };
    assert_eq!(authenticate(&mut conn, &text).await.unwrap(), Some(expected.clone()));
    assert_eq!(expected.access(), Access::Member(user));
    let service = authenticate(&mut conn, &admin(&database)).await.unwrap().unwrap();
    assert_eq!((service.user, service.access()), (None, Access::All));
}

#[tokio::test]
async fn an_admin_token_may_have_a_user() {
    let (database, mut conn) = migrated().await;
    let text = created(&database, &["--scopes", "workspaces:admin", "--user", USER]);
    let principal = authenticate(&mut conn, &text).await.unwrap().unwrap();
    assert_eq!((principal.user, principal.access()), (Some(USER.parse().unwrap()), Access::All));
}

#[tokio::test]
async fn a_scope_of_a_newer_release_permits_nothing() {
    let (database, mut conn) = migrated().await;
    let text = admin(&database);
    execute(&mut conn, "UPDATE billing.api_tokens SET scopes = '{workspaces:all}'").await;
    let principal = authenticate(&mut conn, &text).await.unwrap().unwrap();
    assert_eq!((principal.scopes.as_slice(), principal.access()), (&[][..], Access::Nothing));
}

#[tokio::test]
async fn wrong_unknown_and_malformed_tokens_are_refused() {
    let (database, mut conn) = migrated().await;
    let (text, other) = (admin(&database), admin(&database));
    let swapped = format!("bs_{}_{}", id(&text), secret(&other));
    let unknown = random_token().unwrap().expose();
    let zeros = format!("bs_{}_{}", "0".repeat(16), "0".repeat(64));
    let upper = text.to_uppercase().replace("BS_", "bs_");
    for wrong in [&swapped, &unknown, &zeros, &upper, &format!(" {text}"), &text[..text.len() - 1], &id(&text), ""] {
        assert_eq!(authenticate(&mut conn, wrong).await.unwrap(), None, "{wrong}");
    }
    let used: i64 =
        sqlx::query_scalar("SELECT count(last_used_at) FROM billing.api_tokens").fetch_one(&mut conn).await.unwrap();
    assert_eq!(used, 0, "a refused token is not in use");
    assert!(authenticate(&mut conn, &text).await.unwrap().is_some());
}

#[tokio::test]
async fn a_token_expires_after_its_lifetime() {
    let (database, mut conn) = migrated().await;
    let text = created(&database, &["--scopes", "workspaces:admin", "--expires", "90d"]);
    let seconds = "SELECT round(extract(epoch FROM expires_at - created_at))::bigint FROM billing.api_tokens";
    let seconds: i64 = sqlx::query_scalar(seconds).fetch_one(&mut conn).await.unwrap();
    assert_eq!(seconds, 90 * 86_400);
    assert_eq!(listed(&database)[0]["state"], "active");
    assert!(authenticate(&mut conn, &text).await.unwrap().is_some());
    execute(&mut conn, "UPDATE billing.api_tokens SET expires_at = clock_timestamp()").await;
    assert_eq!(listed(&database)[0]["state"], "expired");
    assert_eq!(authenticate(&mut conn, &text).await.unwrap(), None);
}

#[tokio::test]
async fn the_use_of_a_token_is_recorded_once_a_minute() {
    let (database, mut conn) = migrated().await;
    let text = admin(&database);
    assert_eq!(last_use(&mut conn).await, None);
    authenticate(&mut conn, &text).await.unwrap().unwrap();
    let first = last_use(&mut conn).await;
    assert!(first.is_some());
    authenticate(&mut conn, &text).await.unwrap().unwrap();
    assert_eq!(last_use(&mut conn).await, first);
    execute(&mut conn, "UPDATE billing.api_tokens SET last_used_at = last_used_at - interval '1 minute'").await;
    let older = last_use(&mut conn).await;
    authenticate(&mut conn, &text).await.unwrap().unwrap();
    assert!(last_use(&mut conn).await > first && first > older);
}

#[tokio::test]
async fn recording_the_use_neither_waits_nor_fails_the_request() {
    let (database, mut conn) = migrated().await;
    let text = admin(&database);
    let mut other = Connection::from(database.options.connect().await.unwrap());
    execute(&mut other, "BEGIN; SELECT FROM billing.api_tokens FOR UPDATE").await;
    let waiting = tokio::time::timeout(Duration::from_secs(10), authenticate(&mut conn, &text));
    assert!(waiting.await.expect("it waits for the lock").unwrap().is_some());
    execute(&mut other, "ROLLBACK").await;
    execute(&mut conn, "SET default_transaction_read_only = on").await;
    assert!(authenticate(&mut conn, &text).await.unwrap().is_some());
    assert_eq!(last_use(&mut conn).await, None);
}

#[tokio::test]
async fn list_shows_neither_secret_nor_hash() {
    let (database, mut conn) = migrated().await;
    let user = created(&database, &["--scopes", "workspaces:read", "--user", USER, "--note", "nightly import"]);
    let service = created(&database, &["--scopes", "workspaces:admin", "--expires", "1d"]);
    authenticate(&mut conn, &service).await.unwrap().unwrap();
    let table = token(&database, &["list"]);
    let json = token(&database, &["list", "--json"]);
    let shown = String::from_utf8([table.stdout.as_slice(), &table.stderr, &json.stdout, &json.stderr].concat());
    let shown = shown.unwrap();
    for text in [&user, &service] {
        assert!(shown.contains(&id(text)), "{shown}");
        assert!(private(text).iter().all(|private| !shown.contains(private)), "{shown}");
    }
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for part in [USER, "nightly import", "workspaces:read", "never expires", "never used", "used 20", "expires 20"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let tokens = listed(&database);
    let ids: Vec<_> = tokens.iter().map(|token| token["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [id(&service), id(&user)], "newest first");
    let keys: Vec<_> = tokens[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected =
        ["id", "scopes", "user_id", "note", "created_at", "expires_at", "last_used_at", "revoked_at", "state"];
    expected.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, expected);
    let of_user = (&tokens[1]["user_id"], &tokens[1]["note"], &tokens[1]["scopes"], &tokens[1]["expires_at"]);
    assert_eq!(of_user, (&json!(USER), &json!("nightly import"), &json!(["workspaces:read"]), &Value::Null));
}

#[tokio::test]
async fn nothing_private_is_logged_at_trace_level() {
    let (database, _conn) = migrated().await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("BILLING_SYNC_LOG", "trace")];
    let output = run(&["token", "create", "--scopes", "workspaces:admin"], &environment);
    let (text, errors) = (words(&output.stdout), words(&output.stderr));
    assert!(errors.contains("api_tokens.create"), "the statement is logged: {errors}");
    assert!(private(&text).iter().all(|private| !errors.contains(private)), "{errors}");
}

#[tokio::test]
async fn an_empty_list_names_the_next_step() {
    let (database, _conn) = migrated().await;
    let output = token(&database, &["list"]);
    assert_eq!(
        (code(&output), words(&output.stdout).as_str()),
        (0, "There are no tokens; `billing-sync token create` creates one.")
    );
    assert!(listed(&database).is_empty());
}

#[tokio::test]
async fn revoke_takes_an_id_or_a_whole_token() {
    let (database, mut conn) = migrated().await;
    let (one, other, kept) = (admin(&database), admin(&database), admin(&database));
    let output = token(&database, &["revoke", &id(&one), &other]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    assert_eq!(words(&output.stdout), format!("{} is revoked {} is revoked", id(&one), id(&other)));
    for text in [&one, &other] {
        assert_eq!(authenticate(&mut conn, text).await.unwrap(), None);
    }
    assert!(authenticate(&mut conn, &kept).await.unwrap().is_some());
    let states: Vec<Value> = listed(&database).iter().map(|token| token["state"].clone()).collect();
    assert_eq!(states, ["active", "revoked", "revoked"]);
    let before = listed(&database);
    let again = token(&database, &["revoke", &one]);
    assert_eq!((code(&again), words(&again.stdout)), (0, format!("{} was already revoked", id(&one))));
    assert_eq!(listed(&database)[2]["revoked_at"], before[2]["revoked_at"]);
}

#[tokio::test]
async fn an_unknown_token_is_a_failure_and_the_others_are_revoked() {
    let (database, _conn) = migrated().await;
    let text = admin(&database);
    let unknown = random_token().unwrap().expose();
    // damaged before the end of the id, so that it names no token
    let damaged = text.replace("bs_", "bs_x");
    let output = token(&database, &["revoke", &unknown, &damaged, &text]);
    assert_eq!(code(&output), 1);
    assert_eq!(words(&output.stdout), format!("{} is revoked", id(&text)));
    let errors = words(&output.stderr);
    for part in [
        format!("{} is not the id of a token", id(&unknown)),
        "argument 2 is neither a token nor an id".to_owned(),
        "error: 2 of 3 are not known; `billing-sync token list` shows the ids".to_owned(),
    ] {
        assert!(errors.contains(&part), "{part}: {errors}");
    }
    assert!(!errors.contains(secret(&unknown)) && !errors.contains(secret(&text)), "{errors}");
    assert_eq!(code(&token(&database, &["revoke"])), 2);
}

#[tokio::test]
async fn a_token_that_cannot_be_shown_is_revoked() {
    let (database, _conn) = migrated().await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let arguments = ["token", "create", "--scopes", "workspaces:admin"];
    let output = binary(&arguments, &[("DATABASE_URL", &database.url)]).stdout(full).output().unwrap();
    assert_eq!(code(&output), 1);
    let errors = words(&output.stderr);
    assert!(errors.contains("the token could not be shown, so it was revoked"), "{errors}");
    assert_eq!(listed(&database)[0]["state"], "revoked");
}

#[tokio::test]
async fn arguments_of_create_are_refused_with_the_fix() {
    let (database, mut conn) = migrated().await;
    let admin = ["--scopes", "workspaces:admin"];
    let cases: [(&[&str], &str); 10] = [
        (&["--scopes", "workspaces:read"], "add --user UUID"),
        (&["--scopes", "workspaces:read,workspaces:write"], "or the scope workspaces:admin for all workspaces"),
        (&["--scopes", "workspaces:reed"], "the scopes are workspaces:read, workspaces:write, workspaces:admin"),
        (&["--scopes", "workspaces:admin,"], "the scopes are"),
        (&["--user", USER], "--scopes <SCOPES>"),
        (&[admin[0], admin[1], "--expires", "0s"], "write a duration from 1s to 10 years with its unit, as in 90d"),
        (&[admin[0], admin[1], "--expires", "90"], "as in 90d"),
        (&[admin[0], admin[1], "--expires", "1000years"], "as in 90d"),
        (&[admin[0], admin[1], "--user", "ada"], "--user <UUID>"),
        (&[admin[0], admin[1], "--note", "one\ntwo"], "write one line of at most 200 characters"),
    ];
    for (arguments, part) in cases {
        let output = token(&database, &[&["create"], arguments].concat());
        let errors = words(&output.stderr);
        assert_eq!((code(&output), output.stdout.len()), (2, 0), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "{part}: {errors}");
    }
    let count = AssertSqlSafe("SELECT count(*) FROM billing.api_tokens".to_owned());
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut conn).await.unwrap(), 0);
}
