//! Limits that renew every month: who keeps them in step with the clock and with the timeline.
//!
//! ```text
//! worker ──begins balances, marks what changed──▶ subscription_limits, limit_changes ◀──consume── product
//!                                                        │ claim (SKIP LOCKED)
//!                                         scheduler ──▶ bring_up ──▶ ledger row + balance, one transaction
//! ```
//!
//! The arithmetic is SQL (`migrations/0023` to `0028`), so that `consume` renews by the same rules in the product's own
//! transaction, whether or not a scheduler runs. [`follow`] is the worker's part, [`ledger`] the statements,
//! [`scheduler`] the loop, [`batch`] one transaction of it, [`set_aside`] what could not be renewed, [`clocks`] the comparison of clocks (PURE).

pub mod batch;
pub mod clocks;
pub mod follow;
pub mod ledger;
pub mod pace;
pub mod scheduler;
pub mod set_aside;
