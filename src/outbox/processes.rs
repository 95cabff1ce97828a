//! Running processes and those of their settings that must be the same: a difference makes one process undo what
//! another does, or remove what the other keeps.
//!
//! Each process writes a heartbeat. Settings are texts as `BILLING_SYNC_RETENTION=90d`; a process has only those that
//! its roles use, so processes are compared setting by setting. Read by `doctor` and `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use crate::database::Connection;

/// This process, as other processes see it.
#[derive(Debug)]
pub struct Announcement {
    id: Uuid,
    settings: Vec<String>,
    is_contradicted: AtomicBool,
}

/// A running process, and settings of it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Process {
    /// Process id and address.
    pub name: String,
    /// Settings with their values.
    pub settings: Vec<String>,
}

/// A setting of another process with another value than here.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Contradiction {
    /// Process id and address of the other process.
    pub other: String,
    /// The setting there.
    pub theirs: String,
    /// The setting here.
    pub ours: String,
}

impl Announcement {
    /// An announcement of this process with these settings.
    pub fn new(settings: Vec<String>) -> Self {
        Self { id: Uuid::new_v4(), settings, is_contradicted: AtomicBool::new(false) }
    }

    /// Writes a heartbeat; logs, once, that another running process has other settings, and that all have the same
    /// again.
    ///
    /// # Errors
    /// Database errors.
    pub async fn heartbeat(&self, conn: &mut Connection) -> Result<(), sqlx::Error> {
        let others = heartbeat(conn, self.id, &self.settings).await?;
        if self.is_contradicted.swap(!others.is_empty(), Ordering::Relaxed) == others.is_empty() {
            if let Some(first) = others.first() {
                tracing::error!(
                    other = first.other,
                    other.setting = first.theirs,
                    setting = first.ours,
                    differences = others.len(),
                    "another process uses this database with other settings; give all processes the same"
                );
            } else {
                tracing::info!("all processes on this database have the same settings again");
            }
        }
        Ok(())
    }
}

/// Writes a heartbeat of the process `id`, and returns how other running processes contradict it.
///
/// # Errors
/// Database errors.
pub async fn heartbeat(
    conn: &mut Connection,
    id: Uuid,
    settings: &[String],
) -> Result<Vec<Contradiction>, sqlx::Error> {
    sqlx::query(
        "-- outbox.heartbeat
        INSERT INTO billing.running_processes AS p (process_id, name, settings)
        VALUES ($1,
            concat('process ', $2, ' at ', coalesce(host(inet_client_addr()), 'the machine of the database')), $3)
        ON CONFLICT (process_id) DO UPDATE SET heartbeat_at = clock_timestamp()",
    )
    .bind(id)
    .bind(std::process::id().to_string())
    .bind(settings)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- outbox.forget_processes
        DELETE FROM billing.running_processes WHERE heartbeat_at < clock_timestamp() - interval '1 day'",
    )
    .execute(&mut *conn)
    .await?;
    let differences = differences(conn, Some(id)).await?;
    Ok(differences.into_iter().map(|one| one.contradiction).collect())
}

/// Returns the running processes whose settings differ, each with those settings only.
///
/// # Errors
/// Database errors.
pub async fn contradicting(conn: &mut Connection) -> Result<Vec<Process>, sqlx::Error> {
    let mut settings: BTreeMap<(String, Uuid), BTreeSet<String>> = BTreeMap::new();
    for Difference { process_id, name, contradiction } in differences(conn, None).await? {
        settings.entry((name, process_id)).or_default().insert(contradiction.ours);
    }
    let process =
        |((name, _), settings): (_, BTreeSet<String>)| Process { name, settings: settings.into_iter().collect() };
    Ok(settings.into_iter().map(process).collect())
}

/// A setting of a process that another one contradicts.
#[derive(sqlx::FromRow)]
struct Difference {
    process_id: Uuid,
    name: String,
    #[sqlx(flatten)]
    contradiction: Contradiction,
}

/// All contradictions of running processes, or those of one: a process runs if it had a heartbeat in the last half minute.
/// Two are compared only if each had a heartbeat after the start of the other: otherwise one of them may have ended
/// before, in a restart with new settings.
async fn differences(conn: &mut Connection, process: Option<Uuid>) -> Result<Vec<Difference>, sqlx::Error> {
    sqlx::query_as(
        "-- outbox.differences
        WITH active AS (
            SELECT * FROM billing.running_processes WHERE heartbeat_at > clock_timestamp() - interval '30 s')
        SELECT mine.process_id, mine.name, other.name AS other, theirs.setting AS theirs, ours.setting AS ours
        FROM active AS mine
        JOIN active AS other ON other.process_id <> mine.process_id
            AND other.heartbeat_at > mine.started_at AND mine.heartbeat_at > other.started_at
        CROSS JOIN unnest(mine.settings) AS ours (setting)
        JOIN unnest(other.settings) AS theirs (setting)
            ON split_part(theirs.setting, '=', 1) = split_part(ours.setting, '=', 1) AND theirs.setting <> ours.setting
        WHERE $1 IS NULL OR mine.process_id = $1
        ORDER BY other.name, ours.setting",
    )
    .bind(process)
    .fetch_all(conn)
    .await
}
