//! The calendar functions, compared with a day-by-day search without month arithmetic.

use billing_sync::database::Connection;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sqlx::ConnectOptions;
use time::macros::datetime;
use time::{Date, OffsetDateTime};

use crate::support::cluster;

const FIRST: OffsetDateTime = datetime!(2000-01-01 00:00 UTC);
const LAST: OffsetDateTime = datetime!(2100-12-31 23:59:59 UTC);

/// Time zones in which the day, the month or the length of a day differs from UTC.
const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Pacific/Kiritimati"];

/// Whether the date is this day of its month, or the last day of a shorter month.
pub(super) fn is_day_of_renewal(date: Date, day: u8) -> bool {
    let is_last_of_month = date.next_day().is_none_or(|next| next.month() != date.month());
    date.day() == day || (is_last_of_month && date.day() < day)
}

/// The first renewal after `after`, found by checking day by day.
pub(super) fn next_by_search(anchor: OffsetDateTime, after: OffsetDateTime, day: u8) -> OffsetDateTime {
    let mut date = after.date();
    loop {
        let at = date.with_time(anchor.time()).assume_utc();
        if is_day_of_renewal(date, day) && at > after {
            return at;
        }
        date = date.next_day().unwrap();
    }
}

/// The renewal this many months after the anchor, found by stepping month by month, and then back from the day to one
/// that exists.
fn nth_by_search(anchor: OffsetDateTime, months: i32, day: u8) -> OffsetDateTime {
    let mut first = anchor.date().replace_day(1).unwrap();
    for _ in 0..months.abs() {
        // 31 days after the first of a month is in the next month; the day before the first is in the previous month
        let other = if months > 0 { first + time::Duration::days(31) } else { first.previous_day().unwrap() };
        first = other.replace_day(1).unwrap();
    }
    let date = (1..=day).rev().find_map(|day| first.replace_day(day).ok()).unwrap();
    date.with_time(anchor.time()).assume_utc()
}

fn second() -> impl Strategy<Value = OffsetDateTime> {
    let all =
        (FIRST.unix_timestamp()..LAST.unix_timestamp()).prop_map(|at| OffsetDateTime::from_unix_timestamp(at).unwrap());
    // near the ends of months
    let month_ends = (2000_i32..2101, 1_u8..13, 0_i64..6, 0_i64..86_400).prop_map(|(year, month, back, second)| {
        let month = time::Month::try_from(month).unwrap();
        let first = Date::from_calendar_date(year, month, 1).unwrap().midnight().assume_utc();
        first + time::Duration::days(31 - back) + time::Duration::seconds(second)
    });
    prop_oneof![all, month_ends].prop_map(|at| at.min(LAST - time::Duration::days(400)))
}

/// An anchor, a time before or after it, and sometimes a day that replaces the anchor's day.
fn case() -> impl Strategy<Value = (OffsetDateTime, OffsetDateTime, Option<i32>)> {
    let near = (-400_i64..800, -2_i64..3)
        .prop_map(|(days, seconds)| time::Duration::days(days) + time::Duration::seconds(seconds));
    (second(), prop_oneof![near.prop_map(Some), Just(None)], second(), proptest::option::of(1_i32..32))
        .prop_map(|(anchor, near, far, day)| (anchor, near.map_or(far, |near| (anchor + near).clamp(FIRST, LAST)), day))
}

async fn connection() -> (cluster::TestDatabase, Connection) {
    let database = cluster::database().await;
    let conn = Connection::from(database.options.connect().await.unwrap());
    (database, conn)
}

#[tokio::test]
async fn the_next_renewal_matches_a_day_by_day_search() {
    let (_database, mut conn) = connection().await;
    let mut runner = TestRunner::deterministic();
    let cases: Vec<_> = (0..20_000).map(|_| case().new_tree(&mut runner).unwrap().current()).collect();
    let anchors: Vec<_> = cases.iter().map(|one| one.0).collect();
    let afters: Vec<_> = cases.iter().map(|one| one.1).collect();
    let days: Vec<_> = cases.iter().map(|one| one.2).collect();
    for zone in ZONES {
        sqlx::query("SELECT set_config('TimeZone', $1, false)").bind(zone).execute(&mut conn).await.unwrap();
        let next: Vec<OffsetDateTime> = sqlx::query_scalar(
            "SELECT billing.next_renewal(anchor, after, day)
            FROM unnest($1::timestamptz[], $2::timestamptz[], $3::integer[]) WITH ORDINALITY AS q (anchor, after, day, ordinal)
            ORDER BY ordinal",
        )
        .bind(&anchors)
        .bind(&afters)
        .bind(&days)
        .fetch_all(&mut conn)
        .await
        .unwrap();
        for ((anchor, after, day), next) in cases.iter().zip(next) {
            let day = day.map_or(anchor.day(), |day| u8::try_from(day).unwrap());
            assert_eq!(next, next_by_search(*anchor, *after, day), "{zone}: {anchor}, {after}, {day}");
        }
    }
}

/// Each renewal has a number, negative before the anchor; the count of renewals until a time is the number of the last
/// one. Renewals are 28 to 31 days apart, because none is computed from another one.
#[tokio::test]
async fn every_renewal_is_in_its_month_and_has_its_number() {
    let (_database, mut conn) = connection().await;
    let mut runner = TestRunner::deterministic();
    let all = (second(), -300_i32..300, proptest::option::of(1_i32..32));
    let cases: Vec<_> = (0..3000).map(|_| all.new_tree(&mut runner).unwrap().current()).collect();
    let anchors: Vec<_> = cases.iter().map(|one| one.0).collect();
    let walked: Vec<_> = cases
        .iter()
        .map(|(anchor, number, day)| {
            nth_by_search(*anchor, *number, day.map_or(anchor.day(), |day| u8::try_from(day).unwrap()))
        })
        .collect();
    let numbers: Vec<_> = cases.iter().map(|one| one.1).collect();
    let days: Vec<_> = cases.iter().map(|one| one.2).collect();
    for zone in ZONES {
        sqlx::query("SELECT set_config('TimeZone', $1, false)").bind(zone).execute(&mut conn).await.unwrap();
        let found: Vec<(OffsetDateTime, OffsetDateTime, i32, i32)> = sqlx::query_as(
            "SELECT at, billing.next_renewal(anchor, at, day), billing.renewals_until(anchor, at, day),
                billing.renewals_until(anchor, at - interval '1 s', day)
            FROM unnest($1::timestamptz[], $2::integer[], $3::integer[]) WITH ORDINALITY AS q (anchor, months, day, ordinal)
            CROSS JOIN LATERAL (SELECT billing.renewal_at(anchor, months, day) AS at) AS renewal
            ORDER BY ordinal",
        )
        .bind(&anchors)
        .bind(&numbers)
        .bind(&days)
        .fetch_all(&mut conn)
        .await
        .unwrap();
        for (((anchor, number, day), expected), (at, next, until_it, before_it)) in cases.iter().zip(&walked).zip(found)
        {
            let input = (zone, anchor, number, day);
            assert_eq!((at, until_it, before_it), (*expected, *number, number - 1), "{input:?}");
            assert!((28..=31).contains(&(next - at).whole_days()), "{input:?}: {at}, {next}");
        }
    }
}

/// The planner may evaluate the functions early, and indexes may store their results, so they must be immutable.
#[tokio::test]
async fn the_calendar_is_immutable() {
    let (_database, mut conn) = connection().await;
    let others: Vec<String> = sqlx::query_scalar(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'billing'::regnamespace AND provolatile <> 'i'
            AND proname IN ('renewal_at', 'months_apart', 'renewals_until', 'next_renewal')",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(others, Vec::<String>::new());
}
