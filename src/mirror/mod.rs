//! The newest known content of each Stripe object, and the rules by which one content beats another.
//!
//! [`state`], [`rendering`], [`walk`], [`snapshot`] and [`history`] are PURE: they tell the order of events from the events
//! themselves. The others are the SQL: nothing about an object is written before its row of `billing.locks` is held.
//! [`facts`] stand beside the mirror: what its newest content cannot tell. Called by the worker; knows nothing of the
//! rows that are made from the mirror.

mod archive;
pub mod echo;
pub mod facts;
mod heads;
pub mod history;
pub mod locks;
pub mod merge;
pub mod related;
pub mod rendering;
pub mod rows;
pub mod snapshot;
pub mod state;
pub mod walk;
