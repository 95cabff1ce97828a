//! Changes at Stripe, exactly once: sends the lines of the ledger, and merges Stripe's answers like reads.
//!
//! ```text
//! api ──begin──▶ ledger (committed) ──lease──▶ send: Stripe, outside any transaction ──▶ complete: merge, project,
//!                   ▲                            one idempotency key for every attempt      render, done; one commit
//!                   │ due                          │
//!                recovery ◀────────────────────────┘ outcome unknown, process killed
//!                   └── look_up: reads the object, where the key says nothing any more
//! ```
//!
//! A request that is killed at any point leaves a line, which `recovery` completes with the same key: Stripe executes
//! it once. A webhook that carries the key closes the line as well (`ledger::prove`). Must not know HTTP, nor the names
//! of a dialect. Runs in processes with the role `api`, with the rights of the owner of the tables, because it merges.

mod begin;
mod complete;
mod key_guard;
mod look_up;
mod recovery;
mod send;
mod version;
mod writer;

pub use self::begin::{MARK, NewWrite, Then, begin};
pub use self::complete::{Completed, Render};
pub use self::send::{OnFailure, SendError};
pub use self::writer::Writer;
pub use crate::worker::failure::Failure;
