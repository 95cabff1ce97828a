//! Sizes on disk and their growth, for `doctor`. Reads the catalogue, the sizes of files and one index, no table.

use time::{Date, Duration, OffsetDateTime, Time};

use crate::database::Connection;

/// Number of past months whose mean is the growth.
const MONTHS: usize = 3;

/// Shortest time from which a growth is extrapolated.
const SHORTEST: Duration = Duration::DAY;

/// Days of a mean month.
const MONTH_DAYS: f64 = 30.44;

/// A table of the schema billing, or a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its name, without the schema.
    pub name: String,
    /// Whether it is a part of the archive or of the queue.
    pub is_of_events: bool,
    /// The month of a monthly partition.
    pub month: Option<Date>,
    /// Bytes on disk, with indexes and large values.
    pub bytes: i64,
    /// Whether it contains rows, or did before they were deleted.
    pub has_rows: bool,
}

/// A month of the archive and the queue that contains rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthSize {
    /// Its first day.
    pub month: Date,
    /// Bytes of both partitions.
    pub bytes: i64,
}

/// When things happened, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Times {
    /// Now.
    pub now: OffsetDateTime,
    /// When the schema was created.
    pub created_at: OffsetDateTime,
    /// When the oldest event of the queue was processed; `None` without one.
    pub processed_since: Option<OffsetDateTime>,
    /// Whether the retention waits until the clocks agree.
    pub is_halted: bool,
}

/// How much the archive and the queue grow.
#[derive(Debug, Clone, PartialEq)]
pub enum Growth {
    /// Mean of these whole months, oldest first.
    Measured {
        /// Bytes of a month.
        bytes: f64,
        /// The months.
        months: Vec<Date>,
    },
    /// There is no whole month yet.
    Extrapolated {
        /// Bytes of a month.
        bytes: f64,
        /// Seconds in which the measured size was reached.
        seconds: f64,
    },
    /// The first day.
    Unknown,
}

impl Growth {
    /// Bytes of a month, if known.
    pub fn bytes(&self) -> Option<f64> {
        match self {
            Self::Measured { bytes, .. } | Self::Extrapolated { bytes, .. } => Some(*bytes),
            Self::Unknown => None,
        }
    }
}

/// All tables and partitions, the largest first.
///
/// # Errors
/// Database errors.
pub async fn relations(conn: &mut Connection) -> Result<Vec<Relation>, sqlx::Error> {
    sqlx::query_as!(
        Relation,
        r#"-- admin.disk_relations
        SELECT * FROM (
            SELECT relation.relname AS "name!",
                coalesce(parent.relname IN ('events', 'outbox'), false) AS "is_of_events!",
                CASE WHEN parent.relname IN ('events', 'outbox') AND relation.relname ~ '_\d{4}_\d{2}$'
                    THEN to_date(right(relation.relname, 7), 'YYYY_MM') END AS month,
                pg_total_relation_size(relation.oid) AS "bytes!", pg_relation_size(relation.oid) > 0 AS "has_rows!"
            FROM pg_class AS relation
            LEFT JOIN pg_inherits ON inhrelid = relation.oid
            LEFT JOIN pg_class AS parent ON parent.oid = inhparent
            WHERE relation.relnamespace = 'billing'::regnamespace AND relation.relkind IN ('r', 'm')
        ) AS found
        -- null if it was dropped meanwhile
        WHERE "bytes!" IS NOT NULL
        ORDER BY "bytes!" DESC"#
    )
    .fetch_all(conn)
    .await
}

/// The times from which the growth and the next removal are computed.
///
/// # Errors
/// Database errors.
pub async fn times(conn: &mut Connection) -> Result<Times, sqlx::Error> {
    // not checked: `migrate` creates billing.schema_migrations, not a migration
    sqlx::query_as(
        "-- admin.disk_times
        SELECT clock_timestamp() AS now,
            (SELECT min(installed_on) FROM billing.schema_migrations) AS created_at,
            -- the first entry of an index
            (SELECT min(finished_at) FROM billing.outbox WHERE finished_at IS NOT NULL) AS processed_since,
            EXISTS (SELECT FROM billing.renewal_rules WHERE halted_at IS NOT NULL) AS is_halted",
    )
    .fetch_one(conn)
    .await
}

/// The months of the archive and the queue that contain rows, oldest first.
pub fn months(relations: &[Relation]) -> Vec<MonthSize> {
    let mut months: Vec<MonthSize> = Vec::new();
    let mut parts: Vec<(Date, &Relation)> =
        relations.iter().filter(|one| one.has_rows).filter_map(|one| Some((one.month?, one))).collect();
    parts.sort_by_key(|(month, _)| *month);
    for (month, part) in parts {
        match months.last_mut().filter(|last| last.month == month) {
            Some(last) => last.bytes += part.bytes,
            None => months.push(MonthSize { month, bytes: part.bytes }),
        }
    }
    months
}

/// How much the archive and the queue grow in a month.
///
/// A past month is whole if it began after the schema was created, or if the month before it has events, too: Stripe
/// lists the events of 30 days, which are loaded at the start.
pub fn growth(months: &[MonthSize], times: &Times) -> Growth {
    let current = first_day(times.now);
    let is_whole = |at: usize| {
        let month = months[at].month;
        let follows = at.checked_sub(1).is_some_and(|before| next(months[before].month) == Some(month));
        month < current && (follows || starts_at(month) >= times.created_at)
    };
    let mut whole: Vec<&MonthSize> = (0..months.len()).filter(|at| is_whole(*at)).map(|at| &months[at]).collect();
    let whole = whole.split_off(whole.len().saturating_sub(MONTHS));
    if !whole.is_empty() {
        let bytes = whole.iter().map(|one| float(one.bytes)).sum::<f64>() / float(whole.len());
        return Growth::Measured { bytes, months: whole.iter().map(|one| one.month).collect() };
    }
    let Some(since) = times.processed_since.filter(|since| times.now - *since >= SHORTEST) else {
        return Growth::Unknown;
    };
    // earlier months contain only events that were loaded at the start
    let since_month = first_day(since);
    let stored: f64 = months.iter().filter(|one| one.month >= since_month).map(|one| float(one.bytes)).sum();
    let seconds = (times.now - since).as_seconds_f64();
    Growth::Extrapolated { bytes: stored / seconds * MONTH_DAYS * 86_400.0, seconds }
}

/// Bytes of the archive and the queue just before a month is removed: the retention and the longest month.
pub fn bound(growth: f64, retention: std::time::Duration) -> f64 {
    growth * (retention.as_secs_f64() / 86_400.0 + 31.0) / MONTH_DAYS
}

/// When a month is older than the retention.
pub fn expires_at(month: Date, retention: std::time::Duration) -> Option<OffsetDateTime> {
    starts_at(next(month)?).checked_add(Duration::try_from(retention).ok()?)
}

fn first_day(at: OffsetDateTime) -> Date {
    let day = at.to_offset(time::UtcOffset::UTC).date();
    day.replace_day(1).unwrap_or(day)
}

/// The month after this one.
fn next(month: Date) -> Option<Date> {
    month.checked_add(Duration::days(31))?.replace_day(1).ok()
}

fn starts_at(month: Date) -> OffsetDateTime {
    month.with_time(Time::MIDNIGHT).assume_utc()
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn float(number: impl TryInto<i64>) -> f64 {
    number.try_into().unwrap_or(i64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    const TIMES: Times = Times {
        now: datetime!(2026-11-21 00:00 UTC),
        created_at: datetime!(2026-11-01 12:00 UTC),
        processed_since: Some(datetime!(2026-11-11 00:00 UTC)),
        is_halted: false,
    };

    fn sizes(months: &[(Date, i64)]) -> Vec<MonthSize> {
        months.iter().map(|(month, bytes)| MonthSize { month: *month, bytes: *bytes }).collect()
    }

    #[test]
    fn both_partitions_of_a_month_count_and_empty_ones_do_not() {
        let part = |name: &str, month, has_rows| Relation {
            name: name.to_owned(),
            is_of_events: true,
            month,
            bytes: 10,
            has_rows,
        };
        let (october, december) = (Some(date!(2026 - 10 - 01)), Some(date!(2026 - 12 - 01)));
        let parts = [
            part("outbox_2026_10", october, true),
            part("events_2026_10", october, true),
            part("events_2026_12", december, false),
            part("events_default", None, true),
        ];
        assert_eq!(months(&parts), sizes(&[(date!(2026 - 10 - 01), 20)]));
    }

    #[test]
    fn the_growth_is_the_mean_of_whole_months() {
        let months = sizes(&[
            (date!(2026 - 07 - 01), 7),
            (date!(2026 - 08 - 01), 100),
            (date!(2026 - 09 - 01), 200),
            (date!(2026 - 10 - 01), 600),
            (date!(2026 - 11 - 01), 9000),
        ]);
        // the oldest month may have begun before the first event, and the current one has not ended
        let expected = [date!(2026 - 08 - 01), date!(2026 - 09 - 01), date!(2026 - 10 - 01)].to_vec();
        assert_eq!(growth(&months, &TIMES), Growth::Measured { bytes: 300.0, months: expected });
        // after a gap, a month may be incomplete again
        let gap = [months[0], months[2]];
        assert!(matches!(growth(&gap, &TIMES), Growth::Extrapolated { .. }));
        let old = Times { created_at: datetime!(2026-09-01 00:00 UTC), ..TIMES };
        assert_eq!(growth(&gap, &old), Growth::Measured { bytes: 200.0, months: vec![date!(2026 - 09 - 01)] });
    }

    #[test]
    fn without_a_whole_month_the_growth_is_extrapolated_after_a_day() {
        let months = sizes(&[(date!(2026 - 10 - 01), 5000), (date!(2026 - 11 - 01), 1000)]);
        let alone = &months[1..];
        let Growth::Extrapolated { bytes, seconds } = growth(alone, &TIMES) else { panic!("not extrapolated") };
        assert_eq!(format!("{bytes:.0} {seconds:.0}"), "3044 864000");
        let fresh = Times { processed_since: Some(datetime!(2026-11-20 12:00 UTC)), ..TIMES };
        assert_eq!(growth(alone, &fresh), Growth::Unknown);
        assert_eq!(growth(&[], &Times { processed_since: None, ..TIMES }), Growth::Unknown);
        // what was loaded of the month before does not count
        let imported = sizes(&[(date!(2026 - 10 - 01), 5000)]);
        assert_eq!(growth(&imported, &TIMES).bytes(), Some(0.0));
    }

    #[test]
    fn a_month_expires_when_its_last_event_is_older_than_the_retention() {
        let days = |days: u64| std::time::Duration::from_hours(days * 24);
        assert_eq!(expires_at(date!(2026 - 09 - 01), days(90)), Some(datetime!(2026-12-30 00:00 UTC)));
        assert_eq!(expires_at(date!(9999 - 12 - 01), days(90)), None);
        assert_eq!(format!("{:.0}", bound(304.4, days(90))), "1210");
    }
}
