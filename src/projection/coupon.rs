//! Projects a Stripe coupon to a row of `billing.coupons`. PURE.

use std::collections::BTreeSet;

use super::Projected;
use super::graph::Node;
use crate::domain::coupon::Coupon;
use crate::domain::object::row_id;
use crate::stripe::views::coupon::CouponView;

/// The row of a coupon; `None` if its content was never known.
pub fn coupon(account: &str, coupon_id: &str, node: &Node) -> Option<Projected<Coupon>> {
    node.content.as_ref()?;
    let view = CouponView::read(node.json());
    let row = Coupon {
        id: row_id(account, coupon_id),
        account: account.to_owned(),
        stripe_coupon_id: coupon_id.to_owned(),
        livemode: view.livemode,
        name: view.name,
        discount_percentage: view.percent_off,
        amount_off: view.amount_off,
        currency: view.currency,
        duration: view.duration,
        duration_in_months: view.duration_in_months,
        redeem_by: view.redeem_by,
        max_redemptions: view.max_redemptions,
        times_redeemed: view.times_redeemed,
        valid: view.valid.map(|valid| valid && !node.is_gone()),
        stripe_created_at: view.created,
        stripe_deleted_at: node.deleted_at,
    };
    Some(Projected { row, notes: view.notes, needs: BTreeSet::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Reason;
    use crate::projection::world::{NOW, World};

    fn project(world: &World) -> Projected<Coupon> {
        world.project(|graph| coupon("", "SAVE20", graph.get("coupon", "SAVE20")?)).unwrap()
    }

    #[test]
    fn a_coupon_takes_a_percentage_or_an_amount_off() {
        let percent = World::default().put(
            r#"{"id":"SAVE20","object":"coupon","percent_off":12.5,"duration":"repeating","duration_in_months":3,
                "valid":true,"livemode":false,"name":"Spring","created":1767225600}"#,
        );
        let row = project(&percent).row;
        assert_eq!((row.discount_percentage.as_deref(), row.amount_off), (Some("12.5"), None));
        assert_eq!(
            (row.duration.as_deref(), row.duration_in_months, row.valid),
            (Some("repeating"), Some(3), Some(true))
        );
        let amount = World::default().put(r#"{"id":"SAVE20","object":"coupon","amount_off":500,"currency":"eur"}"#);
        let row = project(&amount).row;
        assert_eq!((row.discount_percentage, row.amount_off, row.currency.as_deref()), (None, Some(500), Some("eur")));
    }

    #[test]
    fn the_limits_of_a_coupon_are_kept_as_sent() {
        let world = World::default().put(
            r#"{"id":"SAVE20","object":"coupon","redeem_by":1600000000,"max_redemptions":10,"times_redeemed":10,
                "valid":true}"#,
        );
        let row = project(&world).row;
        assert_eq!(row.redeem_by.map(time::OffsetDateTime::unix_timestamp), Some(1_600_000_000));
        assert_eq!((row.max_redemptions, row.times_redeemed), (Some(10), Some(10)));
        assert_eq!(row.valid, Some(true), "the projection has no clock; live_coupons does");
    }

    #[test]
    fn a_deleted_coupon_stays_and_is_invalid() {
        let world = World::default().put(r#"{"id":"SAVE20","object":"coupon","percent_off":20,"valid":true}"#);
        let row = project(&world.delete("coupon", "SAVE20", 1)).row;
        assert_eq!((row.valid, row.discount_percentage.as_deref()), (Some(false), Some("20")));
        assert_eq!(row.stripe_deleted_at, Some(NOW + time::Duration::SECOND));
    }

    #[test]
    fn a_coupon_that_was_not_found_is_invalid() {
        let world = World::default().put(r#"{"id":"SAVE20","object":"coupon","percent_off":20,"valid":true}"#);
        let row = project(&world.missing("coupon", "SAVE20")).row;
        assert_eq!((row.valid, row.stripe_deleted_at), (Some(false), None), "the event of its deletion was lost");
    }

    #[test]
    fn an_unknown_duration_is_kept_and_noted() {
        let projected = project(&World::default().put(r#"{"id":"SAVE20","object":"coupon","duration":"a while"}"#));
        assert_eq!(projected.row.duration.as_deref(), Some("a while"));
        assert!(projected.notes.contains(&Reason::UnknownEnum));
    }
}
