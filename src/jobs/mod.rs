//! Jobs: what is to be done about an object apart from the events that told of it.
//!
//! ```text
//!   demand (in the transaction that found the need)          settle (in the transaction of the effect)
//!  ─────────────▶ due ──claim──▶ leased ───────────────────────────────────────────────▶ gone
//!                  ▲               │ ├── failed: run_at moves on (backoff) ──▶ due
//!                  │               │ └── too early for `later_than` ─────────▶ due
//!                  └───────────────┘ asked for again meanwhile, or the worker died
//! ```
//!
//! One row for each object and kind, however often it is asked for. A lease is a `run_at` that lies ahead, so a
//! dead worker's jobs come back by themselves and nothing is locked while Stripe is asked. Each demand raises the
//! generation, and a job is done only in the generation that was served: a demand that comes during the work is
//! never lost. No job is ever given up: it comes back with increasing
//! delay, with its last error. So a row that cannot be computed or written is set aside: as a failing job of its own.

pub mod account;
pub mod claim;
pub mod demand;
pub mod rebuild;
pub mod settle;
pub mod watch;

use time::OffsetDateTime;

pub use crate::domain::job::Kind;
use crate::domain::object::ObjectKey;

/// A job that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What is to be done.
    pub kind: Kind,
    /// About which object.
    pub key: ObjectKey,
    /// The generation that is served.
    pub generation: i64,
    /// Only a read whose version is later than this does it.
    pub later_than: Option<OffsetDateTime>,
    /// Where a reproject in pages goes on.
    pub position: Option<String>,
    /// Which try this is, from 1.
    pub attempt: i32,
}
