//! Logs slow statements by their name. sqlx logs their whole text, which hides the rest of a log.
//!
//! The name is the comment in a statement's first line. A subscriber must not log, so a thread does.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The target of the lines.
pub(super) const TARGET: &str = "billing_sync::slow_statement";

/// Statements that wait to be logged. Further ones are left out, which needs hundreds of slow statements at once.
const WAITING: usize = 256;

/// Longest wait for the last lines when the process ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A statement that took long.
#[derive(Debug, Default, PartialEq)]
struct SlowStatement {
    name: String,
    seconds: f64,
    rows: u64,
}

/// What the thread gets.
enum Message {
    Slow(SlowStatement),
    /// Answered when all earlier messages are logged.
    Flush(SyncSender<()>),
}

/// The way to the thread that logs.
#[derive(Debug, Clone)]
pub(super) struct SlowStatements(SyncSender<Message>);

impl SlowStatements {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, messages) = sync_channel(WAITING);
        thread::Builder::new().name("slow-statements".to_owned()).spawn(move || log(&messages))?;
        Ok(Self(sender))
    }

    /// Whether the event is sqlx's line of a slow statement. Then it is logged by its name.
    pub(super) fn take(&self, event: &Event<'_>) -> bool {
        let is_slow = event.metadata().target().strip_prefix("sqlx::") == Some("query")
            && *event.metadata().level() == Level::WARN;
        if is_slow {
            let mut statement = SlowStatement::default();
            event.record(&mut statement);
            let _ = self.0.try_send(Message::Slow(statement));
        }
        is_slow
    }

    /// Waits until all statements so far are logged.
    pub(super) fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(LAST_LINES);
        }
    }
}

fn log(messages: &Receiver<Message>) {
    for message in messages {
        match message {
            Message::Slow(SlowStatement { name, seconds, rows }) => {
                tracing::warn!(target: TARGET, statement = name, elapsed_seconds = seconds, rows, "slow statement: {name}");
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

impl Visit for SlowStatement {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            // milliseconds are enough
            self.seconds = (value * 1e3).round() / 1e3;
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if ["rows_affected", "rows_returned"].contains(&field.name()) {
            self.rows = self.rows.max(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            statement_name(value).clone_into(&mut self.name);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// The name in the first words of a statement. A statement without a name is one that sqlx sends itself; then its first
/// words, which contain no value.
fn statement_name(summary: &str) -> &str {
    let mut words = summary.split(' ');
    match (words.next(), words.next()) {
        (Some("--"), Some(name)) if is_name(name) => name,
        _ => summary,
    }
}

fn is_name(word: &str) -> bool {
    word.contains('.') && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_named_by_its_comment() {
        assert_eq!(statement_name("-- outbox.claim WITH due …"), "outbox.claim");
        assert_eq!(statement_name("SELECT current_setting('x') …"), "SELECT current_setting('x') …");
        assert_eq!(statement_name("-- Facts: what events …"), "-- Facts: what events …");
    }
}
