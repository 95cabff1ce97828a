//! Stores the progress of a rebuild, and finds the objects of its next page.

use crate::database::Connection;
use crate::domain::object::ObjectKey;

/// A rebuild of all rows, and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Id of its row.
    pub id: i64,
    /// The stage in progress.
    pub stage: Stage,
    /// Account of the last object that is done.
    pub account: String,
    /// The last object that is done in this stage.
    pub position: String,
    /// Objects done so far.
    pub objects: i64,
    /// Rows changed so far.
    pub changes: i64,
}

impl Run {
    /// Adds to the counts of objects and changes.
    pub fn add(&mut self, objects: usize, changes: usize) {
        self.objects += i64::try_from(objects).unwrap_or_default();
        self.changes += i64::try_from(changes).unwrap_or_default();
    }
}

/// The two halves of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Customers with all their subscriptions.
    Customers,
    /// Objects that belong to no customer: plans, coupons, checkout sessions.
    Others,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Customers => "customers",
            Self::Others => "others",
        }
    }
}

/// Returns the unfinished run, else a new one. `restart`: always a new one.
///
/// # Errors
/// Database errors.
pub async fn begin(conn: &mut Connection, restart: bool) -> Result<Run, sqlx::Error> {
    if restart {
        sqlx::query!(
            "-- rebuild.abandon\nUPDATE billing.rebuild_runs SET finished_at = clock_timestamp() WHERE finished_at IS NULL"
        )
        .execute(&mut *conn)
        .await?;
    }
    let row = sqlx::query!(
        "-- rebuild.begin
        WITH open AS (
            SELECT id, stage, account, position, objects, changes
            FROM billing.rebuild_runs WHERE finished_at IS NULL ORDER BY id DESC LIMIT 1
        ), made AS (
            INSERT INTO billing.rebuild_runs (stage)
            SELECT 'customers' WHERE NOT EXISTS (SELECT FROM open)
            RETURNING id, stage, account, position, objects, changes
        )
        SELECT id AS \"id!\", stage AS \"stage!\", account AS \"account!\", position AS \"position!\",
            objects AS \"objects!\", changes AS \"changes!\"
        FROM (SELECT * FROM open UNION ALL SELECT * FROM made) AS run"
    )
    .fetch_one(conn)
    .await?;
    let stage = if row.stage == Stage::Others.as_str() { Stage::Others } else { Stage::Customers };
    let (account, position) = (row.account, row.position);
    Ok(Run { id: row.id, stage, account, position, objects: row.objects, changes: row.changes })
}

/// Stores the progress of a run, in the transaction of its page.
///
/// # Errors
/// Database errors.
pub async fn note(conn: &mut Connection, run: &Run, finished: bool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- rebuild.save_progress
        UPDATE billing.rebuild_runs SET stage = $2, account = $3, position = $4, objects = $5, changes = $6,
            finished_at = CASE WHEN $7 THEN clock_timestamp() END
        WHERE id = $1",
        run.id,
        run.stage.as_str(),
        run.account,
        run.position,
        run.objects,
        run.changes,
        finished
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The next customers after the cursor of the run, including customers of which only subscriptions were seen.
///
/// # Errors
/// Database errors.
pub async fn customers(conn: &mut Connection, run: &Run, limit: i64) -> Result<Vec<ObjectKey>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- rebuild.customers
        SELECT DISTINCT o.account, o.customer_id AS "customer_id!"
        FROM billing.stripe_objects AS o
        WHERE o.customer_id IS NOT NULL AND o.object_type IN ('customer', 'subscription')
            AND (o.account, o.customer_id) > ($1, $2)
        ORDER BY o.account, o.customer_id
        LIMIT $3"#,
        run.account,
        run.position,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, "customer", &row.customer_id)).collect())
}

/// The ids among `ids`, customers of one's own account, for which no object is stored: neither the customer nor an
/// object that belongs to it.
///
/// # Errors
/// Database errors.
pub async fn unknown(conn: &mut Connection, ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- rebuild.unknown
        SELECT asked.id AS "id!"
        FROM unnest($1::text[]) AS asked (id)
        WHERE NOT EXISTS (
            SELECT FROM billing.stripe_objects AS o WHERE o.account = '' AND o.customer_id = asked.id)"#,
        ids
    )
    .fetch_all(conn)
    .await
}

/// The next objects after the cursor of the run that belong to no customer and have rows.
///
/// # Errors
/// Database errors.
pub async fn others(conn: &mut Connection, run: &Run, limit: i64) -> Result<Vec<ObjectKey>, sqlx::Error> {
    let (object_type, object_id) = run.position.split_once('/').unwrap_or_default();
    let rows = sqlx::query!(
        "-- rebuild.others
        SELECT o.account, o.object_type, o.object_id
        FROM billing.stripe_objects AS o
        WHERE o.object_type IN ('price', 'plan', 'coupon', 'checkout.session')
            AND (o.account, o.object_type, o.object_id) > ($1, $2, $3)
        ORDER BY o.account, o.object_type, o.object_id
        LIMIT $4",
        run.account,
        object_type,
        object_id,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ObjectKey::new(&row.account, &row.object_type, &row.object_id)).collect())
}

/// Number of the objects of a rebuild: those of [`customers`] and [`others`]. For the display of progress.
///
/// # Errors
/// Database errors.
pub async fn count(conn: &mut Connection) -> Result<u64, sqlx::Error> {
    let rows = sqlx::query_scalar!(
        r#"-- rebuild.count
        SELECT (
                SELECT count(*) FROM (
                    SELECT DISTINCT account, customer_id FROM billing.stripe_objects
                    WHERE customer_id IS NOT NULL AND object_type IN ('customer', 'subscription')) AS customer
            ) + (
                SELECT count(*) FROM billing.stripe_objects
                WHERE object_type IN ('price', 'plan', 'coupon', 'checkout.session')
            ) AS "objects!""#
    )
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(rows).unwrap_or_default())
}
