//! From when on a worker looks for pending events.
//!
//! An index keeps the entry of a settled event until no snapshot sees its old row any more. While another session holds a
//! snapshot, as a dump or a long report does, a search from the beginning passes every event that was settled since: after
//! ten minutes a million, for each batch. So a worker begins where the oldest pending event was when it last looked for that,
//! and looks so rarely that even a slow look takes a small part of its time.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// A look takes at most one part in so many of a worker's time.
const SHARE: u32 = 30;

/// Where a search for pending events begins, and when to look again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    at: OffsetDateTime,
    look_again: Option<Instant>,
}

impl Since {
    /// Not known yet: at the beginning.
    pub(super) fn unknown() -> Self {
        Self { at: OffsetDateTime::UNIX_EPOCH, look_again: None }
    }

    /// As found by a look that began then.
    pub(super) fn found(at: OffsetDateTime, began: Instant) -> Self {
        Self { at, look_again: Some(Instant::now() + PAUSE.max(began.elapsed() * SHARE)) }
    }

    /// No fresh event that is pending was due before.
    pub(super) fn at(self) -> OffsetDateTime {
        self.at
    }

    /// Whether it is time to look.
    pub(super) fn is_old(self) -> bool {
        self.look_again.is_none_or(|at| at <= Instant::now())
    }
}
