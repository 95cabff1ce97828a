//! One billing-sync process per data directory: a lock that the kernel releases however its holder ends.
//!
//! Uses `flock` instead of a pid file, because a pid file survives a crash and is wrong after a reboot. The pid in the
//! file is only for the message of the second process. The file is never removed, because a lock on a removed file
//! protects nothing. Called by `Cluster::start`; knows nothing of PostgreSQL.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::error::{self, EmbeddedError};

/// The right to use a data directory; released when dropped.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: Flock<File>,
}

/// Takes the lock at `path`, or reports its holder. Does not wait, because two servers on one directory are a mistake.
pub(super) fn take(path: &Path, data_dir: &Path) -> Result<DirLock, EmbeddedError> {
    let no_links = OFlag::O_NOFOLLOW.bits(); // root must not write through another user's link
    let mut open = OpenOptions::new();
    open.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(no_links);
    let file = open.open(path).map_err(error::file("open", path))?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, Errno::EWOULDBLOCK)) => {
            return Err(EmbeddedError::InUse { data_dir: data_dir.to_owned(), holder: holder(path) });
        }
        Err((_, errno)) => return Err(error::file("lock", path)(errno.into())),
    };
    let pid = format!("{}\n", std::process::id());
    file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(error::file("write", path))?;
    Ok(DirLock { _file: file })
}

fn holder(path: &Path) -> String {
    let pid = fs::read_to_string(path).unwrap_or_default();
    match pid.trim() {
        "" => "another billing-sync process".to_owned(), // it has locked the file and not written its pid yet
        pid => format!("another billing-sync process, pid {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = take(&path, dir.path()).unwrap();
        let refused = take(&path, dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        assert!(refused.contains("BILLING_SYNC_DATA_DIR"), "{refused}");
        drop(first);
        take(&path, dir.path()).unwrap();
    }

    #[test]
    fn the_text_of_a_crashed_holder_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "99999999 and a long tail of rubbish\n").unwrap();
        let _lock = take(&path, dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("precious");
        fs::write(&target, "keep").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("lock")).unwrap();
        take(&dir.path().join("lock"), dir.path()).unwrap_err();
        assert_eq!(fs::read_to_string(&target).unwrap(), "keep");
    }
}
