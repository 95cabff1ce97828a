//! Tolerant parsing of Stripe's data: all API versions, no I/O.
//!
//! [`json`] reads any value without building a tree; [`envelope`] reads the few fields that the outbox needs;
//! [`catalogue`] classifies event types, and [`webhook_endpoint`] compares an endpoint with it; the views own the
//! location of each field in each API version. None of them knows the tables.

pub mod catalogue;
pub mod envelope;
pub mod expandable;
pub mod impersonal;
pub mod json;
pub mod lifecycle;
pub mod moved;
pub mod nested;
pub mod redaction;
pub mod reference;
pub mod secrets;
pub mod views;
pub mod webhook_endpoint;
