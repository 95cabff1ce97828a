//! How somebody pays: which of the methods around a customer or subscription counts.
//!
//! PURE; called by the customer and the subscription projection.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::graph::{Graph, Node};
use crate::domain::object::ObjectKey;
use crate::stripe::reference::source_type;
use crate::stripe::views::charge::{ChargeView, PaymentIntentView};
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::invoice::{InvoicePaymentView, InvoiceView};
use crate::stripe::views::method::{MethodView, of_object};
use crate::stripe::views::subscription::SubscriptionView;

type Needs = BTreeSet<ObjectKey>;

/// A step of the search. It ends with a method, or with none where the one that counts was never seen, since another in
/// its place would be a guess; what is not named, deleted or not found leaves the word to the next step.
type Step = ControlFlow<Option<MethodView>>;

/// The method that a customer's invoices are charged to.
pub(super) fn of_customer(graph: &Graph, view: &CustomerView, needs: &mut Needs) -> Option<MethodView> {
    search_customer(graph, view, needs).break_value().flatten()
}

/// The method that a subscription is paid by.
pub(super) fn of_subscription(
    graph: &Graph,
    view: &SubscriptionView,
    customer: Option<&CustomerView>,
    needs: &mut Needs,
) -> Option<MethodView> {
    search_subscription(graph, view, customer, needs).break_value().flatten()
}

/// Its default payment method, else its default source.
fn search_customer(graph: &Graph, view: &CustomerView, needs: &mut Needs) -> Step {
    payment_method(graph, view.payment_method_id.as_deref(), needs)?;
    source(graph, view.source_id.as_deref(), graph.key("customer", &view.id), needs)
}

/// Its own, its own source, the one that paid its last invoice, and else the customer's, which Stripe charges in that
/// case.
fn search_subscription(
    graph: &Graph,
    view: &SubscriptionView,
    customer: Option<&CustomerView>,
    needs: &mut Needs,
) -> Step {
    payment_method(graph, view.payment_method_id.as_deref(), needs)?;
    source(graph, view.source_id.as_deref(), graph.key("subscription", &view.id), needs)?;
    last_invoice(graph, view.latest_invoice_id.as_deref(), needs)?;
    // a deleted customer has none any more
    match customer.filter(|customer| !is_deleted(graph, customer)) {
        Some(customer) => search_customer(graph, customer, needs),
        None => ControlFlow::Continue(()),
    }
}

fn is_deleted(graph: &Graph, customer: &CustomerView) -> bool {
    customer.deleted || graph.get("customer", &customer.id).is_some_and(|node| node.deleted_at.is_some())
}

fn payment_method(graph: &Graph, id: Option<&str>, needs: &mut Needs) -> Step {
    let Some(id) = id else { return ControlFlow::Continue(()) };
    object(graph, "payment_method", id, graph.key("payment_method", id), needs)
}

/// A card, source or bank account of the older kind. It has no read of its own: that of its `owner`, which names it,
/// brings it.
fn source(graph: &Graph, id: Option<&str>, owner: ObjectKey, needs: &mut Needs) -> Step {
    let Some(id) = id else { return ControlFlow::Continue(()) };
    object(graph, source_type(id), id, owner, needs)
}

/// Looks at one object; `read` is what brings it.
fn object(graph: &Graph, object_type: &str, id: &str, read: ObjectKey, needs: &mut Needs) -> Step {
    match graph.get(object_type, id) {
        None => {
            needs.insert(read);
            ControlFlow::Break(None)
        }
        Some(node) => {
            if node.is_copy && !node.is_gone() {
                needs.insert(read);
            }
            step(present(node).and_then(|node| of_object(object_type, node.json())))
        }
    }
}

fn step(found: Option<MethodView>) -> Step {
    found.map_or(ControlFlow::Continue(()), |method| ControlFlow::Break(Some(method)))
}

/// What was deleted, or was not found, is no way to pay.
fn present(node: &Node) -> Option<&Node> {
    (!node.is_gone()).then_some(node)
}

/// What the payment of an invoice remembers, which stays when the method itself is removed.
///
/// Where nothing is found the search goes on even while the invoice is still to be read: most that have no payment
/// have none because they bill nothing.
fn last_invoice(graph: &Graph, id: Option<&str>, needs: &mut Needs) -> Step {
    let Some(id) = id else { return ControlFlow::Continue(()) };
    let Some(node) = graph.get("invoice", id) else {
        needs.insert(graph.key("invoice", id));
        return ControlFlow::Continue(());
    };
    let invoice = InvoiceView::read(node.json());
    let found = of_invoice_payments(graph, id).or_else(|| of_old_invoice(graph, &invoice));
    // nobody can pay a draft yet
    let may_be_paid = invoice.bills && invoice.status.as_deref() != Some("draft") && present(node).is_some();
    // a read made since the invoice last changed has said all that there is
    let was_read = node.expansion_version.is_some() && node.expansion_version >= node.version;
    if found.is_none() && may_be_paid && !was_read {
        needs.insert(graph.key("invoice", id));
    }
    step(found)
}

/// Since 2025-03-31.basil invoice payments lead from an invoice to its charges: the default one, else the newest that is
/// paid, else one that is open.
fn of_invoice_payments(graph: &Graph, invoice_id: &str) -> Option<MethodView> {
    let payments = graph.naming("invoice", invoice_id, "invoice_payment");
    let mut views: Vec<InvoicePaymentView> =
        payments.into_iter().map(|(_, node)| InvoicePaymentView::read(node.json())).collect();
    let weight = |view: &InvoicePaymentView| match view.status.as_deref() {
        Some("paid") => 2,
        Some("open") => 1,
        _ => 0,
    };
    // one that was canceled moved no money
    views.retain(|view| view.is_default || view.status.as_deref() != Some("canceled"));
    views.sort_by_key(|view| (view.is_default, weight(view), view.created));
    views.into_iter().rev().find_map(|view| {
        let by_intent = view.payment_intent_id.as_deref().and_then(|id| of_payment_intent(graph, id));
        by_intent.or_else(|| of_charge(graph, view.charge_id.as_deref()?))
    })
}

/// Before 2025-03-31.basil the invoice names its payment intent and its charge.
fn of_old_invoice(graph: &Graph, invoice: &InvoiceView) -> Option<MethodView> {
    let by_charge = invoice.charge_id.as_deref().and_then(|id| of_charge(graph, id));
    by_charge.or_else(|| of_payment_intent(graph, invoice.payment_intent_id.as_deref()?))
}

fn of_payment_intent(graph: &Graph, id: &str) -> Option<MethodView> {
    let view = PaymentIntentView::read(graph.get("payment_intent", id)?.json());
    let by_charge = view.charge_id.as_deref().and_then(|id| of_charge(graph, id));
    // before any charge was made: the method that it will be made by
    by_charge.or_else(|| {
        let node = present(graph.get("payment_method", view.payment_method_id.as_deref()?)?)?;
        of_object("payment_method", node.json())
    })
}

fn of_charge(graph: &Graph, id: &str) -> Option<MethodView> {
    ChargeView::read(graph.get("charge", id)?.json()).method
}

#[cfg(test)]
mod tests;
