//! `completions`: prints the completion script of a shell, made from the definition of the arguments.

use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::output;
use super::task::Task;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell in which the script is loaded.
    shell: Shell,
}

impl Args {
    pub(super) fn plan(self, program: Command) -> Task {
        Box::pin(async move {
            output::print(script(self.shell, program)?.trim_end())?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn script(shell: Shell, mut program: Command) -> anyhow::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "billing-sync", &mut script);
    let script = String::from_utf8(script)?;
    // clap_complete 4.6 writes the hyphen of the program's name in two ways in the script for bash, so no label matches
    Ok(script.replace("billing__subcmd__sync", "billing__sync"))
}
