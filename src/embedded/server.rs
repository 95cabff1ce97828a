//! One running server: `postgres` as our child, from start to end.
//!
//! Started without `pg_ctl`, so that we see its end, and its pid is certainly its own. Knows a place, a socket
//! directory and settings, but not the cluster's purpose. Called only by `Cluster`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::binaries::Binaries;
use super::error::{self, EmbeddedError};
use super::place::Place;
use super::predecessor::pid_file;
use super::socket::{PORT, SocketDir};
use super::watcher::Watcher;

/// Timeout of a fast shutdown, which ends sessions at once and then writes a checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Timeout of a fast shutdown in `Drop`: shorter, because `Drop` blocks its thread.
const DROP_LIMIT: Duration = Duration::from_secs(5);
/// Timeout of an immediate shutdown, which writes nothing.
const QUIT_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
/// Interval of the check whether the server is running. It costs one system call, and deliveries get 503 after a crash
/// anyway.
const LOST_POLL: Duration = Duration::from_millis(200);
/// Maximum size of the log, after which it is emptied at a start. It grows by a few lines per start.
const LOG_LIMIT: u64 = 16 << 20;
const TAIL_LINES: usize = 15;

/// The child process `postgres`. Dropping it stops it, with a shorter timeout than [`Server::stop`].
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    place: Place,
    /// Offset in the log at which this start begins.
    log_start: u64,
    watcher: Option<Watcher>,
    /// [`Server::lost`] has reported the end.
    seen_lost: bool,
}

impl Server {
    /// Starts the process. [`Server::ended`] and a connection show whether the start succeeds.
    pub(super) fn start(
        binaries: &Binaries,
        place: &Place,
        socket: &SocketDir,
        search_path: &str,
        settings: &[(String, String)],
    ) -> Result<Self, EmbeddedError> {
        let program = binaries.program("postgres");
        let (log, log_start) = open_log(place)?;
        let second = log.try_clone().map_err(error::file("write", &place.log()))?;
        let mut command = place.account.command(&program, search_path);
        command.arg("-D").arg(place.cluster()).current_dir(place.cluster()).stdout(log).stderr(second);
        for (name, value) in own_settings(socket).iter().chain(settings) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let account = place.account.name.clone();
        let child = command.spawn().map_err(|source| EmbeddedError::Spawn { program, account, source })?;
        let mut server = Self { child, place: place.clone(), log_start, watcher: None, seen_lost: false };
        let temporary = socket.temporary.then_some(socket.path.as_path());
        server.watcher = Watcher::start(server.pid(), &pid_file(&place.cluster()), temporary)
            .inspect_err(|e| tracing::warn!(error = %e, "if this process is killed, its PostgreSQL keeps running"))
            .ok();
        Ok(server)
    }

    /// The postmaster's pid.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Exit status of the process, if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The error for a failed start; `problem` describes the failure.
    pub(super) fn not_started(&self, problem: String) -> EmbeddedError {
        let tail = self.log_tail();
        EmbeddedError::NotStarted { data_dir: self.place.data_dir.clone(), problem, log: self.place.log(), tail }
    }

    /// Waits until the process ends unexpectedly, and logs that at once, because the caller finishes other work first.
    pub(super) async fn lost(&mut self) -> EmbeddedError {
        loop {
            if let Some(status) = self.ended() {
                let log = self.place.log();
                tracing::error!(
                    embedded.log = %log.display(),
                    "the private PostgreSQL ended unexpectedly ({status}), see {}",
                    log.display()
                );
                self.seen_lost = true;
                let (data_dir, tail) = (self.place.data_dir.clone(), self.log_tail());
                return EmbeddedError::Ended { data_dir, status, log, tail };
            }
            tokio::time::sleep(LOST_POLL).await;
        }
    }

    /// The last log lines of the server since this start.
    pub(super) fn log_tail(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(self.place.log()).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.log_start))?;
            log.read_to_end(&mut text)
        });
        match read {
            Ok(0) => "(empty)".to_owned(),
            Ok(_) => last_lines(&String::from_utf8_lossy(&text)),
            Err(e) => format!("({e})"),
        }
    }

    /// Shuts down fast and waits for the end.
    pub(super) async fn stop(mut self) -> Result<(), EmbeddedError> {
        if let Some(status) = self.ended() {
            if !self.seen_lost {
                let log = self.place.log();
                tracing::warn!("the private PostgreSQL had ended unexpectedly ({status}), see {}", log.display());
            }
            return Ok(());
        }
        for (signal, limit) in [(Signal::SIGINT, STOP_LIMIT), (Signal::SIGQUIT, QUIT_LIMIT)] {
            self.signal(signal);
            let began = Instant::now();
            while began.elapsed() < limit {
                if self.ended().is_some() {
                    return if signal == Signal::SIGINT { Ok(()) } else { Err(self.not_stopped()) };
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Err(self.not_stopped()) // and `drop` kills the server
    }

    fn not_stopped(&self) -> EmbeddedError {
        let (data_dir, log) = (self.place.data_dir.clone(), self.place.log());
        EmbeddedError::NotStopped { data_dir, pid: self.pid(), seconds: STOP_LIMIT.as_secs(), log }
    }

    /// Sends a signal. The child has not been waited for yet, so the pid is still its own.
    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for (signal, limit) in [(Signal::SIGINT, DROP_LIMIT), (Signal::SIGQUIT, QUIT_LIMIT)] {
            let began = Instant::now();
            let mut is_signalled = false;
            while self.ended().is_none() {
                if !is_signalled {
                    self.signal(signal);
                    is_signalled = true;
                } else if began.elapsed() > limit {
                    break;
                }
                std::thread::sleep(POLL);
            }
        }
        if self.ended().is_none() {
            let _ = self.child.kill().and_then(|()| self.child.wait());
        }
        drop(self.watcher.take()); // not earlier: until here the watcher replaces us if we are killed
    }
}

/// Settings that make the server private and small. None of them affects how a statement runs: that is the same as with
/// PostgreSQL's defaults. Passed as arguments, so that they also apply to older clusters.
fn own_settings(socket: &SocketDir) -> Vec<(String, String)> {
    let socket_dir = socket.path.display().to_string(); // needs no quoting, see `socket::fits`
    let own = [
        ("listen_addresses", ""),
        ("unix_socket_directories", &socket_dir),
        ("unix_socket_permissions", "0700"),
        ("port", &PORT.to_string()),
        ("fsync", "on"), // Stripe has got its 200: committed data must survive a power failure
        ("shared_buffers", "64MB"),
        ("max_wal_size", "256MB"),
        ("log_timezone", "UTC"),
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
    ];
    own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Opens the log for appending, and returns its current length. Readable only by its owner, because rows that violate a
/// constraint appear in it.
fn open_log(place: &Place) -> Result<(File, u64), EmbeddedError> {
    let path = place.log();
    let mut open = OpenOptions::new();
    open.append(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let log = open.open(&path).map_err(error::file("open", &path))?;
    let length = log.metadata().map_err(error::file("read", &path))?.len();
    if length > LOG_LIMIT {
        log.set_len(0).map_err(error::file("shorten", &path))?;
        return Ok((log, 0));
    }
    Ok((log, length))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        assert_eq!(last_lines("a\nb\n"), "a\nb");
        let long = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(last_lines(&long).lines().count(), TAIL_LINES);
        assert!(last_lines(&long).ends_with("\n99"));
    }
}
