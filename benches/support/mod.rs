//! Shared by the benchmarks: a temporary private PostgreSQL with default settings and fsync on.

pub(crate) mod report;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::embedded::{Cluster, Options};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

/// Starts PostgreSQL with these settings, each as `name=value`, and prints its version. Its data is in the returned
/// folder, which is removed when dropped.
pub(crate) async fn cluster(settings: &[String]) -> (Cluster, TempDir) {
    let dir = tempfile::Builder::new().prefix("billing-sync-bench-").tempdir().unwrap();
    // as root the server runs as another user, which must be able to enter the folder
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let cluster = Cluster::start(&options(&dir, settings)).await.unwrap();
    println!("PostgreSQL {}, default settings {}\n", cluster.version(), settings.join(" "));
    (cluster, dir)
}

#[expect(clippy::disallowed_methods, reason = "there is no configuration here but PATH")]
fn options(dir: &TempDir, settings: &[String]) -> Options {
    let search_path = std::env::var("PATH").unwrap_or_default();
    let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    let settings = settings.iter().map(pair).collect();
    Options { data_dir: dir.path().join("data"), pg_bin: None, search_path, settings }
}

/// Runs statements and returns their duration.
pub(crate) async fn run(conn: &mut Connection, sql: impl Into<String>) -> Duration {
    let began = Instant::now();
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(conn).await.unwrap();
    began.elapsed()
}
