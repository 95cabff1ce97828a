//! Confirmation by the operator: one line on the terminal. Called by commands that change what a filter selects,
//! or what cannot be undone.

use std::io::{self, BufRead, IsTerminal, Read};
use std::process::ExitCode;

use anyhow::Context;

use super::output;

/// Longest answer that is read.
const LONGEST: u64 = 1000;

/// The flag `--yes`.
#[derive(Debug, clap::Args)]
pub(super) struct ConfirmArgs {
    /// Do not ask for a confirmation. Without a terminal, the command needs this flag.
    #[arg(long)]
    yes: bool,
}

impl ConfirmArgs {
    /// Checks that the operator can answer, or has answered with the flag.
    ///
    /// # Errors
    /// The exit code, after the problem and its fix are printed.
    pub(super) fn check(&self) -> Result<(), ExitCode> {
        if self.yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(());
        }
        Err(output::refuse("the command needs a confirmation, and there is no terminal to ask on: add --yes"))
    }

    /// Whether the flag is given, so that the operator is not asked.
    pub(super) fn is_given(&self) -> bool {
        self.yes
    }

    /// Asks on the terminal, unless the flag is given. Anything but yes, also the end of the input, is no.
    ///
    /// # Errors
    /// When standard input cannot be read.
    pub(super) fn ask(&self, question: &str) -> anyhow::Result<bool> {
        Ok(self.yes || is_yes(&answer(&format!("{question} [y/N] "))?))
    }

    /// Asks for a word that the operator must type, unless the flag is given: before what cannot be undone.
    ///
    /// # Errors
    /// When standard input cannot be read.
    pub(super) fn ask_for(&self, word: &str, question: &str) -> anyhow::Result<bool> {
        Ok(self.yes || answer(&format!("{question} "))?.trim() == word)
    }
}

fn answer(question: &str) -> anyhow::Result<String> {
    output::prompt(question);
    let mut line = Vec::new();
    io::stdin().lock().take(LONGEST).read_until(b'\n', &mut line).context("cannot read the answer")?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", "YES\r\n", " yes "].iter().all(|answer| is_yes(answer)));
        assert!(!["", "\n", "n\n", "no", "yess", "y y"].iter().any(|answer| is_yes(answer)));
    }
}
