//! How far a command is, on standard error: a bar on a terminal, elsewhere a line now and then.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// Without a terminal, how often a line says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What the operator is told meanwhile.
pub(super) struct Progress {
    bar: ProgressBar,
    said: Instant,
}

impl Progress {
    /// A bar of so many steps; of an unknown number without.
    pub(super) fn new(template: &str, length: Option<u64>) -> Self {
        let bar = if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        } else {
            return Self::lines();
        };
        Self { bar, said: Instant::now() }
    }

    /// Lines only, also on a terminal: where standard output has what is to be read.
    pub(super) fn lines() -> Self {
        Self { bar: ProgressBar::hidden(), said: Instant::now() }
    }

    /// Moves the bar.
    pub(super) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Says how far it is: beside the bar, or now and then as a line of its own.
    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(line());
        } else if self.said.elapsed() > SAY_EVERY {
            self.said = Instant::now();
            output::complain(&line());
        }
    }

    /// Says something at once.
    pub(super) fn tell(&self, line: &str) {
        self.bar.suspend(|| output::complain(&output::wrapped("", line)));
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
