//! The strip of reconciliation: one character for each of the last 30 days. PURE.

use time::{Date, Duration};

use crate::admin::status::ComparedDay;

/// Number of days.
pub(super) const DAYS: i64 = 30;

/// The result of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DayResult {
    /// Every account was compared, and nothing was missing.
    Ok,
    /// Missed events were found and stored.
    Missed,
    /// All runs of an account failed, or events could not be stored.
    Failed,
    /// Events were found missing that Stripe no longer lists.
    Gap,
    /// No run ended.
    NoRun,
    /// Before the first day of the history.
    Unknown,
}

impl DayResult {
    /// All results, in the order of the legend.
    pub(super) const ALL: [Self; 6] = [Self::Ok, Self::Missed, Self::Failed, Self::Gap, Self::NoRun, Self::Unknown];

    /// Its character.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Ok => '.',
            Self::Missed => 'm',
            Self::Failed => 'x',
            Self::Gap => 'G',
            Self::NoRun => '-',
            Self::Unknown => '?',
        }
    }

    /// Its word in the legend and in JSON.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missed => "missed",
            Self::Failed => "failed",
            Self::Gap => "gap",
            Self::NoRun => "no_run",
            Self::Unknown => "unknown",
        }
    }

    /// The worst result of a day counts, because an operator must see it.
    fn of(day: &ComparedDay) -> Self {
        if day.gap_found {
            Self::Gap
        } else if day.is_incomplete || day.unreadable {
            Self::Failed
        } else if day.missed > 0 {
            Self::Missed
        } else {
            Self::Ok
        }
    }
}

/// The last 30 days up to today, oldest first. Without any history all are unknown.
pub(super) fn results(days: &[ComparedDay], today: Date) -> Vec<(Date, DayResult)> {
    let first = days.iter().map(|day| day.day).min();
    let dates = (0..DAYS).rev().map(|ago| today.saturating_sub(Duration::days(ago)));
    dates
        .map(|date| {
            let result = match days.iter().find(|day| day.day == date) {
                Some(day) => DayResult::of(day),
                None if first.is_some_and(|first| first < date) => DayResult::NoRun,
                None => DayResult::Unknown,
            };
            (date, result)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    fn day(day: Date) -> ComparedDay {
        ComparedDay { day, is_incomplete: false, missed: 0, unreadable: false, gap_found: false }
    }

    fn text(days: &[ComparedDay]) -> String {
        results(days, date!(2026 - 11 - 30)).iter().map(|(_, result)| result.letter()).collect()
    }

    #[test]
    fn each_result_has_its_letter() {
        let days = [
            day(date!(2026 - 11 - 24)),
            ComparedDay { missed: 3, ..day(date!(2026 - 11 - 25)) },
            ComparedDay { is_incomplete: true, ..day(date!(2026 - 11 - 26)) },
            ComparedDay { unreadable: true, missed: 1, ..day(date!(2026 - 11 - 27)) },
            ComparedDay { gap_found: true, is_incomplete: true, ..day(date!(2026 - 11 - 28)) },
            day(date!(2026 - 11 - 30)),
        ];
        assert_eq!(text(&days), format!("{}.mxxG-.", "?".repeat(23)));
    }

    #[test]
    fn a_day_without_a_run_is_known_only_after_the_first_day() {
        assert_eq!(text(&[]), "?".repeat(30));
        assert_eq!(text(&[day(date!(2026 - 10 - 25))]), "-".repeat(30));
        assert_eq!(text(&[day(date!(2026 - 11 - 30))]), format!("{}.", "?".repeat(29)));
    }
}
