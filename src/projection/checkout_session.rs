//! Projects a Stripe checkout session to a row of `billing.checkout_sessions`. PURE.

use std::collections::BTreeSet;

use super::Projected;
use super::graph::Node;
use crate::domain::checkout_session::CheckoutSession;
use crate::domain::event::Reason;
use crate::domain::object::{ObjectKey, row_id};
use crate::stripe::views::checkout::{CheckoutView, first_price};
use crate::stripe::views::workspace::WorkspaceLink;

/// The row of a checkout session; `None` if its content was never known.
pub fn checkout_session(account: &str, session_id: &str, node: &Node) -> Option<Projected<CheckoutSession>> {
    node.content.as_ref()?;
    let view = CheckoutView::read(node.json());
    let mut notes = view.notes.clone();
    let mut needs = BTreeSet::new();
    if view.workspace == WorkspaceLink::Invalid {
        notes.insert(Reason::InvalidWorkspaceId);
    }
    // events do not contain the line items; those of an expired session are not needed
    let expired = view.status.as_deref() == Some("expired");
    if node.needs_expansion() && node.not_found_at.is_none() && !expired {
        needs.insert(ObjectKey::new(account, "checkout.session", session_id));
        notes.insert(Reason::NeedsFetch);
    }
    let row = CheckoutSession {
        id: row_id(account, session_id),
        account: account.to_owned(),
        stripe_session_id: session_id.to_owned(),
        livemode: view.livemode,
        status: view.status,
        payment_status: view.payment_status,
        stripe_customer_id: view.customer_id,
        stripe_subscription_id: view.subscription_id,
        stripe_price_id: first_price(node.expansion().get("line_items")),
        stripe_coupon_id: view.coupon_id,
        callback_url: view.callback_url,
        // null and `auto` both mean the browser's language
        language: view.locale.filter(|locale| locale != "auto"),
        workspace_id: view.workspace.named(),
        stripe_created_at: view.created,
        expires_at: view.expires_at,
    };
    Some(Projected { row, notes, needs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::world::{World, needs};

    fn world(fields: &str) -> World {
        World::default().put(&format!(r#"{{"id":"cs_1","object":"checkout.session",{fields}}}"#))
    }

    fn project(world: &World) -> Projected<CheckoutSession> {
        world.project(|graph| checkout_session("", "cs_1", graph.get("checkout.session", "cs_1")?)).unwrap()
    }

    #[test]
    fn embedded_and_hosted_sessions_have_different_urls() {
        let url = |fields: &str| project(&world(fields)).row.callback_url;
        for mode in ["embedded", "embedded_page", "custom", "elements", "form"] {
            let fields = format!(r#""ui_mode":"{mode}","return_url":"https://x.example/r","success_url":null"#);
            assert_eq!(url(&fields).as_deref(), Some("https://x.example/r"), "{mode}");
        }
        assert_eq!(
            url(r#""ui_mode":"hosted","success_url":"https://x.example/s""#).as_deref(),
            Some("https://x.example/s")
        );
    }

    #[test]
    fn complete_is_not_yet_paid() {
        let row =
            project(&world(r#""status":"complete","payment_status":"unpaid","locale":null,"subscription":"sub_1""#))
                .row;
        assert_eq!((row.status.as_deref(), row.payment_status.as_deref()), (Some("complete"), Some("unpaid")));
        assert_eq!((row.language, row.stripe_subscription_id.as_deref()), (None, Some("sub_1")));
        let odd = project(&world(r#""status":null,"payment_status":"partly""#));
        assert_eq!((odd.row.status, odd.notes.contains(&Reason::UnknownEnum)), (None, true));
    }

    #[test]
    fn null_and_auto_mean_no_language() {
        let language = |locale: &str| project(&world(&format!(r#""locale":{locale}"#))).row.language;
        assert_eq!((language("null"), language(r#""auto""#)), (None, None));
        assert_eq!(language(r#""pt-BR""#).as_deref(), Some("pt-BR"));
    }

    #[test]
    fn the_price_comes_with_a_read() {
        let open = world(r#""status":"open","locale":"de""#);
        assert_eq!(needs(&project(&open)), ["checkout.session/cs_1"]);
        let items = r#"{"line_items":{"data":[{"price":{"id":"price_1"}}]}}"#;
        let read = project(&open.clone().expand("checkout.session", "cs_1", 0, items));
        assert_eq!((read.row.stripe_price_id.as_deref(), read.row.language.as_deref()), (Some("price_1"), Some("de")));
        assert!(read.needs.is_empty());
        assert!(project(&world(r#""status":"expired""#)).needs.is_empty());
        let changed = open.expand("checkout.session", "cs_1", 0, items).age("checkout.session", "cs_1", 5);
        assert_eq!(needs(&project(&changed)), ["checkout.session/cs_1"], "the items may have changed since");
    }

    #[test]
    fn the_coupon_is_that_of_the_first_discount() {
        let coupon = |discounts: &str| project(&world(&format!(r#""discounts":{discounts}"#))).row.stripe_coupon_id;
        assert_eq!(coupon(r#"[{"coupon":"SAVE20","promotion_code":null}]"#).as_deref(), Some("SAVE20"));
        assert_eq!(
            coupon(r#"[{"coupon":{"id":"SAVE20","object":"coupon"}},{"coupon":"B"}]"#).as_deref(),
            Some("SAVE20")
        );
        assert_eq!((coupon("[]"), coupon("null")), (None, None));
        let code = r#"{"id":"promo_1","object":"promotion_code","promotion":{"type":"coupon","coupon":"SAVE20"}}"#;
        assert_eq!(coupon(&format!(r#"[{{"coupon":null,"promotion_code":{code}}}]"#)).as_deref(), Some("SAVE20"));
        let invalid = project(&world(r#""discounts":[{"coupon":5}]"#));
        assert!(invalid.row.stripe_coupon_id.is_none() && invalid.notes.contains(&Reason::InvalidValue));
    }

    #[test]
    fn the_id_of_a_promotion_code_is_not_looked_up() {
        let session = world(r#""status":"expired","discounts":[{"coupon":null,"promotion_code":"promo_1"}]"#);
        let code = r#"{"id":"promo_1","object":"promotion_code","promotion":{"type":"coupon","coupon":"SAVE20"}}"#;
        for world in [session.clone(), session.put(code)] {
            let projected = project(&world);
            assert_eq!((&projected.row.stripe_coupon_id, needs(&projected)), (&None, Vec::new()));
        }
    }

    #[test]
    fn the_workspace_is_in_the_metadata_or_the_reference() {
        let id = "0c8f5a54-3b1e-4f57-9a53-61d1f8a6e901";
        let row = project(&world(&format!(r#""client_reference_id":"{id}""#))).row;
        assert_eq!(row.workspace_id.map(|id| id.to_string()).as_deref(), Some(id));
        let bad = project(&world(r#""metadata":{"workspace_id":"7"}"#));
        assert!(bad.row.workspace_id.is_none() && bad.notes.contains(&Reason::InvalidWorkspaceId));
    }
}
