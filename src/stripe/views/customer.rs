//! The customer, in every API version since 2020-08-27: of the fields read here, only the coupon has moved.
//!
//! Must not know the billing contact. PURE; called by the projection.

use std::collections::BTreeSet;
use std::fmt;

use time::OffsetDateTime;

use super::discount::DiscountView;
use super::reader::{Reader, required};
use super::unreadable::Unreadable;
use super::workspace::WorkspaceLink;
use crate::domain::event::Reason;
use crate::stripe::json::Json;

/// The fields read from a customer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomerView {
    /// `id`.
    pub id: String,
    /// `livemode`.
    pub livemode: Option<bool>,
    /// `deleted`: whether this is the stub of a deleted customer, without content.
    pub deleted: bool,
    /// `name`, unchanged.
    pub name: Option<String>,
    /// `email`, unchanged.
    pub email: Option<String>,
    /// `address`.
    pub address: AddressView,
    /// `discount`.
    pub discount: Option<DiscountView>,
    /// `invoice_settings.default_payment_method`.
    pub payment_method_id: Option<String>,
    /// `default_source`.
    pub source_id: Option<String>,
    /// `metadata`.
    pub workspace: WorkspaceLink,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// Notes on invalid values.
    pub notes: BTreeSet<Reason>,
}

/// A customer's address. An empty string is `None`: Stripe's own forms send either for a blank line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AddressView {
    /// `line1`.
    pub line1: Option<String>,
    /// `line2`.
    pub line2: Option<String>,
    /// `city`.
    pub city: Option<String>,
    /// `postal_code`.
    pub postal_code: Option<String>,
    /// `state`.
    pub state: Option<String>,
    /// `country`.
    pub country: Option<String>,
}

impl CustomerView {
    /// Reads a customer, or the stub of a deleted one.
    ///
    /// # Errors
    /// If `id` is missing or invalid.
    pub fn read(json: Json<'_>) -> Result<Self, Unreadable> {
        let mut reader = Reader::default();
        let customer = json.object().unwrap_or_default();
        Ok(Self {
            id: required(customer.get("id"), "customer.id")?,
            livemode: reader.boolean(customer.get("livemode")),
            deleted: reader.boolean(customer.get("deleted")) == Some(true),
            name: reader.text(customer.get("name")),
            email: reader.text(customer.get("email")),
            address: AddressView::read(customer.get("address"), &mut reader),
            discount: DiscountView::read(customer.get("discount"), &mut reader),
            payment_method_id: {
                let settings = reader.members(customer.get("invoice_settings"));
                reader.reference(settings.get("default_payment_method"))
            },
            source_id: reader.reference(customer.get("default_source")),
            workspace: WorkspaceLink::read(customer.get("metadata")),
            created: reader.instant(customer.get("created")),
            notes: reader.notes,
        })
    }
}

impl AddressView {
    fn read(value: Json<'_>, reader: &mut Reader) -> Self {
        let address = reader.members(value);
        let mut line = |key| reader.text(address.get(key)).filter(|text| !text.is_empty());
        Self {
            line1: line("line1"),
            line2: line("line2"),
            city: line("city"),
            postal_code: line("postal_code"),
            state: line("state"),
            country: line("country"),
        }
    }
}

impl fmt::Debug for CustomerView {
    /// Prints the id only: the rest is personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerView").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for AddressView {
    /// Prints no field: all of them are personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressView").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn read(text: &str) -> Result<CustomerView, Unreadable> {
        CustomerView::read(json(text))
    }

    #[test]
    fn a_customer_without_an_id_is_invalid() {
        for odd in ["{}", r#"{"id":null}"#, r#"{"id":5}"#, r#"{"id":""}"#, "null", "[]", "\"cus_1\""] {
            assert_eq!(read(odd), Err(Unreadable { field: "customer.id" }), "{odd}");
        }
    }

    #[test]
    fn the_stub_of_a_deleted_customer_is_read() {
        let view = read(r#"{"id":"cus_1","object":"customer","deleted":true}"#).unwrap();
        assert!(view.deleted && view.notes.is_empty());
        assert!(!read(r#"{"id":"cus_1"}"#).unwrap().deleted);
    }

    #[test]
    fn odd_values_read_as_none_and_are_noted_once() {
        let view = read(r#"{"id":"cus_1","name":5,"email":["a"],"address":"Berlin","created":"x"}"#).unwrap();
        assert_eq!((view.name, view.email, view.created), (None, None, None));
        assert_eq!(view.address, AddressView::default());
        assert_eq!(view.notes, BTreeSet::from([Reason::InvalidValue]));
    }

    #[test]
    fn debug_output_holds_no_personal_data() {
        let view = read(r#"{"id":"cus_1","name":"Ada","email":"a@b.example","address":{"city":"Ulm"}}"#).unwrap();
        assert_eq!(format!("{view:?}"), r#"CustomerView { id: "cus_1", .. }"#);
        assert_eq!(format!("{:?}", view.address), "AddressView { .. }");
    }
}
