//! The marks of a time axis: at most a given number, at round times. PURE.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

/// Seconds between two marks. They divide a day, or are whole days.
const SECONDS: [i64; 13] =
    [60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 345_600, 604_800, 1_209_600];
const DAY: i64 = 86_400;
const MONTHS: [i32; 8] = [1, 2, 3, 6, 12, 24, 60, 120];

/// The marks between two times, at most `most`, each with its label.
pub(super) fn marks(from: OffsetDateTime, until: OffsetDateTime, most: usize) -> Vec<(OffsetDateTime, String)> {
    let (from, until) = (from.to_offset(UtcOffset::UTC), until.to_offset(UtcOffset::UTC));
    let of_seconds = SECONDS.iter().map(|step| every(*step, from, until, most));
    let of_months = MONTHS.iter().map(|step| every_months(*step, from, until, most));
    of_seconds.chain(of_months).find(|marks| marks.len() <= most).unwrap_or_default()
}

/// At most one mark more than `most`.
fn every(step: i64, from: OffsetDateTime, until: OffsetDateTime, most: usize) -> Vec<(OffsetDateTime, String)> {
    // days are counted from the first one
    let origin = if step >= DAY { from.replace_time(Time::MIDNIGHT).unix_timestamp() } else { 0 };
    let first = (from.unix_timestamp() - origin + step - 1).div_euclid(step);
    let format: &[BorrowedFormatItem<'_>] = if step >= DAY {
        format_description!("[day padding:none] [month repr:short]")
    } else {
        format_description!("[hour]:[minute]")
    };
    let times = (first..).map_while(|count| OffsetDateTime::from_unix_timestamp(origin + count * step).ok());
    labelled(times, until, most, format)
}

fn every_months(step: i32, from: OffsetDateTime, until: OffsetDateTime, most: usize) -> Vec<(OffsetDateTime, String)> {
    let months = from.year() * 12 + i32::from(u8::from(from.month())) - 1;
    let first = months.div_euclid(step) + 1;
    let format: &[BorrowedFormatItem<'_>] =
        if step >= 12 { format_description!("[year]") } else { format_description!("[month repr:short] [year]") };
    let times = (first..).map_while(|count| first_of_month(count * step));
    labelled(times, until, most, format)
}

fn first_of_month(months: i32) -> Option<OffsetDateTime> {
    let month = (0..months.rem_euclid(12)).fold(Month::January, |month, _| month.next());
    Date::from_calendar_date(months.div_euclid(12), month, 1).ok().map(|date| date.midnight().assume_utc())
}

fn labelled(
    times: impl Iterator<Item = OffsetDateTime>,
    until: OffsetDateTime,
    most: usize,
    format: &[BorrowedFormatItem<'_>],
) -> Vec<(OffsetDateTime, String)> {
    let label = |at: OffsetDateTime| (at, at.format(format).unwrap_or_default());
    times.take_while(|at| *at <= until).take(most + 1).map(label).collect()
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    const FROM: OffsetDateTime = datetime!(2026-10-29 09:30 UTC);

    fn labels(from: OffsetDateTime, until: OffsetDateTime) -> Vec<String> {
        marks(from, until, 6).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn marks_are_at_round_times() {
        assert_eq!(labels(FROM, FROM + Duration::minutes(4)), ["09:30", "09:31", "09:32", "09:33", "09:34"]);
        assert_eq!(labels(FROM, FROM + Duration::hours(20)), ["12:00", "15:00", "18:00", "21:00", "00:00", "03:00"]);
        assert_eq!(labels(FROM, FROM + Duration::days(5)), ["30 Oct", "31 Oct", "1 Nov", "2 Nov", "3 Nov"]);
        assert_eq!(labels(FROM, FROM + Duration::days(38)), ["5 Nov", "12 Nov", "19 Nov", "26 Nov", "3 Dec"]);
        assert_eq!(labels(FROM, FROM + Duration::days(400)), ["Jan 2027", "Apr 2027", "Jul 2027", "Oct 2027"]);
        assert_eq!(labels(FROM, FROM + Duration::days(1500)), ["2027", "2028", "2029", "2030"]);
    }

    #[test]
    fn marks_are_within_the_times_and_not_too_many() {
        // up to 34 years
        for seconds in (0..31).map(|power| 1_i64 << power) {
            let until = FROM + Duration::seconds(seconds);
            let marks = marks(FROM, until, 6);
            assert!(
                marks.len() <= 6 && marks.iter().all(|(at, _)| (FROM..=until).contains(at)),
                "{seconds}: {marks:?}"
            );
            assert!(seconds < 128 || !marks.is_empty(), "{seconds}");
        }
        assert_eq!(marks(FROM, FROM - Duration::days(1), 6), []);
    }
}
