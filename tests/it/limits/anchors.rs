//! Renewals by billing cycle anchor: compared with a day-by-day search on generated histories, and named cases.

use std::collections::{BTreeMap, BTreeSet};

use billing_sync::database::Connection;
use fastrand::Rng;
use sqlx::ConnectOptions;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::calendar::{is_day_of_renewal, next_by_search};
use super::harness::{Harness, at};
use crate::support::cluster;

/// The anchor reported by an event, with the event's time and its position within the second.
#[derive(Debug, Clone, Copy)]
struct AnchorChange {
    at: OffsetDateTime,
    tie_break: i16,
    anchor: OffsetDateTime,
    day: Option<u8>,
}

/// Anchor changes of one subscription from `start` on, in the order of their times.
#[derive(Debug)]
struct History {
    start: OffsetDateTime,
    changes: Vec<AnchorChange>,
}

const UNTIL: i64 = 400;

fn later(at: OffsetDateTime, rng: &mut Rng, days: i64) -> OffsetDateTime {
    at + Duration::days(rng.i64(0..days)) + Duration::seconds(rng.i64(0..86_400))
}

fn month_after(change: AnchorChange) -> OffsetDateTime {
    next_by_search(change.anchor, change.at, change.anchor.day())
}

/// Generates current, past, future and repeated anchors; an anchor on the last day of a month may have an explicit day.
fn history(rng: &mut Rng) -> History {
    let start = later(datetime!(2027-01-25 09:15 UTC), rng, 40);
    let first = if rng.bool() { start } else { later(start, rng, 61) };
    let mut days = BTreeMap::new();
    let mut changes = vec![AnchorChange { at: start, tie_break: 0, anchor: first, day: None }];
    for _ in 0..rng.usize(..6) {
        let last = *changes.last().unwrap();
        let mut next = AnchorChange { at: later(last.at, rng, 70), tie_break: 0, ..last };
        next.anchor = match rng.u8(..8) {
            0 | 1 => next.at,
            2 => next.at - Duration::seconds(rng.i64(0..5)),
            3 | 4 => later(next.at, rng, 50),
            5 => changes[rng.usize(..changes.len())].anchor,
            _ => last.anchor,
        };
        match rng.u8(..6) {
            0 => (next.at, next.tie_break) = (last.at, last.tie_break + 1),
            // exactly when something is due
            1 => next.at = if last.anchor > last.at { last.anchor } else { month_after(last) },
            _ => {}
        }
        changes.push(next);
    }
    for one in &mut changes {
        let is_last_of_month = one.anchor.date().next_day().unwrap().day() == 1;
        let day = *days.entry(one.anchor).or_insert_with(|| is_last_of_month.then_some(31));
        one.day = if rng.bool() { day } else { None };
    }
    History { start, changes }
}

/// Checks each possible instant in order: a pending anchor is reached, or another anchor takes effect.
fn renewals_by_search(history: &History) -> Vec<(OffsetDateTime, bool)> {
    let days: BTreeMap<_, _> = history.changes.iter().filter_map(|change| Some((change.anchor, change.day?))).collect();
    let day_of = |anchor: OffsetDateTime| days.get(&anchor).copied().unwrap_or(anchor.day());
    // an anchor takes effect when its event arrives; a new anchor in the past takes effect at its own time, but not
    // before the previous one
    let (mut begins, mut latest): (Vec<(OffsetDateTime, OffsetDateTime)>, _) = (Vec::new(), history.start);
    for change in &history.changes {
        if begins.last().is_none_or(|(_, anchor)| *anchor != change.anchor) {
            let is_back = begins.iter().any(|(_, anchor)| *anchor == change.anchor);
            latest = latest.max(if is_back { change.at } else { change.at.min(change.anchor) });
            begins.push((latest, change.anchor));
        }
    }
    let times: BTreeSet<_> =
        history.changes.iter().map(|change| change.anchor.time()).chain([history.start.time()]).collect();
    let dates = (0..=UNTIL).map(|day| history.start.date() + Duration::days(day));
    let mut instants: BTreeSet<_> =
        dates.flat_map(|date| times.iter().map(move |time| date.with_time(*time).assume_utc())).collect();
    instants.extend(begins.iter().map(|(at, _)| *at));

    let mut begins = begins.into_iter().peekable();
    let (mut months_of, mut awaited) = (history.start, None);
    let mut found = Vec::new();
    for now in instants {
        let is_month = |of: OffsetDateTime| now.time() == of.time() && is_day_of_renewal(now.date(), day_of(of));
        // other anchors may take effect at the same instant
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
        if now > history.start && now <= history.start + Duration::days(UNTIL) && is_due {
            found.push((now, is_anchor));
        }
    }
    found
}

async fn write(conn: &mut Connection, histories: &[History]) {
    let rows: Vec<_> = histories
        .iter()
        .enumerate()
        .flat_map(|(history, of)| of.changes.iter().map(move |change| (history, change)))
        .collect();
    let names: Vec<String> = rows.iter().map(|(history, _)| history.to_string()).collect();
    // sources sort opposite to the positions
    let sources: Vec<String> = (0..rows.len()).map(|number| format!("evt_{}", 9_999_999 - number)).collect();
    sqlx::query(
        "INSERT INTO billing.subscription_timeline (account, subscription_id, stated_at, effective_from, source, status,
            payment_paused, tie_break, billing_cycle_anchor, anchor_day)
        SELECT '', history, at, at, source, 'active', false, tie_break, anchor, day
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::smallint[], $5::timestamptz[], $6::integer[])
            AS change (history, source, at, tie_break, anchor, day)",
    )
    .bind(names)
    .bind(sources)
    .bind(rows.iter().map(|(_, change)| change.at).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, change)| change.tie_break).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, change)| change.anchor).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, change)| change.day.map(i32::from)).collect::<Vec<_>>())
    .execute(conn)
    .await
    .unwrap();
}

/// The result is the same in one query, and in two pieces under another session time zone.
#[tokio::test]
async fn renewals_by_anchors_match_a_day_by_day_search() {
    let database = cluster::database().await;
    let mut conn = Connection::from(database.options.connect().await.unwrap());
    let mut rng = Rng::with_seed(4);
    let histories: Vec<History> = (0..600).map(|_| history(&mut rng)).collect();
    write(&mut conn, &histories).await;
    let expected: Vec<_> = histories.iter().map(renewals_by_search).collect();
    let starts: Vec<_> = histories.iter().map(|history| history.start).collect();
    for (zone, piece) in [("UTC", UNTIL), ("Pacific/Apia", 97), ("America/New_York", 64)] {
        sqlx::query("SELECT set_config('TimeZone', $1, false)").bind(zone).execute(&mut conn).await.unwrap();
        let rows: Vec<(i64, OffsetDateTime, bool)> = sqlx::query_as(
            "SELECT history - 1, r.at, r.at_anchor
            FROM unnest($1::timestamptz[]) WITH ORDINALITY AS histories (start, history)
            CROSS JOIN LATERAL (
                SELECT * FROM billing.anchored_renewals('', (history - 1)::text, start, start, start + $2 * interval '24 h')
                UNION ALL
                SELECT * FROM billing.anchored_renewals('', (history - 1)::text, start, start + $2 * interval '24 h',
                    start + $3 * interval '24 h')
            ) AS r
            ORDER BY history, r.at",
        )
        .bind(&starts)
        .bind(i32::try_from(piece).unwrap())
        .bind(i32::try_from(UNTIL).unwrap())
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let mut found: Vec<Vec<(OffsetDateTime, bool)>> = vec![Vec::new(); histories.len()];
        for (history, at, at_anchor) in rows {
            found[usize::try_from(history).unwrap()].push((at, at_anchor));
        }
        for ((history, expected), found) in histories.iter().zip(&expected).zip(&found) {
            assert_eq!(found, expected, "{zone}: {history:#?}");
        }
    }
}

/// A trial is extended, and then the extension is revoked.
#[tokio::test]
async fn a_repeated_anchor_counts_again() {
    let mut harness = Harness::new().await;
    harness.renew_by_anchor().await;
    let trial = |time: &str, end: &str| at(time).status("trialing").anchor(end);
    let (short, long) = ("2026-03-01T00:00:00Z", "2026-03-20T00:00:00Z");
    harness.emit(&[trial("2026-01-10T00:00:00Z", short), trial("2026-02-01T00:00:00Z", long)]).await;
    harness.renew_until("2026-02-02T00:00:00Z").await;
    harness.emit(&[trial("2026-02-05T00:00:00Z", short), at(short).anchor(short)]).await;
    harness.renew_until("2026-04-01T00:00:00Z").await;
    assert_eq!(
        harness.ledger().await,
        [
            "2026-02-10 00:00 renewed: 1000+0-0>1000",
            "2026-03-01 00:00 trial_end: 1000+1000-0>0",
            "2026-04-01 00:00 renewed: 1000+0-0>1000",
        ]
    );
}

/// The periods in between keep the anchor known at their time.
#[tokio::test]
async fn a_repeated_past_anchor_counts_from_its_repetition() {
    let mut harness = Harness::new().await;
    harness.renew_by_anchor().await;
    let (first, second) = ("2026-01-10T00:00:00Z", "2026-01-25T00:00:00Z");
    harness.emit(&[at(first).anchor(first), at(second).anchor(second), at("2026-03-15T00:00:00Z").anchor(first)]).await;
    harness.renew_until("2026-05-10T00:00:00Z").await;
    let ends = ["01-25", "02-25", "04-10", "05-10"].map(|day| format!("2026-{day}T00:00:00Z"));
    assert_eq!(harness.ends().await, ends);
}

#[tokio::test]
async fn a_due_anchor_counts_beside_a_repeated_older_one() {
    let mut harness = Harness::new().await;
    harness.renew_by_anchor().await;
    let (first, awaited) = ("2026-01-10T00:00:00Z", "2026-03-05T00:00:00Z");
    harness
        .emit(&[at(first).anchor(first), at("2026-02-12T00:00:00Z").anchor(awaited), at(awaited).anchor(first)])
        .await;
    harness.renew_until("2026-04-10T00:00:00Z").await;
    let ends = ["02-10", "03-05", "03-10", "04-10"].map(|day| format!("2026-{day}T00:00:00Z"));
    assert_eq!(harness.ends().await, ends);
}

/// A new anchor exactly at a renewal counts for the next period, as a plan change does.
#[tokio::test]
async fn a_period_ending_at_a_repeated_anchor_is_renewed() {
    for known_before in [true, false] {
        let mut harness = Harness::new().await;
        harness.renew_by_anchor().await;
        let (first, second, back) = ("2026-01-10T00:00:00Z", "2026-01-25T00:00:00Z", "2026-03-25T00:00:00Z");
        harness.emit(&[at(first).anchor(first), at(second).anchor(second)]).await;
        if !known_before {
            harness.renew_until(back).await;
        }
        harness.emit(&[at(back).anchor(first)]).await;
        harness.renew_until("2026-04-10T00:00:00Z").await;
        let ends = ["01-25", "02-25", "03-25", "04-10"].map(|day| format!("2026-{day}T00:00:00Z"));
        assert_eq!(harness.ends().await, ends);
    }
}

/// Periods continue from the last anchor that was reached while in effect.
#[tokio::test]
async fn an_anchor_replaced_before_its_time_does_not_count() {
    let mut harness = Harness::new().await;
    harness.renew_by_anchor().await;
    let start = "2026-01-10T00:00:00Z";
    harness
        .emit(&[
            at(start).anchor(start),
            at("2026-02-11T00:00:00Z").anchor("2026-03-25T00:00:00Z"),
            at("2026-02-12T00:00:00Z").anchor("2026-02-28T00:00:00Z"),
            at("2026-03-26T00:00:00Z").anchor("2026-05-15T00:00:00Z"),
        ])
        .await;
    harness.renew_until("2026-05-15T00:00:00Z").await;
    let ends = ["02-10", "02-28", "03-28", "04-28", "05-15"].map(|day| format!("2026-{day}T00:00:00Z"));
    assert_eq!(harness.ends().await, ends);
}

#[tokio::test]
async fn the_last_anchor_of_a_second_counts() {
    let mut harness = Harness::new().await;
    harness.renew_by_anchor().await;
    // the trial ends in the second in which the subscription was created
    let start = "2026-01-10T00:00:00Z";
    harness.emit(&[at(start).status("trialing").anchor("2026-03-01T00:00:00Z"), at(start).anchor(start).last()]).await;
    harness.renew_until("2026-03-10T00:00:00Z").await;
    assert_eq!(harness.ends().await, ["2026-02-10T00:00:00Z", "2026-03-10T00:00:00Z"]);
}
