//! The charge, its payment intent, and its dispute.
//!
//! Owns the location of their fields: 2022-11-15 replaced `charges` of a payment intent by `latest_charge`, and
//! 2025-03-31.basil removed `invoice` from both. Must not know when a payment counts as failed. PURE.

use time::OffsetDateTime;

use super::method::{MethodView, of_details};
use super::reader::{Reader, reference};
use crate::stripe::json::Json;

/// The fields read from a charge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChargeView {
    /// `status`: pending, failed or succeeded.
    pub status: Option<String>,
    /// `amount`.
    pub amount: i64,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// `payment_intent`.
    pub payment_intent_id: Option<String>,
    /// `invoice`, before 2025-03-31.basil.
    pub invoice_id: Option<String>,
    /// `payment_method_details`, which remain when the method is removed.
    pub method: Option<MethodView>,
    /// `payment_method`: the method of the charge.
    pub method_id: Option<String>,
}

impl ChargeView {
    /// Reads a charge.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        Self {
            status: reader.text(json.get("status")),
            amount: reader.integer(json.get("amount")).unwrap_or_default(),
            created: reader.instant(json.get("created")),
            payment_intent_id: reference(json.get("payment_intent")),
            invoice_id: reference(json.get("invoice")),
            method: of_details(json.get("payment_method_details")),
            method_id: reference(json.get("payment_method")),
        }
    }

    /// Whether it was a SEPA direct debit; renewals of iDEAL, Bancontact and Sofort are, too.
    pub fn is_sepa(&self) -> bool {
        self.method.as_ref().is_some_and(|method| method.kind == SEPA)
    }
}

/// Stripe's name of SEPA direct debit.
const SEPA: &str = "sepa_debit";

/// The fields read from a payment intent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PaymentIntentView {
    /// `latest_charge`, or the first of the old `charges`, which have the newest first.
    pub charge_id: Option<String>,
    /// `payment_method`.
    pub payment_method_id: Option<String>,
    /// `invoice`, before 2025-03-31.basil.
    pub invoice_id: Option<String>,
    /// The charge of the last failed SEPA debit: `last_payment_error`.
    pub sepa_failure: Option<String>,
}

impl PaymentIntentView {
    /// Reads a payment intent.
    pub fn read(json: Json<'_>) -> Self {
        let charges = json.get("charges").get("data").array().unwrap_or_default();
        let newest = charges.first().and_then(|charge| reference(*charge));
        let charge_id = reference(json.get("latest_charge")).or(newest);
        let error = json.get("last_payment_error");
        let is_sepa = error.get("payment_method").get("type").text().as_deref() == Some(SEPA);
        // if the intent has continued since, its newest charge is not the failed one
        let is_back = json.get("status").text().as_deref() == Some("requires_payment_method");
        let failed = reference(error.get("charge")).or_else(|| charge_id.clone().filter(|_| is_back));
        Self {
            payment_method_id: reference(json.get("payment_method")),
            invoice_id: reference(json.get("invoice")),
            sepa_failure: failed.filter(|_| is_sepa),
            charge_id,
        }
    }
}

/// The fields read from a dispute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DisputeView {
    /// `charge`.
    pub charge_id: Option<String>,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// Whether `status` is `won`.
    pub won: bool,
}

impl DisputeView {
    /// Reads a dispute.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        Self {
            charge_id: reference(json.get("charge")),
            created: reader.instant(json.get("created")),
            won: json.get("status").text().as_deref() == Some("won"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    #[test]
    fn a_charge_contains_its_method() {
        let text = r#"{"status":"failed","amount":1900,"created":1767225600,"payment_intent":{"id":"pi_1"},
            "payment_method_details":{"type":"sepa_debit","sepa_debit":{"last4":"3000"}}}"#;
        let charge = ChargeView::read(json(text));
        assert!(charge.is_sepa() && charge.payment_intent_id.as_deref() == Some("pi_1"));
        assert!(!ChargeView::read(json(r#"{"payment_method_details":{"type":"card"}}"#)).is_sepa());
        assert!(!ChargeView::read(json("{}")).is_sepa());
    }

    #[test]
    fn the_charge_of_a_payment_intent_is_found_in_every_api_version() {
        for text in [
            r#"{"latest_charge":"ch_1"}"#,
            r#"{"latest_charge":{"id":"ch_1"}}"#,
            r#"{"charges":{"data":[{"id":"ch_1","object":"charge"},{"id":"ch_0"}]}}"#,
        ] {
            assert_eq!(PaymentIntentView::read(json(text)).charge_id.as_deref(), Some("ch_1"), "{text}");
        }
    }

    #[test]
    fn a_failure_is_sepa_only_by_its_method() {
        let failure = |text: &str| PaymentIntentView::read(json(text)).sepa_failure;
        let sepa = r#"{"status":"requires_payment_method","latest_charge":"ch_1",
            "last_payment_error":{"payment_method":{"type":"sepa_debit"}}}"#;
        assert_eq!(failure(sepa).as_deref(), Some("ch_1"));
        for status in ["processing", "succeeded"] {
            assert_eq!(failure(&sepa.replace("requires_payment_method", status)), None, "{status}: a newer charge");
        }
        let named =
            r#"{"latest_charge":"ch_2","last_payment_error":{"charge":"ch_1","payment_method":{"type":"sepa_debit"}}}"#;
        assert_eq!(failure(named).as_deref(), Some("ch_1"));
        assert_eq!(
            failure(r#"{"payment_method_types":["sepa_debit"],"latest_charge":"ch_1","last_payment_error":{}}"#),
            None
        );
    }

    #[test]
    fn only_a_won_dispute_is_won() {
        for (status, won) in [("won", true), ("lost", false), ("needs_response", false), ("warning_closed", false)] {
            let dispute = DisputeView::read(json(&format!(r#"{{"charge":"ch_1","status":"{status}"}}"#)));
            assert_eq!(dispute.won, won, "{status}");
        }
    }
}
