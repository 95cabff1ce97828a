//! Output for the operator: the only module that writes to standard output and standard error, beside the logs and the
//! status line. The status line is removed before each output.
//!
//! Text may come from payloads and from other servers. So control characters, and characters that change the order in
//! which text is shown, are replaced.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::base::status_line;
pub use crate::base::text::WIDTH;
use crate::base::text::{is_control, without_controls, wrapped_to};
use crate::database::message;

/// Widest text that is easy to read.
const WIDEST: usize = 120;

/// Width for text on standard output: that of the terminal, or [`WIDTH`] without one.
pub fn width() -> usize {
    let columns = terminal_size::terminal_size_of(io::stdout()).map(|(columns, _)| usize::from(columns.0));
    // a terminal that is narrower than the shortest columns of a report wraps lines by itself
    columns.map_or(WIDTH, |columns| columns.clamp(WIDTH / 2, WIDEST))
}

/// Wraps `text` after `lead` at spaces to the width of the terminal; further lines are indented to the start of the text.
pub fn wrapped(lead: &str, text: &str) -> String {
    wrapped_to(width(), lead, text)
}

/// Prints text and a line break. A closed pipe (`| head`) is not an error.
///
/// # Errors
/// When standard output cannot be written, a full disk for example.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_to_reader(text).map(|_| ())
}

/// Prints text and a line break, for a command that prints until it is stopped. Returns whether output is still read:
/// not after its pipe is closed.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print_to_reader(text: &str) -> anyhow::Result<bool> {
    write(&format!("{}\n", without_controls(text)))
}

/// Replaces the text that the terminal shows, without flicker: each line overwrites the previous one.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn redraw(text: &str) -> anyhow::Result<bool> {
    let lines = without_controls(text).replace('\n', "\u{1b}[K\n");
    // the cursor to the top; after each line, erase its rest; at the end, erase the lines below
    write(&format!("\u{1b}[H{lines}\u{1b}[K\n\u{1b}[J"))
}

/// Empties the terminal before the first [`redraw`].
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn clear() -> anyhow::Result<bool> {
    write("\u{1b}[2J")
}

fn write(text: &str) -> anyhow::Result<bool> {
    let written = status_line::beside(|| {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    });
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("cannot write to standard output"),
    }
}

/// Prints one JSON object as one line.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&json_line(value)?)
}

/// A JSON object as one line. Control characters are escaped, so the value does not change.
///
/// # Errors
/// When the value has no JSON form.
pub fn json_line(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let line = serde_json::to_string(value).context("cannot write JSON")?;
    Ok(line.chars().fold(String::with_capacity(line.len()), |mut line, letter| {
        if is_control(letter) {
            // all of them are below U+10000; JSON itself has none outside of its texts
            let _ = write!(line, "\\u{:04x}", u32::from(letter));
        } else {
            line.push(letter);
        }
        line
    }))
}

/// Prints text and a line break to standard error; a failure to do so cannot be reported.
pub fn complain(text: &str) {
    let _ = status_line::beside(|| writeln!(io::stderr().lock(), "{}", without_controls(text)));
}

/// Prints a question to standard error, so that its answer stands on the same line; a failure to do so cannot be reported.
pub(super) fn prompt(text: &str) {
    let _ = status_line::beside(|| {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{}", without_controls(text)).and_then(|()| stderr.flush())
    });
}

/// Prints why the request is refused, and the fix; exit code 2.
pub fn refuse(wrong: &str) -> ExitCode {
    complain(&wrapped("error: ", wrong));
    ExitCode::from(2)
}

/// An error and its causes in one line. Some libraries repeat the cause in their own text; here each appears once.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(|cause| cause.downcast_ref().map_or_else(|| cause.to_string(), message)) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_cause_is_shown_once() {
        let error = anyhow::anyhow!("refused").context("cannot communicate: refused").context("no database");
        assert_eq!(causes(&error), "no database: cannot communicate: refused");
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        assert_eq!(without_controls("a\u{1b}[31mb\nc\u{9b}"), "a\u{FFFD}[31mb\nc\u{FFFD}");
        for bidirectional in
            "\u{61C}\u{200E}\u{200F}\u{202A}\u{202B}\u{202C}\u{202D}\u{202E}\u{2066}\u{2067}\u{2068}\u{2069}".chars()
        {
            assert_eq!(without_controls(&format!("a{bidirectional}b")), "a\u{FFFD}b");
        }
    }

    #[test]
    fn json_escapes_control_characters() {
        let name = "Ada\u{202E}\u{9b}\u{1b} שלום";
        let line = json_line(&serde_json::json!({ "name": name })).unwrap();
        assert_eq!(line, "{\"name\":\"Ada\\u202e\\u009b\\u001b שלום\"}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["name"], name);
    }
}
