//! The newest known content of each Stripe object, and the rules by which one content beats another.
//!
//! [`state`], [`walk`], [`snapshot`] and [`history`] are PURE: they tell the order of events from the events
//! themselves. [`locks`], [`rows`] and [`merge`] are the SQL: nothing about an object is read or written before its row
//! of `billing.locks` is held. Called by the worker; knows nothing of the rows that are made from the mirror.

pub mod history;
pub mod locks;
pub mod merge;
pub mod rows;
pub mod snapshot;
pub mod state;
pub mod walk;
