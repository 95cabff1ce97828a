//! The timeline of subscriptions: the state of each, and since when. Its rows are only added to, like all facts.
//!
//! Stripe's times are whole seconds, so rows may share one. [`crate::mirror::same_second`] decides which of them is the
//! last, as for the current state; `tie_break` stores it, because renewals need the state at any time in the past.
//! Called in the transaction that holds the locks of the subscriptions.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::fold::Fact;
use super::store::recordset;
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::mirror::heads;
use crate::mirror::incoming::Arrival;
use crate::mirror::store::columns;

/// An added row.
struct Added {
    key: ObjectKey,
    stated_at: OffsetDateTime,
    source: String,
    effective_from: OffsetDateTime,
}

/// Adds the timeline rows of `facts`; `arrivals` are the events that are not settled yet. Returns the subscriptions
/// whose state differs from what was known, and since when.
///
/// # Errors
/// Database errors.
pub async fn add(
    conn: &mut Connection,
    facts: &[(String, Fact)],
    arrivals: &[Arrival],
) -> Result<BTreeMap<ObjectKey, OffsetDateTime>, sqlx::Error> {
    let mut added = insert(conn, facts).await?;
    let scheduled = schedule(conn, facts, &mut added).await?;
    if added.is_empty() {
        return Ok(scheduled);
    }
    let shared = shared_seconds(conn, &added).await?;
    if !shared.is_empty() {
        break_ties(conn, &shared, arrivals).await?;
    }
    // if the order within a second changed, so may everything since
    let reordered: BTreeSet<&ObjectKey> = shared.iter().map(|(key, _)| key).collect();
    let differing = differing(conn, &added).await?;
    let mut since = scheduled;
    for (row, differs) in added.iter().zip(differing) {
        if differs || reordered.contains(&row.key) {
            let earliest = since.entry(row.key.clone()).or_insert(row.effective_from);
            *earliest = row.effective_from.min(*earliest);
        }
    }
    Ok(since)
}

async fn insert(conn: &mut Connection, facts: &[(String, Fact)]) -> Result<Vec<Added>, sqlx::Error> {
    let Some(rows) = recordset(facts, |fact| matches!(fact, Fact::Timeline { .. }))? else {
        return Ok(Vec::new());
    };
    let added = sqlx::query!(
        "-- facts.add_timeline
        INSERT INTO billing.subscription_timeline
            (account, subscription_id, stated_at, source, tie_break, effective_from, may_be_scheduled, status, payment_paused,
             ended_at, price_ids, quantities, start_date, billing_cycle_anchor, anchor_day)
        SELECT account, subscription_id, stated_at, source, CASE WHEN source = 'read' THEN -1 ELSE 0 END, effective_from,
            may_be_scheduled, status, payment_paused, ended_at, price_ids, quantities, start_date, billing_cycle_anchor, anchor_day
        FROM json_populate_recordset(NULL::billing.subscription_timeline, $1::text::json)
        ORDER BY account, subscription_id, stated_at, source
        ON CONFLICT DO NOTHING
        RETURNING account, subscription_id, stated_at, source, effective_from",
        rows
    )
    .fetch_all(conn)
    .await?;
    let row = |row: (String, String, OffsetDateTime, String, OffsetDateTime)| Added {
        key: ObjectKey::new(&row.0, "subscription", &row.1),
        stated_at: row.2,
        source: row.3,
        effective_from: row.4,
    };
    let columns =
        added.into_iter().map(|one| (one.account, one.subscription_id, one.stated_at, one.source, one.effective_from));
    Ok(columns.map(row).collect())
}

/// Adds the phases of schedules, and dates changes of items to the phase that made them, whichever arrived first.
/// Returns the subscriptions for which another row than an added one was dated differently, and since when.
async fn schedule(
    conn: &mut Connection,
    facts: &[(String, Fact)],
    added: &mut [Added],
) -> Result<BTreeMap<ObjectKey, OffsetDateTime>, sqlx::Error> {
    let phases = recordset(facts, |fact| matches!(fact, Fact::Phase { .. }))?;
    let of_phases = facts.iter().filter_map(|(account, fact)| match fact {
        Fact::Phase { subscription_id, .. } => Some(ObjectKey::new(account, "subscription", subscription_id)),
        _ => None,
    });
    let keys: BTreeSet<ObjectKey> = of_phases.chain(added.iter().map(|row| row.key.clone())).collect();
    if let Some(rows) = phases {
        sqlx::query!(
            "-- facts.add_phases
            INSERT INTO billing.phase_facts (account, subscription_id, starts_at, price_ids, quantities)
            SELECT DISTINCT account, subscription_id, starts_at, price_ids, quantities
            FROM json_populate_recordset(NULL::billing.phase_facts, $1::text::json)
            ORDER BY account, subscription_id, starts_at, price_ids, quantities
            ON CONFLICT DO NOTHING",
            rows
        )
        .execute(&mut *conn)
        .await?;
    }
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (accounts, _, ids) = columns(keys.iter());
    let moved = sqlx::query!(
        r#"-- facts.schedule_timeline
        UPDATE billing.subscription_timeline AS t SET effective_from = due.effective_from
        FROM (
            SELECT c.account, c.subscription_id, c.stated_at, c.source, c.effective_from AS before,
                coalesce(billing.scheduled_at(c.account, c.subscription_id, c.stated_at, c.price_ids, c.quantities), c.stated_at)
                    AS effective_from
            FROM unnest($1::text[], $2::text[]) AS grown (account, subscription_id)
            CROSS JOIN LATERAL (
                SELECT * FROM billing.subscription_timeline AS c
                WHERE c.account = grown.account AND c.subscription_id = grown.subscription_id AND c.may_be_scheduled
                OFFSET 0
            ) AS c
        ) AS due
        WHERE t.account = due.account AND t.subscription_id = due.subscription_id AND t.stated_at = due.stated_at
            AND t.source = due.source AND t.effective_from <> due.effective_from
        RETURNING t.account, t.subscription_id, t.stated_at, t.source, t.effective_from, least(t.effective_from, due.before) AS "since!""#,
        &accounts,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let mut since = BTreeMap::new();
    for row in moved {
        let key = ObjectKey::new(&row.account, "subscription", &row.subscription_id);
        let is_it = |one: &&mut Added| one.key == key && one.stated_at == row.stated_at && one.source == row.source;
        if let Some(one) = added.iter_mut().find(is_it) {
            one.effective_from = row.effective_from;
        } else {
            let earliest = since.entry(key).or_insert(row.since);
            *earliest = row.since.min(*earliest);
        }
    }
    Ok(since)
}

/// For each added row, whether it differs from the row before it, or has the same state from an earlier time. Most
/// events of a subscription change nothing about its limits.
async fn differing(conn: &mut Connection, added: &[Added]) -> Result<Vec<bool>, sqlx::Error> {
    let (accounts, _, ids) = columns(added.iter().map(|row| &row.key));
    let stated_at: Vec<OffsetDateTime> = added.iter().map(|row| row.stated_at).collect();
    let sources: Vec<String> = added.iter().map(|row| row.source.clone()).collect();
    let differing = sqlx::query_scalar!(
        r#"-- facts.timeline_differs
        SELECT before.effective_from IS NULL OR before.effective_from > t.effective_from
            OR (before.status, before.payment_paused, before.ended_at, before.price_ids, before.quantities, before.start_date,
                before.billing_cycle_anchor, before.anchor_day)
                IS DISTINCT FROM (t.status, t.payment_paused, t.ended_at, t.price_ids, t.quantities, t.start_date,
                t.billing_cycle_anchor, t.anchor_day) AS "differs!"
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) WITH ORDINALITY
            AS added (account, subscription_id, stated_at, source, number)
        CROSS JOIN LATERAL (
            SELECT * FROM billing.subscription_timeline AS t
            WHERE t.account = added.account AND t.subscription_id = added.subscription_id
                AND t.stated_at = added.stated_at AND t.source = added.source
            OFFSET 0
        ) AS t
        LEFT JOIN LATERAL (
            SELECT b.* FROM billing.subscription_timeline AS b
            WHERE b.account = t.account AND b.subscription_id = t.subscription_id
                AND (b.stated_at, b.tie_break, b.source) < (t.stated_at, t.tie_break, t.source) AND b.stated_at <= t.stated_at
            ORDER BY b.stated_at DESC, b.tie_break DESC, b.source DESC
            LIMIT 1
        ) AS before ON true
        ORDER BY added.number"#,
        &accounts,
        &ids,
        &stated_at,
        &sources
    );
    differing.fetch_all(conn).await
}

/// The seconds with differing events, from the times of the added rows on: the end of a second can depend on the second
/// before.
async fn shared_seconds(
    conn: &mut Connection,
    added: &[Added],
) -> Result<Vec<(ObjectKey, OffsetDateTime)>, sqlx::Error> {
    let (accounts, _, ids) = columns(added.iter().map(|row| &row.key));
    let since: Vec<OffsetDateTime> = added.iter().map(|row| row.stated_at).collect();
    let rows = sqlx::query!(
        "-- facts.shared_seconds
        SELECT t.account, t.subscription_id, t.stated_at
        FROM (
            SELECT account, subscription_id, min(since) AS since
            FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS added (account, subscription_id, since)
            GROUP BY account, subscription_id
        ) AS grown
        CROSS JOIN LATERAL (
            SELECT * FROM billing.subscription_timeline AS t
            WHERE t.account = grown.account AND t.subscription_id = grown.subscription_id
                AND t.stated_at >= grown.since AND t.source <> 'read'
            OFFSET 0
        ) AS t
        GROUP BY t.account, t.subscription_id, t.stated_at
        HAVING count(DISTINCT (t.status, t.payment_paused, t.ended_at, t.price_ids, t.quantities, t.start_date,
            t.billing_cycle_anchor, t.anchor_day)) > 1",
        &accounts,
        &ids,
        &since
    )
    .fetch_all(conn)
    .await?;
    let key = |account: &str, id: &str| ObjectKey::new(account, "subscription", id);
    Ok(rows.into_iter().map(|row| (key(&row.account, &row.subscription_id), row.stated_at)).collect())
}

async fn break_ties(
    conn: &mut Connection,
    seconds: &[(ObjectKey, OffsetDateTime)],
    arrivals: &[Arrival],
) -> Result<(), sqlx::Error> {
    let ends = heads::of_seconds(conn, seconds, arrivals).await?;
    let (accounts, _, ids) = columns(ends.iter().map(|(key, _)| key));
    let created: Vec<OffsetDateTime> = ends.iter().map(|(_, head)| head.snapshot.created).collect();
    let events: Vec<String> = ends.into_iter().map(|(_, head)| head.snapshot.event_id).collect();
    sqlx::query!(
        "-- facts.break_ties
        UPDATE billing.subscription_timeline AS t SET tie_break = (t.source = last.event_id)::int::smallint
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
            AS last (account, subscription_id, stated_at, event_id)
        WHERE t.account = last.account AND t.subscription_id = last.subscription_id
            AND t.stated_at = last.stated_at AND t.source <> 'read'
            AND t.tie_break <> (t.source = last.event_id)::int
            -- the order within a second is unknown if one of its events was redacted
            AND NOT EXISTS (
                SELECT FROM billing.subscription_timeline AS other
                JOIN billing.events AS e ON e.event_id = other.source AND e.created = other.stated_at
                WHERE other.account = t.account AND other.subscription_id = t.subscription_id
                    AND other.stated_at = t.stated_at AND e.payload IS NULL)",
        &accounts,
        &ids,
        &created,
        &events
    )
    .execute(conn)
    .await?;
    Ok(())
}
