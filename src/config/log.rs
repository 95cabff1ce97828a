//! What is logged, and how. Read by every command, used by [`crate::telemetry`].

use tracing_subscriber::EnvFilter;

use super::parse::{Expected, Parsed};
use super::settings;
use super::source::Source;

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty where stderr is a terminal, else JSON.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line, for collectors.
    Json,
}

/// Settings of the logs.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `BILLING_SYNC_LOG`, default `info`: directives of `tracing_subscriber::EnvFilter`, already checked.
    pub filter: String,
    /// `BILLING_SYNC_LOG_FORMAT`, default `auto`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    /// What the registry says.
    fn default() -> Self {
        Self { filter: settings::LOG.default.to_owned(), format: LogFormat::Auto }
    }
}

impl LogConfig {
    /// Reads both settings.
    pub fn read(source: &mut Source) -> Option<Self> {
        let filter = source.value(&settings::LOG, filter);
        let format = source.value(&settings::LOG_FORMAT, format);
        Some(Self { filter: filter?, format: format? })
    }
}

fn filter(text: &str) -> Parsed<String> {
    let expected = || Expected::new("a log filter such as info or info,billing_sync=debug");
    // a word that is no level would name a module and silence everything else
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_directive = |part: &str| part.contains('=') || levels.contains(&part.trim().to_lowercase().as_str());
    if !text.split(',').all(is_directive) {
        return Err(expected());
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| expected())
}

fn format(text: &str) -> Parsed<LogFormat> {
    match text.trim().to_lowercase().as_str() {
        "auto" => Ok(LogFormat::Auto),
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err(Expected::new("auto, pretty or json")),
    }
}
