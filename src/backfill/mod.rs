//! Backfill: reads and merges all objects from Stripe, so that nothing that was ever missed stays missing.
//!
//! ```text
//!  lists, in ranges of creation time ──pages──▶ mirror + facts ──▶ rows     one transaction a page, with its cursor
//!  unlisted objects known here       ──jobs──▶ fetcher                      lists omit deleted objects
//!  all customers and plans, projected again ──▶ rows ──▶ missing objects ──jobs──▶ fetcher
//! ```
//!
//! A page is merged like any read, with the time of its request as its version. Newer events win, so a backfill runs
//! beside the service and nothing has to be stopped. Data that single objects miss is queued as the same jobs that the
//! service uses, but only after all lists are read. `range_store` keeps the cursor of every range.
//!
//! `verify` uses [`Backfill`] to compare customers one by one with Stripe, also for dry runs.

mod coverage;
pub(crate) mod list;
mod page;
mod range;
mod range_store;
mod run;
pub mod run_store;
mod session;
pub(crate) mod unlisted;

pub use self::list::List;
pub use self::run::{ProgressEvent, Report};
pub(crate) use self::session::CAUSE;
pub use self::session::{Backfill, PAGE_RETRY, RunSelection, Stop};
