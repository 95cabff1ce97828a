//! A private PostgreSQL server, whose settings a test may change, and a proxy in front of it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use billing_sync::embedded::{Cluster, EmbeddedError};
use billing_sync::migrations;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::support::cluster;
use crate::support::events::{customer, event, with};
use crate::support::process::Server;

/// A migrated server with PostgreSQL's defaults and some settings; stopped on drop.
pub(super) struct OwnServer {
    pub(super) conn: Connection,
    pub(super) cluster: Cluster,
    _dir: TempDir,
}

impl OwnServer {
    pub(super) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::try_start(settings).await.unwrap()
    }

    /// Like [`Self::start`], for settings with which not every server starts.
    pub(super) async fn try_start(settings: &[(&str, &str)]) -> Result<Self, EmbeddedError> {
        // as root the server runs as another user, who must enter the directory
        let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap();
        let mut options = cluster::options(dir.path());
        options.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let cluster = Cluster::start(&options).await?;
        let mut conn = Connection::from(cluster.connect_options().connect().await.unwrap());
        migrations::run(&mut conn).await.unwrap();
        Ok(Self { conn, cluster, _dir: dir })
    }

    /// Changes a setting of the whole server, also in existing sessions.
    pub(super) async fn set(&mut self, name: &str, value: &str) {
        execute(&mut self.conn, &format!("ALTER SYSTEM SET {name} = '{value}'")).await;
        execute(&mut self.conn, "SELECT pg_reload_conf()").await;
        // the postmaster signals the sessions
        let name = name.to_owned();
        let query = format!("SELECT (current_setting('{name}') = '{value}')::int::bigint");
        until(&mut self.conn, &query).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(super) async fn execute(conn: &mut Connection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

pub(super) async fn number(conn: &mut Connection, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(conn).await.unwrap()
}

/// Waits until the query returns a value other than 0.
pub(super) async fn until(conn: &mut Connection, query: &str) {
    let began = Instant::now();
    while number(conn, query).await == 0 {
        assert!(began.elapsed() < Duration::from_mins(1), "never true: {query}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `/readyz` answers with this status. Returns its reason.
pub(super) async fn until_ready_is(server: &Server, status: u16) -> String {
    let began = Instant::now();
    loop {
        let reply = server.ask("/readyz").await;
        if reply.status == status {
            return reply.text;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "/readyz stays {}: {}", reply.status, reply.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) async fn database_up(server: &Server) -> bool {
    let metrics = server.get_metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix("billing_sync_database_up ")).unwrap();
    value == "1"
}

/// Delivers an event of about this many incompressible bytes about its own customer.
pub(super) async fn deliver(server: &Server, number: usize, bytes: usize) -> u16 {
    let description: String = std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
    let customer = with(&customer(&format!("cus_{number}"), "Ada"), serde_json::json!({ "description": description }));
    server.deliver(&event(&format!("evt_{number}"), "customer.created", 0, &customer, None)).await.unwrap()
}

/// A proxy in a socket directory. New connections go to the current target; existing ones keep theirs.
pub(super) struct Proxy {
    dir: TempDir,
    target: Arc<Mutex<PathBuf>>,
    frozen: Arc<Mutex<CancellationToken>>,
}

impl Proxy {
    /// Starts a proxy to the server of this URL; see [`Self::url`].
    pub(super) fn start(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(socket_name(url))).unwrap();
        let target = Arc::new(Mutex::new(socket(url)));
        let frozen = Arc::new(Mutex::new(CancellationToken::new()));
        tokio::spawn(serve(listener, Arc::clone(&target), Arc::clone(&frozen)));
        Self { dir, target, frozen }
    }

    /// The URL with the proxy as its host.
    pub(super) fn url(&self, url: &str) -> String {
        let mut parsed = url::Url::parse(url).unwrap();
        let here = self.dir.path().display().to_string();
        let pairs: Vec<(String, String)> = (parsed.query_pairs())
            .map(|(name, value)| {
                let value = if name == "host" { here.clone() } else { value.into_owned() };
                (name.into_owned(), value)
            })
            .collect();
        parsed.query_pairs_mut().clear().extend_pairs(pairs);
        parsed.into()
    }

    /// Connects new connections to the server of this URL.
    pub(super) fn lead_to(&self, url: &str) {
        *self.target.lock().unwrap() = socket(url);
    }

    /// Stops the transfer on existing connections without closing them.
    pub(super) fn freeze(&self) {
        std::mem::take(&mut *self.frozen.lock().unwrap()).cancel();
    }
}

async fn serve(listener: UnixListener, target: Arc<Mutex<PathBuf>>, frozen: Arc<Mutex<CancellationToken>>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let target = target.lock().unwrap().clone();
        let frozen = frozen.lock().unwrap().clone();
        tokio::spawn(async move {
            let Ok(mut far) = UnixStream::connect(target).await else { return };
            if frozen.run_until_cancelled(copy_bidirectional(&mut near, &mut far)).await.is_none() {
                // a vanished host does not close connections
                std::future::pending::<()>().await;
            }
        });
    }
}

fn socket(url: &str) -> PathBuf {
    let parsed = url::Url::parse(url).unwrap();
    let host = parsed.query_pairs().find(|(name, _)| name == "host").unwrap().1.into_owned();
    Path::new(&host).join(socket_name(url))
}

fn socket_name(url: &str) -> String {
    let parsed = url::Url::parse(url).unwrap();
    let port = parsed.query_pairs().find(|(name, _)| name == "port").map_or("5432".to_owned(), |it| it.1.into_owned());
    format!(".s.PGSQL.{port}")
}
