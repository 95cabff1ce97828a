//! What can go wrong with the embedded PostgreSQL, each with the setting it concerns and the mend.
//!
//! Read by people who have just typed `demo` or `make test`: every text must be enough to go on without the source.
//! Knows nothing of how a cluster is run; made by every file of this folder and printed by the commands.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::binaries::OLDEST;

/// Why the embedded PostgreSQL could not be found, prepared, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No server ≥ 15 in `PATH` or the usual places; `found` lists what was rejected, for example ` (found 14 …)`.
    #[error(
        "no PostgreSQL server {OLDEST} or newer found in PATH or the usual places{found}: run `make postgres`, or install \
         the package `postgresql` (apt), `postgresql-server` (dnf) or `postgresql@17` (brew), or set BILLING_SYNC_PG_BIN \
         to the directory that holds `initdb` and `postgres`"
    )]
    NoServer {
        /// What was seen and is of no use; empty or beginning with a space.
        found: String,
    },

    /// `BILLING_SYNC_PG_BIN` is set and does not lead to a usable server.
    #[error(
        "BILLING_SYNC_PG_BIN is {}, and {problem}: set it to the directory that holds `initdb` and `postgres` of \
         PostgreSQL {OLDEST} or newer, or unset it to search PATH and the usual places", .bin.display()
    )]
    BadBinaries {
        /// The directory as it was set.
        bin: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// The data belongs to a major version of which no server is here.
    #[error(
        "the cluster in {} was made by PostgreSQL {made_by} and this machine has {found}: install that version (apt: \
         postgresql-{made_by}), set BILLING_SYNC_PG_BIN to its binaries, or start afresh with another \
         BILLING_SYNC_DATA_DIR", .data_dir.display()
    )]
    OtherVersion {
        /// The data directory.
        data_dir: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: u32,
        /// The versions that are here, as text.
        found: String,
    },

    /// We are root, PostgreSQL refuses root, and no other account will do.
    #[error(
        "PostgreSQL refuses to run as root, and no unprivileged account (postgres, nobody) can be used: {reason}; create \
         the user `postgres`, or run billing-sync itself as an unprivileged user"
    )]
    NoAccount {
        /// What failed for the last account tried.
        reason: String,
    },

    /// The account that must run the server cannot come to the data, and no other place will do.
    #[error(
        "PostgreSQL must run as the user {account}, who cannot enter {}, on the way to the data directory {}: let it \
         through with `chmod o+x {}`, or set BILLING_SYNC_DATA_DIR to another directory",
        .blocked_at.display(), .data_dir.display(), .blocked_at.display()
    )]
    Unenterable {
        /// The data directory.
        data_dir: PathBuf,
        /// The account's name.
        account: String,
        /// The first directory on the way that is closed to it.
        blocked_at: PathBuf,
    },

    /// The data belongs to somebody else.
    #[error(
        "the cluster in {} belongs to the user id {owner}, as whom this process (user id {ours}) cannot run PostgreSQL: run \
         billing-sync as the owner, or give the data to an unprivileged user with `chown -R`, or set \
         BILLING_SYNC_DATA_DIR to another directory", .data_dir.display()
    )]
    ForeignOwner {
        /// The data directory.
        data_dir: PathBuf,
        /// Who owns the data.
        owner: u32,
        /// Who we are.
        ours: u32,
    },

    /// As root: somebody else could have prepared the data directory, or could exchange it.
    #[error(
        "the data directory {} is not safe for root: {} {wrong}; {fix}, or set BILLING_SYNC_DATA_DIR to a directory \
         that root alone can change, such as /var/lib/billing-sync", .data_dir.display(), .step.display()
    )]
    NotOurs {
        /// The data directory.
        data_dir: PathBuf,
        /// What on the way to it is not ours alone.
        step: PathBuf,
        /// Why it is not.
        wrong: String,
        /// What to do about it.
        fix: String,
    },

    /// The data directory, or what it should lie in, is there and is no directory.
    #[error("{} is a file: name a directory with BILLING_SYNC_DATA_DIR (--data-dir)", .data_dir.display())]
    NoDirectory {
        /// What is there.
        data_dir: PathBuf,
    },

    /// Another billing-sync runs on this directory.
    #[error(
        "the data directory {} is in use by {holder}: stop it, or give this process a directory of its own with \
         BILLING_SYNC_DATA_DIR", .data_dir.display()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// `another billing-sync process, pid 123`, or less while the other has not yet written its id.
        holder: String,
    },

    /// A server that a killed predecessor left behind does not go away.
    #[error(
        "the PostgreSQL process {pid}, left behind in {} by a billing-sync that was killed, does not stop: end it with \
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
        /// The last lines that initdb printed.
        output: String,
    },

    /// The server ended, or did not answer, while it was starting.
    #[error(
        "PostgreSQL in {} did not start: {problem}; the end of its log ({}):\n{tail}\nmend what the log names, or set \
         BILLING_SYNC_DATA_DIR to another directory to start with an empty database", .data_dir.display(), .log.display()
    )]
    NotStarted {
        /// The data directory.
        data_dir: PathBuf,
        /// How it failed: an exit status, or silence.
        problem: String,
        /// The log file.
        log: PathBuf,
        /// Its last lines, of this start only.
        tail: String,
    },

    /// The server, which had been running, ended without being asked to.
    #[error(
        "PostgreSQL in {} ended by itself ({status}); the end of its log ({}):\n{tail}\nstart again, which recovers what \
         was committed; BILLING_SYNC_DATA_DIR can stay as it is", .data_dir.display(), .log.display()
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

    /// The server did not stop when asked.
    #[error(
        "PostgreSQL process {pid} in {} did not stop within {seconds} s and was ended at once; its next start recovers \
         (the data is safe), the log ({}) says what held it; BILLING_SYNC_DATA_DIR can stay as it is",
        .data_dir.display(), .log.display()
    )]
    NotStopped {
        /// The data directory.
        data_dir: PathBuf,
        /// The postmaster.
        pid: u32,
        /// How long it was given.
        seconds: u64,
        /// The log file.
        log: PathBuf,
    },

    /// The server runs, but the database `billing` could not be opened or created.
    #[error("the database `billing` in the cluster of BILLING_SYNC_DATA_DIR {} cannot be prepared: {source}", .data_dir.display())]
    Database {
        /// The data directory.
        data_dir: PathBuf,
        /// What the server said.
        source: sqlx::Error,
    },

    /// A program that we need could not be run at all.
    #[error("cannot run {} as the user {account}: {source}; set BILLING_SYNC_PG_BIN to server binaries that this user may run", .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Who was to run it.
        account: String,
        /// Why it could not be run.
        source: io::Error,
    },

    /// A file or directory could not be read or written.
    #[error("cannot {action} {}: {source}; make it writable for this user, or set BILLING_SYNC_DATA_DIR to another directory", .path.display())]
    File {
        /// What was being done, for example `create`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// For `map_err`: what was being done to which path.
pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::File { action, path, source }
}
