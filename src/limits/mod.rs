//! Limits that renew every month: keeps them in step with the clock and with the timeline of subscriptions.
//!
//! ```text
//! worker ──creates balances, marks changes──▶ subscription_limits, limit_recalculations ◀──consume── product
//!                                                        │ claim (SKIP LOCKED)
//!                                         scheduler ──▶ renew_limits ──▶ ledger row + balance, one transaction
//! ```
//!
//! The arithmetic is SQL (`migrations/0007_limit_periods.sql`, `migrations/0008_limit_renewals.sql`), so that `consume`
//! renews by the same rules in the product's own transaction, whether or not a scheduler runs. A change that is found
//! late leaves a stale mark in `limit_recalculations`; the next renewal recomputes the periods from that time on.
//!
//! [`invalidate`] is the worker's part: it creates balances and sets the marks. [`scheduler`] is the loop, [`batch`]
//! one transaction of it, [`batch_size`] its size, [`store`] the SQL. [`set_aside`] retries subscriptions whose renewal
//! fails, [`clock_skew`] (PURE) compares the clocks.

pub mod batch;
pub mod batch_size;
pub mod clock_skew;
pub mod invalidate;
pub mod scheduler;
pub mod set_aside;
pub mod store;
