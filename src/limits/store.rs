//! The SQL statements of renewals. The functions that they call are in `migrations/0007_limit_periods.sql` and
//! `migrations/0008_limit_renewals.sql`.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::{Connection, Pool};
use crate::domain::renewal::Renewed;

/// The rules of renewal, and whether renewals are halted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The database's clock.
    pub now: OffsetDateTime,
    /// `subscription_start` or `billing_cycle`.
    pub renewal_anchor: String,
    /// Why nothing is renewed; `None` if renewals run.
    pub halted_because: Option<String>,
}

/// A period that is over and not yet renewed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Due {
    /// `subscriptions.id`
    pub subscription_id: Uuid,
    /// Its id in Stripe.
    pub stripe_subscription_id: String,
    /// Its workspace.
    pub workspace_id: Option<Uuid>,
    /// `words`, `images` …
    pub limit_key: String,
    /// When the period began.
    #[serde(with = "time::serde::rfc3339")]
    pub period_start: OffsetDateTime,
    /// When it ended: the renewal.
    #[serde(with = "time::serde::rfc3339")]
    pub period_end: OffsetDateTime,
    /// `renewed`, `inactive` or `trial_end`.
    pub outcome: String,
    /// Amount that the plan included; `None` is unlimited.
    pub included: Option<i64>,
    /// Amount used.
    pub used: i64,
    /// Amount that will be carried over.
    pub spilled_over: i64,
    /// Amount that will expire.
    pub expired: i64,
}

/// Reads the rules, and the database's time.
///
/// # Errors
/// Database errors.
pub async fn state(conn: &mut Connection) -> Result<State, sqlx::Error> {
    sqlx::query_as!(
        State,
        r#"-- limits.state
        SELECT clock_timestamp() AS "now!", renewal_anchor, halted_because FROM billing.renewal_rules"#
    )
    .fetch_one(conn)
    .await
}

/// Stores the rules; returns whether they changed.
///
/// # Errors
/// Database errors.
pub async fn set_rules(conn: &mut Connection, anchor: &str, past_due_active: bool) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query!(
        "-- limits.set_rules
        UPDATE billing.renewal_rules SET renewal_anchor = $1, past_due_active = $2
        WHERE (renewal_anchor, past_due_active) IS DISTINCT FROM ($1, $2)",
        anchor,
        past_due_active
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Halts all renewals, also those of `consume`, or repeats a halt. The process that halted them repeats it; a halt that
/// is not repeated for a minute ends, see [`end_halt`].
///
/// # Errors
/// Database errors.
pub async fn halt(conn: &mut Connection, because: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- limits.halt
        UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = $1",
        because
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a halt that is `mine`, or that is no longer repeated. Returns whether there was one.
///
/// # Errors
/// Database errors.
pub async fn end_halt(conn: &mut Connection, mine: bool) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query!(
        "-- limits.end_halt
        UPDATE billing.renewal_rules SET halted_at = NULL, halted_because = NULL
        -- a time in the future was written by a clock that has been corrected since
        WHERE halted_at IS NOT NULL
            AND ($1 OR halted_at NOT BETWEEN clock_timestamp() - interval '1 min' AND clock_timestamp())",
        mine
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// Locks some subscriptions that renew until `until` (now if `None`) or have a stale mark; returns those of which all
/// rows were locked. The caller renews them in the same transaction.
///
/// # Errors
/// Database errors.
pub async fn claim(
    conn: &mut Connection,
    until: Option<OffsetDateTime>,
    at_most: i32,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let claimed = sqlx::query_scalar!(
        r#"-- limits.claim
        SELECT billing.claim_limits(coalesce($1, clock_timestamp()), $2) AS "ids!""#,
        until,
        at_most
    );
    claimed.fetch_one(conn).await
}

/// Locks one subscription; returns false if another session holds one of its rows.
///
/// # Errors
/// Database errors.
pub async fn claim_one(conn: &mut Connection, id: Uuid) -> Result<bool, sqlx::Error> {
    let claimed = sqlx::query_scalar!(
        r#"-- limits.claim_one
        WITH locked AS MATERIALIZED (
            SELECT b.limit_key FROM billing.subscription_limits AS b WHERE b.subscription_id = $1
            ORDER BY b.limit_key FOR UPDATE SKIP LOCKED
        )
        SELECT (SELECT count(*) FROM locked)
            = (SELECT count(*) FROM billing.subscription_limits WHERE subscription_id = $1) AS "all!""#,
        id
    );
    claimed.fetch_one(conn).await
}

/// Renews the limits of claimed subscriptions until `until` (now if `None`). A subscription whose limits cannot be
/// computed is set aside, see [`super::set_aside`]; the others are renewed.
///
/// # Errors
/// Database errors.
pub async fn renew_limits(
    conn: &mut Connection,
    ids: &[Uuid],
    until: Option<OffsetDateTime>,
) -> Result<Vec<Renewed>, sqlx::Error> {
    sqlx::query_as!(
        Renewed,
        r#"-- limits.renew_limits
        SELECT outcome AS "outcome!", limit_key AS "limit_key!", renewals AS "renewals!", corrections AS "corrections!",
            least(spilled_over, 9223372036854775807)::bigint AS "spilled_over!",
            least(expired, 9223372036854775807)::bigint AS "expired!",
            coalesce(delays, '{}') AS "delays!"
        FROM billing.renew_limits_isolated($1, coalesce($2, clock_timestamp()))"#,
        ids,
        until
    )
    .fetch_all(conn)
    .await
}

/// Time until the next renewal; zero if one is due or a mark exists, `None` if none is scheduled. Set-aside
/// subscriptions do not count.
///
/// # Errors
/// Database errors.
pub async fn next_due(conn: &mut Connection) -> Result<Option<Duration>, sqlx::Error> {
    let seconds = sqlx::query_scalar!(
        r#"-- limits.next_due
        SELECT CASE
            WHEN EXISTS (SELECT FROM billing.limit_recalculations
                WHERE subscription_id <> ALL (billing.set_aside_renewals())) THEN 0
            ELSE greatest(0, extract(epoch FROM
                (SELECT min(renews_at) FROM billing.subscription_limits
                    WHERE subscription_id <> ALL (billing.set_aside_renewals())) - clock_timestamp())::double precision)
        END"#
    )
    .fetch_one(conn)
    .await?;
    // a time too far ahead for a `Duration` counts as none
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

/// Number of subscriptions with a balance due at `until` (now if `None`), without those set aside.
///
/// # Errors
/// Database errors.
pub async fn count_due(conn: &mut Connection, until: Option<OffsetDateTime>) -> Result<i64, sqlx::Error> {
    let count = sqlx::query_scalar!(
        r#"-- limits.count_due
        SELECT count(DISTINCT subscription_id) AS "count!" FROM billing.subscription_limits
        WHERE renews_at <= coalesce($1, clock_timestamp()) AND subscription_id <> ALL (billing.set_aside_renewals())"#,
        until
    );
    count.fetch_one(conn).await
}

/// The subscriptions that renew until `until`, the longest overdue first.
///
/// # Errors
/// Database errors.
pub async fn due_subscriptions(conn: &mut Connection, until: OffsetDateTime) -> Result<Vec<Uuid>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "-- limits.due_subscriptions
        SELECT subscription_id FROM billing.subscription_limits WHERE renews_at <= $1
        GROUP BY subscription_id ORDER BY min(renews_at), subscription_id",
        until
    );
    ids.fetch_all(conn).await
}

/// The periods of these subscriptions that are over at `until` and not yet renewed, in the order of `ids`.
///
/// # Errors
/// Database errors.
pub async fn due(conn: &mut Connection, ids: &[Uuid], until: OffsetDateTime) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as!(
        Due,
        r#"-- limits.due
        SELECT c.subscription_id AS "subscription_id!", s.stripe_subscription_id, s.workspace_id,
            c.limit_key AS "limit_key!", c.period_start AS "period_start!", c.period_end AS "period_end!",
            c.outcome AS "outcome!", c.included, c.used AS "used!", c.spilled_over AS "spilled_over!",
            c.expired AS "expired!"
        FROM billing.limit_periods($1, $2) AS c
        JOIN billing.subscriptions AS s ON s.id = c.subscription_id
        WHERE c.is_over AND NOT c.is_recorded
        ORDER BY array_position($1, c.subscription_id), c.limit_key, c.period_start"#,
        ids,
        until
    )
    .fetch_all(conn)
    .await
}

/// Deletes calls of `consume` whose idempotency keys are older than 30 days, some thousands at a time. Returns their
/// number.
///
/// # Errors
/// Database errors.
pub async fn forget_calls(pool: &Pool) -> Result<u64, sqlx::Error> {
    let gone = sqlx::query!(
        "-- limits.delete_old_calls
        DELETE FROM billing.consumptions AS c USING (
            SELECT old.workspace_id, old.idempotency_key FROM billing.consumptions AS old
            WHERE old.consumed_at < clock_timestamp() - interval '30 days'
            ORDER BY old.consumed_at LIMIT 5000 FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE c.workspace_id = old.workspace_id AND c.idempotency_key = old.idempotency_key"
    )
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}
