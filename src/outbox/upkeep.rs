//! Upkeep of the archive: makes the months ahead. The role upkeep of `serve`.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How many months exist ahead of the present one. What comes later goes to the default partitions.
const MONTHS_AHEAD: i32 = 3;

/// A month is missed only if this fails for three months.
const INTERVAL: Duration = Duration::from_hours(6);

/// Makes missing months now and then, until `shutdown`.
pub async fn run(pool: PgPool, shutdown: CancellationToken) {
    loop {
        if let Err(error) = create_partitions(&pool).await {
            // nothing is lost: the events go to the default partition meanwhile
            tracing::warn!(%error, "the partitions of the coming months could not be made; trying again in six hours");
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

async fn create_partitions(pool: &PgPool) -> Result<(), sqlx::Error> {
    let made = sqlx::query_scalar!("-- outbox.create_partitions\nSELECT billing.create_partitions($1)", MONTHS_AHEAD)
        .fetch_one(pool)
        .await?;
    if made > Some(0) {
        tracing::info!(tables = made, "made the partitions of the coming months");
    }
    Ok(())
}
