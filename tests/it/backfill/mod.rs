//! Backfill and survey against the fake Stripe: everything is read, whatever comes between, and what differs is found.

mod big;
mod compare;
mod faults;
mod found;
pub(crate) mod harness;
mod live;
mod resume;
