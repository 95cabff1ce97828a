//! Projects a price to its pricing plan and limits.
//!
//! Owns prices per currency and the limits. A price and a plan with the same id make one row; the price is the newer
//! shape. PURE.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Node, is_unseen};
use super::{Projected, item_choice};
use crate::domain::decimal::Decimal;
use crate::domain::event::Reason;
use crate::domain::object::row_id;
use crate::domain::plan::{LARGEST_AMOUNT, PlanLimit, PricingPlan};
use crate::stripe::json::Json;
use crate::stripe::views::price::{LimitEntry, PriceView, currency_options};
use crate::stripe::views::product::ProductView;

/// The rows of one price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRows {
    /// The plan.
    pub plan: Projected<PricingPlan>,
    /// Its limits, in the order of their keys.
    pub limits: Vec<PlanLimit>,
}

/// Currencies without a minor unit. All currencies in neither list have hundredths: Stripe counts even ISK, TWD, HUF
/// and UGX in hundredths.
const WHOLE: [&str; 15] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"];
/// Currencies with thousandths, by Stripe's documentation.
const THOUSANDTHS: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];

/// The rows of a price, or of a plan of very old API versions; `None` while the content of neither is known.
pub fn plan(price_id: &str, graph: &Graph) -> Option<PlanRows> {
    // both are looked up, so that both are loaded
    let (price, old) = (graph.get("price", price_id), graph.get("plan", price_id));
    let known = |node: Option<&'_ Node>| node.is_some_and(|node| node.content.is_some());
    let node = price.filter(|_| known(price)).or(old.filter(|_| known(old)))?;
    let view = PriceView::read(node.json()).ok()?;
    let mut notes = view.notes.clone();
    let product_id = view.product_id.as_deref();
    let product = product_id.and_then(|id| graph.get("product", id));
    let mut needs = BTreeSet::from_iter(needed_price(price, node).then(|| graph.key("price", price_id)));
    needs.extend(product_id.filter(|_| is_unseen(product)).map(|id| graph.key("product", id)));
    let product_view = product.map(|node| ProductView::read(node.json()));
    notes.extend(product_view.iter().flat_map(|product| product.notes.iter().copied()));
    let limits = limits(graph.account(), &view, product_view.as_ref());
    if limits.iter().any(|limit| limit.invalid_value.is_some()) {
        notes.insert(Reason::InvalidValue);
    }
    let price_per_currency = prices(node, &view, &mut notes);
    let withdrawn = product_view.as_ref().and_then(|product| product.active) == Some(false);
    let off = withdrawn || node.is_gone() || product.is_some_and(Node::is_gone);
    let row = PricingPlan {
        id: row_id(graph.account(), price_id),
        account: graph.account().to_owned(),
        stripe_price_id: price_id.to_owned(),
        stripe_product_id: view.product_id.clone(),
        livemode: view.livemode,
        active: if off { Some(false) } else { view.active },
        billing_interval: view.interval,
        billing_interval_count: view.interval_count,
        currency: view.currency,
        unit_amount_decimal: view.unit_amount_decimal,
        plan_rank: item_choice::of_node(graph, Some(node)).rank(),
        stripe_track_usage: view.usage_type.as_deref().map(|usage_type| usage_type == "metered"),
        product_name: product_view.and_then(|product| product.name),
        price_in_euro: price_per_currency.get("eur").cloned(),
        price_per_currency,
    };
    Some(PlanRows { plan: Projected { row, notes, needs }, limits })
}

/// Whether the price must be fetched. Events do not contain the other currencies; a fetch does. It is repeated after
/// each event of the price, because Stripe changes currencies in place. A plan of old API versions is fetched as the
/// price with the same id.
fn needed_price(price: Option<&Node>, known_as: &Node) -> bool {
    price.is_none_or(|price| price.needs_expansion() && !price.is_gone()) && !known_as.is_gone()
}

/// The price in its own currency and in those of `currency_options`, in whole units.
fn prices(node: &Node, view: &PriceView, notes: &mut BTreeSet<Reason>) -> BTreeMap<String, Decimal> {
    let sources = [node.json(), node.expansion()].map(|source| source.get("currency_options"));
    let (options, odd) = currency_options(sources.into_iter().find(|options| !options.is_null()).unwrap_or(Json::NULL));
    notes.extend(odd);
    let own = view.currency.clone().zip(view.unit_amount_decimal.clone());
    let all = options.into_iter().chain(own);
    all.map(|(currency, amount)| (currency.clone(), Decimal::shifted(&amount, decimals(&currency)))).collect()
}

fn decimals(currency: &str) -> usize {
    match currency {
        whole if WHOLE.contains(&whole) => 0,
        thousandths if THOUSANDTHS.contains(&thousandths) => 3,
        _ => 2,
    }
}

/// The limits: each value (`limit_words`, `limit_words_per_unit`) from the price's metadata, else from its product's.
fn limits(account: &str, price: &PriceView, product: Option<&ProductView>) -> Vec<PlanLimit> {
    let of_product = product.into_iter().flat_map(|product| &product.limits);
    let product = format!("product {}", price.product_id.as_deref().unwrap_or_default());
    let of_price = price.limits.iter().map(|(name, entry)| (name, (format!("price {}", price.id), entry)));
    let entries: BTreeMap<&String, (String, &LimitEntry)> =
        of_product.map(|(name, entry)| (name, (product.clone(), entry))).chain(of_price).collect();
    let mut limits: BTreeMap<&str, ReadLimit> = BTreeMap::new();
    for (name, (object, entry)) in &entries {
        let key = name.strip_suffix(PER_UNIT).filter(|key| !key.is_empty());
        let limit = limits.entry(key.unwrap_or(name)).or_default();
        let amount = if key.is_some() { &mut limit.per_unit } else { &mut limit.base };
        *amount = Amount::read(&entry.value);
        if *amount == Amount::Unreadable {
            let value: String = entry.value.chars().take(SHOWN_CHARS).collect();
            limit.invalid.push(format!("{object}: {} = {value:?}", entry.key));
        }
    }
    let limit = |(limit_key, read): (&str, ReadLimit)| {
        let unlimited = [read.base, read.per_unit].contains(&Amount::Unlimited);
        let (included, per_unit) = match (read.base, read.per_unit) {
            (Amount::Number(base), Amount::Number(per_unit)) => (Some(base), per_unit),
            _ => (None, 0),
        };
        PlanLimit {
            id: row_id(account, &format!("{}/limit/{limit_key}", price.id)),
            pricing_plan_id: row_id(account, &price.id),
            limit_key: limit_key.to_owned(),
            included,
            per_unit,
            unlimited,
            invalid_value: (included.is_none() && !unlimited).then(|| read.invalid.join(", ")),
        }
    };
    limits.into_iter().map(limit).collect()
}

/// The two values of a limit, and the text of those that are invalid.
#[derive(Default)]
struct ReadLimit {
    base: Amount,
    per_unit: Amount,
    invalid: Vec<String>,
}

/// Maximum length of an invalid value in `invalid_value`. Stripe allows 500 characters.
const SHOWN_CHARS: usize = 100;

/// Suffix of a limit's name for an amount per unit of the quantity.
const PER_UNIT: &str = "_per_unit";

/// A value of metadata as an amount.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Amount {
    Number(i64),
    Unlimited,
    Unreadable,
}

/// A value that is missing adds nothing.
impl Default for Amount {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Amount {
    fn read(value: &str) -> Self {
        let value = value.trim();
        // signs, fractions and digit separators are ambiguous
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        match value {
            "unlimited" => Self::Unlimited,
            // digits that do not fit into 64 bits are a larger number
            _ if digits => Self::Number(value.parse().unwrap_or(LARGEST_AMOUNT).min(LARGEST_AMOUNT)),
            _ => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests;
