//! The private PostgreSQL: a cluster under the data directory, started and stopped with this process.
//!
//! For `demo`, `serve --embedded` and the tests; not used by a service with a `DATABASE_URL`. [`Cluster::start`] shows
//! the steps in order; each step has a file:
//!
//! ```text
//! place ── account      where the data is, and which user runs the server if we are root
//! lock                  one process per directory
//! predecessor           cleans up after a killed process
//! binaries              which server to run
//! init                  initdb, once
//! socket                a private directory: the only access control
//! server ── watcher     the process, and a shell that stops it if we are killed
//! ```
//!
//! Must not know the schema (the caller migrates) nor read the environment ([`Options`] contains all settings).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSslMode};
use sqlx::{Connection, PgConnection};

mod account;
mod binaries;
mod error;
mod init;
mod lock;
mod ownership;
mod place;
mod predecessor;
mod server;
mod socket;
mod watcher;

pub use error::EmbeddedError;

use binaries::{Binaries, USUAL_PLACES};
use init::SUPERUSER;
use lock::DirLock;
use place::Place;
use server::Server;
use socket::{PORT, SocketDir};

/// The database created on first start.
const DATABASE: &str = "billing";
/// Start timeout. Crash recovery of a large cluster takes long; a server that does not answer after this time is stuck.
const START_LIMIT: Duration = Duration::from_mins(2);
/// Sessions of a killed server notice it within moments, and keep its shared memory until then.
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);
/// Timeout of one connection attempt to a server that accepts the connection and does not answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// Options for starting a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// `BILLING_SYNC_DATA_DIR`; created if missing. Relative to the working directory, by default `.billing-sync`.
    pub data_dir: PathBuf,
    /// `BILLING_SYNC_PG_BIN`: the only directory searched for `initdb` and `postgres`.
    pub pg_bin: Option<PathBuf>,
    /// The value of `PATH`, searched for a server before the usual places.
    pub search_path: String,
    /// Further server settings, for example `("fsync", "off")` in tests; they override our own.
    pub settings: Vec<(String, String)>,
}

impl Options {
    fn durable(&self) -> bool {
        !self.settings.iter().any(|(name, value)| name == "fsync" && value == "off")
    }
}

/// A running private PostgreSQL. Dropping it without [`Cluster::stop`] stops it too, and blocks the thread meanwhile.
#[derive(Debug)]
pub struct Cluster {
    // the order matters: fields are dropped from the top, and the lock must be dropped last
    server: Server,
    socket: SocketDir,
    place: Place,
    major: u32,
    _lock: DirLock,
}

/// Finds the server for a new cluster: the folder of its programs and its major version. Starts nothing.
///
/// # Errors
///
/// If there is no server, or the configured one cannot be used.
pub fn find_server(options: &Options) -> Result<(PathBuf, u32), EmbeddedError> {
    let binaries = binaries::find(options.pg_bin.as_deref(), &options.search_path, USUAL_PLACES, None)?;
    Ok((binaries.dir, binaries.major))
}

impl Cluster {
    /// Starts the cluster of `options.data_dir` with the database `billing`, and creates it first if it does not exist.
    ///
    /// If the current user is root, the server runs as an unprivileged user. If none can enter the data directory, the
    /// data is elsewhere, which is logged: see [`Cluster::data_dir`].
    ///
    /// # Errors
    ///
    /// Each names the relevant setting and the fix, see [`EmbeddedError`].
    pub async fn start(options: &Options) -> Result<Self, EmbeddedError> {
        let place = place::choose(&options.data_dir)?;
        let lock = lock::take(&place.lock(), &place.data_dir)?;
        predecessor::settle(&place).await?;
        let existing = place.existing_version();
        let existing_at = existing.map(|major| (major, place.data_dir.as_path()));
        let binaries = binaries::find(options.pg_bin.as_deref(), &options.search_path, USUAL_PLACES, existing_at)?;
        if existing.is_none() {
            tracing::debug!("creating a PostgreSQL {} cluster in {}", binaries.major, place.data_dir.display());
            init::create(&binaries, &place, &options.search_path, options.durable()).await?;
        }
        let socket = SocketDir::create(&place)?;
        let server = run(&binaries, &place, &socket, options).await?;
        let cluster = Self { server, socket, place, major: binaries.major, _lock: lock };
        tracing::debug!(
            embedded.pid = cluster.server.pid(),
            embedded.url = %cluster.url(),
            "PostgreSQL {} is ready in {}",
            cluster.major,
            cluster.place.data_dir.display(),
        );
        Ok(cluster)
    }

    /// Connect options for the database `billing`, as the superuser of the cluster.
    pub fn connect_options(&self) -> PgConnectOptions {
        connect_options(&self.socket, DATABASE)
    }

    /// Connection URL for psql and other programs: `postgres:///billing?host=/…&user=postgres`.
    pub fn url(&self) -> String {
        // a socket directory contains no characters that need escaping, see `socket::fits`
        format!("postgres:///{DATABASE}?host={}&port={PORT}&user={SUPERUSER}", self.socket.path.display())
    }

    /// The data directory in use: the requested one, or its replacement.
    pub fn data_dir(&self) -> &Path {
        &self.place.data_dir
    }

    /// The server's major version, for example 15.
    pub fn version(&self) -> u32 {
        self.major
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Waits until the server ends unexpectedly (killed, out of memory, a crash): [`EmbeddedError::Ended`]. Nothing
    /// restarts it, so callers must select on this and end too.
    pub async fn ended(&mut self) -> EmbeddedError {
        self.server.lost().await
    }

    /// Shuts down fast: ends all sessions, writes a checkpoint, waits for the end.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::NotStopped`] if the server had to be killed; no process is left in that case either.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        self.server.stop().await
    }
}

fn connect_options(socket: &SocketDir, database: &str) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass().socket(&socket.path).port(PORT);
    options.username(SUPERUSER).database(database).ssl_mode(PgSslMode::Disable)
}

/// Starts a server and waits until it answers and has our database.
async fn run(
    binaries: &Binaries,
    place: &Place,
    socket: &SocketDir,
    options: &Options,
) -> Result<Server, EmbeddedError> {
    let began = Instant::now();
    loop {
        let mut server = Server::start(binaries, place, socket, &options.search_path, &options.settings)?;
        match ready(&mut server, place, socket).await {
            Ok(()) => return Ok(server),
            Err(EmbeddedError::NotStarted { tail, .. })
                if tail.contains("shared memory block") && began.elapsed() < ORPHAN_LIMIT =>
            {
                tokio::time::sleep(POLL * 10).await;
            }
            Err(e) => return Err(e),
        }
    }
}

/// Waits until the server answers in the database `billing`, and creates the database the first time.
async fn ready(server: &mut Server, place: &Place, socket: &SocketDir) -> Result<(), EmbeddedError> {
    let began = Instant::now();
    let unusable = |source| EmbeddedError::Database { data_dir: place.data_dir.clone(), source };
    while began.elapsed() < START_LIMIT {
        if let Some(status) = server.ended() {
            return Err(server.not_started(format!("it ended with {status}")));
        }
        match try_connect(socket, DATABASE).await {
            Ok(connection) => return connection.close().await.map_err(unusable),
            Err(e) if code(&e) == Some("3D000") => create_database(socket).await.map_err(unusable)?,
            Err(e) if is_starting(&e) => tokio::time::sleep(POLL).await,
            Err(e) => return Err(unusable(e)),
        }
    }
    Err(server.not_started(format!("it did not answer within {} s", START_LIMIT.as_secs())))
}

async fn try_connect(socket: &SocketDir, database: &str) -> Result<PgConnection, sqlx::Error> {
    let options = connect_options(socket, database);
    let answer = tokio::time::timeout(CONNECT_LIMIT, PgConnection::connect_with(&options)).await;
    answer.unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())))
}

async fn create_database(socket: &SocketDir) -> Result<(), sqlx::Error> {
    let mut connection = try_connect(socket, "postgres").await?;
    sqlx::raw_sql("-- embedded.create_database\nCREATE DATABASE billing").execute(&mut connection).await?;
    connection.close().await
}

fn code(error: &sqlx::Error) -> Option<&str> {
    match error {
        sqlx::Error::Database(e) => e.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code),
        _ => None,
    }
}

/// Whether there is no socket yet, or recovery is still running.
fn is_starting(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_)) || code(error) == Some("57P03")
}
