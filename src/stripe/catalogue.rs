//! Meanings of event types. The processed types are a closed list; for all others the family decides whether they are
//! known and not processed, or unknown. In both cases they are stored and counted.
//!
//! PURE. Source: Stripe's list of event types as of 2026-10-28.endive, and their thin counterparts under `v1.`.

/// Meaning of an event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Contains a mirrored object as of the event's time, which is merged.
    Snapshot,
    /// References a mirrored object that has changed, without its content.
    ThinEvent,
    /// Another event reports the same change and is processed.
    Informational,
    /// A type of a family that Stripe documents; it changes nothing here.
    Unhandled,
    /// About an account of Accounts v2, which replaces a customer; it has no billing contact.
    CustomerAccount,
    /// Reports that Stripe failed to generate events about an object; they will never be listed.
    NotGenerated,
    /// In none of the families below, or a new kind of subscription event.
    Unknown,
}

/// The families of event types: the part before the first dot (after `v1.` in thin types).
const FAMILIES: [&str; 64] = [
    "account",
    "application_fee",
    "apps",
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
    "three_d_secure",
    "topup",
    "transfer",
    "treasury",
    "v2",
    "ping",
];

/// The kinds of events whose object is merged: the part before the last dot, and the known last words.
const SNAPSHOTS: [(&str, &[&str]); 18] = [
    ("charge", &["captured", "expired", "failed", "pending", "refunded", "succeeded", "updated"]),
    ("charge.dispute", &["closed", "created", "funds_reinstated", "funds_withdrawn", "updated"]),
    ("checkout.session", &["async_payment_failed", "async_payment_succeeded", "completed", "expired"]),
    ("coupon", &["created", "deleted", "updated"]),
    ("customer", &["created", "deleted", "updated"]),
    ("customer.discount", &["created", "deleted", "updated"]),
    ("customer.source", &["created", "deleted", "expiring", "updated"]),
    (
        "customer.subscription",
        &["created", "deleted", "paused", "pending_update_applied", "pending_update_expired", "resumed", "updated"],
    ),
    (
        "invoice",
        &[
            "created",
            "deleted",
            "finalization_failed",
            "finalized",
            "marked_uncollectible",
            "overdue",
            "overpaid",
            "paid",
            "payment_action_required",
            "payment_attempt_required",
            "payment_failed",
            "payment_succeeded",
            "sent",
            "updated",
            "voided",
            "will_be_due",
        ],
    ),
    ("invoice_payment", &["canceled", "created", "open", "paid"]),
    ("mandate", &["updated"]),
    (
        "payment_intent",
        &[
            "amount_capturable_updated",
            "canceled",
            "created",
            "partially_funded",
            "payment_failed",
            "processing",
            "requires_action",
            "succeeded",
        ],
    ),
    // `card_automatically_updated` is the name of `automatically_updated` in versions before 2020-08-27
    ("payment_method", &["attached", "automatically_updated", "card_automatically_updated", "detached", "updated"]),
    ("plan", &["created", "deleted", "updated"]),
    ("price", &["created", "deleted", "updated"]),
    ("product", &["created", "deleted", "updated"]),
    ("promotion_code", &["created", "deleted", "updated"]),
    ("subscription_schedule", &["aborted", "canceled", "completed", "created", "expiring", "released", "updated"]),
];

/// Events whose change another event reports, or about objects that do not exist yet: the coming end of a trial (also
/// sent if a trial ends early, in the same second as the update), and the upcoming invoice, which has no id.
const INFORMATIONAL: [&str; 2] = ["customer.subscription.trial_will_end", "invoice.upcoming"];

/// The event by which Stripe reports, after an incident, that it failed to generate other events.
pub const NOT_GENERATED: &str = "v2.core.health.event_generation_failure.resolved";

/// Whether the event is about an account of Accounts v2: `v2.core.account.created`,
/// `v2.core.account[identity].updated`, `v2.core.account[configuration.customer].updated`,
/// `v2.core.account_person.created`, `v2.core.account_link.returned` …
fn is_of_account(event_type: &str) -> bool {
    let rest = event_type.strip_prefix("v2.core.account");
    rest.is_some_and(|rest| ['.', '[', '_'].iter().any(|mark| rest.starts_with(*mark)))
}

/// Returns the meaning of `event_type`.
pub fn meaning(event_type: &str) -> Meaning {
    let (plain, is_thin) = match event_type.strip_prefix("v1.") {
        Some(plain) => (plain, true),
        None => (event_type, false),
    };
    if INFORMATIONAL.contains(&plain) {
        return Meaning::Informational;
    }
    if event_type == NOT_GENERATED {
        return Meaning::NotGenerated;
    }
    if is_of_account(event_type) {
        return Meaning::CustomerAccount;
    }
    let (kind, word) = plain.rsplit_once('.').unwrap_or((plain, ""));
    let known = SNAPSHOTS.iter().find(|(of, _)| *of == kind);
    match known {
        // thin kinds are finer than snapshots, and all have the same effect: the object is fetched
        Some(_) if is_thin => Meaning::ThinEvent,
        Some((_, words)) if words.contains(&word) => Meaning::Snapshot,
        // a new kind of subscription event may contain data that this release does not support
        Some(("customer.subscription", _)) => Meaning::Unknown,
        _ if FAMILIES.contains(&first_part(plain)) => Meaning::Unhandled,
        _ => Meaning::Unknown,
    }
}

/// Returns the type of the snapshot event of the same change as this thin event; `None` if thin events are finer, so
/// that the snapshot has another type.
pub fn snapshot_of(thin_type: &str) -> Option<&str> {
    let plain = thin_type.strip_prefix("v1.").unwrap_or(thin_type);
    (meaning(plain) == Meaning::Snapshot).then_some(plain)
}

/// Returns the types of snapshot events whose object is merged: the processed ones.
pub fn handled() -> impl Iterator<Item = String> {
    SNAPSHOTS.into_iter().flat_map(|(kind, words)| words.iter().map(move |word| format!("{kind}.{word}")))
}

/// Handled types that Stripe's list does not contain: names of old API versions, and types that exist only as thin
/// events. A webhook endpoint cannot be subscribed to them.
const UNLISTED: [&str; 5] = [
    "invoice_payment.canceled",
    "invoice_payment.created",
    "invoice_payment.open",
    "payment_method.card_automatically_updated",
    "promotion_code.deleted",
];

/// Returns the event types that a webhook endpoint should receive.
pub fn subscribed() -> impl Iterator<Item = String> {
    handled().filter(|event_type| !UNLISTED.contains(&event_type.as_str()))
}

/// The label of all families of which no event is merged. Stripe has about fifty of them.
pub const UNHANDLED: &str = "unhandled";

/// The label of events that belong to no family.
pub const OTHER: &str = "other";

/// The part before the first dot, after `v1.` in thin types.
fn first_part(event_type: &str) -> &str {
    event_type.strip_prefix("v1.").unwrap_or(event_type).split('.').next().unwrap_or_default()
}

/// Returns the family of an event type as the value of a label: its name if events of it are merged, else
/// [`UNHANDLED`], or [`OTHER`] if it has none.
pub fn family(event_type: &str) -> &'static str {
    let first = first_part(event_type);
    match handled_families().find(|family| *family == first) {
        Some(family) => family,
        None if FAMILIES.contains(&first) => UNHANDLED,
        None => OTHER,
    }
}

/// Returns the families of which events are merged.
pub fn handled_families() -> impl Iterator<Item = &'static str> {
    let is_handled = |family: &&str| SNAPSHOTS.iter().any(|(kind, _)| first_part(kind) == *family);
    FAMILIES.into_iter().filter(is_handled)
}

/// Returns all values of [`family`], for metrics that exist from startup on.
pub fn families() -> impl Iterator<Item = &'static str> {
    handled_families().chain([UNHANDLED, OTHER])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_one_meaning() {
        let snapshots = "customer.created customer.updated customer.deleted customer.discount.created \
            customer.discount.updated customer.discount.deleted customer.source.created customer.source.updated \
            customer.source.deleted customer.source.expiring payment_method.attached payment_method.updated \
            payment_method.automatically_updated payment_method.card_automatically_updated \
            payment_method.detached customer.subscription.created \
            customer.subscription.updated customer.subscription.deleted customer.subscription.paused \
            customer.subscription.resumed customer.subscription.pending_update_applied \
            customer.subscription.pending_update_expired invoice.created invoice.updated invoice.finalized \
            invoice.finalization_failed invoice.sent invoice.voided invoice.marked_uncollectible invoice.overdue \
            invoice.overpaid invoice.will_be_due invoice.deleted invoice.paid invoice.payment_succeeded \
            invoice.payment_failed invoice.payment_action_required invoice.payment_attempt_required \
            invoice_payment.paid payment_intent.processing payment_intent.succeeded payment_intent.payment_failed \
            payment_intent.canceled payment_intent.requires_action charge.succeeded charge.failed charge.pending \
            charge.refunded charge.updated charge.dispute.created charge.dispute.closed mandate.updated \
            checkout.session.completed checkout.session.expired checkout.session.async_payment_succeeded \
            checkout.session.async_payment_failed subscription_schedule.created subscription_schedule.updated \
            subscription_schedule.released subscription_schedule.canceled subscription_schedule.completed \
            subscription_schedule.aborted subscription_schedule.expiring product.created product.updated \
            product.deleted price.created price.updated price.deleted plan.created plan.updated plan.deleted \
            coupon.created coupon.updated coupon.deleted promotion_code.created promotion_code.updated";
        for event_type in snapshots.split_whitespace() {
            assert_eq!(meaning(event_type), Meaning::Snapshot, "{event_type}");
            assert_eq!(meaning(&format!("v1.{event_type}")), Meaning::ThinEvent, "v1.{event_type}");
        }
        for (event_type, expected) in [
            ("customer.subscription.trial_will_end", Meaning::Informational),
            ("v1.customer.subscription.trial_will_end", Meaning::Informational),
            ("invoice.upcoming", Meaning::Informational),
            ("v2.core.account.created", Meaning::CustomerAccount),
            ("v2.core.account.closed", Meaning::CustomerAccount),
            ("v2.core.account[configuration.customer].updated", Meaning::CustomerAccount),
            ("v2.core.account_person.updated", Meaning::CustomerAccount),
            ("v2.core.accounting.closed", Meaning::Unhandled),
            ("v2.core.health.event_generation_failure.resolved", Meaning::NotGenerated),
            ("v2.core.health.api_error.firing", Meaning::Unhandled),
            ("customer.subscription.frobnicated", Meaning::Unknown),
            ("v1.customer.subscription.item_added", Meaning::ThinEvent),
            ("v1.customer.discount.source_changed", Meaning::ThinEvent),
            ("v1.invoice_payment.open", Meaning::ThinEvent),
            ("v1.price.deactivated", Meaning::ThinEvent),
            ("setup_intent.succeeded", Meaning::Unhandled),
            ("charge.refund.updated", Meaning::Unhandled),
            ("customer.tax_id.created", Meaning::Unhandled),
            ("entitlements.active_entitlement_summary.updated", Meaning::Unhandled),
            ("test_helpers.test_clock.advancing", Meaning::Unhandled),
            ("v2.core.event_destination.ping", Meaning::Unhandled),
            ("frobnicator.created", Meaning::Unknown),
            ("", Meaning::Unknown),
        ] {
            assert_eq!(meaning(event_type), expected, "{event_type}");
        }
    }

    #[test]
    fn every_type_that_stripe_lists_is_known() {
        let types = include_str!("../../fixtures/event-types.txt");
        let unknown: Vec<&str> = types.lines().filter(|one| meaning(one) == Meaning::Unknown).collect();
        assert_eq!(unknown, Vec::<&str>::new());
        let finer = ["v1.customer.subscription.unpaid", "v1.subscription_schedule.phase_added", "v1.price.activated"];
        assert!(finer.iter().all(|one| types.contains(one) && meaning(one) == Meaning::ThinEvent));
    }

    #[test]
    fn handled_types_are_merged_and_unique() {
        let handled: Vec<String> = handled().collect();
        assert!(handled.iter().all(|event_type| meaning(event_type) == Meaning::Snapshot));
        assert_eq!(handled.iter().collect::<std::collections::BTreeSet<_>>().len(), handled.len());
        assert!(handled.contains(&"customer.subscription.updated".to_owned()));
    }

    #[test]
    fn an_endpoint_can_be_subscribed_to_the_types_that_stripe_lists() {
        let listed = include_str!("../../fixtures/event-types.txt");
        let listed = |event_type: &String| listed.lines().any(|one| one == event_type);
        assert_eq!(subscribed().collect::<Vec<_>>(), handled().filter(listed).collect::<Vec<_>>());
        // the same kinds as in the instructions for the dashboard
        let readme = include_str!("../../README.md");
        let from = readme.find("events of these kinds:").unwrap();
        let kinds = &readme[from..from + readme[from..].find('.').unwrap() + 600];
        assert!(SNAPSHOTS.iter().all(|(kind, _)| kinds.contains(&format!("`{kind}`"))), "{kinds}");
    }

    #[test]
    fn the_family_is_a_closed_set() {
        assert_eq!(family("customer.subscription.updated"), "customer");
        assert_eq!(family("v1.customer.updated"), "customer");
        assert_eq!(family("issuing_card.created"), UNHANDLED);
        assert_eq!(family("v2.core.event_destination.ping"), UNHANDLED);
        assert_eq!(family("frobnicator.created"), OTHER);
        let types = include_str!("../../fixtures/event-types.txt");
        let found: std::collections::BTreeSet<&str> =
            types.lines().chain(["frobnicator.created"]).map(family).collect();
        assert_eq!(found, families().collect(), "every value has an event type");
    }

    #[test]
    fn families_that_never_act_share_one_label() {
        let types = include_str!("../../fixtures/event-types.txt");
        for one in types.lines() {
            let acts = matches!(meaning(one), Meaning::Snapshot | Meaning::ThinEvent);
            assert!(!acts || handled_families().any(|handled| handled == family(one)), "{one}");
        }
        for handled in handled_families() {
            let acts = types.lines().any(|one| family(one) == handled && meaning(one) == Meaning::Snapshot);
            assert!(acts, "no event of {handled} is merged");
        }
    }
}
