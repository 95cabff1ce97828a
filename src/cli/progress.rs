//! Progress of a command on standard error: a bar on a terminal, otherwise a line at intervals.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// Interval of progress lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Progress display of a running command.
pub(super) struct Progress {
    bar: ProgressBar,
    printed_at: Instant,
}

impl Progress {
    /// A bar with `length` steps; `None` if the number is unknown.
    pub(super) fn new(template: &str, length: Option<u64>) -> Self {
        let bar = if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        } else {
            return Self::lines();
        };
        Self { bar, printed_at: Instant::now() }
    }

    /// Lines only, also on a terminal, for commands whose results on standard output are to be read.
    pub(super) fn lines() -> Self {
        Self { bar: ProgressBar::hidden(), printed_at: Instant::now() }
    }

    /// The bar, to move it or to print beside it.
    pub(super) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Shows the progress beside the bar, or at intervals as a separate line.
    pub(super) fn update(&mut self, line: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(line());
        } else if self.printed_at.elapsed() > LINE_INTERVAL {
            self.printed_at = Instant::now();
            output::complain(&line());
        }
    }

    /// Prints a message immediately.
    pub(super) fn print(&self, line: &str) {
        self.bar.suspend(|| output::complain(&output::wrapped("", line)));
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
