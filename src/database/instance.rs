//! The name of a running process in its sessions (`application_name`), so that `pg_stat_activity` shows which processes
//! run, with which roles, and `status` can read that from the database alone.
//!
//! All sessions of a process have the same name: many parts connect only when they work, so a session by itself would
//! not show all roles. `serve` sets the name, the other commands keep the plain one.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnectOptions;

use super::connection::Connection;

/// The `application_name` unless the connection string sets one.
pub const APPLICATION: &str = "billing-sync";

/// Longest name that PostgreSQL keeps.
const MAX_LENGTH: usize = 63;

/// Roles of `serve` and their short names: with all of them, a name still contains the end of the host's name.
const ROLES: [(&str, &str); 6] = [
    ("receiver", "recv"),
    ("worker", "work"),
    ("api", "api"),
    ("renewals", "renew"),
    ("reconcile", "recon"),
    ("maintenance", "maint"),
];

/// A running process, from the names of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Process id and host, as `4242@web-1`; a long host name is cut at its start.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Number of its sessions.
    pub connections: i64,
}

/// The running processes that are connected to the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instances {
    /// Processes of `serve`, by name.
    pub processes: Vec<Instance>,
    /// Number of other sessions with the plain name: commands, or an older release.
    pub other_connections: i64,
}

/// Adds the roles and the place of this process to the name of its sessions. A name from the connection string stays,
/// because the operator chose it.
pub fn named(options: &PgConnectOptions, roles: &[&str]) -> PgConnectOptions {
    let options = options.clone();
    match options.get_application_name() {
        Some(APPLICATION) | None => {
            let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            options.application_name(&name(roles, std::process::id(), &host))
        }
        Some(_) => options,
    }
}

/// The name of a process. Kubernetes makes the end of a host's name unique, so the end is kept.
fn name(roles: &[&str], process: u32, host: &str) -> String {
    let short: Vec<&str> = ROLES.iter().filter(|(long, _)| roles.contains(long)).map(|(_, short)| *short).collect();
    let mut name = format!("{APPLICATION} {} {process}@", short.join("+"));
    // PostgreSQL replaces other characters
    let host: String = host.chars().filter(char::is_ascii_graphic).collect();
    name.push_str(&host[host.len().saturating_sub(MAX_LENGTH.saturating_sub(name.len()))..]);
    name
}

/// Reads a name; `None` if it is not the name of a process.
fn read(name: &str) -> Option<(String, Vec<String>)> {
    let (roles, instance) = name.strip_prefix(APPLICATION)?.strip_prefix(' ')?.split_once(' ')?;
    let long = |role: &str| ROLES.iter().find(|(_, short)| *short == role).map(|(long, _)| (*long).to_owned());
    Some((instance.to_owned(), roles.split('+').map(long).collect::<Option<_>>()?))
}

/// The processes that are connected to this database. Every role may read these names.
///
/// # Errors
/// Database errors.
pub async fn instances(conn: &mut Connection) -> Result<Instances, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "-- database.instances
        SELECT application_name, count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND starts_with(application_name, $1)
        GROUP BY application_name",
    )
    .bind(APPLICATION)
    .fetch_all(conn)
    .await?;
    Ok(sorted(&rows))
}

fn sorted(sessions: &[(String, i64)]) -> Instances {
    let mut found = BTreeMap::new();
    let mut other_connections = 0;
    for (name, connections) in sessions {
        match read(name) {
            Some((name, roles)) => {
                found.insert(name.clone(), Instance { name, roles, connections: *connections });
            }
            None if name == APPLICATION => other_connections += connections,
            None => {}
        }
    }
    Instances { processes: found.into_values().collect(), other_connections }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 6] = ["receiver", "worker", "api", "renewals", "reconcile", "maintenance"];

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for roles in [&ALL[..], &["receiver"], &["worker", "maintenance"]] {
            for host in ["web-1", "", "billing-sync-worker-7d4b9c6f5-x2x9p.billing.svc.cluster.local-x2x9p"] {
                let name = name(roles, 4_194_304, host);
                assert!(name.len() <= MAX_LENGTH, "{name}");
                let (instance, found) = read(&name).unwrap();
                assert_eq!(found, roles, "{name}");
                assert!(instance.starts_with("4194304@"), "{name}");
                // the end of the host, which is unique
                assert!(instance.ends_with(&host[host.len().saturating_sub(5)..]), "{name}");
            }
        }
    }

    #[test]
    fn other_names_are_no_processes() {
        for other in ["billing-sync", "billing-sync ", "billing-sync psql", "billing-syncer work 1@h", "mine work 1@h"]
        {
            assert_eq!(read(other), None, "{other}");
        }
        let found = sorted(&[("billing-sync".to_owned(), 2), ("billing-sync work 7@h".to_owned(), 3)]);
        assert_eq!((found.other_connections, found.processes.len()), (2, 1));
    }

    #[test]
    fn a_name_from_the_connection_string_stays() {
        let mine = PgConnectOptions::new_without_pgpass().application_name("mine");
        assert_eq!(named(&mine, &["worker"]).get_application_name(), Some("mine"));
        let ours = named(&PgConnectOptions::new_without_pgpass(), &["worker"]);
        assert!(ours.get_application_name().unwrap().starts_with("billing-sync work "));
    }
}
