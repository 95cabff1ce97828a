//! Settings of the logs. Read by every command, used by [`crate::telemetry`].

use tracing_subscriber::EnvFilter;

use super::parse::{Expected, Parsed};
use super::settings::{self, Setting};
use super::source::Source;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty if stderr is a terminal, otherwise JSON.
    Auto,
    /// Text for people.
    Pretty,
    /// One JSON object per line, for log collectors.
    Json,
}

/// Settings of the logs.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `BILLING_SYNC_LOG`, default `info` (of `demo`: `warn`): directives of `tracing_subscriber::EnvFilter`, already
    /// checked.
    pub filter: String,
    /// `BILLING_SYNC_LOG_FORMAT`, default `auto`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    /// The defaults of the registry.
    fn default() -> Self {
        Self { filter: settings::LOG.default.to_owned(), format: LogFormat::Auto }
    }
}

impl LogConfig {
    /// Reads both settings.
    pub fn read(source: &mut Source) -> Option<Self> {
        Self::read_from(source, &settings::LOG)
    }

    /// Reads both settings; `log` is the first one, maybe with another default.
    pub fn read_from(source: &mut Source, log: &Setting) -> Option<Self> {
        let filter = source.value(log, filter);
        let format = source.value(&settings::LOG_FORMAT, format);
        Some(Self { filter: filter?, format: format? })
    }
}

fn filter(text: &str) -> Parsed<String> {
    let expected = || Expected::new("a log filter such as info or info,billing_sync=debug");
    // a word that is not a level would be taken as a module name and silence everything else
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
