//! Projects objects that belong to no customer: coupons, checkout sessions, and prices by way of `plans`.

use std::collections::BTreeSet;

use super::answer::node;
use super::plans::plans;
use super::rows::{caused, causes_of, take_row};
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::jobs::requests::JobRequests;
use crate::mirror;
use crate::mirror::store::MirrorRow;
use crate::projection;
use crate::store::{self, Change};
use crate::stripe::nested::TRIAL_OFFER;
use crate::worker::change_set::{Causes, Notes};

/// Projects the `changed` objects that belong to no customer: prices, coupons, checkout sessions. Jobs project the
/// plans of a product and the subscriptions of a trial offer, because there may be many and their locks are not held.
pub(crate) async fn others(
    conn: &mut Connection,
    changed: &BTreeSet<ObjectKey>,
    causes: &Causes,
    notes: &mut Notes,
    job_requests: &mut JobRequests,
) -> Result<Vec<Change>, sqlx::Error> {
    let of_type = |types: &'static [&'static str]| {
        changed.iter().filter(move |key| types.contains(&key.object_type.as_str())).cloned().collect::<BTreeSet<_>>()
    };
    for shared in of_type(&["product", TRIAL_OFFER]) {
        job_requests.reproject(shared);
    }
    let mut written = plans(conn, &of_type(&["price", "plan"]), causes, notes, job_requests).await?;
    let loaded: Vec<MirrorRow> = mirror::store::load(conn, of_type(&["coupon", "checkout.session"]).iter()).await?;
    let (mut coupons, mut sessions) = (Vec::new(), Vec::new());
    for row in loaded {
        let key = row.key.clone();
        let node = node(row);
        if key.object_type == "coupon" {
            let projected = projection::coupon(&key.account, &key.object_id, &node);
            coupons.extend(
                projected.map(|one| caused(take_row(&key, one, notes, job_requests), &causes_of(causes, &key))),
            );
        } else {
            let projected = projection::checkout_session(&key.account, &key.object_id, &node);
            sessions.extend(
                projected.map(|one| caused(take_row(&key, one, notes, job_requests), &causes_of(causes, &key))),
            );
        }
    }
    let held = store::held(conn, &coupons).await?;
    for coupon in coupons.extract_if(.., |coupon| held.contains(&coupon.row.id)) {
        job_requests.put_off(ObjectKey::new(&coupon.row.account, "coupon", &coupon.row.stripe_coupon_id));
    }
    written.extend(store::save(conn, &coupons).await?);
    written.extend(store::save(conn, &sessions).await?);
    Ok(written)
}
