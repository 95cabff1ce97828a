//! The mirror: the newest known content of each Stripe object, and the rules by which one content replaces another.
//!
//! ```text
//! events ──▶ snapshot ──▶ heads ──▶ merge ──▶ store (stripe_objects)
//!             archive ──────┘         ▲
//!                  history, same_second: events that share a second
//! reads, nested objects ──────────────┘
//! ```
//!
//! Events arrive in any order, and Stripe's times are whole seconds. So the newest event of an object is computed from
//! the set of its events: [`snapshot`], [`rendering`], [`state`], [`same_second`] and [`history`] do that and are PURE.
//! The other modules contain the SQL. No data of an object is written before its row of `billing.locks` is locked
//! ([`locks`]).
//!
//! [`facts`] keep what the newest content no longer shows, [`related`] finds the customers that an object affects,
//! [`echo`] avoids locks for unchanged copies, [`redacted`] removes the personal data of customers who asked for that. Called by the worker; knows nothing of the rows made from the mirror.

mod archive;
pub mod echo;
pub mod facts;
mod heads;
pub mod history;
pub mod incoming;
pub mod locks;
pub mod merge;
pub mod redacted;
pub mod related;
pub mod rendering;
pub mod same_second;
pub mod snapshot;
pub mod state;
pub mod store;
