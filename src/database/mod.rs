//! How billing-sync talks to PostgreSQL as a client: connections, pools, their session settings, and why there is none.
//!
//! ```text
//! hosts ──▶ pool ──▶ session   every connection of a pool, and `connect` for a single one, is set up before its first use
//!             │         └────▶ role     it works as the owner of our tables, where it may
//!             └────▶ reason             why a pool has no connection, in one line for a log or an operator
//! ```
//!
//! Knows nothing of what the tables mean. Called by every part and command that opens a connection.

pub mod hosts;
mod pool;
mod reason;
pub mod role;
mod session;

pub use pool::{check_connection, pool};
pub use reason::{target, unreachable_reason};
pub use session::{Session, connect};
