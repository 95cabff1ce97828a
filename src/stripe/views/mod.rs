//! Tolerant views of Stripe objects: plain owned values, the same for every API version.
//!
//! Owns where a field stands in which API version (the new location is read first, then the old one: Stripe adds
//! fields to old versions too, so an old event of today may carry either) and what a readable value is. Must not
//! know our tables, nor what a value means there. PURE; called by the projection and by the worker.

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
pub mod workspace;

pub use self::reader::{is_in_no_key, is_key, whole};

/// An object of which no row can be made: one of the few fields that a row cannot be without.
///
/// Every other odd value reads as `None` and leaves `Reason::InvalidValue` in the notes of its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is missing or cannot be read")]
pub struct Unreadable {
    /// Object type and field (`subscription.status`), never the value.
    pub field: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_object_type_and_the_field() {
        let error = Unreadable { field: "subscription.status" };
        assert_eq!(error.to_string(), "subscription.status is missing or cannot be read");
    }
}
