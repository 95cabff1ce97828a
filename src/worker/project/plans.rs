//! Projects prices into pricing plans and their limits.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::answer::project_all;
use super::rows::{by_account, caused, causes_of, take_row};
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::domain::plan::{PlanLimit, PricingPlan};
use crate::jobs::requests::JobRequests;
use crate::projection;
use crate::projection::graph::Graph;
use crate::store::{self, CausedRow, Change};
use crate::worker::change_set::{Causes, Notes};

/// Projects the plans of `prices`, which may be plans of the old kind. Plans whose rows another session holds are put
/// off. A new or changed plan may belong to existing subscriptions and decide their limits; a job finds them.
pub(crate) async fn plans(
    conn: &mut Connection,
    prices: &BTreeSet<ObjectKey>,
    causes: &Causes,
    notes: &mut Notes,
    job_requests: &mut JobRequests,
) -> Result<Vec<Change>, sqlx::Error> {
    let (mut plans, mut limits): (Vec<CausedRow<PricingPlan>>, Vec<CausedRow<PlanLimit>>) = (Vec::new(), Vec::new());
    for (account, prices) in by_account(prices) {
        let mut graph = Graph::new(account);
        // a price and a plan of one id make one row
        let by_id: BTreeMap<&str, &ObjectKey> =
            prices.into_iter().rev().map(|key| (key.object_id.as_str(), key)).collect();
        let project = |key: &ObjectKey, graph: &Graph| projection::plan(&key.object_id, graph);
        for (key, rows) in project_all(conn, &mut graph, by_id.into_values().collect(), project).await? {
            let Some(rows) = rows else { continue };
            let causes = causes_of(causes, key);
            limits.extend(rows.limits.into_iter().map(|limit| caused(limit, &causes)));
            plans.push(caused(take_row(key, rows.plan, notes, job_requests), &causes));
        }
    }
    let held = store::held(conn, &plans).await?;
    limits.retain(|limit| !held.contains(&limit.row.pricing_plan_id));
    for plan in plans.extract_if(.., |plan| held.contains(&plan.row.id)) {
        job_requests.put_off(ObjectKey::new(&plan.row.account, "price", &plan.row.stripe_price_id));
    }
    let mut changes = store::save(conn, &plans).await?;
    let mut others: BTreeSet<Uuid> = changes.iter().map(|change| change.row_id).collect();
    let of_limits = store::save(conn, &limits).await?;
    let plan_of: BTreeMap<Uuid, Uuid> = limits.iter().map(|limit| (limit.row.id, limit.row.pricing_plan_id)).collect();
    others.extend(of_limits.iter().filter_map(|change| plan_of.get(&change.row_id)));
    changes.extend(of_limits);
    let plan_ids: Vec<Uuid> = plans.iter().map(|plan| plan.row.id).collect();
    let limit_ids: Vec<Uuid> = limits.iter().map(|limit| limit.row.id).collect();
    others.extend(store::remove_other_limits(conn, &plan_ids, &limit_ids).await?);
    for plan in plans.iter().filter(|plan| others.contains(&plan.row.id)) {
        // references to it have the type `price`, whichever of the two it is
        job_requests.reproject(ObjectKey::new(&plan.row.account, "price", &plan.row.stripe_price_id));
    }
    Ok(changes)
}
