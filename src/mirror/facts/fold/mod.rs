//! Extracts the facts that an object states, whether from an event, nested in another object, or from a read.
//!
//! PURE. Every object is folded, superseded ones too. SEPA is recognised by the charge itself, or by the error of its
//! payment intent. The types that an intent allows prove nothing, and an ended mandate is not a failure.

use serde::Serialize;
use time::OffsetDateTime;

use super::effective;
use super::report::Report;
use crate::stripe::expandable::id_or_object;
use crate::stripe::json::Json;
use crate::stripe::reference::customer_of;
use crate::stripe::views::charge::{ChargeView, DisputeView, PaymentIntentView};
use crate::stripe::views::invoice::{InvoicePaymentView, InvoiceView};
use crate::stripe::views::is_key;
use crate::stripe::views::item::bought;
use crate::stripe::views::schedule::ScheduleView;
use crate::stripe::views::subscription::SubscriptionView;

/// Type of a payment of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentType {
    /// A payment intent.
    PaymentIntent,
    /// A charge.
    Charge,
}

/// One fact: a row to add, with its columns except the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the columns of the fact tables, described in their migration")]
pub enum Fact {
    /// A charge, and how it ended.
    Charge {
        charge_id: String,
        customer_id: Option<String>,
        payment_intent_id: Option<String>,
        #[serde(with = "time::serde::rfc3339::option")]
        charged_at: Option<OffsetDateTime>,
        #[serde(with = "time::serde::rfc3339")]
        first_seen_at: OffsetDateTime,
        sepa: bool,
        failed: bool,
        succeeded: bool,
    },
    /// A payment was made for an invoice.
    Payment { invoice_id: String, payment_type: PaymentType, payment_id: String },
    /// An invoice, its subscription, and when money was paid for it.
    Invoice {
        invoice_id: String,
        subscription_id: Option<String>,
        #[serde(with = "time::serde::rfc3339::option")]
        paid_at: Option<OffsetDateTime>,
    },
    /// A dispute of a charge.
    Dispute {
        dispute_id: String,
        charge_id: String,
        #[serde(with = "time::serde::rfc3339")]
        disputed_at: OffsetDateTime,
        won: bool,
    },
    /// A subscription had a trial.
    Trial {
        subscription_id: String,
        #[serde(with = "time::serde::rfc3339")]
        started_at: OffsetDateTime,
    },
    /// The state of a subscription at some time.
    Timeline {
        subscription_id: String,
        #[serde(with = "time::serde::rfc3339")]
        stated_at: OffsetDateTime,
        source: String,
        #[serde(with = "time::serde::rfc3339")]
        effective_from: OffsetDateTime,
        may_be_scheduled: bool,
        status: String,
        payment_paused: bool,
        #[serde(with = "time::serde::rfc3339::option")]
        ended_at: Option<OffsetDateTime>,
        price_ids: Option<Vec<String>>,
        quantities: Option<Vec<i64>>,
        #[serde(with = "time::serde::rfc3339::option")]
        start_date: Option<OffsetDateTime>,
        #[serde(with = "time::serde::rfc3339::option")]
        billing_cycle_anchor: Option<OffsetDateTime>,
        anchor_day: Option<i32>,
    },
    /// A phase of the schedule of a subscription.
    Phase {
        subscription_id: String,
        #[serde(with = "time::serde::rfc3339")]
        starts_at: OffsetDateTime,
        price_ids: Vec<String>,
        quantities: Vec<Option<i64>>,
    },
}

/// The facts that `object` states.
pub fn fold(object_type: &str, object: Json<'_>, report: Report<'_>) -> Vec<Fact> {
    let reported_at = report.at;
    let Some(id) = object.get("id").text().filter(|id| is_key(id)) else { return Vec::new() };
    match object_type {
        "charge" => charge(id, object, reported_at),
        "payment_intent" => payment_intent(&id, object, reported_at),
        "invoice" => invoice(&id, object, reported_at),
        "invoice_payment" => invoice_payment(object, reported_at),
        "dispute" => dispute(id, object, reported_at),
        "subscription" => subscription(id, object, report),
        "subscription_schedule" => schedule(object),
        _ => Vec::new(),
    }
}

fn charge(charge_id: String, object: Json<'_>, reported_at: OffsetDateTime) -> Vec<Fact> {
    let view = ChargeView::read(object);
    let status = view.status.as_deref();
    let paid = view.invoice_id.clone().map(|invoice_id| Fact::Payment {
        invoice_id,
        payment_type: PaymentType::Charge,
        payment_id: charge_id.clone(),
    });
    let charge = Fact::Charge {
        customer_id: customer_of(object),
        sepa: view.is_sepa(),
        failed: status == Some("failed"),
        succeeded: status == Some("succeeded") && view.amount > 0,
        charged_at: view.created,
        payment_intent_id: view.payment_intent_id,
        charge_id,
        first_seen_at: reported_at,
    };
    [charge].into_iter().chain(paid).collect()
}

fn payment_intent(id: &str, object: Json<'_>, reported_at: OffsetDateTime) -> Vec<Fact> {
    let view = PaymentIntentView::read(object);
    let paid = view.invoice_id.map(|invoice_id| Fact::Payment {
        invoice_id,
        payment_type: PaymentType::PaymentIntent,
        payment_id: id.to_owned(),
    });
    // the failed charge itself may never arrive: its events need not be subscribed to
    let failed = view.sepa_failure.map(|charge_id| Fact::Charge {
        charge_id,
        customer_id: customer_of(object),
        payment_intent_id: Some(id.to_owned()),
        charged_at: None,
        first_seen_at: reported_at,
        sepa: true,
        failed: true,
        succeeded: false,
    });
    paid.into_iter().chain(failed).collect()
}

fn invoice(invoice_id: &str, object: Json<'_>, reported_at: OffsetDateTime) -> Vec<Fact> {
    let view = InvoiceView::read(object);
    let payment = |payment_type, id: Option<String>| {
        id.map(|payment_id| Fact::Payment { invoice_id: invoice_id.to_owned(), payment_type, payment_id })
    };
    let payments =
        [payment(PaymentType::PaymentIntent, view.payment_intent_id), payment(PaymentType::Charge, view.charge_id)];
    let paid_at = view.paid_for_real.then(|| view.paid_at.unwrap_or(reported_at));
    let invoice = Fact::Invoice { invoice_id: invoice_id.to_owned(), subscription_id: view.subscription_id, paid_at };
    [invoice].into_iter().chain(payments.into_iter().flatten()).collect()
}

fn invoice_payment(object: Json<'_>, reported_at: OffsetDateTime) -> Vec<Fact> {
    let view = InvoicePaymentView::read(object);
    let Some(invoice_id) = view.invoice_id else { return Vec::new() };
    let payment = |payment_type, id: Option<String>| {
        id.map(|payment_id| Fact::Payment { invoice_id: invoice_id.clone(), payment_type, payment_id })
    };
    // a payment record has no charge that shows that money came
    let off_stripe = view.paid_off_stripe.then(|| Fact::Invoice {
        invoice_id: invoice_id.clone(),
        subscription_id: None,
        paid_at: Some(view.paid_at.unwrap_or(reported_at)),
    });
    let intent = payment(PaymentType::PaymentIntent, view.payment_intent_id);
    let charge = payment(PaymentType::Charge, view.charge_id);
    [intent, charge, off_stripe].into_iter().flatten().collect()
}

fn dispute(dispute_id: String, object: Json<'_>, reported_at: OffsetDateTime) -> Vec<Fact> {
    let view = DisputeView::read(object);
    let disputed_at = view.created.unwrap_or(reported_at);
    let fact = view.charge_id.map(|charge_id| Fact::Dispute { dispute_id, charge_id, disputed_at, won: view.won });
    fact.into_iter().collect()
}

fn subscription(subscription_id: String, object: Json<'_>, report: Report<'_>) -> Vec<Fact> {
    let Ok(mut view) = SubscriptionView::read(object) else { return Vec::new() };
    if let Some(all) = report.all_items.array() {
        view = view.with_items(&all);
    }
    // a paid trial offer has no `trial_start`, so the start of the offer counts too
    let of_offer = view.running_offer().and_then(|offer| offer.start);
    let trial = view
        .trial_start
        .into_iter()
        .chain(of_offer)
        .min()
        .map(|started_at| Fact::Trial { subscription_id: subscription_id.clone(), started_at });
    // if the payload does not list all items, it does not show what is bought
    let (price_ids, quantities) = (!view.more_items).then(|| bought(&view.items).into_iter().unzip()).unzip();
    let boundary = effective::boundary(&view, report);
    let timeline = Fact::Timeline {
        subscription_id,
        stated_at: report.at,
        source: report.source.to_owned(),
        effective_from: boundary.unwrap_or(report.at),
        may_be_scheduled: boundary.is_none() && effective::changes_items(&view, report),
        price_ids,
        quantities,
        status: view.status,
        payment_paused: view.payment_paused,
        ended_at: view.ended_at,
        start_date: view.start_date,
        billing_cycle_anchor: view.billing_cycle_anchor,
        anchor_day: view.anchor_day,
    };
    [timeline].into_iter().chain(trial).collect()
}

/// The phases of a schedule, each with the items that the subscription has from its start on.
fn schedule(object: Json<'_>) -> Vec<Fact> {
    let named = ["subscription", "released_subscription"].into_iter().find_map(|key| id_or_object(object.get(key)));
    let Some(subscription_id) = named.filter(|id| is_key(id)) else { return Vec::new() };
    let phases = ScheduleView::read(object).phases.into_iter().filter_map(|phase| {
        let (price_ids, quantities) = phase.items.into_iter().unzip();
        Some(Fact::Phase { subscription_id: subscription_id.clone(), starts_at: phase.start?, price_ids, quantities })
    });
    phases.collect()
}

/// The object to fetch because an event does not contain what a rule needs: a failed invoice does not contain the
/// payment method that failed, nor does a checkout session whose payment failed.
pub fn wanted(event_type: &str, object: Json<'_>) -> Option<(&'static str, String)> {
    match event_type {
        "invoice.payment_failed" => {
            // before 2025-03-31.basil an expanded charge contains everything
            let is_expanded = object.get("charge").is_object();
            id_or_object(object.get("id")).filter(|_| !is_expanded).map(|id| ("invoice", id))
        }
        "checkout.session.async_payment_failed" => {
            let invoice = id_or_object(object.get("invoice")).map(|id| ("invoice", id));
            invoice.or_else(|| id_or_object(object.get("subscription")).map(|id| ("subscription", id)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
