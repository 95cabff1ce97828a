//! Projects customers with all their subscriptions.

use uuid::Uuid;

use super::answer::project_all;
use super::rows::{by_account, caused, take_row};
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::jobs::requests::JobRequests;
use crate::limits::invalidate;
use crate::projection::graph::Graph;
use crate::store::{self, Change};
use crate::worker::change_set::{Causes, Notes};
use crate::worker::context::Context;

/// Projects customers and all their subscriptions, writes the rows, and marks the limits that they change.
pub(crate) async fn customers(
    conn: &mut Connection,
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
