//! Rebuild: recomputes every row from the mirror and the facts, without a request to Stripe.
//!
//! [`run`] does the work page by page, [`store`] keeps its progress. `billing-sync rebuild` and the end of a backfill
//! use it.
pub mod run;
pub mod store;
