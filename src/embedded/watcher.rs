//! A shell that stops the server if billing-sync is killed, and ends a moment after billing-sync.
//!
//! No process can catch `kill -9`, and "die with my parent" needs `unsafe` and Linux. But a pipe closes with its last
//! writer: the shell reads its stdin, and end of file without a line means that billing-sync is gone. Started and
//! stopped by `Server`; of PostgreSQL it knows only the pid file.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `$1` the postmaster, `$2` its pid file, `$3` a socket directory to remove, or nothing.
///
/// Before each signal the pid file must still name the process, because the pid may have been reused, and a new
/// billing-sync may have a new server in the same cluster.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
read -r word && exit 0
runs() { { read -r pid <"$2"; } 2>/dev/null && [ "$pid" = "$1" ] && kill -0 "$1" 2>/dev/null; }
runs "$@" && kill -INT "$1"
while runs "$@"; do sleep 0.1; done
[ -z "$3" ] || rm -rf "$3"
"#;

/// The waiting shell.
#[derive(Debug)]
pub(super) struct Watcher(Child);

impl Watcher {
    /// Starts the shell for the server `pid`, as the current user.
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
    /// The server has ended normally: reports that to the shell and waits for its end.
    fn drop(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(b"stopped\n"); // fails only if the shell was killed
        }
        let _ = self.0.wait();
    }
}
