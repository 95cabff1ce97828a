//! Logs: to stderr, pretty on a terminal and JSON for collectors. Started once, by the binary, after configuration.
//!
//! Repeated warnings and errors are bounded (`bound`). Never logs a body, signature, secret, e-mail, name or address; a panic is logged by its place only.

mod bound;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;

pub use self::bound::Bound;
use crate::config::log::{LogConfig, LogFormat};

/// Why logging could not be started: a filter that the configuration let pass, or a second start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start logging: {0}")]
pub struct TelemetryError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Starts logging for the whole process. The caller holds the [`Bound`] until the process ends.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(config: &LogConfig) -> Result<Bound, TelemetryError> {
    // "already exists, skipping" and the like are no news; PostgreSQL's warnings are. Of a pool's connections that were
    // lost with their server its user speaks
    let quiet = "sqlx::postgres::notice=warn,sqlx_core::pool=warn";
    // what the filter lets pass is counted, so the counts pass too
    let filter = EnvFilter::try_new(format!("{quiet},{},{}=warn", config.filter, bound::TARGET))
        .map_err(|error| TelemetryError(error.into()))?;
    let bound = Bound::start().map_err(|error| TelemetryError(error.into()))?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let pretty = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let started = if pretty {
        lines.with_ansi(terminal).map_event_format(|lines| bound.lines(lines)).try_init()
    } else {
        lines.json().flatten_event(true).map_event_format(|lines| bound.lines(lines)).try_init()
    };
    started.map_err(TelemetryError)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(bound)
}

/// The message of a panic may carry event data (an index into a payload, an `expect` on a parsed value), so the
/// place must do.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    tracing::error!(panic.location = %location, "a thread panicked; its message is withheld, it may carry event data");
}
