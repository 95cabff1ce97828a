//! A shell that outlives us by a moment and takes the server along, should we be killed.
//!
//! No process can catch `kill -9`, and "die with my parent" needs `unsafe` and Linux. But a pipe ends with its last
//! writer: the shell waits on its stdin, and the end of it without a word means that we are gone. Started and told by
//! `Server`; knows of PostgreSQL only the pid file.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `$1` the postmaster, `$2` its pid file, `$3` a socket directory to remove, or nothing.
///
/// Before each signal the pid file must still name the process: the number could have a new owner by then, and a new
/// billing-sync may have a new server in the same cluster.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
read -r word && exit 0
runs() { { read -r pid <"$2"; } 2>/dev/null && [ "$pid" = "$1" ] && kill -0 "$1" 2>/dev/null; }
runs "$@" && kill -INT "$1"
while runs "$@"; do sleep 0.1; done
[ -z "$3" ] || rm -rf "$3"
"#;

/// The shell, waiting.
#[derive(Debug)]
pub(super) struct Watcher(Child);

impl Watcher {
    /// Watches over the server `pid` as the user we are.
    pub(super) fn start(pid: u32, pid_file: &Path, temporary: Option<&Path>) -> std::io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "billing-sync-watcher", &pid.to_string()]);
        shell.arg(pid_file).arg(temporary.unwrap_or(Path::new("")));
        shell.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir("/").process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }
}

impl Drop for Watcher {
    /// The server has ended under our eyes: says so, and sees the shell off.
    fn drop(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(b"stopped\n"); // fails only if somebody killed the shell
        }
        let _ = self.0.wait();
    }
}
