//! The running release as a metric. Called by [`crate::ops`], so that every process with a listener has it.

use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};

/// `billing_sync_build_info{version}`, always 1.
///
/// # Errors
/// When the declaration is invalid.
pub fn gather() -> Result<Vec<MetricFamily>, prometheus::Error> {
    let registry = Registry::new();
    let help = "The running release, in the label version; the value is always 1.";
    let info = IntGaugeVec::new(Opts::new("billing_sync_build_info", help), &["version"])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(info))?;
    Ok(registry.gather())
}
