//! How somebody pays: which of the methods around a customer or subscription counts.
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

/// A step of the search. It ends with a method, or with none where the method that counts is named and was never seen:
/// another one in its place would be a guess. A method that is not named, was deleted or detached, or does not exist
/// leaves the choice to the next step.
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

/// The search for a method, and what it needs.
struct Search<'a> {
    graph: &'a Graph,
    needs: &'a mut Needs,
    /// The last invoice, whose payment shows the details of the method it was made with.
    invoice_id: Option<&'a str>,
}

impl Search<'_> {
    /// Stripe's documented order: the subscription's own payment method and source, then those of its customer. Where
    /// none of these is known, the payment of the last invoice is the best that is known.
    fn subscription(&mut self, view: &SubscriptionView, customer: Option<&CustomerView>) -> Step {
        let (graph, id) = (self.graph, view.id.as_str());
        self.method(view.payment_method_id.as_deref(), "payment_method", |method| graph.key("payment_method", method))?;
        self.method(view.source_id.as_deref(), "source", |_| graph.key("subscription", id))?;
        // a deleted customer has no methods any more
        if let Some(customer) = customer.filter(|customer| !is_deleted(graph, customer)) {
            self.customer(customer)?;
        }
        last_invoice(graph, self.invoice_id, self.needs)
    }

    /// The customer's default payment method, else its default source.
    fn customer(&mut self, view: &CustomerView) -> Step {
        let graph = self.graph;
        self.method(view.payment_method_id.as_deref(), "payment_method", |id| graph.key("payment_method", id))?;
        // a card, source or bank account has no read of its own: that of its owner brings it
        self.method(view.source_id.as_deref(), "source", |_| graph.key("customer", &view.id))
    }

    /// One method; `read` names the read that brings it.
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

    /// The details of a method that was never seen itself, from the last payment where that was made with it.
    fn paid_with(&self, method_id: &str) -> Option<MethodView> {
        let invoice_id = self.invoice_id?;
        let paid = of_invoice(self.graph, invoice_id)?;
        paid.method_id.as_deref().filter(|id| *id == method_id)?;
        Some(paid.method)
    }
}

/// What is known of a method that an object names.
enum Found {
    Here(MethodView),
    /// Known only as a copy inside another object, which may show the past.
    Copy(MethodView),
    /// Deleted or detached, or Stripe has none.
    Gone,
    Unseen,
}

/// Looks for the method with this id. A card, source or bank account of the older kind may be known in its own shape, as a
/// payment method with the same id, or as both: the newer one counts, and a deletion of either is its end.
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

/// A payment and the method that it was made with.
struct Paid {
    method: MethodView,
    /// Its id, where the payment names it.
    method_id: Option<String>,
}

/// The method that paid the last invoice, as its payment shows it: that stays when the method itself is removed.
///
/// The search goes on where nothing is found, even while the invoice is still to be read: most invoices without a payment
/// have none because they bill nothing.
fn last_invoice(graph: &Graph, id: Option<&str>, needs: &mut Needs) -> Step {
    let Some(id) = id else { return ControlFlow::Continue(()) };
    let Some(node) = graph.get("invoice", id) else {
        needs.insert(graph.key("invoice", id));
        return ControlFlow::Continue(());
    };
    let invoice = InvoiceView::read(node.json());
    let found = of_invoice(graph, id);
    // nobody can pay a draft yet
    let may_be_paid = invoice.bills && invoice.status.as_deref() != Some("draft") && !node.is_gone();
    // a read made since the invoice last changed has said all that there is
    let was_read = node.expansion_version.is_some() && node.expansion_version >= node.version;
    // a payment that was found may not be the one that paid in the end
    if may_be_paid && ((found.is_none() && !was_read) || node.is_expansion_stale()) {
        needs.insert(graph.key("invoice", id));
    }
    found.map_or(ControlFlow::Continue(()), |paid| ControlFlow::Break(Some(paid.method)))
}

/// What paid an invoice, in every API version.
fn of_invoice(graph: &Graph, id: &str) -> Option<Paid> {
    let invoice = InvoiceView::read(graph.get("invoice", id)?.json());
    of_invoice_payments(graph, id).or_else(|| of_old_invoice(graph, &invoice))
}

/// Since 2025-03-31.basil invoice payments lead from an invoice to its charges: the default one, else the newest that is
/// paid, else one that is open.
fn of_invoice_payments(graph: &Graph, invoice_id: &str) -> Option<Paid> {
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
fn of_old_invoice(graph: &Graph, invoice: &InvoiceView) -> Option<Paid> {
    let by_charge = invoice.charge_id.as_deref().and_then(|id| of_charge(graph, id));
    by_charge.or_else(|| of_payment_intent(graph, invoice.payment_intent_id.as_deref()?))
}

fn of_payment_intent(graph: &Graph, id: &str) -> Option<Paid> {
    let view = PaymentIntentView::read(graph.get("payment_intent", id).map_or(Json::NULL, Node::json));
    let by_charge = view.charge_id.as_deref().and_then(|id| of_charge(graph, id));
    // the intent itself may never have been seen: its charges name it
    let by_charge = by_charge.or_else(|| newest_charge(graph, id));
    // before any charge was made: the method that it will be made by
    by_charge.or_else(|| match find(graph, view.payment_method_id.as_deref()?, "payment_method") {
        Found::Here(method) | Found::Copy(method) => Some(Paid { method, method_id: view.payment_method_id }),
        Found::Gone | Found::Unseen => None,
    })
}

/// The newest charge that names the payment intent.
fn newest_charge(graph: &Graph, payment_intent_id: &str) -> Option<Paid> {
    let charges = graph.naming("payment_intent", payment_intent_id, "charge").into_iter();
    let newest = charges.max_by_key(|(key, node)| (ChargeView::read(node.json()).created, &key.object_id));
    newest.and_then(|(key, _)| of_charge(graph, &key.object_id))
}

fn of_charge(graph: &Graph, id: &str) -> Option<Paid> {
    let view = ChargeView::read(graph.get("charge", id)?.json());
    Some(Paid { method: view.method?, method_id: view.method_id })
}

#[cfg(test)]
mod tests;
