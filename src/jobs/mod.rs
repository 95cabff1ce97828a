//! Jobs: work on an object beside its events, namely a read from Stripe, or recomputed rows.
//!
//! ```text
//!   request (in the transaction that found the need)         settle (in the transaction of the effect)
//!  ─────────────▶ due ──claim──▶ leased ───────────────────────────────────────────────▶ gone
//!                  ▲               │ ├── failed: run_at moves on (backoff) ──▶ due
//!                  │               │ └── too early for `newer_than` ─────────▶ due
//!                  └───────────────┘ requested again meanwhile, or the lease expired
//! ```
//!
//! One row exists per object and kind, however often the job is requested. A lease is a `run_at` in the future: the
//! jobs of a dead worker become due again by themselves, and nothing is locked during requests to Stripe. Each request
//! raises the generation, and a job completes only in the generation that was claimed, so a request that arrives during
//! the work is never lost.
//!
//! No job is given up: it is retried with increasing delay and keeps its last error. An object whose rows cannot be
//! computed or written is set aside as a failing job of its own.
//!
//! The kinds are [`Kind`]. [`requests`] collects and queues jobs, [`triggers`] queues those that no event causes,
//! [`claim`] leases due jobs, [`settle`] completes them or schedules a retry, [`pending`] counts the reads that are left.

pub mod claim;
pub mod pending;
pub mod requests;
pub mod settle;
pub mod triggers;

use time::OffsetDateTime;

pub use crate::domain::job::Kind;
use crate::domain::object::ObjectKey;

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The kind of work.
    pub kind: Kind,
    /// The object.
    pub key: ObjectKey,
    /// The generation that was claimed.
    pub generation: i64,
    /// Only a read with a version newer than this completes the job.
    pub newer_than: Option<OffsetDateTime>,
    /// The cursor of a reproject job that works in pages.
    pub cursor: Option<String>,
    /// Number of this attempt, from 1.
    pub attempt: i32,
}
