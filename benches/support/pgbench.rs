//! Runs `pgbench`, PostgreSQL's own load generator, for comparisons.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The program found in the `PATH`.
pub(crate) struct Pgbench {
    path: String,
}

impl Pgbench {
    #[expect(clippy::disallowed_methods, reason = "there is no configuration here but PATH")]
    pub(crate) fn find() -> Option<Self> {
        let path = std::env::var("PATH").unwrap_or_default();
        let found = path.split(':').map(|folder| Path::new(folder).join("pgbench")).find(|file| file.is_file());
        found.map(|file| Self { path: file.display().to_string() })
    }

    /// Runs the scripts in turn, with prepared statements, and returns the output and a folder with the logs.
    pub(crate) fn run(&self, url: &str, scripts: &[String], options: &[String]) -> (String, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(&self.path);
        command.current_dir(folder.path()).args(["--no-vacuum", "--jobs=2", "--protocol=prepared"]).args(options);
        for (number, script) in scripts.iter().enumerate() {
            let file = folder.path().join(format!("script_{number}"));
            fs::write(&file, script).unwrap();
            command.arg("--file").arg(file);
        }
        let output = command.arg(url).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        (printed, folder)
    }
}

/// Parses the transactions a second from the output.
pub(crate) fn rate(printed: &str) -> f64 {
    let rate = printed.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|line| line.split(' ').next());
    rate.unwrap_or_else(|| panic!("{printed}")).parse().unwrap()
}
