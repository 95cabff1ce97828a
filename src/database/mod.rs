//! How billing-sync talks to PostgreSQL as a client: connections, pools, session settings, and reasons for failures.
//!
//! ```text
//! hosts ──▶ opening ──▶ pool ──▶ connection   what all statements go through, also behind a pooler (`address`)
//!              │                     └────▶ session   the settings of each session, or of each transaction
//!              ├────▶ waiting   an abandoned statement keeps its connection's place in the pool until it ends
//!              └────▶ reason    why a pool has no connection, in one line for a log or an operator
//!
//! pooler                       finds a pooler that shares sessions although it is not declared
//! role                         the privileges of each role
//! shortage                     which parts release connections if they run short (`limits` counts them)
//! instance                     the name of a process in its sessions
//! writable                     whether the database accepts writes, for readiness and metrics
//! outage                       logs the beginning and the end of an outage
//! sql_error                    texts for errors of the database, with and without values
//! ```
//!
//! Knows nothing of the tables' meaning. Called by every part and command that opens a connection.

mod address;
mod connection;
pub mod hosts;
pub mod instance;
pub mod limits;
mod opening;
pub mod outage;
mod pool;
pub mod pooler;
mod reason;
pub mod role;
mod session;
pub mod shortage;
mod sql_error;
mod waiting;
mod writable;

pub use address::{Address, Pooler};
pub use connection::{Connection, Transaction, connect};
pub use opening::{Idle, is_usable, pool, pool_with};
pub use pool::Pool;
pub use reason::{check_connection, reason, target, unreachable_reason};
pub use session::{Session, SessionRole};
pub use sql_error::{describe, fix, message, without_values};
pub use waiting::until_answered;
pub use writable::{NotWritable, Writable, check_writable};

/// Oldest major version of PostgreSQL that the schema and the queries support.
pub const OLDEST_SERVER: u16 = 15;
