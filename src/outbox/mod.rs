//! The queue and the archive: every stored event has one narrow row here that says what became of it.
//!
//! ```text
//!              enqueue                       settle: applied, superseded,
//!   receiver ───────────▶ pending ─────────────────────────────────────────▶ done
//!                          │  ▲ ▲             ignored, unknown                 ▲
//!        a batch failed or │  │ │ try failed: run_at moves on                  │
//!        its worker died   ▼  │ │                                              │
//!                       pending, alone ──────────────────────────▶ dead ───────┘
//!                             ▲         last attempt failed          │  discard
//!                             └──────────────────────────────────────┘
//!                                             retry
//! ```
//!
//! Fresh events go in batches. Once a batch has failed, or its worker has died, its events go alone, each
//! attempt counted in a commit of its own *before* the work: so even an event that kills the process runs out
//! of attempts. Row locks are the claim of a batch, so a crash releases it at once; only an attempt at a single event
//! is leased, since nobody may try it again at once.
//!
//! [`enqueue`] belongs to the receiver and to `reconcile`, [`claim`], [`settle`] and [`attempt`] to the worker, [`admin`] to the operator.
//! [`own`] and [`foreign`] take back what was ignored because of a setting.
//! Nothing here knows what an event means.

pub mod admin;
pub mod attempt;
pub mod claim;
pub mod enqueue;
pub mod foreign;
pub mod own;
pub mod partitions;
pub mod sample;
pub mod settle;
pub mod twins;
pub mod upkeep;
pub mod wake;
