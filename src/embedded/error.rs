//! Errors of the embedded PostgreSQL, each with the relevant setting and the fix.
//!
//! Read by people who have just typed `demo` or `make test`: every text must be sufficient without the source. Knows
//! nothing of how a cluster is run. Created by every file of this folder and printed by the commands.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::database::OLDEST_SERVER;

/// Why the embedded PostgreSQL could not be found, prepared, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No server ≥ 15 in `PATH` or the usual places; `found` lists what was rejected, for example ` (found 14 …)`.
    #[error(
        "no PostgreSQL server {OLDEST_SERVER} or newer found in PATH or the usual places{found}: run `make postgres`, or install \
         the package `postgresql` (apt), `postgresql-server` (dnf) or `postgresql@17` (brew), or set BILLING_SYNC_PG_BIN \
         to the directory that holds `initdb` and `postgres`"
    )]
    NoServer {
        /// Servers found but unusable; empty, or beginning with a space.
        found: String,
    },

    /// `BILLING_SYNC_PG_BIN` is set, but is not a directory with a usable server.
    #[error(
        "BILLING_SYNC_PG_BIN is {}, but {problem}: set it to the directory that holds `initdb` and `postgres` of \
         PostgreSQL {OLDEST_SERVER} or newer, or unset it to search PATH and the usual places", .bin.display()
    )]
    BadBinaries {
        /// The configured directory.
        bin: PathBuf,
        /// The problem.
        problem: String,
    },

    /// The data belongs to a major version that is not installed here.
    #[error(
        "the cluster in {} was made by PostgreSQL {made_by}, but this machine has {found}: install that version (apt: \
         postgresql-{made_by}), set BILLING_SYNC_PG_BIN to its binaries, or start afresh with another \
         BILLING_SYNC_DATA_DIR", .data_dir.display()
    )]
    OtherVersion {
        /// The data directory.
        data_dir: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: u32,
        /// The installed versions, as text.
        found: String,
    },

    /// The current user is root, which PostgreSQL refuses, and no other account is usable.
    #[error(
        "PostgreSQL refuses to run as root, and no unprivileged account (postgres, nobody) can be used: {reason}; create \
         the user `postgres`, or run billing-sync itself as an unprivileged user"
    )]
    NoAccount {
        /// The error of the last account tried.
        reason: String,
    },

    /// The account that must run the server cannot reach the data, and no other place is usable.
    #[error(
        "PostgreSQL must run as the user {account}, who cannot enter {}, on the way to the data directory {}: allow it \
         with `chmod o+x {}`, or set BILLING_SYNC_DATA_DIR to another directory",
        .blocked_at.display(), .data_dir.display(), .blocked_at.display()
    )]
    Unenterable {
        /// The data directory.
        data_dir: PathBuf,
        /// The account's name.
        account: String,
        /// The first directory on the way that the account cannot enter.
        blocked_at: PathBuf,
    },

    /// The data belongs to another user.
    #[error(
        "the cluster in {} belongs to user id {owner}, and this process (user id {ours}) cannot run PostgreSQL as it: run \
         billing-sync as the owner, or give the data to an unprivileged user with `chown -R`, or set \
         BILLING_SYNC_DATA_DIR to another directory", .data_dir.display()
    )]
    ForeignOwner {
        /// The data directory.
        data_dir: PathBuf,
        /// Owner of the data.
        owner: u32,
        /// The current user.
        ours: u32,
    },

    /// The current user is root, and another user could have prepared the data directory or could replace it.
    #[error(
        "the data directory {} is not safe for root: {} {wrong}; {fix}, or set BILLING_SYNC_DATA_DIR to a directory that \
         only root can change, such as /var/lib/billing-sync", .data_dir.display(), .step.display()
    )]
    NotOurs {
        /// The data directory.
        data_dir: PathBuf,
        /// The part of the path that others can change.
        step: PathBuf,
        /// Why others can change it.
        wrong: String,
        /// The fix.
        fix: String,
    },

    /// The data directory or one of its parents is not a directory.
    #[error("{} is a file: set BILLING_SYNC_DATA_DIR (--data-dir) to a directory", .data_dir.display())]
    NoDirectory {
        /// The path that is not a directory.
        data_dir: PathBuf,
    },

    /// Another billing-sync process uses this directory.
    #[error(
        "the data directory {} is in use by {holder}: stop it, or give this process its own directory with \
         BILLING_SYNC_DATA_DIR", .data_dir.display()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// `another billing-sync process, pid 123`, without the pid if the other process has not written it yet.
        holder: String,
    },

    /// A server left behind by a killed predecessor does not stop.
    #[error(
        "the PostgreSQL process {pid}, left behind in {} by a killed billing-sync, does not stop: end it with \
         `kill -QUIT {pid}`, or set BILLING_SYNC_DATA_DIR to another directory", .data_dir.display()
    )]
    Leftover {
        /// The data directory.
        data_dir: PathBuf,
        /// The postmaster.
        pid: i32,
    },

    /// `initdb` ran and failed.
    #[error(
        "initdb could not create a cluster in {}: {output}; if the disk is full or read-only set BILLING_SYNC_DATA_DIR to \
         another directory, if the server binaries are broken set BILLING_SYNC_PG_BIN", .data_dir.display()
    )]
    Initdb {
        /// The data directory.
        data_dir: PathBuf,
        /// The last lines of initdb's output.
        output: String,
    },

    /// The server ended or did not answer during its start.
    #[error(
        "PostgreSQL in {} did not start: {problem}; the end of its log ({}):\n{tail}\nfix the error in the log, or set \
         BILLING_SYNC_DATA_DIR to another directory to start with an empty database", .data_dir.display(), .log.display()
    )]
    NotStarted {
        /// The data directory.
        data_dir: PathBuf,
        /// How it failed: an exit status, or a timeout.
        problem: String,
        /// The log file.
        log: PathBuf,
        /// Its last lines, of this start only.
        tail: String,
    },

    /// The running server ended unexpectedly.
    #[error(
        "PostgreSQL in {} ended unexpectedly ({status}); the end of its log ({}):\n{tail}\nthe next start recovers what \
         was committed; BILLING_SYNC_DATA_DIR needs no change", .data_dir.display(), .log.display()
    )]
    Ended {
        /// The data directory.
        data_dir: PathBuf,
        /// The exit status or signal.
        status: ExitStatus,
        /// The log file.
        log: PathBuf,
        /// Its last lines, of this start only.
        tail: String,
    },

    /// The server did not stop in time.
    #[error(
        "PostgreSQL process {pid} in {} did not stop within {seconds} s and was killed; its next start recovers \
         (the data is safe); for the cause see its log ({}); BILLING_SYNC_DATA_DIR needs no change",
        .data_dir.display(), .log.display()
    )]
    NotStopped {
        /// The data directory.
        data_dir: PathBuf,
        /// The postmaster.
        pid: u32,
        /// The timeout.
        seconds: u64,
        /// The log file.
        log: PathBuf,
    },

    /// The server runs, but the database `billing` could not be opened or created.
    #[error("the database `billing` in the cluster of BILLING_SYNC_DATA_DIR {} could not be prepared: {source}", .data_dir.display())]
    Database {
        /// The data directory.
        data_dir: PathBuf,
        /// The server's error.
        source: sqlx::Error,
    },

    /// A required program could not be run at all.
    #[error("could not run {} as the user {account}: {source}; set BILLING_SYNC_PG_BIN to server binaries that this user may run", .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The user that should run the program.
        account: String,
        /// The cause.
        source: io::Error,
    },

    /// A file or directory could not be read or written.
    #[error("could not {action} {}: {source}; make it writable for this user, or set BILLING_SYNC_DATA_DIR to another directory", .path.display())]
    File {
        /// The failed action, for example `create`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// For `map_err`: the failed action and its path.
pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::File { action, path, source }
}
