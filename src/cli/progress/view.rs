//! The text of a progress display: state of the work in, one line out.
//!
//! PURE. Called by the display ([`super`]), which draws the line on a terminal or prints it at intervals. The display
//! shows only work that has not ended, so no text here says that nothing is left: no 100 %, no remaining time of zero.

use std::time::Duration;

use crate::base::text::{columns, counted, cut};
use crate::base::waits::Wait;

/// Time after which a wait, or a display that has not moved, is explained.
const WORTH_SHOWING: Duration = Duration::from_secs(1);

/// Time without a change after which the display says what is waited for, even if each single wait is short.
const STANDSTILL: Duration = Duration::from_secs(2);

/// Shortest time over which a rate is computed.
const SHORTEST_RATE: Duration = Duration::from_secs(1);

/// Shortest time, and smallest share of the work, from which the remaining time is estimated.
const SHORTEST_ESTIMATE: (Duration, f64) = (Duration::from_secs(3), 0.02);

/// A longer remaining time is not shown, because it says only that the work barely moves.
const LONGEST_ESTIMATE: Duration = Duration::from_hours(30 * 24);

/// Cells of the bar, and of the bar on a narrow terminal.
const WIDE_BAR: usize = 20;
const NARROW_BAR: usize = 10;

/// Number of parts of a line, and the places of those that may be left out.
const PARTS: usize = 8;
const TITLE: usize = 0;
const BAR: usize = 1;
const PERCENTAGE: usize = 2;
const COUNT: usize = 3;
const RATE: usize = 4;
const LEFT: usize = 5;
const FACTS: usize = 6;
const WAIT: usize = 7;

/// What waits for no registered reason: the commands wait for Stripe, for delays, and for the database. The first two
/// register their waits.
const THE_REST: &str = "the database";

/// How much work there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cli) enum Extent {
    /// Not known.
    Unknown,
    /// This number.
    Total(u64),
    /// Not known, but this share of it is done, from 0 to 1.
    Share(f64),
}

/// State of one stage of the work.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    /// The stage: "reading customers".
    pub(super) title: String,
    /// Noun for one unit of work: "object".
    pub(super) unit: &'static str,
    pub(super) extent: Extent,
    /// Units done, with those of an earlier, interrupted run.
    pub(super) done: u64,
    /// Units that an earlier run had done.
    pub(super) before: u64,
    /// Further facts: "12 rows changed".
    pub(super) facts: String,
    /// Time since the stage began.
    pub(super) elapsed: Duration,
    /// Time since the display changed.
    pub(super) idle: Duration,
    /// The part of that time in which no wait was registered, counted from the end of the last one.
    pub(super) unexplained: Duration,
    /// The registered wait.
    pub(super) wait: Option<Wait>,
}

impl View {
    /// The line for a terminal, in at most `width` columns. What matters least is left out first.
    pub(super) fn fitted(&self, width: usize) -> String {
        let mut parts = self.parts();
        parts[BAR] = self.bar(WIDE_BAR).unwrap_or_default();
        let shorter =
            [(BAR, self.bar(NARROW_BAR)), (BAR, None), (FACTS, None), (RATE, None), (LEFT, None), (TITLE, None)];
        for (part, text) in shorter {
            let is_last = parts.iter().enumerate().all(|(at, text)| at == part || text.is_empty());
            if columns(&join(&parts)) > width && !is_last {
                parts[part] = text.unwrap_or_default();
            }
        }
        // a wait matters most
        for part in [COUNT, PERCENTAGE] {
            if columns(&join(&parts)) > width && !parts[WAIT].is_empty() {
                parts[part].clear();
            }
        }
        cut(&join(&parts), width)
    }

    /// The line without a terminal: everything, however long.
    pub(super) fn whole(&self) -> String {
        join(&self.parts())
    }

    /// All parts of the line except the bar, without control characters: replacing these changes the width.
    fn parts(&self) -> [String; PARTS] {
        let percentage = self.percentage().map(|percentage| format!("{percentage} %"));
        let [percentage, rate, left, wait] =
            [percentage, self.rate(), self.remaining(), self.wait_text()].map(Option::unwrap_or_default);
        let (title, facts) = (self.title.clone(), self.facts.clone());
        [title, String::new(), percentage, self.count(), rate, left, facts, wait].map(|part| cut(&part, usize::MAX))
    }

    /// The wait to show: "Stripe's rate limit", and how long it still lasts or has lasted.
    pub(super) fn wait(&self) -> Option<(&str, Option<String>)> {
        let stands_still = self.idle >= STANDSTILL;
        let registered = self
            .wait
            .as_ref()
            .filter(|wait| stands_still || wait.waited.saturating_add(wait.left.unwrap_or_default()) >= WORTH_SHOWING);
        match registered {
            Some(wait) => {
                let time = match wait.left {
                    Some(left) if left.is_zero() => None,
                    Some(left) => Some(seconds(left)),
                    None if wait.waited >= WORTH_SHOWING => Some(format!("{} so far", seconds(wait.waited))),
                    None => None,
                };
                Some((wait.reason.as_ref(), time))
            }
            None if self.unexplained >= STANDSTILL => {
                Some((THE_REST, Some(format!("{} so far", seconds(self.unexplained)))))
            }
            None => None,
        }
    }

    fn wait_text(&self) -> Option<String> {
        self.wait().map(|(reason, time)| match time {
            Some(time) => format!("waiting for {reason}, {time}"),
            None => format!("waiting for {reason}"),
        })
    }

    /// The share of the work that is done, from 0 to 1. A total that was exceeded is not known any more.
    fn share(&self) -> Option<f64> {
        match self.extent {
            Extent::Unknown => None,
            Extent::Total(total) => (self.done <= total && total > 0).then(|| ratio(self.done, total)),
            Extent::Share(share) => Some(share.clamp(0.0, 1.0)),
        }
    }

    /// At most 99, because the work that this display shows has not ended.
    fn percentage(&self) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100")]
        self.share().map(|share| ((share * 100.0) as u64).min(99))
    }

    /// The bar, with at least one free cell.
    fn bar(&self, cells: usize) -> Option<String> {
        let share = self.share().filter(|_| cells > 0)?;
        let full = (0..cells).filter(|cell| ratio(*cell as u64 + 1, cells as u64) <= share).count().min(cells - 1);
        Some(format!("[{}{}]", "#".repeat(full), ".".repeat(cells - full)))
    }

    fn count(&self) -> String {
        match self.extent {
            Extent::Total(total) if self.share().is_some() => format!("{} of {}", self.done, counted(total, self.unit)),
            _ if self.unit.is_empty() => String::new(),
            _ => counted(self.done, self.unit),
        }
    }

    /// Units of this run per second, or per minute if they are few.
    fn rate(&self) -> Option<String> {
        let done = self.done.saturating_sub(self.before);
        if done == 0 || self.elapsed < SHORTEST_RATE {
            return None;
        }
        let rate = ratio(done, 1) / self.elapsed.as_secs_f64();
        Some(if rate >= 9.95 {
            format!("{rate:.0}/s")
        } else if rate >= 0.1 {
            format!("{rate:.1}/s")
        } else {
            format!("{:.1}/min", rate * 60.0)
        })
    }

    /// The remaining time, if there is enough to estimate it from.
    fn remaining(&self) -> Option<String> {
        let (shortest, smallest) = SHORTEST_ESTIMATE;
        let share = self.share().filter(|share| *share < 1.0)?;
        let before = match self.extent {
            Extent::Total(total) => ratio(self.before, total),
            _ => 0.0,
        };
        let of_this_run = share - before;
        if self.elapsed < shortest || of_this_run < smallest {
            return None;
        }
        let seconds = self.elapsed.as_secs_f64() * (1.0 - share) / of_this_run;
        let left = Duration::try_from_secs_f64(seconds).ok().filter(|left| *left <= LONGEST_ESTIMATE)?;
        Some(format!("{} left", roughly(left)))
    }
}

/// Joins title, bar, percentage, and the other parts: "rebuilding [##........] 20 %: 2 of 10 objects, 1.0/s".
fn join(parts: &[String; PARTS]) -> String {
    let join = |parts: &[String], separator: &str| {
        parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(separator)
    };
    let (head, rest) = parts.split_at(COUNT);
    join(&[join(head, " "), join(rest, ", ")], ": ")
}

fn ratio(part: u64, all: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let ratio = part as f64 / all.max(1) as f64;
    ratio
}

/// A duration in whole seconds or minutes, rounded up: never zero.
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    match seconds.max(1) {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// An estimated duration.
fn roughly(duration: Duration) -> String {
    let minutes = duration.as_secs().div_ceil(60);
    match minutes {
        _ if duration.as_secs() < 60 => "less than a minute".to_owned(),
        minutes if minutes < 60 => format!("about {minutes} min"),
        minutes if minutes < 24 * 60 => format!("about {} h {} min", minutes / 60, minutes % 60),
        minutes => format!("about {} days", minutes.div_ceil(24 * 60)),
    }
}
