//! Which event types mean what to us. The types that we act on are a closed list; of all others the family decides
//! whether they are known and left alone, or unknown. Either way they are kept and counted.
//!
//! PURE. Source: Stripe's list of event types as of 2026-10-28.endive, and its thin twins under `v1.`.

/// What an event type means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Carries a customer or a subscription as it was then: merge it.
    Snapshot,
    /// Names a customer or a subscription that has changed, without its content.
    Notice,
    /// Says what another event says with more effect.
    Informational,
    /// Of a family that Stripe documents; it changes nothing here.
    Unhandled,
    /// In none of the families below, or a new kind of subscription event.
    Unknown,
}

/// The families of event types: what stands before the first dot (after `v1.` in thin types).
const FAMILIES: [&str; 62] = [
    "account",
    "application_fee",
    "balance",
    "balance_settings",
    "billing",
    "billing_portal",
    "capability",
    "cash_balance",
    "charge",
    "checkout",
    "climate",
    "coupon",
    "credit_note",
    "customer",
    "customer_cash_balance_transaction",
    "entitlements",
    "file",
    "financial_connections",
    "identity",
    "invoice",
    "invoice_payment",
    "invoiceitem",
    "issuing_authorization",
    "issuing_card",
    "issuing_cardholder",
    "issuing_dispute",
    "issuing_personalization_design",
    "issuing_token",
    "issuing_transaction",
    "mandate",
    "order",
    "payment_intent",
    "payment_link",
    "payment_method",
    "payment_record",
    "payout",
    "person",
    "plan",
    "price",
    "product",
    "promotion_code",
    "quote",
    "radar",
    "recipient",
    "refund",
    "reporting",
    "reserve",
    "review",
    "setup_intent",
    "sigma",
    "sku",
    "source",
    "subscription_schedule",
    "tax",
    "tax_rate",
    "terminal",
    "test_helpers",
    "topup",
    "transfer",
    "treasury",
    "v2",
    "ping",
];

/// What `event_type` means.
pub fn meaning(event_type: &str) -> Meaning {
    match event_type {
        // fires when a trial is ended early too, in the second of the update that says so
        "customer.subscription.trial_will_end" | "v1.customer.subscription.trial_will_end" => Meaning::Informational,
        "customer.created"
        | "customer.updated"
        | "customer.deleted"
        | "customer.subscription.created"
        | "customer.subscription.updated"
        | "customer.subscription.deleted"
        | "customer.subscription.paused"
        | "customer.subscription.resumed"
        | "customer.subscription.pending_update_applied"
        | "customer.subscription.pending_update_expired" => Meaning::Snapshot,
        "v1.customer.created" | "v1.customer.updated" | "v1.customer.deleted" => Meaning::Notice,
        thin if thin.starts_with("v1.customer.subscription.") => Meaning::Notice,
        other if FAMILIES.contains(&family(other)) => {
            // a new kind of subscription event may carry something that nobody here has thought about
            if other.starts_with("customer.subscription.") { Meaning::Unknown } else { Meaning::Unhandled }
        }
        _ => Meaning::Unknown,
    }
}

/// The family of an event type, `other` where it is in none: a label with a closed set of values.
pub fn family(event_type: &str) -> &'static str {
    let plain = event_type.strip_prefix("v1.").unwrap_or(event_type);
    let first = plain.split('.').next().unwrap_or_default();
    FAMILIES.iter().find(|family| **family == first).copied().unwrap_or("other")
}

/// Every value that [`family`] can have, for metrics that exist from the start.
pub fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().chain(["other"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_one_meaning() {
        for (event_type, expected) in [
            ("customer.updated", Meaning::Snapshot),
            ("customer.subscription.paused", Meaning::Snapshot),
            ("customer.subscription.trial_will_end", Meaning::Informational),
            ("customer.subscription.frobnicated", Meaning::Unknown),
            ("customer.discount.created", Meaning::Unhandled),
            ("invoice.paid", Meaning::Unhandled),
            ("v1.customer.updated", Meaning::Notice),
            ("v1.customer.subscription.item_added", Meaning::Notice),
            ("v1.invoice.paid", Meaning::Unhandled),
            ("v2.core.event_destination.ping", Meaning::Unhandled),
            ("frobnicator.created", Meaning::Unknown),
            ("", Meaning::Unknown),
        ] {
            assert_eq!(meaning(event_type), expected, "{event_type}");
        }
    }

    #[test]
    fn the_family_is_a_closed_set() {
        assert_eq!(family("customer.subscription.updated"), "customer");
        assert_eq!(family("v1.customer.updated"), "customer");
        assert_eq!(family("v2.core.event_destination.ping"), "v2");
        assert_eq!(family("frobnicator.created"), "other");
    }
}
