//! Metrics, each declared once: [`instance`] counts what this process does.

pub mod instance;
