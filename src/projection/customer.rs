//! Customer → billing contact.
//!
//! Must not know where payloads keep their fields, nor payment methods: those need other objects. PURE.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::Projected;
use crate::domain::contact::BillingContact;
use crate::domain::event::Reason;
use crate::domain::object::row_id;
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::workspace::WorkspaceLink;

/// The billing contact of a customer. `deleted_at` is the time of its deletion, which stands beside the content.
///
/// A deleted customer keeps its content, for the invoices that name it, and loses its discount, which nobody can use.
pub fn contact(account: &str, view: &CustomerView, deleted_at: Option<OffsetDateTime>) -> Projected<BillingContact> {
    let deleted = view.deleted || deleted_at.is_some();
    let discount = view.discount.clone().filter(|_| !deleted);
    let mut notes = view.notes.clone();
    if view.workspace == WorkspaceLink::Bad {
        notes.insert(Reason::BadWorkspaceId);
    }
    if deleted {
        // Stripe ends its subscriptions at once; should one of those events be lost, only a read would tell
        notes.insert(Reason::NeedsFetch);
    }
    let address = view.address.clone();
    let row = BillingContact {
        id: row_id(account, &view.id),
        account: account.to_owned(),
        stripe_customer_id: view.id.clone(),
        livemode: view.livemode,
        name: view.name.clone(),
        email: view.email.clone(),
        address_line1: address.line1,
        address_line2: address.line2,
        city: address.city,
        postal_code: address.postal_code,
        state: address.state,
        country: address.country,
        active_discount_ends_at: discount.as_ref().and_then(|discount| discount.ends_at),
        active_discount: discount.map(|discount| discount.coupon_id),
        workspace_id: view.workspace.named(),
        stripe_created_at: view.created,
        stripe_deleted_at: deleted_at,
    };
    Projected { row, notes, needs: BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::Json;
    use time::macros::datetime;

    const DELETED_AT: OffsetDateTime = datetime!(2026-10-01 12:00 UTC);

    fn project(fields: &str, deleted_at: Option<OffsetDateTime>) -> Projected<BillingContact> {
        let text = format!(r#"{{"id":"cus_1",{fields}}}"#);
        contact("", &CustomerView::read(Json::parse(&text).unwrap()).unwrap(), deleted_at)
    }

    fn address(fields: &str) -> [Option<String>; 6] {
        let row = project(fields, None).row;
        [row.address_line1, row.address_line2, row.city, row.postal_code, row.state, row.country]
    }

    #[test]
    fn a_null_address_empties_all_six_fields() {
        assert_eq!(address(r#""address":null"#), [const { None }; 6]);
        assert_eq!(address(r#""name":null"#), [const { None }; 6]);
    }

    #[test]
    fn an_empty_text_in_the_address_is_null() {
        let empty = r#""address":{"line1":"","line2":"","city":"","postal_code":"","state":"","country":""}"#;
        assert_eq!(address(empty), [const { None }; 6]);
    }

    #[test]
    fn an_address_may_be_partly_null() {
        let some = |text: &str| Some(text.to_owned());
        let partly = r#""address":{"line1":"Allee 1","line2":null,"city":"Ulm","postal_code":"","country":"DE"}"#;
        assert_eq!(address(partly), [some("Allee 1"), None, some("Ulm"), None, None, some("DE")]);
        let all = r#""address":{"line1":"1","line2":"2","city":"3","postal_code":"4","state":"5","country":"6"}"#;
        assert_eq!(address(all), ["1", "2", "3", "4", "5", "6"].map(some));
    }

    #[test]
    fn name_and_email_are_stored_as_stripe_has_them() {
        let row = project(r#""name":"","email":null"#, None).row;
        assert_eq!((row.name.as_deref(), row.email), (Some(""), None));
    }

    #[test]
    fn the_discount_is_the_coupon_and_its_end() {
        let row = project(r#""discount":{"coupon":{"id":"SAVE20"},"end":1798761600}"#, None).row;
        assert_eq!(row.active_discount.as_deref(), Some("SAVE20"));
        assert_eq!(row.active_discount_ends_at, Some(datetime!(2027-01-01 0:00 UTC)));
    }

    #[test]
    fn a_deleted_customer_keeps_its_content_and_loses_its_discount() {
        let fields = r#""name":"Ada","discount":{"source":{"coupon":"SAVE20"},"end":1798761600}"#;
        let row = project(fields, Some(DELETED_AT)).row;
        assert_eq!((row.active_discount, row.active_discount_ends_at), (None, None));
        assert_eq!((row.name.as_deref(), row.stripe_deleted_at), (Some("Ada"), Some(DELETED_AT)));
        assert_eq!(project(&format!(r#"{fields},"deleted":true"#), None).row.active_discount, None, "the stub");
    }

    #[test]
    fn a_workspace_that_is_no_uuid_is_null_and_noted() {
        let projected = project(r#""metadata":{"workspace_id":"42"}"#, None);
        assert_eq!(projected.row.workspace_id, None);
        assert!(projected.notes.contains(&Reason::BadWorkspaceId));
    }
}
