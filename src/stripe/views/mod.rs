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
pub mod workspace;

pub use self::reader::{is_forbidden_in_keys, is_key, whole};

/// An object cannot be projected, because a mandatory field is missing or invalid.
///
/// Every other invalid value becomes `None` and adds `Reason::InvalidValue` to the notes of its view.
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
