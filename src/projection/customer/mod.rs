//! Projects a customer to its billing contact, and all its subscriptions.
//!
//! Must not know the location of fields in payloads. PURE.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::graph::{Graph, Node};
use super::method;
use super::subscription::unseen_coupon;
use super::{CustomerRows, Projected, Rules};
use crate::domain::contact::BillingContact;
use crate::domain::event::Reason;
use crate::domain::object::{ObjectKey, row_id};
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::discount::DiscountView;
use crate::stripe::views::workspace::WorkspaceLink;

/// The rows of a customer: its contact, and all its subscriptions, in the order of their ids.
pub fn customer(customer_id: &str, graph: &Graph, rules: &Rules) -> CustomerRows {
    let node = graph.get("customer", customer_id);
    let view = node.and_then(|node| CustomerView::read(node.json()).ok());
    let contact = node.zip(view.as_ref()).map(|(node, view)| contact(graph, node, view));
    // a customer that was deleted before its content was known has no contact, but its subscriptions ended, too
    let deleted_at = node.filter(|_| view.is_none()).and_then(|node| node.deleted_at);
    let unconfirmed = deleted_at.map(|at| live_subscriptions(graph, customer_id, Some(at))).unwrap_or_default();
    let subscriptions = graph.of_customer(customer_id, "subscription").into_iter().filter_map(|(key, node)| {
        let mut projected = super::subscription::row(graph, node, view.as_ref(), *rules)?;
        if unconfirmed.contains(key) {
            projected.needs.insert(key.clone());
            projected.notes.insert(Reason::NeedsFetch);
        }
        Some(projected)
    });
    CustomerRows { contact, subscriptions: subscriptions.collect() }
}

/// The billing contact of a customer.
///
/// A deleted customer keeps its content, for the invoices that reference it, but loses its discount and payment method,
/// which can no longer be used.
fn contact(graph: &Graph, node: &Node, view: &CustomerView) -> Projected<BillingContact> {
    let account = graph.account();
    let deleted = view.deleted || node.deleted_at.is_some();
    let mut notes = view.notes.clone();
    let mut needs = BTreeSet::new();
    if view.workspace == WorkspaceLink::Invalid {
        notes.insert(Reason::InvalidWorkspaceId);
    }
    let (discount, method) = if deleted {
        needs.extend(live_subscriptions(graph, &view.id, node.deleted_at.or(node.version)));
        (None, None)
    } else {
        (discount(graph, node, view), method::of_customer(graph, view, &mut needs))
    };
    if !needs.is_empty() {
        notes.insert(Reason::NeedsFetch);
    }
    // the contact is complete without the coupon, which has its own row
    needs.extend(discount.as_ref().and_then(|discount| unseen_coupon(graph, &discount.coupon_id)));
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
        default_payment_method: method.as_ref().map(|method| method.kind.clone()),
        default_payment_method_card_brand: method.as_ref().and_then(|method| method.card_brand.clone()),
        default_payment_card_number_last_four_digits: method.and_then(|method| method.last_four),
        workspace_id: view.workspace.named(),
        stripe_created_at: view.created,
        stripe_deleted_at: node.deleted_at,
    };
    Projected { row, notes, needs }
}

/// The customer's own discount: the one in the customer's content, unless a newer event created or deleted a discount
/// of the customer. A deleted discount never returns, even if an object still references it.
fn discount(graph: &Graph, node: &Node, view: &CustomerView) -> Option<DiscountView> {
    let since = |one: &Node| one.version.max(one.deleted_at);
    let named = view.discount.as_ref().and_then(|discount| discount.id.as_deref());
    let own = graph.of_customer(&view.id, "discount").into_iter().filter_map(|(key, one)| {
        let discount = DiscountView::of_object(one.json()).filter(|discount| discount.of_customer && !one.is_copy)?;
        // the discount object includes the content nested in the customer, and an event of the same second
        let counts = since(one) > node.version || (named == Some(&key.object_id) && since(one) == node.version);
        counts.then_some((key, one, discount))
    });
    let newest = own.max_by_key(|(key, one, _)| (since(one), one.deleted_at.is_none(), &key.object_id));
    let discount = newest.map_or_else(|| view.discount.clone(), |(_, _, discount)| Some(discount))?;
    let is_deleted = |id: &String| graph.get("discount", id).is_some_and(|one| one.deleted_at.is_some());
    (!discount.id.as_ref().is_some_and(is_deleted)).then_some(discount)
}

/// Returns the subscriptions that were live in their latest state before the customer's deletion. Stripe ends them at
/// once; if the event of that is lost, only a fetch shows it. States from after the deletion are trusted, or fetches
/// would never end.
fn live_subscriptions(graph: &Graph, customer_id: &str, deleted_at: Option<OffsetDateTime>) -> Vec<ObjectKey> {
    let is_live = |node: &Node| {
        let subscription = node.json();
        let status = subscription.get("status").text().unwrap_or_default();
        let over = ["canceled", "incomplete_expired"].contains(&status.as_str())
            || !subscription.get("ended_at").is_null()
            || node.not_found_at.is_some();
        !over && node.version <= deleted_at
    };
    let subscriptions = graph.of_customer(customer_id, "subscription").into_iter();
    subscriptions.filter(|(_, node)| is_live(node)).map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests;
