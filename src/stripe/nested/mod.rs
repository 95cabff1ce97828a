//! Nested objects: objects inside another object (their carrier), such as the price of a subscription's item, the
//! charge of a payment intent, or an expanded field of a read. Each has its own key in the mirror.
//!
//! PURE. Owns the table of paths that decides which nested objects show their current state and which are copies of
//! another time or scope. A whole object is found at every path, because Stripe moves fields between versions.

use std::collections::BTreeMap;

use super::json::Json;
use super::views::whole;

/// Type of an item's trial offer, which only reads contain.
pub const TRIAL_OFFER: &str = "product_catalog.trial_offer";

/// The types of objects in the mirror, by Stripe's names.
pub const TYPES: [&str; 21] = [
    "bank_account",
    "card",
    "charge",
    "checkout.session",
    "coupon",
    "customer",
    "discount",
    "dispute",
    "invoice",
    "invoice_payment",
    "mandate",
    "payment_intent",
    "payment_method",
    "plan",
    "price",
    "product",
    TRIAL_OFFER,
    "promotion_code",
    "source",
    "subscription",
    "subscription_schedule",
];

/// Paths at which a carrier shows the state of a nested object at the carrier's own time: fields that Stripe fills in
/// from the object itself, and references that a read expands.
///
/// A path leads from the nearest enclosing object of [`TYPES`] to the nested object; array elements add no step.
/// Objects inside a copy are copies, too.
const CURRENT: [(&str, &[&str]); 18] = [
    ("bank_account", &["customer"]),
    ("card", &["customer"]),
    ("charge", &["customer", "dispute", "invoice", "payment_intent"]),
    ("checkout.session", &["customer", "invoice", "payment_intent", "subscription"]),
    (
        "customer",
        &[
            "default_source",
            "discount",
            "invoice_settings.default_payment_method",
            "sources.data",
            "subscriptions.data",
        ],
    ),
    ("dispute", &["charge", "payment_intent"]),
    (
        "invoice",
        &[
            "charge",
            "customer",
            "default_payment_method",
            "default_source",
            "parent.subscription_details.subscription",
            "payment_intent",
            "payments.data",
            "subscription",
        ],
    ),
    ("invoice_payment", &["invoice", "payment.charge", "payment.payment_intent"]),
    ("mandate", &["payment_method"]),
    ("payment_intent", &["charges.data", "customer", "invoice", "latest_charge", "payment_method"]),
    ("payment_method", &["customer"]),
    ("plan", &["product"]),
    ("price", &["product"]),
    ("product", &["default_price"]),
    (TRIAL_OFFER, &["end_behavior.transition.price", "price"]),
    ("promotion_code", &["customer"]),
    (
        "subscription",
        &[
            "customer",
            "default_payment_method",
            "default_source",
            "discount",
            "discounts",
            "items.data.current_trial.trial_offer",
            "items.data.discounts",
            "items.data.plan",
            "items.data.price",
            "latest_invoice",
            "plan",
            "schedule",
        ],
    ),
    ("subscription_schedule", &["customer", "subscription"]),
];

/// Paths at which a carrier shows a nested object of another time or scope: as it was when it was charged, applied or
/// redeemed, or as it will be. A path in neither table counts as a copy, because a copy never replaces known content.
const COPIES: [(&str, &[&str]); 8] = [
    ("charge", &["source"]),
    (
        "checkout.session",
        &[
            "discounts.coupon",
            "discounts.promotion_code",
            "line_items.data.discounts.discount",
            "line_items.data.price",
            "total_details.breakdown.discounts.discount",
        ],
    ),
    ("discount", &["coupon", "customer", "promotion_code", "source.coupon"]),
    (
        "invoice",
        &[
            "discount",
            "discounts",
            "lines.data.discount_amounts.discount",
            "lines.data.discounts",
            "lines.data.plan",
            "lines.data.price",
            "lines.data.pricing.price_details.price",
            "total_discount_amounts.discount",
        ],
    ),
    ("payment_intent", &["last_payment_error.payment_method", "last_payment_error.source", "source"]),
    ("promotion_code", &["coupon", "promotion.coupon"]),
    (
        "subscription",
        &[
            "pending_update.discount",
            "pending_update.discounts",
            "pending_update.subscription_items.discounts",
            "pending_update.subscription_items.plan",
            "pending_update.subscription_items.price",
        ],
    ),
    (
        "subscription_schedule",
        &[
            "default_settings.default_payment_method",
            "phases.add_invoice_items.discounts.coupon",
            "phases.add_invoice_items.discounts.discount",
            "phases.add_invoice_items.discounts.promotion_code",
            "phases.add_invoice_items.price",
            "phases.coupon",
            "phases.default_payment_method",
            "phases.discounts.coupon",
            "phases.discounts.discount",
            "phases.discounts.promotion_code",
            "phases.items.discounts.coupon",
            "phases.items.discounts.discount",
            "phases.items.discounts.promotion_code",
            "phases.items.plan",
            "phases.items.price",
            "phases.plans.plan",
            "phases.plans.price",
        ],
    ),
];

/// Maximum depth of the search. Stripe expands at most four levels, and its own nesting is about ten levels deep.
const DEEPEST: usize = 24;

/// An object inside another one.
#[derive(Debug, Clone)]
pub struct Nested<'a> {
    /// Stripe's name of its type.
    pub object_type: &'static str,
    /// Its id.
    pub object_id: String,
    /// The object as received.
    pub content: Json<'a>,
    /// Whether it shows the state at the carrier's time; otherwise it is a copy of another time or scope.
    pub is_current: bool,
}

/// The type of an object, if it is one of [`TYPES`].
pub fn type_of(object: Json<'_>) -> Option<&'static str> {
    known(&object.get("object").str()?)
}

fn known(name: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|known| *known == name)
}

/// Returns the whole objects inside `object`, without itself, in the order of type and id, each once. Bare ids and the
/// stubs of deleted objects have no content and are skipped.
///
/// Since 2020-08-27 an item has a price and a plan with the same id: the plan is the price's older shape and is
/// skipped.
pub fn nested(object: Json<'_>) -> Vec<Nested<'_>> {
    let mut found: BTreeMap<(&'static str, String), Nested<'_>> = BTreeMap::new();
    each(object, &mut |_, _, one| {
        // twice in one payload: the current one wins, then the longer one, then a deterministic choice
        let rank = |one: &Nested<'_>| (one.is_current, one.content.raw().len(), one.content.raw().to_owned());
        let key = (one.object_type, one.object_id.clone());
        if found.get(&key).is_none_or(|known| rank(known) < rank(&one)) {
            found.insert(key, one);
        }
    });
    let prices: BTreeMap<String, bool> = found.values().filter(|one| one.object_type == "price").map(by_id).collect();
    let is_needed = |plan: &Nested<'_>| prices.get(&plan.object_id).is_none_or(|current| plan.is_current && !current);
    found.into_values().filter(|one| one.object_type != "plan" || is_needed(one)).collect()
}

fn by_id(one: &Nested<'_>) -> (String, bool) {
    (one.object_id.clone(), one.is_current)
}

/// Calls `visit` with every whole object inside `object`, its carrier and its path in the carrier.
fn each<'a>(object: Json<'a>, visit: &mut impl FnMut(&'static str, &str, Nested<'a>)) {
    let object_type = type_of(object).unwrap_or_default();
    let carrier = Carrier { object_type, is_current: true, start: 0 };
    Search { path: String::new(), visit }.members(carrier, object, 0);
}

/// The nearest enclosing object of [`TYPES`] during the search.
#[derive(Clone, Copy)]
struct Carrier {
    object_type: &'static str,
    is_current: bool,
    /// Length of the path to the carrier itself.
    start: usize,
}

struct Search<'s, F> {
    path: String,
    visit: &'s mut F,
}

impl<'a, F: FnMut(&'static str, &str, Nested<'a>)> Search<'_, F> {
    fn members(&mut self, carrier: Carrier, object: Json<'a>, depth: usize) {
        for (key, value) in object.nested() {
            let end = self.path.len();
            self.path.push('.');
            self.path.push_str(&key);
            self.value(carrier, value, depth + 1);
            self.path.truncate(end);
        }
    }

    fn value(&mut self, carrier: Carrier, value: Json<'a>, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let carrier = match type_of(value) {
            Some(object_type) => self.object(carrier, object_type, value),
            None => carrier,
        };
        self.members(carrier, value, depth);
        for element in value.array().unwrap_or_default() {
            self.value(carrier, element, depth + 1);
        }
    }

    /// Visits an object; returns it as the carrier of the objects inside it.
    fn object(&mut self, carrier: Carrier, object_type: &'static str, content: Json<'a>) -> Carrier {
        let path = self.path[carrier.start..].trim_start_matches('.');
        let is_current = carrier.is_current && shown(carrier.object_type, path) == Some(Shown::Current);
        if let Some(object_id) = whole(content) {
            (self.visit)(carrier.object_type, path, Nested { object_type, object_id, content, is_current });
        }
        Carrier { object_type, is_current, start: self.path.len() }
    }
}

/// State of a nested object in its carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// The state at the carrier's time.
    Current,
    /// A copy of another time or scope.
    Copy,
}

/// Looks up a path in the two tables; `None` if it is in neither.
fn shown(carrier: &str, path: &str) -> Option<Shown> {
    let has = |table: &[(&str, &[&str])]| table.iter().any(|(of, paths)| *of == carrier && paths.contains(&path));
    has(&CURRENT).then_some(Shown::Current).or_else(|| has(&COPIES).then_some(Shown::Copy))
}

#[cfg(test)]
mod tests;
