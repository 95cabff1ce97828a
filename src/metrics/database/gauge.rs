//! Declares a gauge without labels.

use prometheus::{Gauge, Registry};

/// A new gauge in the registry.
pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
    let gauge = Gauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}
