//! The queue and the archive: every stored event has one narrow row here with its state and outcome.
//!
//! ```text
//!              enqueue                       settle: applied, superseded,
//!   receiver ───────────▶ pending ─────────────────────────────────────────▶ done
//!                          │  ▲ ▲             ignored, unknown                 ▲
//!        a batch failed or │  │ │ try failed: run_at moves on                  │
//!        its worker died   ▼  │ │                                              │
//!                     pending, isolated ─────────────────────────▶ dead ───────┘
//!                             ▲         last attempt failed          │  discard
//!                             └──────────────────────────────────────┘
//!                                             retry
//! ```
//!
//! Fresh events are processed in batches. Once a batch has failed, or its worker has died, its events are isolated.
//! Each attempt at an isolated event is counted in a separate commit *before* the work, so even an event that kills the
//! process runs out of attempts. Row locks are the claim of a batch, so a crash releases it at once. Only an attempt at
//! a single event has a lease, because it must not be retried immediately.
//!
//! The receiver and `reconcile` use [`enqueue`]; the worker uses [`claim`], [`settle`] and [`attempt`]; the operator's
//! commands use [`admin`]. [`own`] and [`foreign`] queue events again that were ignored because of a setting. Events
//! are not interpreted here.

pub mod admin;
pub mod attempt;
pub mod claim;
pub mod counterparts;
pub mod enqueue;
pub mod foreign;
pub mod own;
pub mod partitions;
pub mod processes;
pub mod sample;
pub mod settle;
pub mod size;
pub mod wake;
