//! Tolerant views of Stripe objects: plain owned values, the same for every API version.
//!
//! Owns the location of a field in each API version and the rules for valid values. The new location is read first,
//! then the old one: Stripe also adds fields to old versions, so a current event of an old version may contain either.
//! Must not know the tables, nor the meaning of a value there. PURE; called by the projection and by the worker.

pub mod any;
pub mod charge;
pub mod checkout;
pub mod coupon;
pub mod customer;
pub mod discount;
pub mod generation_failure;
pub mod invoice;
pub mod item;
pub mod method;
pub mod price;
pub mod product;
mod reader;
pub mod schedule;
pub mod standing;
pub mod subscription;
pub mod trial_offer;
mod unreadable;
pub mod workspace;

pub use self::reader::{is_forbidden_in_keys, is_key, whole};
pub use self::unreadable::Unreadable;
