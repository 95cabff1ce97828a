//! Alerts and dashboard in `ops/`: what they name is exported, and they work in a real Prometheus.

pub(crate) mod expression;
pub(crate) mod files;
mod names;
mod prometheus;
