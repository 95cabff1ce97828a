//! Renewals by the billing cycle anchors, held against a walk through the days that awaits one anchor after the other, and
//! the cases behind it.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use sqlx::{ConnectOptions, PgConnection};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::calendar::{is_day_of_renewal, next_by_walking};
use super::harness::{Harness, at};
use crate::support::cluster;

/// What an event said of the anchor: at which time, in which place of its second.
#[derive(Debug, Clone, Copy)]
struct Told {
    at: OffsetDateTime,
    place: i16,
    anchor: OffsetDateTime,
    day: Option<u8>,
}

/// From `start`, in the order of their times.
#[derive(Debug)]
struct Life {
    start: OffsetDateTime,
    told: Vec<Told>,
}

const UNTIL: i64 = 400;

fn later(at: OffsetDateTime, rng: &mut Rng, days: i64) -> OffsetDateTime {
    at + Duration::days(rng.i64(0..days)) + Duration::seconds(rng.i64(0..86_400))
}

fn month_after(told: Told) -> OffsetDateTime {
    next_by_walking(told.anchor, told.at, told.anchor.day())
}

/// Anchors of now, of the past, of the future and of before; of the last day of a month, for which a day may stand.
fn life(rng: &mut Rng) -> Life {
    let start = later(datetime!(2027-01-25 09:15 UTC), rng, 40);
    let first = if rng.bool() { start } else { later(start, rng, 61) };
    let mut days = BTreeMap::new();
    let mut told = vec![Told { at: start, place: 0, anchor: first, day: None }];
    for _ in 0..rng.usize(..6) {
        let last = *told.last().unwrap();
        let mut next = Told { at: later(last.at, rng, 70), place: 0, ..last };
        next.anchor = match rng.u8(..8) {
            0 | 1 => next.at,
            2 => next.at - Duration::seconds(rng.i64(0..5)),
            3 | 4 => later(next.at, rng, 50),
            5 => told[rng.usize(..told.len())].anchor,
            _ => last.anchor,
        };
        match rng.u8(..6) {
            0 => (next.at, next.place) = (last.at, last.place + 1),
            // just when something is due
            1 => next.at = if last.anchor > last.at { last.anchor } else { month_after(last) },
            _ => {}
        }
        told.push(next);
    }
    for one in &mut told {
        let is_last_of_month = one.anchor.date().next_day().unwrap().day() == 1;
        let day = *days.entry(one.anchor).or_insert_with(|| is_last_of_month.then_some(31));
        one.day = if rng.bool() { day } else { None };
    }
    Life { start, told }
}

/// Each instant at which a renewal may be, in turn: what is awaited is reached, or another anchor begins to count.
fn renewals_by_walking(life: &Life) -> Vec<(OffsetDateTime, bool)> {
    let days: BTreeMap<_, _> = life.told.iter().filter_map(|told| Some((told.anchor, told.day?))).collect();
    let day_of = |anchor: OffsetDateTime| days.get(&anchor).copied().unwrap_or(anchor.day());
    // an anchor begins to count when it is told or, where that is new and comes after it, at itself, and not before the one
    // before it
    let (mut begins, mut latest): (Vec<(OffsetDateTime, OffsetDateTime)>, _) = (Vec::new(), life.start);
    for told in &life.told {
        if begins.last().is_none_or(|(_, anchor)| *anchor != told.anchor) {
            let is_back = begins.iter().any(|(_, anchor)| *anchor == told.anchor);
            latest = latest.max(if is_back { told.at } else { told.at.min(told.anchor) });
            begins.push((latest, told.anchor));
        }
    }
    let times: BTreeSet<_> = life.told.iter().map(|told| told.anchor.time()).chain([life.start.time()]).collect();
    let dates = (0..=UNTIL).map(|day| life.start.date() + Duration::days(day));
    let mut instants: BTreeSet<_> =
        dates.flat_map(|date| times.iter().map(move |time| date.with_time(*time).assume_utc())).collect();
    instants.extend(begins.iter().map(|(at, _)| *at));

    let mut begins = begins.into_iter().peekable();
    let (mut months_of, mut awaited) = (life.start, None);
    let mut found = Vec::new();
    for now in instants {
        let is_month = |of: OffsetDateTime| now.time() == of.time() && is_day_of_renewal(now.date(), day_of(of));
        // whatever else begins to count at that very time
        let (mut is_anchor, was_due) = (false, is_month(months_of));
        loop {
            if awaited == Some(now) {
                (months_of, awaited, is_anchor) = (now, None, true);
            }
            match begins.next_if(|(at, _)| *at <= now) {
                None => break,
                Some((_, anchor)) if anchor < now => (months_of, awaited) = (anchor, None),
                Some((_, anchor)) => awaited = Some(anchor),
            }
        }
        let is_due = is_anchor || was_due || is_month(months_of);
        if now > life.start && now <= life.start + Duration::days(UNTIL) && is_due {
            found.push((now, is_anchor));
        }
    }
    found
}

async fn write(conn: &mut PgConnection, lives: &[Life]) {
    let rows: Vec<_> =
        lives.iter().enumerate().flat_map(|(life, of)| of.told.iter().map(move |told| (life, told))).collect();
    let names: Vec<String> = rows.iter().map(|(life, _)| life.to_string()).collect();
    // the sources run against the places
    let sources: Vec<String> = (0..rows.len()).map(|number| format!("evt_{}", 9_999_999 - number)).collect();
    sqlx::query(
        "INSERT INTO billing.subscription_timeline (account, subscription_id, stated_at, effective_from, source, status,
            payment_paused, tie_break, billing_cycle_anchor, anchor_day)
        SELECT '', life, at, at, source, 'active', false, place, anchor, day
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::smallint[], $5::timestamptz[], $6::integer[])
            AS told (life, source, at, place, anchor, day)",
    )
    .bind(names)
    .bind(sources)
    .bind(rows.iter().map(|(_, told)| told.at).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, told)| told.place).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, told)| told.anchor).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, told)| told.day.map(i32::from)).collect::<Vec<_>>())
    .execute(conn)
    .await
    .unwrap();
}

/// The same whether they are asked for at once or, in another session's time zone, in two pieces.
#[tokio::test]
async fn the_renewals_by_anchors_are_those_of_a_walk_that_awaits_one_after_the_other() {
    let database = cluster::database().await;
    let mut conn = database.options.connect().await.unwrap();
    let mut rng = Rng::with_seed(4);
    let lives: Vec<Life> = (0..600).map(|_| life(&mut rng)).collect();
    write(&mut conn, &lives).await;
    let expected: Vec<_> = lives.iter().map(renewals_by_walking).collect();
    let starts: Vec<_> = lives.iter().map(|life| life.start).collect();
    for (zone, piece) in [("UTC", UNTIL), ("Pacific/Apia", 97), ("America/New_York", 64)] {
        sqlx::query("SELECT set_config('TimeZone', $1, false)").bind(zone).execute(&mut conn).await.unwrap();
        let rows: Vec<(i64, OffsetDateTime, bool)> = sqlx::query_as(
            "SELECT life - 1, r.at, r.at_anchor
            FROM unnest($1::timestamptz[]) WITH ORDINALITY AS lives (start, life)
            CROSS JOIN LATERAL (
                SELECT * FROM billing.anchored_renewals('', (life - 1)::text, start, start, start + $2 * interval '24 h')
                UNION ALL
                SELECT * FROM billing.anchored_renewals('', (life - 1)::text, start, start + $2 * interval '24 h',
                    start + $3 * interval '24 h')
            ) AS r
            ORDER BY life, r.at",
        )
        .bind(&starts)
        .bind(i32::try_from(piece).unwrap())
        .bind(i32::try_from(UNTIL).unwrap())
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let mut found: Vec<Vec<(OffsetDateTime, bool)>> = vec![Vec::new(); lives.len()];
        for (life, at, at_anchor) in rows {
            found[usize::try_from(life).unwrap()].push((at, at_anchor));
        }
        for ((life, expected), found) in lives.iter().zip(&expected).zip(&found) {
            assert_eq!(found, expected, "{zone}: {life:#?}");
        }
    }
}

/// A trial is made longer, and then it is not.
#[tokio::test]
async fn an_anchor_that_comes_back_counts_again() {
    let mut ground = Harness::new().await;
    ground.anchors_count().await;
    let trial = |time: &str, end: &str| at(time).status("trialing").anchor(end);
    let (short, long) = ("2026-03-01T00:00:00Z", "2026-03-20T00:00:00Z");
    ground.emit(&[trial("2026-01-10T00:00:00Z", short), trial("2026-02-01T00:00:00Z", long)]).await;
    ground.until("2026-02-02T00:00:00Z").await;
    ground.emit(&[trial("2026-02-05T00:00:00Z", short), at(short).anchor(short)]).await;
    ground.until("2026-04-01T00:00:00Z").await;
    assert_eq!(
        ground.ledger().await,
        [
            "2026-02-10 00:00 renewed: 1000+0-0>1000",
            "2026-03-01 00:00 trial_end: 1000+1000-0>0",
            "2026-04-01 00:00 renewed: 1000+0-0>1000",
        ]
    );
}

/// What lies between is as it was told then.
#[tokio::test]
async fn an_anchor_of_the_past_that_comes_back_counts_from_when_it_is_told_again() {
    let mut ground = Harness::new().await;
    ground.anchors_count().await;
    let (first, second) = ("2026-01-10T00:00:00Z", "2026-01-25T00:00:00Z");
    ground.emit(&[at(first).anchor(first), at(second).anchor(second), at("2026-03-15T00:00:00Z").anchor(first)]).await;
    ground.until("2026-05-10T00:00:00Z").await;
    let ends = ["01-25", "02-25", "04-10", "05-10"].map(|day| format!("2026-{day}T00:00:00Z"));
    assert_eq!(ground.ends().await, ends);
}

#[tokio::test]
async fn what_is_awaited_comes_though_an_older_anchor_is_told_again_just_then() {
    let mut ground = Harness::new().await;
    ground.anchors_count().await;
    let (first, awaited) = ("2026-01-10T00:00:00Z", "2026-03-05T00:00:00Z");
    ground
        .emit(&[at(first).anchor(first), at("2026-02-12T00:00:00Z").anchor(awaited), at(awaited).anchor(first)])
        .await;
    ground.until("2026-04-10T00:00:00Z").await;
    let ends = ["02-10", "03-05", "03-10", "04-10"].map(|day| format!("2026-{day}T00:00:00Z"));
    assert_eq!(ground.ends().await, ends);
}

/// As a change of the plan at that very time counts for the next month, so does another anchor.
#[tokio::test]
async fn a_month_that_is_over_just_when_an_older_anchor_is_told_again_is_renewed() {
    for known_before in [true, false] {
        let mut ground = Harness::new().await;
        ground.anchors_count().await;
        let (first, second, back) = ("2026-01-10T00:00:00Z", "2026-01-25T00:00:00Z", "2026-03-25T00:00:00Z");
        ground.emit(&[at(first).anchor(first), at(second).anchor(second)]).await;
        if !known_before {
            ground.until(back).await;
        }
        ground.emit(&[at(back).anchor(first)]).await;
        ground.until("2026-04-10T00:00:00Z").await;
        let ends = ["01-25", "02-25", "03-25", "04-10"].map(|day| format!("2026-{day}T00:00:00Z"));
        assert_eq!(ground.ends().await, ends);
    }
}

/// The months go on from the last anchor that came while it counted.
#[tokio::test]
async fn an_anchor_that_was_replaced_before_it_came_is_none() {
    let mut ground = Harness::new().await;
    ground.anchors_count().await;
    let start = "2026-01-10T00:00:00Z";
    ground
        .emit(&[
            at(start).anchor(start),
            at("2026-02-11T00:00:00Z").anchor("2026-03-25T00:00:00Z"),
            at("2026-02-12T00:00:00Z").anchor("2026-02-28T00:00:00Z"),
            at("2026-03-26T00:00:00Z").anchor("2026-05-15T00:00:00Z"),
        ])
        .await;
    ground.until("2026-05-15T00:00:00Z").await;
    let ends = ["02-10", "02-28", "03-28", "04-28", "05-15"].map(|day| format!("2026-{day}T00:00:00Z"));
    assert_eq!(ground.ends().await, ends);
}

#[tokio::test]
async fn of_one_second_the_anchor_counts_that_was_the_last() {
    let mut ground = Harness::new().await;
    ground.anchors_count().await;
    // in the second in which it is sold its trial is ended
    let start = "2026-01-10T00:00:00Z";
    ground.emit(&[at(start).status("trialing").anchor("2026-03-01T00:00:00Z"), at(start).anchor(start).last()]).await;
    ground.until("2026-03-10T00:00:00Z").await;
    assert_eq!(ground.ends().await, ["2026-02-10T00:00:00Z", "2026-03-10T00:00:00Z"]);
}
