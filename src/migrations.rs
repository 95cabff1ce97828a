//! Schema migrations: those of this release, those applied to the database, and applying the missing ones.
//!
//! Called by `migrate`, `serve`, `doctor`, the readiness check and the tests. Forward only. The table of applied
//! migrations is in our schema too, because billing-sync may share a product's database and its `_sqlx_migrations`.

use std::time::{Duration, Instant};

use sqlx::migrate::{AppliedMigration, Migration, Migrator};

use crate::database::{Connection, OLDEST_SERVER, message, role};

/// Number of the migrations' advisory lock: "bill".
const LOCK: i64 = 0x6269_6c6c;

/// Pause between two attempts to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Number of attempts after which the log names the lock's holder again.
const LOG_EVERY: u32 = 150;

/// The table of applied migrations, in the shape of sqlx's.
const CREATE_TABLE: &str = r"
-- migrations.create_table
CREATE TABLE billing.schema_migrations (
    version bigint PRIMARY KEY,
    description text NOT NULL,
    installed_on timestamptz NOT NULL DEFAULT now(),
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
COMMENT ON TABLE billing.schema_migrations IS 'Migrations that were applied to this schema, one row each. Written by `billing-sync migrate`.';
COMMENT ON COLUMN billing.schema_migrations.version IS 'Number at the head of the migration''s file name.';
COMMENT ON COLUMN billing.schema_migrations.description IS 'The rest of the file name.';
COMMENT ON COLUMN billing.schema_migrations.installed_on IS 'When it was applied, by the database''s clock.';
COMMENT ON COLUMN billing.schema_migrations.success IS 'Always true: a migration and its row are one transaction.';
COMMENT ON COLUMN billing.schema_migrations.checksum IS 'SHA-384 of the file: a shipped migration is never edited.';
COMMENT ON COLUMN billing.schema_migrations.execution_time IS 'How long it took, in nanoseconds.';
";

/// Why the schema could not be read or brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The server is too old for the schema.
    #[error("the server is PostgreSQL {0}, but {OLDEST_SERVER} or newer is required: upgrade the server")]
    ServerTooOld(i32),
    /// The database cannot hold every text that Stripe sends.
    #[error(
        "the database's encoding is {0}, which cannot store every text that Stripe sends: create a database with \
         ENCODING 'UTF8'"
    )]
    Encoding(String),
    /// The database was migrated by a newer release, and migrations of this release are missing: their common order is
    /// unknown.
    #[error(
        "migrations of this release are missing in the database, and it has unknown ones ({}): it was migrated by a \
         newer release; use that one",
        numbers(.0)
    )]
    Newer(Vec<i64>),
    /// An applied migration differs from this release's file.
    #[error("migrations were changed after they were applied ({}): use the release that applied them", numbers(.0))]
    Changed(Vec<i64>),
    /// A privilege is missing; the text names the privilege, the object and the statement that grants it.
    #[error("{0}")]
    Privilege(String),
    /// A migration failed.
    #[error("migration {version}: {}", message(source))]
    Failed {
        /// Its number.
        version: i64,
        /// The cause.
        source: sqlx::Error,
    },
    /// The database failed.
    #[error("{}", message(.0))]
    Database(#[from] sqlx::Error),
}

/// A migration by its number and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMigration {
    /// Number at the head of the file name.
    pub version: i64,
    /// The rest of the file name, with spaces.
    pub description: String,
}

/// The database's schema compared to this release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Name of the database if none is applied: perhaps it is the wrong one.
    pub empty_database: Option<String>,
    /// Migrations of this release that are not applied, in order.
    pub missing: Vec<KnownMigration>,
    /// Applied migrations that this release does not know: the database is newer than this binary.
    pub unknown: Vec<i64>,
    /// Applied migrations whose file differs from this release's.
    pub changed: Vec<i64>,
}

impl Status {
    /// Whether this release can work on the schema. A newer schema counts: migrations only add, and while a new
    /// release rolls out, the old one keeps working on the schema that the new one has migrated.
    pub fn is_current(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty()
    }

    /// The fix if the schema is not current.
    pub fn fix(&self) -> &'static str {
        if self.changed.is_empty() {
            "run `billing-sync migrate`"
        } else {
            "use the release that applied them: a shipped migration is never edited"
        }
    }

    /// Describes the status in one line.
    pub fn describe(&self) -> String {
        if !self.changed.is_empty() {
            return format!("migrations differ from what was applied ({})", numbers(&self.changed));
        }
        if let Some(name) = &self.empty_database {
            return format!("the database {name} has no tables of billing-sync");
        }
        match self.missing.as_slice() {
            [] if self.unknown.is_empty() => "all migrations are applied".to_owned(),
            [] => "all migrations are applied, and newer ones by a newer release".to_owned(),
            missing => {
                let versions: Vec<i64> = missing.iter().map(|known| known.version).collect();
                format!("migrations are missing ({})", numbers(&versions))
            }
        }
    }
}

/// The migrations of this release.
pub fn migrator() -> Migrator {
    sqlx::migrate!()
}

/// Reads the schema's status. Changes nothing, even in a database without our schema.
///
/// # Errors
/// Any error of the database.
pub async fn pending(conn: &mut Connection) -> Result<Status, MigrationError> {
    let known = migrator();
    if let Some(missing) = role::missing_privilege_to_read(conn).await? {
        return Err(MigrationError::Privilege(missing));
    }
    let applied = if table_exists(conn).await? { applied(conn).await? } else { Vec::new() };
    let mut status = Status::default();
    if applied.is_empty() {
        status.empty_database = Some(database_name(conn).await?);
    }
    for migration in known.iter() {
        match applied.iter().find(|applied| applied.version == migration.version) {
            None => {
                let description = migration.description.to_string();
                status.missing.push(KnownMigration { version: migration.version, description });
            }
            Some(applied) if applied.checksum != migration.checksum => status.changed.push(migration.version),
            Some(_) => {}
        }
    }
    status.unknown = applied.iter().map(|it| it.version).filter(|version| !known.version_exists(*version)).collect();
    Ok(status)
}

/// Applies the missing migrations and returns them. Any number of processes may call this at once: one applies them,
/// the others wait. If none is missing, nothing is written, so it also works with a role that may not create anything.
///
/// A database migrated by a newer release that has all migrations of this one is not changed, so that an older release
/// starts after a rollback.
///
/// # Errors
/// A server that is too old, a newer database with missing migrations, changed migrations, a missing privilege, or any
/// error of the database. Migrations that succeeded before the failed one stay.
pub async fn run(conn: &mut Connection) -> Result<Vec<KnownMigration>, MigrationError> {
    check_server(conn).await?;
    let before = pending(conn).await?;
    if !before.changed.is_empty() {
        return Err(MigrationError::Changed(before.changed));
    }
    if !before.unknown.is_empty() {
        if !before.missing.is_empty() {
            return Err(MigrationError::Newer(before.unknown));
        }
        tracing::info!("{} ({}): the schema stays as it is", before.describe(), numbers(&before.unknown));
        return Ok(Vec::new());
    }
    if before.missing.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(missing) = role::missing_privilege_to_migrate(conn).await? {
        return Err(MigrationError::Privilege(missing));
    }
    while apply_next(conn).await? {}
    Ok(before.missing)
}

/// Takes the migrations' lock until the end of the transaction. Any login that may connect to the database can take it
/// too, so the log names the holder.
async fn lock(conn: &mut Connection) -> Result<(), sqlx::Error> {
    let mut waited = 0;
    while !sqlx::query_scalar!(
        r#"-- migrations.lock
        SELECT pg_try_advisory_xact_lock($1) AS "is_ours!""#,
        LOCK
    )
    .fetch_one(&mut *conn)
    .await?
    {
        if waited % LOG_EVERY == 0 {
            let holder = sqlx::query!(
                "-- migrations.holder
                SELECT l.pid, a.usename::text AS role FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
                WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid::bigint = $1 AND l.objsubid = 1
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                LOCK
            );
            if let Some(holder) = holder.fetch_optional(&mut *conn).await? {
                tracing::warn!(
                    holder.pid = holder.pid,
                    holder.role = holder.role,
                    "another session holds the lock of migrations; if it runs no migration, end it with pg_terminate_backend"
                );
            }
        }
        waited += 1;
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// Checks that the schema can be created in this database.
///
/// # Errors
/// A server that is too old, an encoding that cannot store every text, or any error of the database.
pub async fn check_server(conn: &mut Connection) -> Result<(), MigrationError> {
    let server = server_version(conn).await?;
    if server / 10_000 < i32::from(OLDEST_SERVER) {
        return Err(MigrationError::ServerTooOld(server / 10_000));
    }
    let encoding: String =
        sqlx::query_scalar("-- migrations.encoding\nSELECT current_setting('server_encoding')").fetch_one(conn).await?;
    // SQL_ASCII stores the bytes that we send, which are UTF-8
    if matches!(encoding.as_str(), "UTF8" | "SQL_ASCII") { Ok(()) } else { Err(MigrationError::Encoding(encoding)) }
}

/// Applies the first missing migration, in one transaction with its row and the lock. Returns false if none is missing.
async fn apply_next(conn: &mut Connection) -> Result<bool, MigrationError> {
    let mut tx = conn.begin().await?;
    lock(&mut tx).await?;
    // only what is missing: PostgreSQL checks the privilege to create before it checks whether the object exists
    if !schema_exists(&mut tx).await? {
        sqlx::raw_sql("-- migrations.create_schema\nCREATE SCHEMA billing").execute(&mut *tx).await?;
    }
    if !table_exists(&mut tx).await? {
        sqlx::raw_sql(CREATE_TABLE).execute(&mut *tx).await?;
    }
    let applied = applied(&mut tx).await?;
    let migrator = migrator();
    let Some(next) = migrator.iter().find(|one| applied.iter().all(|applied| applied.version != one.version)) else {
        return Ok(false);
    };
    apply(&mut tx, next).await?;
    tx.commit().await?;
    Ok(true)
}

/// sqlx's own function names its prepared statements, and behind a pooler the session may have others by these names.
async fn apply(conn: &mut Connection, migration: &Migration) -> Result<(), MigrationError> {
    let began = Instant::now();
    let version = migration.version;
    let run = sqlx::raw_sql(migration.sql.clone()).execute(&mut *conn).await;
    run.map_err(|error| MigrationError::Failed { version, source: error })?;
    sqlx::query(
        "-- migrations.record
        INSERT INTO billing.schema_migrations (version, description, success, checksum, execution_time)
        VALUES ($1, $2, true, $3, $4)",
    )
    .bind(version)
    .bind(&*migration.description)
    .bind(&*migration.checksum)
    .bind(i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX))
    .execute(conn)
    .await?;
    Ok(())
}

/// The applied migrations.
async fn applied(conn: &mut Connection) -> Result<Vec<AppliedMigration>, sqlx::Error> {
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "-- migrations.applied\nSELECT version, checksum FROM billing.schema_migrations ORDER BY version",
    )
    .fetch_all(conn)
    .await?;
    Ok(applied.into_iter().map(|(version, sum)| AppliedMigration { version, checksum: sum.into() }).collect())
}

async fn schema_exists(conn: &mut Connection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("-- migrations.schema_exists\nSELECT to_regnamespace('billing') IS NOT NULL")
        .fetch_one(conn)
        .await
}

async fn database_name(conn: &mut Connection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("-- migrations.database\nSELECT current_database()::text").fetch_one(conn).await
}

async fn table_exists(conn: &mut Connection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("-- migrations.exists\nSELECT to_regclass('billing.schema_migrations') IS NOT NULL")
        .fetch_one(conn)
        .await
}

/// The server's version in PostgreSQL's numbering: 150018 is 15.18.
///
/// # Errors
/// Any error of the database.
pub async fn server_version(conn: &mut Connection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        -- migrations.server_version
        SELECT current_setting('server_version_num')::integer AS "version!"
        "#
    )
    .fetch_one(conn)
    .await
}

fn numbers(versions: &[i64]) -> String {
    versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}
