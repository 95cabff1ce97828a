//! The invoice, and the invoice payment that connects it to its payments.
//!
//! Owns the location of their fields: 2025-03-31.basil moved the subscription below `parent` and removed
//! `payment_intent`, `charge`, `paid` and `paid_out_of_band`, which only invoice payments contain since. Must not know
//! the rows. PURE.

use time::OffsetDateTime;

use super::reader::{Reader, reference};
use crate::stripe::json::{Json, Object};

/// The fields read from an invoice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvoiceView {
    /// The subscription that it bills.
    pub subscription_id: Option<String>,
    /// `status`.
    pub status: Option<String>,
    /// Whether it was paid with money, through Stripe or out of band.
    pub paid_for_real: bool,
    /// `status_transitions.paid_at`.
    pub paid_at: Option<OffsetDateTime>,
    /// Whether it bills more than zero, so that a payment can exist.
    pub bills: bool,
    /// `payment_intent`, before 2025-03-31.basil.
    pub payment_intent_id: Option<String>,
    /// `charge`, before 2025-03-31.basil.
    pub charge_id: Option<String>,
}

impl InvoiceView {
    /// Reads an invoice.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        let invoice = json.object().unwrap_or_default();
        let mut amount = |key| reader.integer(invoice.get(key)).unwrap_or_default();
        let by_amount = amount("amount_paid") > 0 || amount("amount_paid_off_stripe") > 0;
        let (total, due) = (amount("total"), amount("amount_due"));
        // credit, and totals below the minimum charge, leave nothing due; credit notes may, too, without a lower
        // amount_due
        let credited = total > 0 && amount("pre_payment_credit_notes_amount") >= total;
        let status = reader.text(invoice.get("status"));
        let flag = |key| invoice.get(key).boolean() == Some(true);
        let is_paid = status.as_deref() == Some("paid") || flag("paid");
        let transitions = reader.members(invoice.get("status_transitions"));
        Self {
            subscription_id: subscription_of(&invoice),
            // 2025-03-31.basil removed `paid_out_of_band`; since then no event reports payments outside of Stripe
            paid_for_real: is_paid && (by_amount || flag("paid_out_of_band") || (due > 0 && !credited)),
            paid_at: reader.instant(transitions.get("paid_at")),
            bills: total > 0 || due > 0,
            payment_intent_id: reference(invoice.get("payment_intent")),
            charge_id: reference(invoice.get("charge")),
            status,
        }
    }
}

/// The subscription at the new location, else at the old one, else in the lines, which have both shapes.
fn subscription_of(invoice: &Object<'_>) -> Option<String> {
    let details = invoice.get("parent").get("subscription_details");
    let own = reference(details.get("subscription")).or_else(|| reference(invoice.get("subscription")));
    own.or_else(|| {
        let lines = invoice.get("lines").get("data").array().unwrap_or_default();
        let of_line = |line: Json<'_>| {
            let details = line.get("parent").get("subscription_item_details");
            reference(details.get("subscription")).or_else(|| reference(line.get("subscription")))
        };
        lines.into_iter().find_map(of_line)
    })
}

/// The fields read from an invoice payment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvoicePaymentView {
    /// `invoice`.
    pub invoice_id: Option<String>,
    /// `payment.payment_intent`.
    pub payment_intent_id: Option<String>,
    /// `payment.charge`.
    pub charge_id: Option<String>,
    /// Whether it is paid by a payment record: money received outside of Stripe.
    pub paid_off_stripe: bool,
    /// `status_transitions.paid_at`.
    pub paid_at: Option<OffsetDateTime>,
    /// `status`: open, paid or canceled.
    pub status: Option<String>,
    /// `is_default`.
    pub is_default: bool,
    /// `created`.
    pub created: Option<OffsetDateTime>,
}

impl InvoicePaymentView {
    /// Reads an invoice payment.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        let payment = json.get("payment");
        let status = reader.text(json.get("status"));
        // `amount_paid` is null until it is paid; zero does not count as a payment
        let is_nothing = json.get("amount_paid").integer().is_some_and(|amount| amount <= 0);
        let is_record = payment.get("type").text().as_deref() == Some("payment_record");
        Self {
            invoice_id: reference(json.get("invoice")),
            payment_intent_id: reference(payment.get("payment_intent")),
            charge_id: reference(payment.get("charge")),
            paid_off_stripe: is_record && status.as_deref() == Some("paid") && !is_nothing,
            paid_at: reader.instant(json.get("status_transitions").get("paid_at")),
            status,
            is_default: json.get("is_default").boolean() == Some(true),
            created: reader.instant(json.get("created")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;
    use time::macros::datetime;

    fn read(text: &str) -> InvoiceView {
        InvoiceView::read(json(text))
    }

    #[test]
    fn the_subscription_is_found_in_every_api_version() {
        for text in [
            r#"{"parent":{"type":"subscription_details","subscription_details":{"subscription":"sub_1"}}}"#,
            r#"{"subscription":"sub_1"}"#,
            r#"{"subscription":{"id":"sub_1"}}"#,
            r#"{"lines":{"data":[{},{"parent":{"subscription_item_details":{"subscription":"sub_1"}}}]}}"#,
            r#"{"parent":null,"lines":{"data":[{"subscription":"sub_1"}]}}"#,
        ] {
            assert_eq!(read(text).subscription_id.as_deref(), Some("sub_1"), "{text}");
        }
        assert_eq!(read(r#"{"lines":{"data":[]}}"#).subscription_id, None, "of no subscription");
    }

    #[test]
    fn only_money_counts_as_paid() {
        let paid = |fields: &str| read(&format!("{{{fields}}}")).paid_for_real;
        assert!(paid(r#""status":"paid","amount_paid":1900"#));
        assert!(paid(r#""status":"paid","amount_paid":0,"paid_out_of_band":true"#), "before basil");
        assert!(paid(r#""status":"paid","amount_paid":0,"amount_paid_off_stripe":1900"#), "dahlia");
        assert!(!paid(r#""status":"paid","amount_paid":0"#), "a trial, or a full discount");
        assert!(!paid(r#""status":"open","amount_paid":500"#), "in part");
    }

    #[test]
    fn since_basil_a_paid_invoice_with_an_amount_due_counts() {
        let paid = |fields: &str| read(&format!(r#"{{"status":"paid","amount_paid":0,{fields}}}"#)).paid_for_real;
        assert!(paid(r#""total":1900,"amount_due":1900"#), "out of band");
        assert!(paid(r#""total":1900,"amount_due":900,"starting_balance":-1000"#), "credit covered a part");
        assert!(paid(r#""total":1900,"amount_due":1900,"pre_payment_credit_notes_amount":500"#), "a part was credited");
        assert!(paid(r#""total":0,"amount_due":500,"starting_balance":500"#), "an older debt was due");
        assert!(!paid(r#""total":1900,"amount_due":0,"starting_balance":-1900"#), "credit covered it");
        assert!(!paid(r#""total":30,"amount_due":0"#), "below the smallest charge");
        assert!(!paid(r#""total":1900,"amount_due":1900,"pre_payment_credit_notes_amount":1900"#), "credited");
        assert!(!paid(r#""total":0,"amount_due":0"#), "a trial");
        for status in ["draft", "open", "void", "uncollectible"] {
            let open = format!(r#"{{"status":"{status}","total":1900,"amount_due":1900,"amount_paid":0}}"#);
            assert!(!read(&open).paid_for_real, "{status}");
        }
    }

    #[test]
    fn all_versions_of_an_invoice_read_alike() {
        // paid out of band, by card, by credit, credited: before basil, since basil, since 2026-05-27
        for (old, basil, newest, expected) in [
            (
                r#""paid":true,"paid_out_of_band":true,"amount_due":1900,"amount_paid":0"#,
                r#""amount_due":1900,"amount_paid":0"#,
                r#""amount_due":1900,"amount_paid":0,"amount_paid_off_stripe":1900"#,
                true,
            ),
            (
                r#""paid":true,"paid_out_of_band":false,"amount_due":1900,"amount_paid":1900"#,
                r#""amount_due":1900,"amount_paid":1900"#,
                r#""amount_due":1900,"amount_paid":1900,"amount_paid_off_stripe":0"#,
                true,
            ),
            (
                r#""paid":true,"paid_out_of_band":false,"amount_due":0,"amount_paid":0"#,
                r#""amount_due":0,"amount_paid":0"#,
                r#""amount_due":0,"amount_paid":0,"amount_paid_off_stripe":0"#,
                false,
            ),
            (
                r#""paid":true,"paid_out_of_band":false,"amount_due":1900,"amount_paid":0,
                    "pre_payment_credit_notes_amount":1900"#,
                r#""amount_due":1900,"amount_paid":0,"pre_payment_credit_notes_amount":1900"#,
                r#""amount_due":1900,"amount_paid":0,"pre_payment_credit_notes_amount":1900"#,
                false,
            ),
        ] {
            for fields in [old, basil, newest] {
                let invoice = read(&format!(r#"{{"status":"paid","total":1900,{fields}}}"#));
                assert_eq!(invoice.paid_for_real, expected, "{fields}");
            }
        }
    }

    #[test]
    fn a_payment_record_that_is_paid_is_money() {
        let read = |fields: &str| {
            let text = format!(
                r#"{{"invoice":"in_1","payment":{{"type":"payment_record","payment_record":"pr_1"}},{fields}}}"#
            );
            InvoicePaymentView::read(json(&text))
        };
        let paid = read(r#""status":"paid","amount_paid":1900,"status_transitions":{"paid_at":1767225600}"#);
        assert_eq!((paid.paid_off_stripe, paid.paid_at), (true, Some(datetime!(2026-01-01 0:00 UTC))));
        assert!(!read(r#""status":"open","amount_paid":null"#).paid_off_stripe);
        assert!(!read(r#""status":"canceled","amount_paid":null"#).paid_off_stripe);
        assert!(!read(r#""status":"paid","amount_paid":0"#).paid_off_stripe, "of nothing");
        let by_intent =
            r#"{"invoice":"in_1","status":"paid","payment":{"type":"payment_intent","payment_intent":"pi_1"}}"#;
        assert!(!InvoicePaymentView::read(json(by_intent)).paid_off_stripe, "the charge itself is paid");
    }

    #[test]
    fn the_payment_is_found_before_and_since_basil() {
        let old =
            read(r#"{"payment_intent":"pi_1","charge":{"id":"ch_1"},"status_transitions":{"paid_at":1767225600}}"#);
        assert_eq!((old.payment_intent_id.as_deref(), old.charge_id.as_deref()), (Some("pi_1"), Some("ch_1")));
        assert_eq!(old.paid_at, Some(datetime!(2026-01-01 0:00 UTC)));
        let text = r#"{"invoice":"in_1","is_default":true,"status":"paid","payment":{"payment_intent":{"id":"pi_1"}}}"#;
        let new = InvoicePaymentView::read(json(text));
        assert_eq!((new.invoice_id.as_deref(), new.payment_intent_id.as_deref()), (Some("in_1"), Some("pi_1")));
        assert!(new.is_default && new.status.as_deref() == Some("paid"));
    }
}
