//! The client programs of PostgreSQL, as a runbook calls them.

use std::path::PathBuf;
use std::process::Command;

use billing_sync::embedded;

use super::cluster;

/// A client program, beside the server's.
pub(crate) fn program(name: &str) -> PathBuf {
    let dir = tempfile::tempdir().unwrap();
    let (programs, _) = embedded::find_server(&cluster::options(dir.path())).unwrap();
    let beside = programs.join(name);
    if beside.exists() { beside } else { PathBuf::from(name) }
}

/// Runs a client program, which must succeed, and returns its output.
pub(crate) fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(program(name)).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
