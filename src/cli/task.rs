//! A task: the work of a command, which `main` runs.

use std::pin::Pin;
use std::process::ExitCode;

/// The work of a command, ready to run after its configuration has been checked.
pub type Task = Pin<Box<dyn Future<Output = anyhow::Result<ExitCode>>>>;
