//! The state of one worker, and the result of one round of it.

use std::sync::Arc;
use std::time::Instant;

use super::context::Context;
use super::gather::Gather;
use super::since::SearchStart;
use crate::outbox::attempt::Attempt;

/// One worker. `serve` runs as many as the setting says.
pub struct Worker {
    pub(super) context: Arc<Context>,
    /// Attempts to release: they were counted, but failed through no fault of their event, or their result is unknown.
    pub(super) unreleased: Vec<Attempt>,
    /// Time of the last search for events and jobs scheduled too far ahead.
    pub(super) pulled_back_at: Option<Instant>,
    /// Where the search for fresh events begins.
    pub(super) since: SearchStart,
    /// Whether it runs until a shutdown and lets events gather. A worker that only drains the queue does not wait for
    /// more.
    pub(super) gathers: bool,
    /// When the next batch may begin, by the size of the last one.
    pub(super) gather: Gather,
}

/// Result of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoundResult {
    /// More work may be due at once.
    MoreWork,
    /// Nothing is due.
    Idle,
}

impl Worker {
    /// A worker.
    pub fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            unreleased: Vec::new(),
            pulled_back_at: None,
            since: SearchStart::unknown(Instant::now()),
            gathers: false,
            gather: Gather::default(),
        }
    }
}
