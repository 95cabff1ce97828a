//! How billing-sync talks to PostgreSQL as a client: connections, pools, their session settings, and why there is none.
//!
//! ```text
//! pool ──▶ session   every connection of a pool, and `connect` for a single one, is set up before its first use
//!   │
//!   └────▶ reason    why a pool has no connection, in one line for a log or an operator
//! ```
//!
//! Knows nothing of the tables. Called by every part and command that opens a connection.

mod pool;
mod reason;
mod session;

pub use pool::{check_connection, pool};
pub use reason::{target, unreachable_reason};
pub use session::{Session, connect};
