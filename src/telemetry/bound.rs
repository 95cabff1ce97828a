//! Limits repeated warnings and errors to one line a second for each cause.
//!
//! The first line of a cause is logged unchanged. Further events within the second are counted, and one line each
//! second reports the count. Nothing is dropped silently: the count is logged when the second is over, even if no
//! further event comes, and when the process ends.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::slow::SlowStatements;

/// The target of the lines that report a count.
pub(super) const TARGET: &str = "billing_sync::left_out";

/// The shortest time between two lines of one cause.
const WINDOW: Duration = Duration::from_secs(1);

/// Number of causes that are distinguished at one place of the code; further ones share a line. So the content of
/// errors cannot make memory or log grow.
const MAX_CAUSES: usize = 16;

/// Bytes kept of a message, an error or the other fields.
const MAX_TEXT: usize = 500;

/// The texts of an event that its line and its cause need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Text {
    message: String,
    error: String,
    /// The other fields.
    rest: String,
}

impl Text {
    fn of(event: &Event<'_>) -> Self {
        let mut text = Self::default();
        event.record(&mut text);
        text
    }

    /// Message and error without ids, counts and times, which differ between events.
    fn cause(&self) -> String {
        let mut cause = String::new();
        for text in [&self.message, &self.error] {
            for word in text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-') {
                cause.push_str(if is_variable(word) { "#" } else { word });
                cause.push(' ');
            }
            cause.push('\n');
        }
        cause
    }

    fn append(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let (text, separator) = match field.name() {
            "message" => (&mut self.message, String::new()),
            // a panic is identified by its location, because its message is withheld
            "error" | "panic.location" => (&mut self.error, String::new()),
            name if name.starts_with("log.") => return,
            name => (&mut self.rest, format!("{name}=")),
        };
        let gap = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{gap}{separator}{value}");
        truncate(text);
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.append(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.append(field, format_args!("{value:?}"));
    }
}

/// Whether a word contains digits and is not a code: an HTTP status has three digits, a SQLSTATE five digits or
/// capitals.
fn is_variable(word: &str) -> bool {
    let all = |is_part: fn(u8) -> bool| word.bytes().all(is_part);
    let is_status = word.len() == 3 && all(|c| c.is_ascii_digit());
    let is_sqlstate = word.len() == 5 && all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    word.contains(|c: char| c.is_ascii_digit()) && !is_status && !is_sqlstate
}

fn truncate(text: &mut String) {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
    }
}

/// A cause that was logged within the last second, or that still has a count to report.
#[derive(Debug)]
struct Burst {
    cause: String,
    level: Level,
    line_at: Instant,
    left_out: u64,
    /// The texts of the last event that was not logged.
    last: Text,
}

/// A count to log.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    level: Level,
    left_out: u64,
    last: Text,
}

impl Report {
    fn log(&self) {
        let Text { message, error, rest } = &self.last;
        let (left_out, error) = (self.left_out, Some(error).filter(|error| !error.is_empty()));
        let last = Some(rest).filter(|rest| !rest.is_empty());
        if self.level == Level::ERROR {
            tracing::error!(target: TARGET, error, left_out, last, "{message}");
        } else {
            tracing::warn!(target: TARGET, error, left_out, last, "{message}");
        }
    }
}

/// The bursts at each place of the code. `P` identifies the place.
#[derive(Debug)]
struct Bursts<P> {
    at: HashMap<P, Vec<Burst>>,
}

impl<P: Eq + Hash> Bursts<P> {
    /// Whether to log an event now; otherwise it is counted.
    fn admit(&mut self, place: P, level: Level, text: Text, now: Instant) -> bool {
        let bursts = self.at.entry(place).or_default();
        bursts.retain(|burst| burst.left_out > 0 || now.duration_since(burst.line_at) < WINDOW);
        let mut cause = text.cause();
        if bursts.len() >= MAX_CAUSES && !bursts.iter().any(|burst| burst.cause == cause) {
            // an empty cause is the shared one: no real cause is empty
            cause.clear();
        }
        if let Some(burst) = bursts.iter_mut().find(|burst| burst.cause == cause) {
            burst.left_out += 1;
            burst.last = text;
            return false;
        }
        bursts.push(Burst { cause, level, line_at: now, left_out: 0, last: Text::default() });
        true
    }

    /// Takes the counts whose second is over, or all counts.
    fn due(&mut self, now: Instant, all: bool) -> Vec<Report> {
        let mut reports = Vec::new();
        for burst in self.at.values_mut().flatten() {
            if burst.left_out > 0 && (all || now.duration_since(burst.line_at) >= WINDOW) {
                burst.line_at = now;
                let (left_out, last) = (std::mem::take(&mut burst.left_out), std::mem::take(&mut burst.last));
                reports.push(Report { level: burst.level, left_out, last });
            }
        }
        reports
    }

    /// When the next count is due.
    fn next_due(&self) -> Option<Instant> {
        self.at.values().flatten().filter(|burst| burst.left_out > 0).map(|burst| burst.line_at + WINDOW).min()
    }
}

/// State shared by the log format and the thread that reports counts.
#[derive(Debug)]
struct Shared {
    bursts: Mutex<Bursts<Identifier>>,
    /// Notified when a count begins.
    counting: Condvar,
    slow: SlowStatements,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Bursts<Identifier>> {
        // each change of the bursts is complete, so the state is usable after a panic
        self.bursts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == TARGET {
            return true;
        }
        let text = Text::of(event);
        let admitted = self.lock().admit(metadata.callsite(), *metadata.level(), text, Instant::now());
        if !admitted {
            self.counting.notify_one();
        }
        admitted
    }

    /// Logs each count when its second is over.
    fn report(&self) {
        let mut bursts = self.lock();
        loop {
            let now = Instant::now();
            let reports = bursts.due(now, false);
            if !reports.is_empty() {
                // logging takes the lock too
                drop(bursts);
                reports.iter().for_each(Report::log);
                bursts = self.lock();
                continue;
            }
            bursts = match bursts.next_due() {
                None => self.counting.wait(bursts).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let wait = due.saturating_duration_since(now);
                    self.counting.wait_timeout(bursts, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Handle of the limit, held as long as the process logs. When it is dropped, the last counts are logged.
#[derive(Debug)]
#[must_use = "the last counts are logged when it is dropped"]
pub struct Bound(Arc<Shared>);

impl Bound {
    /// Starts the thread that reports counts.
    pub(super) fn start() -> std::io::Result<Self> {
        let (bursts, slow) = (Mutex::new(Bursts { at: HashMap::new() }), SlowStatements::start()?);
        let shared = Arc::new(Shared { bursts, counting: Condvar::new(), slow });
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("left-out".to_owned()).spawn(move || of_thread.report())?;
        Ok(Self(shared))
    }

    /// Wraps a log format with the limit.
    pub(super) fn lines<F>(&self, lines: F) -> Bounded<F> {
        Bounded { lines, shared: Arc::clone(&self.0) }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.0.slow.flush();
        let reports = self.0.lock().due(Instant::now(), true);
        reports.iter().for_each(Report::log);
    }
}

/// A log format that omits counted events, and those that are logged in another form.
#[derive(Debug)]
pub(super) struct Bounded<F> {
    lines: F,
    shared: Arc<Shared>,
}

impl<S, N, F> FormatEvent<S, N> for Bounded<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // an empty line is not written
        if !self.shared.slow.take(event) && self.shared.admit(event) {
            self.lines.format_event(context, writer, event)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: &str) -> Text {
        Text { message: "an event failed".to_owned(), error: error.to_owned(), rest: String::new() }
    }

    fn bursts() -> Bursts<u8> {
        Bursts { at: HashMap::new() }
    }

    #[test]
    fn a_cause_has_one_line_a_second_and_every_event_is_logged_or_counted() {
        let (mut bursts, start) = (bursts(), Instant::now());
        let (mut lines, mut counted) = (0, 0);
        for milliseconds in 0..5_000 {
            let now = start + Duration::from_millis(milliseconds);
            for report in bursts.due(now, false) {
                lines += 1;
                counted += report.left_out;
            }
            if bursts.admit(0, Level::WARN, text(&format!("no such row evt_{milliseconds}")), now) {
                lines += 1;
                counted += 1;
            }
        }
        assert_eq!(lines, 5);
        counted += bursts.due(start, true).iter().map(|report| report.left_out).sum::<u64>();
        assert_eq!(counted, 5_000);
    }

    #[test]
    fn a_count_is_due_without_a_further_event() {
        let (mut bursts, start) = (bursts(), Instant::now());
        assert!(bursts.admit(0, Level::ERROR, text("a"), start));
        assert_eq!(bursts.next_due(), None);
        assert!(!bursts.admit(0, Level::ERROR, text("a"), start));
        assert_eq!(bursts.next_due(), Some(start + WINDOW));
        assert_eq!(bursts.due(start, false), []);
        let report = Report { level: Level::ERROR, left_out: 1, last: text("a") };
        assert_eq!(bursts.due(start + WINDOW, false), [report]);
        assert!(!bursts.admit(0, Level::ERROR, text("a"), start + WINDOW), "that would be two lines in a second");
        assert!(bursts.due(start + WINDOW, true).len() == 1);
        assert!(bursts.admit(0, Level::ERROR, text("a"), start + 3 * WINDOW));
    }

    #[test]
    fn causes_and_places_are_distinguished() {
        let (mut bursts, now) = (bursts(), Instant::now());
        assert!(bursts.admit(0, Level::WARN, text("the disk is full"), now));
        assert!(bursts.admit(0, Level::WARN, text("the server is in recovery"), now));
        assert!(bursts.admit(1, Level::WARN, text("the disk is full"), now));
        assert!(!bursts.admit(1, Level::WARN, text("the disk is full"), now));
        for code in ["error 53100", "error 42P01", "status 500", "status 429"] {
            assert!(bursts.admit(2, Level::WARN, text(code), now), "{code}");
        }
        for [first, second] in [["evt_1 is bad", "evt_22 is bad"], ["late at 2026-01-02", "late at 2027-10-12"]] {
            assert!(bursts.admit(3, Level::WARN, text(first), now));
            assert!(!bursts.admit(3, Level::WARN, text(second), now), "{second}");
        }
    }

    #[test]
    fn hostile_errors_grow_neither_log_nor_memory() {
        let (mut bursts, now) = (bursts(), Instant::now());
        let word = |number: u32| {
            (0..6).map(|place| char::from(b'a' + u8::try_from(number >> (4 * place) & 15).unwrap())).collect::<String>()
        };
        let lines = (0..10_000).filter(|number| bursts.admit(0, Level::WARN, text(&word(*number)), now)).count();
        assert_eq!(lines, MAX_CAUSES + 1);
        assert_eq!(bursts.at[&0].len(), MAX_CAUSES + 1);
        let left_out: u64 = bursts.due(now + WINDOW, false).iter().map(|report| report.left_out).sum();
        assert_eq!(left_out, 10_000 - 17);
    }
}
