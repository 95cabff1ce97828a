//! The user that runs the server: the current one, or an unprivileged one if the current one is root, because initdb
//! and postgres refuse root.
//!
//! Also the only code that creates a `Command` for a PostgreSQL program. So all of them run as that user, without our
//! environment (a process of another user must not inherit the Stripe key), and in their own process group (Ctrl-C in
//! the terminal must reach only billing-sync, which stops the server last). Called by the rest of the folder.

use std::io;
use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User};

use super::error::{self, EmbeddedError};

/// Users to try as root, best first. The last exists on every Unix.
const UNPRIVILEGED: &[&str] = &["postgres", "_postgres", "pgsql", "nobody"];

/// The user that owns the data and runs the server.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    gid: u32,
    /// Whether the process must change to this user.
    other: bool,
}

impl Account {
    /// The current user.
    pub(super) fn ourselves() -> Self {
        let uid = Uid::effective();
        let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        Self { name, uid: uid.as_raw(), gid: nix::unistd::Gid::effective().as_raw(), other: false }
    }

    /// Whether the current user is root and must change to another user.
    pub(super) fn must_drop() -> bool {
        Uid::effective().is_root()
    }

    /// The user with this id, if it has a name (initdb insists on one) and is not root.
    pub(super) fn with_uid(uid: u32) -> Option<Self> {
        User::from_uid(Uid::from_raw(uid)).ok().flatten().and_then(Self::unprivileged)
    }

    /// All users that root may run the server as, best first. With `sudo` in a clone of one's own, the user who called
    /// it can certainly enter the clone.
    pub(super) fn candidates() -> Vec<Self> {
        let (last, first) = UNPRIVILEGED.split_last().map_or((None, UNPRIVILEGED), |(last, first)| (Some(last), first));
        let first = first.iter().filter_map(Self::named);
        first.chain(caller().and_then(Self::with_uid)).chain(last.and_then(Self::named)).collect()
    }

    /// The user ids that may own the data directory and its parents: root, the current user, the user who called
    /// `sudo`, and the first choice for the server.
    pub(super) fn trusted() -> Vec<u32> {
        let first = UNPRIVILEGED.iter().find_map(Self::named).map(|account| account.uid);
        [0, Uid::effective().as_raw()].into_iter().chain(caller()).chain(first).collect()
    }

    fn named(name: &&str) -> Option<Self> {
        User::from_name(name).ok().flatten().and_then(Self::unprivileged)
    }

    fn unprivileged(user: User) -> Option<Self> {
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        (uid != 0).then_some(Self { name: user.name, uid, gid, other: true })
    }

    /// A command that runs `program` as this user.
    pub(super) fn command(&self, program: &Path, search_path: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", search_path).env("LC_ALL", "C").process_group(0).stdin(Stdio::null());
        if self.other {
            command.uid(self.uid).gid(self.gid); // also drops root's supplementary groups
        }
        command
    }

    /// Checks that this user can enter `dir`, by entering it: mode bits do not include ACLs and user namespaces.
    pub(super) fn enter(&self, dir: &Path) -> io::Result<()> {
        let mut probe = self.command(Path::new("/bin/sh"), "/usr/bin:/bin");
        let status = probe.args(["-c", ":"]).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("sh: {status}"))) }
    }

    /// Makes this user the owner of `path`, which we have just created.
    pub(super) fn own(&self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.other {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid)).map_err(error::file("change the owner of", path))
    }
}

/// The user who called `sudo`. Only root can set this variable for root.
#[expect(clippy::disallowed_methods, reason = "set by sudo: no setting, and no value of it is an error")]
fn caller() -> Option<u32> {
    std::env::var("SUDO_UID").ok()?.parse().ok().filter(|_| Account::must_drop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_never_a_candidate() {
        let all = Account::candidates();
        assert!(all.iter().all(|account| account.uid != 0));
        assert_eq!(all.last().unwrap().name, "nobody");
        assert!(Account::with_uid(0).is_none());
    }

    #[test]
    fn a_server_program_does_not_inherit_our_environment() {
        let me = Account::ourselves();
        let seen = me.command(Path::new("/usr/bin/env"), "/usr/bin:/bin").output().unwrap();
        let seen = String::from_utf8(seen.stdout).unwrap();
        assert_eq!(
            seen.lines().filter(|line| !line.starts_with("PATH=") && !line.starts_with("LC_ALL=")).count(),
            0,
            "{seen}"
        );
    }
}
