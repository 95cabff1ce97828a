//! Finding PostgreSQL's server binaries and choosing one version of them.
//!
//! Uses only `BILLING_SYNC_PG_BIN` if it is set, else `PATH` and the usual directories of packages outside `PATH`.
//! Knows nothing of clusters and reads no environment: all inputs are arguments. Called by `Cluster::start`;
//! `.ci/install-postgres` searches the same places, so change both together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::EmbeddedError;
use crate::database::OLDEST_SERVER;

/// Directories where packages install server binaries; one `*` per path, inside one component.
pub(super) const USUAL_PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
    "/usr/pgsql-*/bin",                                   // PGDG on RHEL and Fedora
    "/usr/lib64/pgsql/bin",                               // RHEL, SUSE
    "/usr/lib/postgresql*/bin",                           // SUSE
    "/usr/libexec/postgresql*",                           // Alpine
    "/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew, Apple silicon
    "/usr/local/opt/postgresql@*/bin",                    // Homebrew, Intel
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew, Linux
    "/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
    "/opt/local/lib/postgresql*/bin",                     // MacPorts
    "/usr/local/pgsql/bin",                               // built from source
];

/// One installation of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    /// The directory that contains `initdb` and `postgres`, links resolved.
    pub(super) dir: PathBuf,
    /// Major version, for example 15.
    pub(super) major: u32,
    /// Minor version, 0 for a development version.
    pub(super) minor: u32,
}

impl Binaries {
    /// The path of one of the installation's programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The server in `dir`, or a text that describes the problem.
    fn in_dir(dir: &Path) -> Result<Self, String> {
        let postgres = fs::canonicalize(dir.join("postgres")).map_err(|e| format!("`postgres` is missing ({e})"))?;
        // a link in PATH leads to the real directory, where initdb is too
        let beside = postgres.parent().map(Path::to_owned).filter(|d| d.join("initdb").is_file());
        let dir = beside.unwrap_or_else(|| dir.to_owned());
        if !dir.join("initdb").is_file() {
            return Err(format!("`initdb` is missing beside {}", postgres.display()));
        }
        let output = Command::new(&postgres).arg("--version").env_clear().output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (major, minor) = version(&text).ok_or_else(|| format!("`postgres --version` prints {:?}", text.trim()))?;
        Ok(Self { dir, major, minor })
    }
}

/// The server to use: `pg_bin` if given, else the best of `search_path` (a value of `PATH`) and `places`.
///
/// `existing` is the major version of the existing cluster.
pub(super) fn find(
    pg_bin: Option<&Path>,
    search_path: &str,
    places: &[&str],
    existing: Option<(u32, &Path)>,
) -> Result<Binaries, EmbeddedError> {
    let found = match pg_bin {
        Some(bin) => vec![named(bin)?],
        None => candidates(search_path, places).iter().filter_map(|dir| Binaries::in_dir(dir).ok()).collect(),
    };
    choose(&found, existing)
}

/// The server in the configured directory. Any problem with it is an error, not a reason to search elsewhere.
fn named(bin: &Path) -> Result<Binaries, EmbeddedError> {
    let bad = |problem| EmbeddedError::BadBinaries { bin: bin.to_owned(), problem };
    let found = Binaries::in_dir(bin).map_err(bad)?;
    if found.major < u32::from(OLDEST_SERVER) {
        return Err(bad(format!("it contains PostgreSQL {}", found.major)));
    }
    Ok(found)
}

/// Chooses the version of the existing cluster, else the highest; of equal ones the first found, so `PATH` has
/// priority.
fn choose(found: &[Binaries], existing: Option<(u32, &Path)>) -> Result<Binaries, EmbeddedError> {
    let fits = |b: &&Binaries| existing.map_or(b.major >= u32::from(OLDEST_SERVER), |(major, _)| b.major == major);
    let best = found.iter().filter(fits).rev().max_by_key(|b| (b.major, b.minor));
    match (best, existing) {
        (Some(best), _) => Ok(best.clone()),
        (None, Some((made_by, data_dir))) if !found.is_empty() => {
            Err(EmbeddedError::OtherVersion { data_dir: data_dir.to_owned(), made_by, found: list(found) })
        }
        (None, _) if found.is_empty() => Err(EmbeddedError::NoServer { found: String::new() }),
        (None, _) => Err(EmbeddedError::NoServer { found: format!(" (found only {})", list(found)) }),
    }
}

fn list(found: &[Binaries]) -> String {
    let all: BTreeSet<String> =
        found.iter().map(|b| format!("{}.{} in {}", b.major, b.minor, b.dir.display())).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}

/// Directories to search, in order. Relative entries of `PATH` are skipped, because root must not run programs from the
/// working directory.
fn candidates(search_path: &str, places: &[&str]) -> Vec<PathBuf> {
    let path = search_path.split(':').map(PathBuf::from).filter(|dir| dir.is_absolute());
    path.chain(places.iter().flat_map(|place| expand(place))).filter(|dir| dir.join("postgres").is_file()).collect()
}

/// The directories on this machine that match `pattern`, which has at most one `*`.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let (suffix, below) = after.split_once('/').unwrap_or((after, ""));
    let Ok(entries) = fs::read_dir(format!("{parent}/")) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut all: Vec<_> = names
        .filter(|name| name.starts_with(prefix) && name.ends_with(suffix))
        .map(|name| PathBuf::from(format!("{parent}/{name}")).join(below))
        .collect();
    all.sort();
    all
}

/// Major and minor version from the output of `postgres --version`, for example `postgres (PostgreSQL) 15.13 (Debian
/// …)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let number = text.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((digits(major)?, digits(minor).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn installed(dir: &str, major: u32, minor: u32) -> Binaries {
        Binaries { dir: dir.into(), major, minor }
    }

    /// Creates a directory with an `initdb` and a `postgres` that prints `version`.
    fn fake_server(dir: &Path, version: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("initdb"), "").unwrap();
        let postgres = dir.join("postgres");
        fs::write(&postgres, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
        fs::set_permissions(&postgres, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn versions_of_packagers_are_parsed() {
        assert_eq!(version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some((15, 13)));
        assert_eq!(version("postgres (PostgreSQL) 18.4\n"), Some((18, 4)));
        assert_eq!(version("postgres (PostgreSQL) 19beta1"), Some((19, 0)));
        assert_eq!(version("postgres (PostgreSQL) 20devel"), Some((20, 0)));
        assert_eq!(version("postgres (EnterpriseDB) x"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn the_first_of_the_highest_versions_is_chosen() {
        let found = [installed("/a", 15, 9), installed("/b", 17, 2), installed("/c", 17, 2), installed("/d", 16, 9)];
        assert_eq!(choose(&found, None).unwrap().dir, Path::new("/b"));
    }

    #[test]
    fn an_existing_cluster_decides_the_version() {
        let found = [installed("/a", 15, 9), installed("/b", 17, 2)];
        let data = Path::new("/data");
        assert_eq!(choose(&found, Some((15, data))).unwrap().dir, Path::new("/a"));
        let error = choose(&found, Some((16, data))).unwrap_err().to_string();
        for part in
            ["made by PostgreSQL 16", "17.2 in /b", "postgresql-16", "BILLING_SYNC_PG_BIN", "BILLING_SYNC_DATA_DIR"]
        {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_missing_or_old_server_is_reported_with_the_fix() {
        let nothing = find(None, "/nowhere:relative", &[], None).unwrap_err().to_string();
        for part in ["make postgres", "postgresql-server", "postgresql@17", "BILLING_SYNC_PG_BIN"] {
            assert!(nothing.contains(part), "{part} in {nothing}");
        }
        let old = choose(&[installed("/old", 14, 3)], None).unwrap_err().to_string();
        assert!(old.contains("found only 14.3 in /old"), "{old}");
    }

    #[test]
    fn servers_are_found_in_path_and_by_patterns() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        fake_server(&root.join("lib/15/bin"), "15.3 (Debian)");
        fake_server(&root.join("lib/17/bin"), "17.1");
        fake_server(&root.join("path"), "16.0");
        let path = format!("relative:{}", root.join("path").display());
        let place = format!("{}/lib/*/bin", root.display());
        assert_eq!(find(None, &path, &[&place], None).unwrap().dir, root.join("lib/17/bin"));
        assert_eq!(find(None, &path, &[&place], Some((16, &root))).unwrap().dir, root.join("path"));
        assert_eq!(find(Some(&root.join("lib/15/bin")), &path, &[&place], None).unwrap().major, 15);
    }

    #[test]
    fn a_link_in_path_leads_to_the_directory_that_has_initdb() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        fake_server(&root.join("real"), "15.3");
        fs::create_dir(root.join("path")).unwrap();
        std::os::unix::fs::symlink(root.join("real/postgres"), root.join("path/postgres")).unwrap();
        let path = root.join("path").display().to_string();
        assert_eq!(find(None, &path, &[], None).unwrap().dir, root.join("real"));
    }

    #[test]
    fn a_wrong_setting_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error = find(Some(root.path()), "/usr/bin", USUAL_PLACES, None).unwrap_err().to_string();
        assert!(error.starts_with("BILLING_SYNC_PG_BIN is"), "{error}");
        fake_server(root.path(), "14.2");
        let error = find(Some(root.path()), "", &[], None).unwrap_err().to_string();
        assert!(error.contains("it contains PostgreSQL 14"), "{error}");
    }
}
