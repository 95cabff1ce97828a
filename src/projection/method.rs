//! How somebody pays: which of the methods around a customer or subscription counts.
//!
//! PURE; called by the customer and the subscription projection.

use std::collections::BTreeSet;

use super::graph::{Graph, Node};
use crate::domain::object::ObjectKey;
use crate::stripe::reference::source_type;
use crate::stripe::views::charge::{ChargeView, PaymentIntentView};
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::invoice::{InvoicePaymentView, InvoiceView};
use crate::stripe::views::method::{MethodView, of_object};
use crate::stripe::views::subscription::SubscriptionView;

type Needs = BTreeSet<ObjectKey>;

/// The method that a customer's invoices are charged to: its default payment method, else its default source.
pub(super) fn of_customer(graph: &Graph, view: &CustomerView, needs: &mut Needs) -> Option<MethodView> {
    let own = view.payment_method_id.as_deref().and_then(|id| payment_method(graph, id, needs));
    own.or_else(|| source(graph, view.source_id.as_deref()?, &view.id, needs))
}

/// The method that a subscription is paid by: its own, its own source, the one that paid its last invoice, and else the
/// customer's, which Stripe charges in that case.
pub(super) fn of_subscription(
    graph: &Graph,
    view: &SubscriptionView,
    customer: Option<&CustomerView>,
    needs: &mut Needs,
) -> Option<MethodView> {
    let own = view.payment_method_id.as_deref().and_then(|id| payment_method(graph, id, needs));
    own.or_else(|| source(graph, view.source_id.as_deref()?, &view.customer_id, needs))
        .or_else(|| of_last_invoice(graph, view.latest_invoice_id.as_deref()?, needs))
        // a deleted customer has none any more
        .or_else(|| of_customer(graph, customer.filter(|customer| !is_deleted(graph, customer))?, needs))
}

fn is_deleted(graph: &Graph, customer: &CustomerView) -> bool {
    customer.deleted || graph.get("customer", &customer.id).is_some_and(|node| node.deleted_at.is_some())
}

fn payment_method(graph: &Graph, id: &str, needs: &mut Needs) -> Option<MethodView> {
    let Some(node) = graph.get("payment_method", id) else {
        needs.insert(graph.key("payment_method", id));
        return None;
    };
    present(node).and_then(|node| of_object("payment_method", node.json()))
}

/// A card, source or bank account of the older kind. It has no read of its own: the customer's brings it.
fn source(graph: &Graph, id: &str, customer_id: &str, needs: &mut Needs) -> Option<MethodView> {
    let kind = source_type(id);
    let Some(node) = graph.get(kind, id) else {
        needs.insert(graph.key("customer", customer_id));
        return None;
    };
    present(node).and_then(|node| of_object(kind, node.json()))
}

/// What was deleted, or was not found, is no way to pay.
fn present(node: &Node) -> Option<&Node> {
    (node.deleted_at.is_none() && node.missing_at.is_none()).then_some(node)
}

/// What the payment of an invoice remembers, which stays when the method itself is removed.
fn of_last_invoice(graph: &Graph, id: &str, needs: &mut Needs) -> Option<MethodView> {
    let Some(node) = graph.get("invoice", id) else {
        needs.insert(graph.key("invoice", id));
        return None;
    };
    let invoice = InvoiceView::read(node.json());
    let found = of_invoice_payments(graph, id).or_else(|| of_old_invoice(graph, &invoice));
    // a read made since the invoice last changed has said all that there is
    let was_read = node.expansion_version.is_some() && node.expansion_version >= node.version;
    if found.is_none() && invoice.bills && !was_read && node.missing_at.is_none() {
        needs.insert(graph.key("invoice", id));
    }
    found
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
