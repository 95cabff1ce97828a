//! Stores the results of samples in `billing.verify_samples`, which `status` reads. The metrics of a process end with it.

use crate::database::Connection;
use crate::metrics::drift::SampleStats;

/// Stores one sample, and forgets what is older than 40 days.
///
/// # Errors
/// Database errors.
pub(super) async fn save(conn: &mut Connection, sample: &SampleStats) -> Result<(), sqlx::Error> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let tables: Vec<String> =
        sample.rows.iter().filter(|(_, rows)| **rows > 0).map(|(table, _)| (*table).to_owned()).collect();
    sqlx::query!(
        "-- verify.save_sample
        WITH outdated AS (
            DELETE FROM billing.verify_samples WHERE sampled_at < clock_timestamp() - interval '40 days'
        )
        INSERT INTO billing.verify_samples (customers, failed, differing, tables) VALUES ($1, $2, $3, $4)",
        count(sample.customers),
        count(sample.failed),
        count(sample.rows.values().sum()),
        &tables
    )
    .execute(conn)
    .await
    .map(|_| ())
}
