//! Checks that no other user can change a data directory. As root, billing-sync writes there and trusts its content, so
//! no other user may have prepared it or be able to replace it: neither the directory nor any directory above it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Uid, User};

use super::account::Account;
use super::error::{self, EmbeddedError};

const STICKY: u32 = 0o1000;
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
/// Maximum number of links in one path.
const MOST_LINKS: usize = 40;

/// Checks the path to `data_dir` as given, including links, and `data_dir` if it exists.
pub(super) fn check(data_dir: &Path) -> Result<(), EmbeddedError> {
    let data_dir = std::path::absolute(data_dir).map_err(error::file("resolve", data_dir))?;
    let trusted = Account::trusted();
    let mut left: Vec<_> = parts(&data_dir);
    let (mut step, mut links) = (PathBuf::from("/"), 0);
    loop {
        let Ok(metadata) = fs::symlink_metadata(&step) else { return Ok(()) };
        check_step(&data_dir, &step, &metadata, left.is_empty(), &trusted)?;
        if metadata.is_symlink() {
            links += 1;
            let target = fs::read_link(&step).map_err(error::file("read the link", &step))?;
            if links > MOST_LINKS {
                return Err(refused(&data_dir, &step, "is part of a loop of links".to_owned(), "remove it".to_owned()));
            }
            step.pop();
            if target.is_absolute() {
                step = PathBuf::from("/");
            }
            left.extend(parts(&target));
        }
        match left.pop() {
            None => return Ok(()),
            Some(part) if part == ".." => {
                step.pop();
            }
            Some(part) => step.push(part),
        }
    }
}

/// The components of a path, last one first.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| part.as_os_str().to_owned()).rev().collect()
}

fn check_step(
    data_dir: &Path,
    step: &Path,
    metadata: &Metadata,
    is_last: bool,
    trusted: &[u32],
) -> Result<(), EmbeddedError> {
    let shown = step.display();
    if !trusted.contains(&metadata.uid()) {
        let (kind, owner) = (if metadata.is_symlink() { "is a link that" } else { "" }, name(metadata.uid()));
        let wrong = format!("{kind} belongs to the user {owner}, who can change what is there").trim_start().to_owned();
        let fix = format!(
            "run billing-sync as {owner}, or give it to root with `chown -h root {shown}` once you have \
                           looked at what is in it"
        );
        return Err(refused(data_dir, step, wrong, fix));
    }
    // in a sticky directory users cannot rename the files of others; but the data directory itself must be ours
    let is_sticky = metadata.mode() & STICKY != 0 && !is_last;
    if metadata.is_dir() && metadata.mode() & GROUP_OR_OTHERS_WRITE != 0 && !is_sticky {
        let wrong = "can be written by its group or by all users".to_owned();
        return Err(refused(data_dir, step, wrong, format!("remove that permission with `chmod go-w {shown}`")));
    }
    Ok(())
}

fn refused(data_dir: &Path, step: &Path, wrong: String, fix: String) -> EmbeddedError {
    EmbeddedError::NotOurs { data_dir: data_dir.to_owned(), step: step.to_owned(), wrong, fix }
}

fn name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn wrong(data_dir: &Path) -> Option<String> {
        check(data_dir).err().map(|error| error.to_string())
    }

    #[test]
    fn directories_that_others_may_write_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let (above, data_dir) = (root.path().join("above"), root.path().join("above/data"));
        fs::create_dir_all(&data_dir).unwrap();
        for (mode_above, mode, fine) in [
            (0o755, 0o711, true),
            (0o1777, 0o700, true),
            (0o777, 0o700, false),
            (0o775, 0o700, false),
            (0o755, 0o770, false),
            (0o755, 0o1777, false),
        ] {
            fs::set_permissions(&above, Permissions::from_mode(mode_above)).unwrap();
            fs::set_permissions(&data_dir, Permissions::from_mode(mode)).unwrap();
            let wrong = wrong(&data_dir);
            assert_eq!(wrong.is_none(), fine, "{mode_above:o} {mode:o}: {wrong:?}");
            assert!(wrong.is_none_or(|text| text.contains("chmod go-w") && text.contains("BILLING_SYNC_DATA_DIR")));
        }
    }

    #[test]
    fn links_are_followed_and_loops_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let open = root.path().join("open");
        fs::create_dir_all(open.join("data")).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        symlink("open/../open/data", root.path().join("link")).unwrap();
        assert!(wrong(&root.path().join("link")).is_some_and(|text| text.contains("open can be written")));
        symlink("circle", root.path().join("circle")).unwrap();
        assert!(wrong(&root.path().join("circle")).is_some_and(|text| text.contains("loop of links")));
        assert_eq!(wrong(&root.path().join("not/there/yet")), None);
    }

    #[test]
    fn directories_and_links_of_other_users_are_refused() {
        if !Account::must_drop() {
            return;
        }
        let stranger = Some(54_321);
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("theirs/data")).unwrap();
        std::os::unix::fs::chown(root.path().join("theirs"), stranger, None).unwrap();
        fs::create_dir(root.path().join("ours")).unwrap();
        symlink("ours", root.path().join("link")).unwrap();
        std::os::unix::fs::lchown(root.path().join("link"), stranger, None).unwrap();
        for path in ["theirs", "theirs/data", "theirs/new", "link", "link/new"] {
            let text = wrong(&root.path().join(path)).unwrap();
            assert!(text.contains("belongs to the user 54321") && text.contains("chown -h root"), "{text}");
        }
        assert_eq!(wrong(&root.path().join("ours/new")), None);
    }
}
