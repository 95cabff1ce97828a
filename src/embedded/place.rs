//! Chooses the data directory: the requested one, or another one if the server's user cannot enter it.
//!
//! Layout of a data directory: `lock` (the process that uses it), `postgres/` (the cluster), `run/` (its socket),
//! `postgres.log`. The directory itself stays ours; `postgres/` and `run/` belong to the server's user. Called by
//! `Cluster::start`.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::account::Account;
use super::error::{self, EmbeddedError};
use super::ownership;

/// Where root puts the data if the server's user cannot enter the requested directory. The first survives cleanups of
/// the second.
const ELSEWHERE: &[&str] = &["/var/lib/billing-sync", "/var/tmp/billing-sync"];

/// A data directory and the user that owns the cluster in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) data_dir: PathBuf,
    pub(super) account: Account,
}

impl Place {
    /// The cluster itself, `PGDATA`.
    pub(super) fn cluster(&self) -> PathBuf {
        cluster_in(&self.data_dir)
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    pub(super) fn run(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    /// The major version of the existing cluster, if any.
    pub(super) fn existing_version(&self) -> Option<u32> {
        fs::read_to_string(self.cluster().join("PG_VERSION")).ok()?.trim().parse().ok()
    }
}

fn cluster_in(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

/// Chooses the place for `given` and creates it. An existing cluster is never ignored in favour of a new one.
pub(super) fn choose(given: &Path) -> Result<Place, EmbeddedError> {
    let requested = resolved(given)?;
    // otherwise root would put the data elsewhere, because the server's user cannot enter a file
    if let Some(file) = requested.ancestors().find(|step| step.exists()).filter(|step| !step.is_dir()) {
        return Err(EmbeddedError::NoDirectory { data_dir: file.to_owned() });
    }
    if !Account::must_drop() {
        return choose_as_ourselves(&requested);
    }
    ownership::check(given)?;
    choose_as_root(&requested)
}

fn choose_as_ourselves(requested: &Path) -> Result<Place, EmbeddedError> {
    create(requested, 0o700)?;
    let account = Account::ourselves();
    match owner(&cluster_in(requested)) {
        Some(owner) if owner != account.uid => Err(foreign(requested, owner, &account)),
        _ => Ok(Place { data_dir: requested.to_owned(), account }),
    }
}

fn choose_as_root(requested: &Path) -> Result<Place, EmbeddedError> {
    if let Some(owner) = owner(&cluster_in(requested)) {
        return existing(requested, owner);
    }
    let elsewhere = elsewhere(requested);
    let mut used_before = elsewhere.iter().filter(|dir| trust(dir).is_ok());
    if let Some((dir, owner)) = used_before.find_map(|dir| Some((dir, owner(&cluster_in(dir))?))) {
        warn_moved(requested, dir, "its data has been there since an earlier start");
        return existing(dir, owner);
    }
    create_as_root(requested, &elsewhere)
}

/// The place of an existing cluster, run by its owner.
fn existing(data_dir: &Path, owner: u32) -> Result<Place, EmbeddedError> {
    let account = Account::with_uid(owner).ok_or_else(|| foreign(data_dir, owner, &Account::ourselves()))?;
    match blocked_at(&account, data_dir) {
        None => Ok(Place { data_dir: data_dir.to_owned(), account }),
        Some(blocked_at) => {
            Err(EmbeddedError::Unenterable { data_dir: data_dir.to_owned(), account: account.name, blocked_at })
        }
    }
}

/// A new place: as requested if any unprivileged user can enter it, else elsewhere.
fn create_as_root(requested: &Path, elsewhere: &[PathBuf]) -> Result<Place, EmbeddedError> {
    let parent = nearest_existing(requested);
    let mut reason = "none of them exists".to_owned();
    let usable = |account: &Account| {
        account.enter(Path::new("/")).map_err(|e| reason = format!("{}: {e}", account.name)).is_ok()
    };
    let accounts: Vec<_> = Account::candidates().into_iter().filter(usable).collect();
    if let Some(account) = accounts.iter().find(|account| account.enter(parent).is_ok()) {
        create(requested, 0o711)?; // the server's user may pass through, but not list
        return Ok(Place { data_dir: requested.to_owned(), account: account.clone() });
    }
    let Some(account) = accounts.first() else { return Err(EmbeddedError::NoAccount { reason }) };
    let blocked = blocked_at(account, parent).unwrap_or_else(|| parent.to_owned());
    for data_dir in elsewhere {
        let made = create(data_dir, 0o711).and_then(|()| trust(data_dir));
        if made.is_ok() && account.enter(data_dir).is_ok() {
            let why = format!("the user {} who runs PostgreSQL cannot enter {}", account.name, blocked.display());
            warn_moved(requested, data_dir, &why);
            return Ok(Place { data_dir: data_dir.clone(), account: account.clone() });
        }
    }
    Err(EmbeddedError::Unenterable {
        data_dir: requested.to_owned(),
        account: account.name.clone(),
        blocked_at: blocked,
    })
}

fn warn_moved(requested: &Path, used: &Path, why: &str) {
    tracing::warn!(
        embedded.requested = %requested.display(),
        embedded.data_dir = %used.display(),
        "the embedded database is in {}, not in {}: {why}; set BILLING_SYNC_DATA_DIR to choose another directory",
        used.display(),
        requested.display(),
    );
}

fn foreign(data_dir: &Path, owner: u32, ours: &Account) -> EmbeddedError {
    EmbeddedError::ForeignOwner { data_dir: data_dir.to_owned(), owner, ours: ours.uid }
}

/// The replacements for `requested`: the same on every start, different ones for different clones.
fn elsewhere(requested: &Path) -> Vec<PathBuf> {
    let digest = Sha256::digest(requested.as_os_str().as_encoded_bytes());
    let name = hex::encode(&digest[..6]);
    ELSEWHERE.iter().map(|parent| Path::new(parent).join(&name)).collect()
}

/// Makes a path absolute and resolves links, even if the end of the path does not exist yet.
fn resolved(path: &Path) -> Result<PathBuf, EmbeddedError> {
    let path = std::path::absolute(path).map_err(error::file("resolve", path))?;
    let base = nearest_existing(&path);
    let real = fs::canonicalize(base).map_err(error::file("resolve", base))?;
    let rest = path.strip_prefix(base).unwrap_or(Path::new(""));
    Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

/// The first directory on the way to `dir` that `account` cannot enter.
fn blocked_at(account: &Account, dir: &Path) -> Option<PathBuf> {
    if account.enter(dir).is_ok() {
        return None;
    }
    let mut way: Vec<_> = dir.ancestors().collect();
    way.reverse();
    way.into_iter().find(|step| account.enter(step).is_err()).map(Path::to_owned)
}

fn owner(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.uid())
}

/// Creates `dir` and its missing parents with exactly `mode`, whatever the umask; existing directories keep their mode.
fn create(dir: &Path, mode: u32) -> Result<(), EmbeddedError> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create(parent, mode)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(error::file("set the mode of", dir)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()), // another start was faster
        Err(e) => Err(error::file("create", dir)(e)),
    }
}

/// Refuses a directory that others could have created or could change: all users can write to /var/tmp.
fn trust(dir: &Path) -> Result<(), EmbeddedError> {
    for step in dir.ancestors().take(2) {
        let metadata = fs::symlink_metadata(step).map_err(error::file("inspect", step))?;
        if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            return Err(error::file("trust", step)(ErrorKind::PermissionDenied.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_resolved_as_far_as_it_exists() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(resolved(&root.join("link/a/b")).unwrap(), root.join("real/a/b"));
        assert_eq!(resolved(&root.join("link")).unwrap(), root.join("real"));
    }

    #[test]
    fn a_file_is_refused_as_data_directory() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o711)).unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        for requested in [file.clone(), file.join("below")] {
            let text = choose(&requested).unwrap_err().to_string();
            assert!(text.contains("file is a file: set BILLING_SYNC_DATA_DIR"), "{text}");
        }
    }

    #[test]
    fn only_new_directories_get_the_mode() {
        let root = tempfile::tempdir().unwrap();
        let mode = |dir: &Path| fs::metadata(dir).unwrap().mode() & 0o777;
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).unwrap();
        create(&root.path().join("a/b"), 0o711).unwrap();
        assert_eq!(mode(&root.path().join("a/b")), 0o711);
        assert_eq!(mode(root.path()), 0o700);
    }

    #[test]
    fn a_replacement_that_others_can_change_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("ours/data");
        create(&dir, 0o711).unwrap();
        assert_eq!(trust(&dir).is_ok(), Account::must_drop());
        fs::set_permissions(root.path().join("ours"), Permissions::from_mode(0o777)).unwrap();
        trust(&dir).unwrap_err();
        std::os::unix::fs::symlink(&dir, root.path().join("link")).unwrap();
        trust(&root.path().join("link")).unwrap_err();
    }

    #[test]
    fn each_clone_has_its_own_replacement() {
        let one = elsewhere(Path::new("/root/one/.billing-sync"));
        assert_eq!(one, elsewhere(Path::new("/root/one/.billing-sync")));
        assert_ne!(one, elsewhere(Path::new("/root/two/.billing-sync")));
        assert!(one[0].starts_with("/var/lib/billing-sync"));
    }
}
