//! How billing-sync talks to PostgreSQL as a client: connections, pools, their session settings, and why there is none.
//!
//! ```text
//! hosts ──▶ pool ──▶ session   every connection of a pool, and `connect` for a single one, is set up before its first use
//!             │         └────▶ role     it works as the owner of our tables, where it may
//!             ├────▶ waiting            a statement that nobody waits for any more keeps its place in the pool until it ends
//!             └────▶ reason             why a pool has no connection, in one line for a log or an operator
//!
//! shortage                     who gives way where connections run short (`limits` counts them)
//! writable                     whether the database takes writes, for readiness and metrics
//! ```
//!
//! Knows nothing of what the tables mean. Called by every part and command that opens a connection.

pub mod hosts;
pub mod limits;
mod pool;
pub mod pooler;
mod reason;
pub mod role;
mod session;
pub mod shortage;
mod waiting;
mod writable;

pub use pool::{Idle, is_usable, pool, pool_with};
pub use reason::{check_connection, target, unreachable_reason};
pub use session::{Session, connect};
pub use waiting::until_answered;
pub use writable::{NotWritable, Writable, check_writable};
