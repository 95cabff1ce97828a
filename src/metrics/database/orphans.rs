//! Orphans, counted in the database: live rows without their workspace, price or customer.

use prometheus::{GaugeVec, Opts, Registry};

use crate::database::Connection;
use crate::domain::orphan;

/// SQLSTATE of a statement that took too long.
const QUERY_CANCELED: &str = "57014";

/// Maximum count of orphans of one kind: if no workspace is ever set, every customer is an orphan.
pub const MOST_ORPHANS: i64 = 1000;

/// Orphans of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Orphans {
    /// The kind.
    pub kind: String,
    /// Their number, exact below [`MOST_ORPHANS`].
    pub count: i64,
}

/// The orphans, or `None` if counting them takes too long; then only their gauge is absent. Must be called last,
/// because its timeout applies until the transaction ends.
pub(super) async fn orphans_in_time(conn: &mut Connection) -> Result<Option<Vec<Orphans>>, sqlx::Error> {
    let mut savepoint = conn.begin().await?;
    sqlx::query!("-- metrics.orphans_timeout\nSET LOCAL statement_timeout = '300ms'").execute(&mut *savepoint).await?;
    match orphans(&mut savepoint).await {
        Ok(orphans) => {
            savepoint.commit().await?;
            Ok(Some(orphans))
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(QUERY_CANCELED) => {
            savepoint.rollback().await?;
            tracing::warn!("could not count the orphans within 300 ms; their metric is absent");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Number of orphans of each kind. Costs some index scans of the counted rows: each part of the view starts from the
/// few rows that may be orphans.
///
/// # Errors
/// Database errors.
pub async fn orphans(conn: &mut Connection) -> Result<Vec<Orphans>, sqlx::Error> {
    let kinds = orphan::Kind::ALL.map(|kind| kind.as_str().to_owned());
    sqlx::query_as!(
        Orphans,
        r#"
        -- metrics.orphans
        SELECT kind AS "kind!", (
            SELECT count(*) FROM (SELECT FROM billing.orphans AS o WHERE o.kind = asked.kind LIMIT $2) AS counted
        ) AS "count!"
        FROM unnest($1::text[]) AS asked (kind)
        "#,
        &kinds,
        MOST_ORPHANS
    )
    .fetch_all(conn)
    .await
}

pub(super) fn set_orphans(registry: &Registry, orphans: &[Orphans]) -> Result<(), prometheus::Error> {
    let help = "Live rows without a required object, by kind: contact_without_workspace, \
         subscription_without_customer, subscription_without_price. Counted up to 1000.";
    let gauges = GaugeVec::new(Opts::new("billing_sync_orphans", help), &["kind"])?;
    registry.register(Box::new(gauges.clone()))?;
    for kind in orphan::Kind::ALL.map(orphan::Kind::as_str) {
        let count = orphans.iter().find(|orphans| orphans.kind == kind).map_or(0, |orphans| orphans.count);
        #[expect(clippy::cast_precision_loss, reason = "at most MOST_ORPHANS")]
        gauges.with_label_values(&[kind]).set(count as f64);
    }
    Ok(())
}
