//! What Stripe sends, read tolerantly: all API shapes, no I/O.
//!
//! [`json`] reads any value without building a tree; [`envelope`] the few fields that the outbox needs; [`catalogue`] says which event types matter; the views know
//! where each field stands in which API version. None of them knows our tables.

pub mod catalogue;
pub mod envelope;
pub mod json;
pub mod lifecycle;
pub mod moved;
pub mod nested;
pub mod reference;
pub mod views;
