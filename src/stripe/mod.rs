//! What Stripe sends, read tolerantly: all API shapes, no I/O.
//!
//! [`json`] reads any value without building a tree; [`views`] knows where each field stands in which API
//! version. Neither knows our tables.

pub mod json;
pub mod views;
