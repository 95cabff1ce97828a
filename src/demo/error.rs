//! Errors of the demo.

use std::io;

use super::deliver::DeliveryError;
use super::queries::SETTLE_LIMIT;
use crate::config::error::ConfigError;
use crate::database::message;
use crate::embedded::EmbeddedError;
use crate::migrations::MigrationError;
use crate::service::StartError;

/// Why a demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The embedded PostgreSQL failed.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The schema could not be created.
    #[error("could not create the demo's tables: {0}")]
    Migration(#[from] MigrationError),
    /// A listener cannot be bound.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The registry's defaults are invalid: a bug.
    #[error("invalid default settings: {0}")]
    Config(#[from] ConfigError),
    /// The database could not be read.
    #[error("could not read the demo's database: {}", message(.0))]
    Database(#[from] sqlx::Error),
    /// A request got no answer.
    #[error("the request with {event_id} got no answer: {source}")]
    Delivery {
        /// The event.
        event_id: String,
        /// The cause.
        source: DeliveryError,
    },
    /// The worker did not finish an event.
    #[error("{event_id} was stored but is still pending after {} s; see the log", SETTLE_LIMIT.as_secs())]
    Unsettled {
        /// The event.
        event_id: String,
    },
    /// A period ended before its act.
    #[error("this machine was too slow: a month ended before its words were consumed; run the demo again")]
    Slow,
    /// The scheduler did not renew a limit.
    #[error("the limits of {subscription} were not renewed within {} s; see the log", SETTLE_LIMIT.as_secs())]
    NotRenewed {
        /// The subscription.
        subscription: &'static str,
    },
    /// Answers or rows differ from the story; one line each.
    #[error("the results differ from the story:\n  {}", .0.join("\n  "))]
    Differences(Vec<String>),
    /// Stopped before the end of the story.
    #[error("stopped before the end of the demo")]
    Interrupted,
    /// The output could not be written.
    #[error("could not write the output: {0}")]
    Output(#[from] io::Error),
}
