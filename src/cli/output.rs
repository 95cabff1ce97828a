//! What the operator reads: the only place that writes to standard output and standard error.
//!
//! Text may come from payloads and from other servers, so no control character reaches the terminal.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;

pub use crate::text::{WIDTH, wrapped};

/// Prints text and a line break. A reader that went away (`| head`) is no error.
///
/// # Errors
/// When standard output cannot be written, a full disk for example.
pub fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{}", tame(text)) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Prints one JSON object as one line.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string(value).context("cannot write JSON")?)
}

/// Prints text and a line break to standard error; there is no one to tell when that fails.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", tame(text));
}

/// Says what is wrong with what was asked for, and its mend: exit code 2.
pub fn refuse(wrong: &str) -> ExitCode {
    complain(&wrapped("error: ", wrong));
    ExitCode::from(2)
}

/// What an error says and why, in one line. Some libraries repeat the cause in their own text; here it stands once.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn tame(text: &str) -> String {
    text.replace(|letter: char| letter.is_control() && letter != '\n', "\u{FFFD}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_said_already_is_not_repeated() {
        let error = anyhow::anyhow!("refused").context("cannot communicate: refused").context("no database");
        assert_eq!(causes(&error), "no database: cannot communicate: refused");
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        assert_eq!(tame("a\u{1b}[31mb\nc\u{9b}"), "a\u{FFFD}[31mb\nc\u{FFFD}");
    }
}
