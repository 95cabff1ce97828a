//! Several hosts in the connection string: the server that accepts writes is used, also after a change of roles.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::embedded::Cluster;
use billing_sync::migrations;
use sqlx::ConnectOptions;
use tempfile::TempDir;

use super::{code, run, words};
use crate::support::cluster;
use crate::support::events::{customer, event};
use crate::support::process::Server;

/// One of two servers that swap their roles.
struct SwitchingServer {
    conn: Connection,
    cluster: Cluster,
    _dir: TempDir,
}

impl SwitchingServer {
    async fn start() -> Self {
        // as root the server runs as another user, who must enter the directory
        let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap();
        let cluster = Cluster::start(&cluster::options(dir.path())).await.unwrap();
        let mut conn = Connection::from(cluster.connect_options().connect().await.unwrap());
        migrations::run(&mut conn).await.unwrap();
        Self { conn, cluster, _dir: dir }
    }

    fn host(&self) -> String {
        self.cluster.connect_options().get_socket().unwrap().display().to_string()
    }

    /// Makes every transaction read-only, as on a standby.
    async fn stand_by(&mut self, standby: bool) {
        let value = if standby { "on" } else { "off" };
        for sql in [&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"), "SELECT pg_reload_conf()"] {
            sqlx::raw_sql("SET default_transaction_read_only = off").execute(&mut self.conn).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut self.conn).await.unwrap();
        }
    }

    async fn events(&mut self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM billing.outbox").fetch_one(&mut self.conn).await.unwrap()
    }
}

/// Delivers the event repeatedly, as Stripe does, until it is stored.
async fn deliver(server: &Server, id: &str) {
    let began = Instant::now();
    let event = event(id, "customer.created", 0, &customer("cus_1", "Ada"), None);
    while server.deliver(&event).await != Some(200) {
        assert!(began.elapsed() < Duration::from_secs(20), "{id} is never stored");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn serve_switches_to_the_server_that_accepts_writes() {
    let (mut first, mut second) = (SwitchingServer::start().await, SwitchingServer::start().await);
    first.stand_by(true).await;
    let url = format!("host={},{} dbname=billing user=postgres", first.host(), second.host());
    let server = Server::start_at(&url, "receiver,worker", &[]).await;
    deliver(&server, "evt_1").await;
    assert_eq!((first.events().await, second.events().await), (0, 1));
    second.stand_by(true).await;
    first.stand_by(false).await;
    deliver(&server, "evt_2").await;
    assert_eq!((first.events().await, second.events().await), (1, 1));
    server.kill().await;
    first.stand_by(true).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let output = run(&["migrate"], &[("DATABASE_URL", &url)]);
    let text = words(&output.stderr);
    assert!(code(&output) == 1 && text.contains("none of the 2 servers accepts writes"), "{text}");
    assert_eq!(text.matches("is read-only").count(), 2, "{text}");
}
