//! From the mirror to the product tables, for the objects that a merge has changed.
//!
//! Called inside the worker's transaction, with the locks of all these objects and their customers held. Only
//! reads the mirror and writes rows: what a field means is the projection's to say.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::Context;
use crate::domain::contact::BillingContact;
use crate::domain::event::Reason;
use crate::domain::object::ObjectKey;
use crate::domain::plan::PricingPlan;
use crate::domain::subscription::Subscription;
use crate::mirror::rows::{self, MirrorRow};
use crate::projection::{self, Projected};
use crate::store;
use crate::stripe::json::Json;
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::price::PriceView;
use crate::stripe::views::subscription::SubscriptionView;

/// What was noticed while an object was projected.
pub(super) type Notes = BTreeMap<ObjectKey, BTreeSet<Reason>>;

/// Projects the `changed` objects and all that depends on them, and writes the rows.
pub(super) async fn project(
    conn: &mut PgConnection,
    context: &Context,
    changed: &BTreeSet<ObjectKey>,
) -> Result<Notes, sqlx::Error> {
    let mut notes = Notes::new();
    let of_type = |wanted: &'static str| changed.iter().filter(move |key| key.object_type == wanted);
    project_plans(conn, changed, &mut notes).await?;

    // a changed customer changes its subscriptions too: those that name no workspace take the customer's
    let mut subscriptions = rows::subscriptions_of(conn, of_type("customer")).await?;
    let seen: BTreeSet<ObjectKey> = subscriptions.iter().map(|row| row.key.clone()).collect();
    subscriptions.extend(rows::load(conn, of_type("subscription").filter(|key| !seen.contains(key))).await?);
    let customers = customers(conn, changed, &subscriptions).await?;

    let mut contacts = Vec::new();
    for row in customers.values().filter(|row| changed.contains(&row.key)) {
        match contact(row) {
            Some(projected) => contacts.push(keep_notes(&mut notes, &row.key, projected)),
            // only its deletion is known, so that everything about it would have to be fetched
            None => _ = notes.entry(row.key.clone()).or_default().insert(Reason::NeedsFetch),
        }
    }
    let mut rows = Vec::new();
    for row in &subscriptions {
        if let Some(projected) = subscription(context, row, &customers) {
            rows.push(keep_notes(&mut notes, &row.key, projected));
        }
    }
    store::save_contacts(conn, &contacts).await?;
    store::save_subscriptions(conn, &rows).await?;
    Ok(notes)
}

/// The mirror rows of the changed customers and of the customers of `subscriptions`.
async fn customers(
    conn: &mut PgConnection,
    changed: &BTreeSet<ObjectKey>,
    subscriptions: &[MirrorRow],
) -> Result<BTreeMap<ObjectKey, MirrorRow>, sqlx::Error> {
    let named = subscriptions.iter().filter_map(customer_key);
    let own = changed.iter().filter(|key| key.object_type == "customer").cloned();
    let keys: BTreeSet<ObjectKey> = named.chain(own).collect();
    Ok(rows::load(conn, keys.iter()).await?.into_iter().map(|row| (row.key.clone(), row)).collect())
}

/// The customer that a mirror row belongs to.
fn customer_key(row: &MirrorRow) -> Option<ObjectKey> {
    row.customer_id.as_deref().map(|id| ObjectKey::new(&row.key.account, "customer", id))
}

/// The billing contact of a customer; `None` while only its deletion is known.
fn contact(row: &MirrorRow) -> Option<Projected<BillingContact>> {
    Some(projection::contact(&row.key.account, &customer_view(row)?, row.deleted_at))
}

fn subscription(
    context: &Context,
    row: &MirrorRow,
    customers: &BTreeMap<ObjectKey, MirrorRow>,
) -> Option<Projected<Subscription>> {
    let view = SubscriptionView::read(Json::parse(&row.content.as_ref()?.json).ok()?).ok()?;
    let customer = customer_key(row).and_then(|key| customer_view(customers.get(&key)?));
    Some((context.project_subscription)(&row.key.account, &view, customer.as_ref(), &context.rules()))
}

fn customer_view(row: &MirrorRow) -> Option<CustomerView> {
    CustomerView::read(Json::parse(&row.content.as_ref()?.json).ok()?).ok()
}

/// The plans of the changed prices. A price and a plan of one id make one row, and the price is the newer shape.
async fn project_plans(
    conn: &mut PgConnection,
    changed: &BTreeSet<ObjectKey>,
    notes: &mut Notes,
) -> Result<(), sqlx::Error> {
    let prices = changed.iter().filter(|key| matches!(key.object_type.as_str(), "price" | "plan"));
    let both: BTreeSet<ObjectKey> = prices
        .flat_map(|key| ["price", "plan"].map(|kind| ObjectKey::new(&key.account, kind, &key.object_id)))
        .collect();
    if both.is_empty() {
        return Ok(());
    }
    let mut plans: BTreeMap<Uuid, (String, PricingPlan)> = BTreeMap::new();
    for row in rows::load(conn, both.iter()).await? {
        let Some(content) = &row.content else { continue };
        let Some(view) = Json::parse(&content.json).ok().and_then(|json| PriceView::read(json).ok()) else { continue };
        let plan = projection::plan(&row.key.account, &view);
        notes.entry(row.key.clone()).or_default().extend(&view.notes);
        let known = plans.get(&plan.id).is_some_and(|(kind, _)| kind == "price");
        if !known {
            plans.insert(plan.id, (row.key.object_type, plan));
        }
    }
    let plans: Vec<PricingPlan> = plans.into_values().map(|(_, plan)| plan).collect();
    store::save_plans(conn, &plans).await
}

/// Takes the row and keeps what was noticed under its object.
fn keep_notes<T>(notes: &mut Notes, key: &ObjectKey, projected: Projected<T>) -> T {
    notes.entry(key.clone()).or_default().extend(projected.notes);
    projected.row
}
