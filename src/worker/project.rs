//! Projects objects of the mirror into the product tables: loads what the projection asks for, and writes the rows.
//!
//! Called in a transaction that holds the locks of the customers and objects. Reads only the mirror and the facts. What
//! a field means, and what it depends on, is decided by the projection.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::change_set::{Causes, Notes};
use super::context::Context;
use crate::domain::object::ObjectKey;
use crate::domain::plan::{PlanLimit, PricingPlan};
use crate::jobs::requests::JobRequests;
use crate::limits::invalidate;
use crate::mirror;
use crate::mirror::facts::known;
use crate::mirror::related;
use crate::mirror::store::MirrorRow;
use crate::projection;
use crate::projection::Projected;
use crate::projection::graph::{Graph, Node, Question};
use crate::store::{self, CausedRow, Change};
use crate::stripe::json::Document;
use crate::stripe::nested::TRIAL_OFFER;

/// Projects customers and all their subscriptions, writes the rows, and marks the limits that they change.
pub(crate) async fn customers(
    conn: &mut PgConnection,
    context: &Context,
    causes: &Causes,
    notes: &mut Notes,
    job_requests: &mut JobRequests,
) -> Result<Vec<Change>, sqlx::Error> {
    let (mut contacts, mut subscriptions) = (Vec::new(), Vec::new());
    for (account, customers) in by_account(causes.keys()) {
        let mut graph = Graph::new(account);
        let project =
            |key: &ObjectKey, graph: &Graph| (context.project_customer)(&key.object_id, graph, &context.rules());
        for (key, rows) in project_all(conn, &mut graph, customers, project).await? {
            let of_customer = &causes[key];
            if let Some(contact) = rows.contact {
                contacts.push(caused(take_row(key, contact, notes, job_requests), of_customer));
            }
            for subscription in rows.subscriptions {
                let key = graph.key("subscription", &subscription.row.stripe_subscription_id);
                subscriptions.push(caused(take_row(&key, subscription, notes, job_requests), of_customer));
            }
        }
    }
    let mut changes = store::save(conn, &contacts).await?;
    let of_subscriptions = store::save(conn, &subscriptions).await?;
    let projected: Vec<Uuid> = subscriptions.iter().map(|one| one.row.id).collect();
    let moved = |change: &&Change| LIMIT_COLUMNS.iter().any(|column| change.has(column));
    let with_other_months: Vec<Uuid> = of_subscriptions.iter().filter(moved).map(|change| change.row_id).collect();
    if !invalidate::mark_subscriptions(conn, &projected, &with_other_months).await? {
        for customer in causes.keys() {
            job_requests.put_off(customer.clone());
        }
    }
    changes.extend(of_subscriptions);
    Ok(changes)
}

/// The columns of a subscription on which its periods and their end depend, apart from its timeline.
const LIMIT_COLUMNS: [&str; 4] = ["started_at", "stripe_created_at", "stripe_status", "end_date"];

/// Projects each of `open` repeatedly: loads what all of them asked for, and projects again until no question is left.
async fn project_all<'a, T>(
    conn: &mut PgConnection,
    graph: &mut Graph,
    mut open: Vec<&'a ObjectKey>,
    project: impl Fn(&ObjectKey, &Graph) -> T,
) -> Result<Vec<(&'a ObjectKey, T)>, sqlx::Error> {
    let mut done = Vec::new();
    while !open.is_empty() {
        let mut unanswered = BTreeSet::new();
        let mut still_open = Vec::new();
        for key in open {
            let rows = project(key, graph);
            let questions = graph.take_questions();
            if questions.is_empty() {
                done.push((key, rows));
            } else {
                unanswered.extend(questions);
                still_open.push(key);
            }
        }
        answer(conn, graph, &unanswered).await?;
        open = still_open;
    }
    Ok(done)
}

/// Answers all questions, each kind in one statement.
async fn answer(conn: &mut PgConnection, graph: &mut Graph, questions: &BTreeSet<Question>) -> Result<(), sqlx::Error> {
    let mut wanted: BTreeSet<ObjectKey> = BTreeSet::new();
    let (mut of, mut referencing, mut paid) = (Vec::new(), Vec::new(), Vec::new());
    for question in questions {
        match question {
            Question::Object(key) => _ = wanted.insert(key.clone()),
            Question::Of(key, object_type) => of.push((question, (key, *object_type))),
            Question::Referencing(key, object_type) => referencing.push((question, (key, *object_type))),
            Question::Payments(key) => paid.push(key),
        }
    }
    let found = related::of_customers(conn, &arguments(&of)).await?;
    wanted.extend(put_lists(graph, &of, found));
    let found = related::referencing(conn, &arguments(&referencing)).await?;
    wanted.extend(put_lists(graph, &referencing, found));
    let mut payments: Vec<Vec<_>> = paid.iter().map(|_| Vec::new()).collect();
    for (index, payment) in known::payments(conn, &paid).await? {
        payments[index].push(payment);
    }
    for (key, payments) in paid.into_iter().zip(payments) {
        graph.put_payments(key.clone(), payments);
    }
    put_objects(conn, graph, wanted).await
}

type ListQuestions<'a> = Vec<(&'a Question, (&'a ObjectKey, &'static str))>;

fn arguments<'a>(questions: &ListQuestions<'a>) -> Vec<(&'a ObjectKey, &'static str)> {
    questions.iter().map(|(_, argument)| *argument).collect()
}

/// Puts the lists that were found into the graph; returns the objects in them, which are to be loaded.
fn put_lists(graph: &mut Graph, questions: &ListQuestions<'_>, found: Vec<(usize, ObjectKey)>) -> BTreeSet<ObjectKey> {
    let mut lists: Vec<Vec<ObjectKey>> = questions.iter().map(|_| Vec::new()).collect();
    for (index, key) in &found {
        lists[*index].push(key.clone());
    }
    for ((question, _), list) in questions.iter().zip(lists) {
        graph.put_list((*question).clone(), list);
    }
    found.into_iter().map(|(_, key)| key).collect()
}

async fn put_objects(
    conn: &mut PgConnection,
    graph: &mut Graph,
    wanted: BTreeSet<ObjectKey>,
) -> Result<(), sqlx::Error> {
    let mut found: BTreeMap<ObjectKey, Node> =
        mirror::store::load(conn, wanted.iter()).await?.into_iter().map(|row| (row.key.clone(), node(row))).collect();
    for key in wanted {
        let node = found.remove(&key);
        graph.put(key, node);
    }
    Ok(())
}

fn node(row: MirrorRow) -> Node {
    let (deleted_at, not_found_at) = (row.gone_at(), row.not_found_at());
    Node {
        is_copy: row.content.is_some() && row.seen().is_none(),
        version: row.content.as_ref().map(|content| content.version),
        content: row.content.map(|content| Document::parse_or_null(content.json)),
        deleted_at,
        not_found_at,
        expansion_version: row.expansion.as_ref().map(|expansion| expansion.version),
        expansion_stale_after: row.expansion_stale_after,
        expansion: row.expansion.map(|expansion| Document::parse_or_null(expansion.json)),
    }
}

/// Projects the `changed` objects that belong to no customer: prices, coupons, checkout sessions. Jobs project the
/// plans of a product and the subscriptions of a trial offer, because there may be many and their locks are not held.
pub(crate) async fn others(
    conn: &mut PgConnection,
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
            coupons.extend(projected.map(|one| caused(take_row(&key, one, notes, job_requests), &of(causes, &key))));
        } else {
            let projected = projection::checkout_session(&key.account, &key.object_id, &node);
            sessions.extend(projected.map(|one| caused(take_row(&key, one, notes, job_requests), &of(causes, &key))));
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

/// Projects the plans of `prices`, which may be plans of the old kind. Plans whose rows another session holds are put
/// off. A new or changed plan may belong to existing subscriptions and decide their limits; a job finds them.
pub(crate) async fn plans(
    conn: &mut PgConnection,
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
            let causes = of(causes, key);
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

fn of(causes: &Causes, key: &ObjectKey) -> BTreeSet<String> {
    causes.get(key).cloned().unwrap_or_default()
}

fn caused<T>(row: T, causes: &BTreeSet<String>) -> CausedRow<T> {
    CausedRow { row, causes: causes.iter().cloned().collect() }
}

fn by_account<'a>(keys: impl IntoIterator<Item = &'a ObjectKey>) -> BTreeMap<&'a str, Vec<&'a ObjectKey>> {
    let mut accounts: BTreeMap<&str, Vec<&ObjectKey>> = BTreeMap::new();
    for key in keys {
        accounts.entry(&key.account).or_default().push(key);
    }
    accounts
}

/// Returns the row; stores its notes under its object and queues fetches for what it needs.
fn take_row<T>(key: &ObjectKey, projected: Projected<T>, notes: &mut Notes, job_requests: &mut JobRequests) -> T {
    notes.entry(key.clone()).or_default().extend(projected.notes);
    for need in projected.needs {
        job_requests.fetch(need, None);
    }
    projected.row
}
