//! The timeline of subscriptions: what each was, and since when. Its rows only add, like all facts.
//!
//! Stripe's times are whole seconds, so rows may share one. Which of them is the last is what the walk says, as for the
//! present; it is kept in their `place`, since renewals ask for any time of the past. Called in the transaction that
//! holds the locks of the subscriptions.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::fold::Fact;
use super::rows::recordset;
use crate::domain::object::ObjectKey;
use crate::mirror::heads;
use crate::mirror::merge::Arrival;
use crate::mirror::rows::columns;

/// Adds what `facts` say, with `arrivals` as the events that have not been settled yet. Returns the subscriptions whose
/// timeline has grown, and since when it may be another one.
///
/// # Errors
/// Those of the database.
pub async fn add(
    conn: &mut PgConnection,
    facts: &[(String, Fact)],
    arrivals: &[Arrival],
) -> Result<BTreeMap<ObjectKey, OffsetDateTime>, sqlx::Error> {
    let grown = insert(conn, facts).await?;
    if !grown.is_empty() {
        let shared = shared_seconds(conn, &grown).await?;
        if !shared.is_empty() {
            place(conn, &shared, arrivals).await?;
        }
    }
    Ok(grown)
}

async fn insert(
    conn: &mut PgConnection,
    facts: &[(String, Fact)],
) -> Result<BTreeMap<ObjectKey, OffsetDateTime>, sqlx::Error> {
    let Some(rows) = recordset(facts, |fact| matches!(fact, Fact::Timeline { .. }))? else {
        return Ok(BTreeMap::new());
    };
    let grown = sqlx::query!(
        r#"-- facts.add_timeline
        WITH added AS (
            INSERT INTO billing.subscription_timeline
                (account, subscription_id, effective_from, source, status, payment_paused, ended_at, stripe_price_id,
                 start_date, billing_cycle_anchor, anchor_day, place)
            SELECT account, subscription_id, effective_from, source, status, payment_paused, ended_at, stripe_price_id,
                start_date, billing_cycle_anchor, anchor_day, CASE WHEN source = 'read' THEN -1 ELSE 0 END
            FROM json_populate_recordset(NULL::billing.subscription_timeline, $1::text::json)
            ORDER BY account, subscription_id, effective_from, source
            ON CONFLICT DO NOTHING
            RETURNING account, subscription_id, effective_from
        )
        SELECT account, subscription_id, min(effective_from) AS "since!" FROM added GROUP BY account, subscription_id"#,
        rows
    )
    .fetch_all(conn)
    .await?;
    Ok(grown
        .into_iter()
        .map(|row| (ObjectKey::new(&row.account, "subscription", &row.subscription_id), row.since))
        .collect())
}

/// The seconds in which events differ, from those times on: where a second ends can hang on the one before it.
async fn shared_seconds(
    conn: &mut PgConnection,
    grown: &BTreeMap<ObjectKey, OffsetDateTime>,
) -> Result<Vec<(ObjectKey, OffsetDateTime)>, sqlx::Error> {
    let (accounts, _, ids) = columns(grown.keys());
    let since: Vec<OffsetDateTime> = grown.values().copied().collect();
    let rows = sqlx::query!(
        "-- facts.shared_seconds
        SELECT t.account, t.subscription_id, t.effective_from
        FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS grown (account, subscription_id, since)
        CROSS JOIN LATERAL (
            SELECT * FROM billing.subscription_timeline AS t
            WHERE t.account = grown.account AND t.subscription_id = grown.subscription_id
                AND t.effective_from >= grown.since AND t.source <> 'read'
            OFFSET 0
        ) AS t
        GROUP BY t.account, t.subscription_id, t.effective_from
        HAVING count(DISTINCT (t.status, t.payment_paused, t.ended_at, t.stripe_price_id, t.start_date,
            t.billing_cycle_anchor, t.anchor_day)) > 1",
        &accounts,
        &ids,
        &since
    )
    .fetch_all(conn)
    .await?;
    let key = |account: &str, id: &str| ObjectKey::new(account, "subscription", id);
    Ok(rows.into_iter().map(|row| (key(&row.account, &row.subscription_id), row.effective_from)).collect())
}

async fn place(
    conn: &mut PgConnection,
    seconds: &[(ObjectKey, OffsetDateTime)],
    arrivals: &[Arrival],
) -> Result<(), sqlx::Error> {
    let ends = heads::of_seconds(conn, seconds, arrivals).await?;
    let (accounts, _, ids) = columns(ends.iter().map(|(key, _)| key));
    let created: Vec<OffsetDateTime> = ends.iter().map(|(_, head)| head.snapshot.created).collect();
    let events: Vec<String> = ends.into_iter().map(|(_, head)| head.snapshot.event_id).collect();
    sqlx::query!(
        "-- facts.place
        UPDATE billing.subscription_timeline AS t SET place = (t.source = last.event_id)::int::smallint
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
            AS last (account, subscription_id, effective_from, event_id)
        WHERE t.account = last.account AND t.subscription_id = last.subscription_id
            AND t.effective_from = last.effective_from AND t.source <> 'read'
            AND t.place <> (t.source = last.event_id)::int",
        &accounts,
        &ids,
        &created,
        &events
    )
    .execute(conn)
    .await?;
    Ok(())
}
