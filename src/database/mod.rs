//! How billing-sync talks to PostgreSQL as a client: connections, pools, their session settings, and why there is none.
//!
//! ```text
//! pool ──▶ session    every connection of a pool, and `connect` for a single one, is set up before its first use
//!   │
//!   ├────▶ waiting    a statement that nobody waits for any more keeps its place in the pool until it is answered
//!   └────▶ reason     why a pool has no connection, in one line for a log or an operator
//!
//! writable            whether the database takes writes, for readiness and metrics
//! ```
//!
//! Knows nothing of the tables. Called by every part and command that opens a connection.

mod pool;
mod reason;
mod session;
mod waiting;
mod writable;

pub use pool::{is_usable, pool};
pub use reason::{target, unreachable_reason};
pub use session::{Session, connect};
pub use waiting::until_answered;
pub use writable::{NotWritable, Writable, check_writable};
