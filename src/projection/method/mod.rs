//! Chooses the payment method of a customer or subscription.
//!
//! PURE; called by the customer and the subscription projection.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::graph::{Graph, Node};
use crate::domain::object::ObjectKey;
use crate::stripe::json::Json;
use crate::stripe::reference::{method_types, source_type};
use crate::stripe::views::charge::{ChargeView, PaymentIntentView};
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::invoice::{InvoicePaymentView, InvoiceView};
use crate::stripe::views::method::{MethodView, of_object};
use crate::stripe::views::subscription::SubscriptionView;

type Needs = BTreeSet<ObjectKey>;

/// A step of the search. The search ends with a method, or with none if the method that counts is referenced but
/// unknown: any other method would be a guess. If a step's method is not set, was deleted or detached, or does not
/// exist, the next step decides.
type Step = ControlFlow<Option<MethodView>>;

/// The method that a customer's invoices are charged to.
pub(super) fn of_customer(graph: &Graph, view: &CustomerView, needs: &mut Needs) -> Option<MethodView> {
    Search { graph, needs, invoice_id: None }.customer(view).break_value().flatten()
}

/// The method that a subscription will be charged to.
pub(super) fn of_subscription(
    graph: &Graph,
    view: &SubscriptionView,
    customer: Option<&CustomerView>,
    needs: &mut Needs,
) -> Option<MethodView> {
    let mut search = Search { graph, needs, invoice_id: view.latest_invoice_id.as_deref() };
    search.subscription(view, customer).break_value().flatten()
}

/// The search for a method, and the objects that it needs.
struct Search<'a> {
    graph: &'a Graph,
    needs: &'a mut Needs,
    /// The last invoice; its payment contains the details of the method that was used.
    invoice_id: Option<&'a str>,
}

impl Search<'_> {
    /// Searches in Stripe's documented order: the subscription's own payment method and source, then those of its
    /// customer. If none of these is set, the method of the last invoice's payment is the best guess.
    fn subscription(&mut self, view: &SubscriptionView, customer: Option<&CustomerView>) -> Step {
        let (graph, id) = (self.graph, view.id.as_str());
        self.method(view.payment_method_id.as_deref(), "payment_method", |method| graph.key("payment_method", method))?;
        self.method(view.source_id.as_deref(), "source", |_| graph.key("subscription", id))?;
        // a deleted customer has no methods
        if let Some(customer) = customer.filter(|customer| !is_deleted(graph, customer)) {
            self.customer(customer)?;
        }
        last_invoice(graph, self.invoice_id, self.needs)
    }

    /// Searches the customer's default payment method, else its default source.
    fn customer(&mut self, view: &CustomerView) -> Step {
        let graph = self.graph;
        self.method(view.payment_method_id.as_deref(), "payment_method", |id| graph.key("payment_method", id))?;
        // a card, source or bank account cannot be fetched itself: a fetch of its owner contains it
        self.method(view.source_id.as_deref(), "source", |_| graph.key("customer", &view.id))
    }

    /// Looks up one method; `read` returns the object whose fetch contains it.
    fn method(&mut self, id: Option<&str>, field: &str, read: impl Fn(&str) -> ObjectKey) -> Step {
        let Some(id) = id else { return ControlFlow::Continue(()) };
        match find(self.graph, id, field) {
            Found::Here(method) => ControlFlow::Break(Some(method)),
            Found::Copy(method) => {
                self.needs.insert(read(id));
                ControlFlow::Break(Some(method))
            }
            Found::Gone => ControlFlow::Continue(()),
            Found::Unseen => {
                self.needs.insert(read(id));
                ControlFlow::Break(self.paid_with(id))
            }
        }
    }

    /// The details of an unknown method, from the last payment if that was made with it.
    fn paid_with(&self, method_id: &str) -> Option<MethodView> {
        let invoice_id = self.invoice_id?;
        let paid = of_invoice(self.graph, invoice_id)?;
        paid.method_id.as_deref().filter(|id| *id == method_id)?;
        Some(paid.method)
    }
}

/// Result of looking up a referenced method.
enum Found {
    Here(MethodView),
    /// Known only as a copy inside another object, which may be outdated.
    Copy(MethodView),
    /// Deleted or detached, or Stripe has no such method.
    Gone,
    Unseen,
}

/// Looks up the method with this id. A card, source or bank account of the older kind may be known in its own shape, as
/// a payment method with the same id, or as both. The newer one counts, and a deletion of either deletes it.
fn find(graph: &Graph, id: &str, field: &str) -> Found {
    let mut types = method_types(id).to_vec();
    if field == "source" && !types.contains(&source_type(id)) {
        types.push(source_type(id));
    }
    // all are looked up, so that all are loaded
    let nodes: Vec<(&str, &Node)> = types.iter().filter_map(|kind| Some((*kind, graph.get(kind, id)?))).collect();
    if nodes.is_empty() {
        return Found::Unseen;
    }
    if nodes.iter().any(|(_, node)| node.deleted_at.is_some()) {
        return Found::Gone;
    }
    let known = nodes.iter().filter(|(_, node)| !node.is_gone() && node.content.is_some());
    let newest = known.max_by_key(|(kind, node)| (!node.is_copy, node.version, *kind == "payment_method"));
    let Some((kind, node)) = newest else { return Found::Gone };
    let found = if node.is_copy { Found::Copy } else { Found::Here };
    of_object(kind, node.json()).map_or(Found::Gone, found)
}

fn is_deleted(graph: &Graph, customer: &CustomerView) -> bool {
    customer.deleted || graph.get("customer", &customer.id).is_some_and(|node| node.deleted_at.is_some())
}

/// The method of a payment.
struct Paid {
    method: MethodView,
    /// Id of the method, if the payment contains it.
    method_id: Option<String>,
}

/// The method that paid the last invoice, from its payment, which keeps the details when the method itself is removed.
///
/// If no payment is found, the search continues, even if the invoice must still be fetched: most invoices without a
/// payment bill nothing.
fn last_invoice(graph: &Graph, id: Option<&str>, needs: &mut Needs) -> Step {
    let Some(id) = id else { return ControlFlow::Continue(()) };
    let Some(node) = graph.get("invoice", id) else {
        needs.insert(graph.key("invoice", id));
        return ControlFlow::Continue(());
    };
    let invoice = InvoiceView::read(node.json());
    let found = of_invoice(graph, id);
    // a draft cannot be paid yet
    let may_be_paid = invoice.bills && invoice.status.as_deref() != Some("draft") && !node.is_gone();
    // a fetch since the invoice's last change contains all its payments
    let was_read = node.expansion_version.is_some() && node.expansion_version >= node.version;
    // the payment found may not be the one that finally paid
    if may_be_paid && ((found.is_none() && !was_read) || node.is_expansion_stale()) {
        needs.insert(graph.key("invoice", id));
    }
    found.map_or(ControlFlow::Continue(()), |paid| ControlFlow::Break(Some(paid.method)))
}

/// The method that paid an invoice, in every API version.
fn of_invoice(graph: &Graph, id: &str) -> Option<Paid> {
    let invoice = InvoiceView::read(graph.get("invoice", id)?.json());
    of_invoice_payments(graph, id).or_else(|| of_old_invoice(graph, &invoice))
}

/// The method by invoice payments, which connect an invoice to its charges since 2025-03-31.basil: the default one,
/// else the newest paid one, else an open one.
fn of_invoice_payments(graph: &Graph, invoice_id: &str) -> Option<Paid> {
    let payments = graph.referencing("invoice", invoice_id, "invoice_payment");
    let mut views: Vec<InvoicePaymentView> =
        payments.into_iter().map(|(_, node)| InvoicePaymentView::read(node.json())).collect();
    let weight = |view: &InvoicePaymentView| match view.status.as_deref() {
        Some("paid") => 2,
        Some("open") => 1,
        _ => 0,
    };
    // a canceled payment moved no money
    views.retain(|view| view.is_default || view.status.as_deref() != Some("canceled"));
    views.sort_by_key(|view| (view.is_default, weight(view), view.created));
    views.into_iter().rev().find_map(|view| {
        let by_intent = view.payment_intent_id.as_deref().and_then(|id| of_payment_intent(graph, id));
        by_intent.or_else(|| of_charge(graph, view.charge_id.as_deref()?))
    })
}

/// The method by the invoice's own payment intent and charge, before 2025-03-31.basil.
fn of_old_invoice(graph: &Graph, invoice: &InvoiceView) -> Option<Paid> {
    let by_charge = invoice.charge_id.as_deref().and_then(|id| of_charge(graph, id));
    by_charge.or_else(|| of_payment_intent(graph, invoice.payment_intent_id.as_deref()?))
}

fn of_payment_intent(graph: &Graph, id: &str) -> Option<Paid> {
    let view = PaymentIntentView::read(graph.get("payment_intent", id).map_or(Json::NULL, Node::json));
    let by_charge = view.charge_id.as_deref().and_then(|id| of_charge(graph, id));
    // the intent itself may be unknown: its charges reference it
    let by_charge = by_charge.or_else(|| newest_charge(graph, id));
    // before the first charge: the method to be charged
    by_charge.or_else(|| match find(graph, view.payment_method_id.as_deref()?, "payment_method") {
        Found::Here(method) | Found::Copy(method) => Some(Paid { method, method_id: view.payment_method_id }),
        Found::Gone | Found::Unseen => None,
    })
}

/// The newest charge that references the payment intent.
fn newest_charge(graph: &Graph, payment_intent_id: &str) -> Option<Paid> {
    let charges = graph.referencing("payment_intent", payment_intent_id, "charge").into_iter();
    let newest = charges.max_by_key(|(key, node)| (ChargeView::read(node.json()).created, &key.object_id));
    newest.and_then(|(key, _)| of_charge(graph, &key.object_id))
}

fn of_charge(graph: &Graph, id: &str) -> Option<Paid> {
    let view = ChargeView::read(graph.get("charge", id)?.json());
    Some(Paid { method: view.method?, method_id: view.method_id })
}

#[cfg(test)]
mod tests;
