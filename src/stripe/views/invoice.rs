//! The invoice, and the invoice payment that joins it to its money.
//!
//! Owns where they stand: 2025-03-31.basil moved the subscription below `parent` and took `payment_intent`, `charge`,
//! `paid` and `paid_out_of_band` away, which only invoice payments tell since. Must not know our rows. PURE.

use time::OffsetDateTime;

use super::reader::{Reader, reference};
use crate::stripe::json::{Json, Object};

/// What we read of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvoiceView {
    /// The subscription that it bills.
    pub subscription_id: Option<String>,
    /// `status`.
    pub status: Option<String>,
    /// It was paid with an amount above zero, or out of band.
    pub paid_for_real: bool,
    /// `status_transitions.paid_at`.
    pub paid_at: Option<OffsetDateTime>,
    /// It bills more than zero, so that there is a payment to look for.
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
        let paid_amount = amount("amount_paid").max(amount("amount_paid_off_stripe"));
        let bills = amount("total") > 0 || amount("amount_due") > 0;
        let status = reader.text(invoice.get("status"));
        let flag = |key| invoice.get(key).boolean() == Some(true);
        let is_paid = status.as_deref() == Some("paid") || flag("paid");
        let transitions = reader.members(invoice.get("status_transitions"));
        Self {
            subscription_id: subscription_of(&invoice),
            paid_for_real: is_paid && (paid_amount > 0 || flag("paid_out_of_band")),
            paid_at: reader.instant(transitions.get("paid_at")),
            bills,
            payment_intent_id: reference(invoice.get("payment_intent")),
            charge_id: reference(invoice.get("charge")),
            status,
        }
    }
}

/// The new place first, then the old one, then the lines, which name it in both shapes.
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

/// What we read of an invoice payment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvoicePaymentView {
    /// `invoice`.
    pub invoice_id: Option<String>,
    /// `payment.payment_intent`.
    pub payment_intent_id: Option<String>,
    /// `payment.charge`.
    pub charge_id: Option<String>,
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
        Self {
            invoice_id: reference(json.get("invoice")),
            payment_intent_id: reference(payment.get("payment_intent")),
            charge_id: reference(payment.get("charge")),
            status: reader.text(json.get("status")),
            is_default: json.get("is_default").boolean() == Some(true),
            created: reader.instant(json.get("created")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn read(text: &str) -> InvoiceView {
        InvoiceView::read(Json::parse(text).unwrap())
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
    fn the_payment_stands_in_the_invoice_before_basil_and_beside_it_since() {
        let old =
            read(r#"{"payment_intent":"pi_1","charge":{"id":"ch_1"},"status_transitions":{"paid_at":1767225600}}"#);
        assert_eq!((old.payment_intent_id.as_deref(), old.charge_id.as_deref()), (Some("pi_1"), Some("ch_1")));
        assert_eq!(old.paid_at, Some(datetime!(2026-01-01 0:00 UTC)));
        let text = r#"{"invoice":"in_1","is_default":true,"status":"paid","payment":{"payment_intent":{"id":"pi_1"}}}"#;
        let new = InvoicePaymentView::read(Json::parse(text).unwrap());
        assert_eq!((new.invoice_id.as_deref(), new.payment_intent_id.as_deref()), (Some("in_1"), Some("pi_1")));
        assert!(new.is_default && new.status.as_deref() == Some("paid"));
    }
}
