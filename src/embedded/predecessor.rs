//! Cleans up after a killed billing-sync: a server that is still running, or only its pid file.
//!
//! A server that is still running is stopped and never adopted, because only for our own child do we notice its end,
//! know its settings and have a watcher. Called by `Cluster::start` after it has taken the directory's lock, so that
//! the server found cannot belong to a running billing-sync.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{self, EmbeddedError};
use super::place::Place;

/// Timeout of a fast shutdown, which writes a checkpoint: a slow disk may need long.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The pid file that a server keeps in its cluster while it runs.
pub(super) fn pid_file(cluster: &Path) -> std::path::PathBuf {
    cluster.join("postmaster.pid")
}

/// Stops a server left behind at `place`, and removes its pid file if that would keep ours from starting.
pub(super) async fn settle(place: &Place) -> Result<(), EmbeddedError> {
    let cluster = place.cluster();
    let file = pid_file(&cluster);
    let Some(pid) = read_pid(&file)? else { return Ok(()) };
    if is_postmaster(pid, &cluster) {
        tracing::warn!("stopping PostgreSQL process {pid}, left behind by a killed billing-sync");
        stop(pid, place).await?;
    }
    // After a reboot, and soon in a container, the pid in a stale file belongs to another process. PostgreSQL would
    // treat that process as a server and refuse to start.
    match fs::remove_file(&file) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(error::file("remove", &file)(e)),
        _ => Ok(()),
    }
}

async fn stop(pid: i32, place: &Place) -> Result<(), EmbeddedError> {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // fails only if the process has just ended
        let _ = kill(Pid::from_raw(pid), signal);
        let began = Instant::now();
        while began.elapsed() < STOP_LIMIT {
            if !is_postmaster(pid, &place.cluster()) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Err(EmbeddedError::Leftover { data_dir: place.data_dir.clone(), pid })
}

fn read_pid(file: &Path) -> Result<Option<i32>, EmbeddedError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(0))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(error::file("read", file)(e)),
    }
}

/// Whether `pid` is a running server of exactly this cluster. A signal to an unrelated process with this pid is worse
/// than a server that does not start.
fn is_postmaster(pid: i32, cluster: &Path) -> bool {
    pid > 1 && command_line(pid).is_some_and(|line| runs(&line, cluster))
}

/// Whether a command line is `postgres -D <cluster>`, as used by `Server::start`; a zombie's line is empty.
fn runs(line: &str, cluster: &Path) -> bool {
    let Some((program, rest)) = line.split_once(" -D ") else { return false };
    let Some(after) = rest.strip_prefix(&*cluster.to_string_lossy()) else { return false };
    program.ends_with("postgres") && (after.is_empty() || after.starts_with(' '))
}

/// The command line of a process, arguments separated by spaces. Readable for every user, unlike its working directory.
fn command_line(pid: i32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&line).replace('\0', " "));
    }
    let listed = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    Some(String::from_utf8_lossy(&listed.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::account::Account;

    #[test]
    fn only_the_postmaster_of_this_cluster_counts() {
        let cluster = Path::new("/data/postgres");
        assert!(runs("/usr/lib/postgresql/15/bin/postgres -D /data/postgres -c port=5432 ", cluster));
        assert!(runs("/usr/lib/postgresql/15/bin/postgres -D /data/postgres", cluster));
        assert!(!runs("/usr/lib/postgresql/15/bin/postgres -D /data/postgres2 -c x", cluster));
        assert!(!runs("vim -D /data/postgres", cluster));
        assert!(!runs("postgres: checkpointer", cluster));
        assert!(!runs("", cluster));
    }

    #[tokio::test]
    async fn a_stale_pid_file_of_another_process_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { data_dir: dir.path().to_owned(), account: Account::ourselves() };
        fs::create_dir(place.cluster()).unwrap();
        let file = pid_file(&place.cluster());
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        for stale in [stranger.id().to_string(), "1".into(), "0".into(), "-1".into(), "rubbish".into(), String::new()] {
            fs::write(&file, format!("{stale}\n/elsewhere\n")).unwrap();
            settle(&place).await.unwrap();
            assert!(!file.exists(), "{stale}");
        }
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
