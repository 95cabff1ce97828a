//! All metrics that a process can export, with all their series.

use billing_sync::client::{self, Write};
use billing_sync::domain::renewal::Renewed;
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::metrics::retention::RetentionMetrics;
use billing_sync::metrics::writes::WriteMetrics;
use billing_sync::metrics::{build, database};
use prometheus::Registry;
use prometheus::proto::MetricFamily;

use super::app::TestApp;

/// The metrics of all parts and of the database, by name.
pub(crate) async fn exported(app: &TestApp) -> Vec<MetricFamily> {
    let registry = Registry::new();
    let metrics = ProcessMetrics::new(&registry).unwrap();
    client::metrics(&registry, &Write::OPERATIONS).unwrap();
    billing_sync::api::metrics(&registry).unwrap();
    WriteMetrics::new(&registry, &Write::OPERATIONS).unwrap();
    RetentionMetrics::new(&registry).unwrap();
    // these have no series before their first value
    metrics.signatures.declare_secrets(2);
    metrics.limits_renewed(&Renewed {
        outcome: "renewed".to_owned(),
        limit_key: "words".to_owned(),
        renewals: 1,
        corrections: 0,
        spilled_over: 1,
        expired: 1,
        delays: Vec::new(),
    });
    sqlx::query("INSERT INTO billing.reconcile_state (account, compared_until) VALUES ('', clock_timestamp())")
        .execute(&app.pool)
        .await
        .unwrap();
    let mut families = registry.gather();
    families.extend(database::gather(&app.pool).await);
    families.extend(build::gather().unwrap());
    assert!(families.len() > 30, "only {} metrics were found", families.len());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    families
}
