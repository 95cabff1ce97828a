//! When a progress line is printed without a terminal: at intervals, and earlier if the work begins to wait.
//!
//! PURE. Called by the display ([`super`]).

use std::time::Duration;

use super::view::View;

/// Interval of the lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Shortest time between two lines.
const SHORTEST: Duration = Duration::from_secs(1);

/// The last line that was printed.
#[derive(Debug, Default)]
pub(super) struct Lines {
    printed_at: Duration,
    /// What that line said was waited for.
    reason: Option<String>,
}

impl Lines {
    /// The line to print now; `None`: it is too early. `now`: time since the command began.
    pub(super) fn due(&mut self, now: Duration, view: &View) -> Option<String> {
        let since = now.saturating_sub(self.printed_at);
        let reason = view.wait().map(|(reason, _)| reason.to_owned());
        let begins_to_wait = reason.is_some() && reason != self.reason;
        if since < INTERVAL && (since < SHORTEST || !begins_to_wait) {
            return None;
        }
        (self.printed_at, self.reason) = (now, reason);
        Some(view.whole())
    }
}
