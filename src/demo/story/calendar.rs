//! When a subscription must have begun, so that one of its months ends at a given time. Called by [`super::cleo`]. PURE.

use time::{Date, Month, OffsetDateTime};

/// The start of a subscription, and two consecutive periods of its limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) start: OffsetDateTime,
    pub(super) period_start: OffsetDateTime,
    pub(super) period_end: OffsetDateTime,
    pub(super) next_end: OffsetDateTime,
}

impl Schedule {
    /// A subscription that began one month before `period_end`. If that month has no such day (31 March), it began two
    /// months before: no two months in a row are short.
    pub(super) fn ending_at(period_end: OffsetDateTime) -> Self {
        let months = if plus_months(period_end, -1).day() == period_end.day() { 1 } else { 2 };
        let start = plus_months(period_end, -months);
        Self {
            start,
            period_start: plus_months(start, months - 1),
            period_end,
            next_end: plus_months(start, months + 1),
        }
    }
}

/// The anchor plus this many months, or the last day of a month that is too short: the calendar of limits
/// (`billing.renewal_at`).
pub(super) fn plus_months(anchor: OffsetDateTime, months: i32) -> OffsetDateTime {
    let month = anchor.year() * 12 + i32::from(u8::from(anchor.month())) - 1 + months;
    let year = month.div_euclid(12);
    let month = (0..month.rem_euclid(12)).fold(Month::January, |month, _| month.next());
    let day = anchor.day().min(month.length(year));
    Date::from_calendar_date(year, month, day).map_or(anchor, |date| anchor.replace_date(date))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    #[test]
    fn a_short_month_has_its_last_day() {
        let anchor = datetime!(2024-01-31 23:59:59 UTC);
        let renewals = [1, 2, 13, -1, -11].map(|months| plus_months(anchor, months));
        let expected = [
            datetime!(2024-02-29 23:59:59 UTC),
            datetime!(2024-03-31 23:59:59 UTC),
            datetime!(2025-02-28 23:59:59 UTC),
            datetime!(2023-12-31 23:59:59 UTC),
            datetime!(2023-02-28 23:59:59 UTC),
        ];
        assert_eq!(renewals, expected);
    }

    /// All dates of 400 years, after which the calendar repeats, at both ends of the day.
    #[test]
    fn on_every_date_the_month_ends_then() {
        let (midnight, last_second) = (datetime!(2001-01-01 00:00 UTC), datetime!(2001-01-01 23:59:59 UTC));
        for (days, first) in (0..146_097).flat_map(|days| [(days, midnight), (days, last_second)]) {
            let end = first + Duration::days(days);
            let Schedule { start, period_start, period_end, next_end } = Schedule::ending_at(end);
            let renewals: Vec<_> = (0..=3).map(|months| plus_months(start, months)).collect();
            let at = renewals.iter().position(|renewal| *renewal == end);
            let Some(at @ 1..=2) = at else { panic!("{end} is no renewal of {start}: {renewals:?}") };
            assert_eq!([period_start, period_end, next_end], renewals[at - 1..=at + 1], "{end}");
        }
    }
}
