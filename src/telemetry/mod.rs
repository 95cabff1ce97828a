//! Logs: to stderr, pretty on a terminal and JSON for collectors. Started once, by the binary, after configuration.
//!
//! Repeated warnings and errors are limited (`bound`), and slow
//! statements are named (`slow`). Never logs a body, signature, secret, e-mail, name or address;
//! of a panic only the location.

mod bound;
mod slow;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;

pub use self::bound::Bound;
use crate::base::status_line::BesideStatusLine;
use crate::config::log::{LogConfig, LogFormat};

/// Why logging could not be started: an invalid filter that the configuration accepted, or a second start.
#[derive(Debug, thiserror::Error)]
#[error("could not start logging: {0}")]
pub struct TelemetryError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Starts logging for the whole process. The caller holds the [`Bound`] until the process ends.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(config: &LogConfig) -> Result<Bound, TelemetryError> {
    // hides PostgreSQL's notices such as "already exists, skipping", but not its warnings; and the pool's messages
    // about lost connections and about waits for one, because the pool's user logs the cause
    let quiet = "sqlx::postgres::notice=warn,sqlx_core::pool=warn,sqlx::pool::acquire=error";
    // only events that pass the filter are counted or named, so the lines made of them must pass too
    let own = format!("{}=warn,{}=warn", bound::TARGET, slow::TARGET);
    let filter =
        EnvFilter::try_new(format!("{quiet},{},{own}", config.filter)).map_err(|error| TelemetryError(error.into()))?;
    let bound = Bound::start().map_err(|error| TelemetryError(error.into()))?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| BesideStatusLine);
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

/// Logs only the location, because the message of a panic may contain event data (an index into a payload, an `expect`
/// on a parsed value).
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    tracing::error!(panic.location = %location, "a thread panicked; its message may contain event data and is withheld");
}
