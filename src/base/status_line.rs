//! The status line: the last line of a terminal, which shows the progress of a command and is removed before any other
//! output.
//!
//! A process has one terminal, so the line is state of the process. Everything that writes to standard output or
//! standard error does so in [`beside`]: the output of commands, and the logs. The line consists of spaces, text and
//! carriage returns, which every terminal supports.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::text::{WIDTH, columns, cut};

/// Columns of the line that is shown; 0: none is.
static SHOWN: Mutex<usize> = Mutex::new(0);

/// Width of the status line: one column less than the terminal's current width, because some terminals wrap a line
/// that fills the last column. `None` if standard error is not a terminal.
pub fn width() -> Option<usize> {
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        return None;
    }
    let width = terminal_size::terminal_size_of(&stderr).map_or(WIDTH, |(width, _)| usize::from(width.0));
    Some(width.saturating_sub(1))
}

/// Shows the line that `text` makes for the terminal's width, in the place of the line before. Does nothing without a
/// terminal.
pub fn show(text: impl FnOnce(usize) -> String) {
    let Some(width) = width() else { return };
    let mut shown = shown();
    let text = cut(&text(width), width);
    let rest = shown.min(width).saturating_sub(columns(&text));
    *shown = columns(&text);
    // a failure to show progress cannot be reported
    let _ = write!(io::stderr().lock(), "\r{text}{}", " ".repeat(rest));
}

/// Removes the line.
pub fn remove() {
    erase(&mut shown());
}

/// Removes the line, and lets `write` write other output. The next [`show`] shows the line again.
pub fn beside<T>(write: impl FnOnce() -> T) -> T {
    let mut shown = shown();
    erase(&mut shown);
    write()
}

fn erase(shown: &mut usize) {
    if *shown > 0 {
        let columns = width().map_or(*shown, |width| width.min(*shown));
        let _ = write!(io::stderr().lock(), "\r{}\r", " ".repeat(columns));
        *shown = 0;
    }
}

fn shown() -> MutexGuard<'static, usize> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error, for logs: each line is written beside the status line.
#[derive(Debug, Clone, Copy)]
pub struct BesideStatusLine;

impl Write for BesideStatusLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        beside(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
