//! Verify: compares rows with Stripe, customer by customer, and repairs them on request.
//!
//! ```text
//! selection ──▶ compare ──▶ checks (several at a time) ──▶ customer: read all of it from Stripe, merge, project
//!                                                              └──▶ findings; the transaction commits with `--fix` only
//! ```
//!
//! [`compare`] serves `billing-sync verify` and dry runs of `backfill`; [`sampler`] compares a few customers every hour
//! in `serve`, and writes only its result (`sample_store`).
mod checks;
pub mod compare;
pub mod customer;
pub mod finding;
mod sample_store;
pub mod sampler;
mod unannounced;
