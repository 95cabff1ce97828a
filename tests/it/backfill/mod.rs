//! `backfill` and `verify` against the fake Stripe: everything is read despite faults, and all differences are found.

mod compare;
mod completeness;
mod concurrent_events;
mod faults;
pub(crate) mod harness;
mod long_lists;
mod resume;
