//! The price, and its older shape, the plan.
//!
//! Owns the location of each field: a plan has `interval`, `amount` and `usage_type` at the top level, a price has them
//! under `recurring` and as `unit_amount`. Must not know pricing plans or products. PURE; called by the projection.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Reader, is_key, required};
use super::unreadable::Unreadable;
use crate::domain::event::Reason;
use crate::stripe::json::{Json, Object};

const INTERVALS: [&str; 4] = ["day", "week", "month", "year"];
const USAGE_TYPES: [&str; 2] = ["licensed", "metered"];

/// The fields read from a price or plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PriceView {
    /// `id`.
    pub id: String,
    /// `product`: an id or the object.
    pub product_id: Option<String>,
    /// `livemode`.
    pub livemode: Option<bool>,
    /// `active`.
    pub active: Option<bool>,
    /// `recurring.interval`, unknown values kept. `None` for a one-time price.
    pub interval: Option<String>,
    /// `recurring.interval_count`.
    pub interval_count: Option<i64>,
    /// `recurring.usage_type`, unknown values kept.
    pub usage_type: Option<String>,
    /// `currency`.
    pub currency: Option<String>,
    /// The amount in the currency's smallest unit, exact, as decimal text. `None` for tiers and custom amounts.
    pub unit_amount_decimal: Option<String>,
    /// The limits in its `metadata`, by key.
    pub limits: BTreeMap<String, LimitEntry>,
    /// Notes on invalid and unknown values.
    pub notes: BTreeSet<Reason>,
}

impl PriceView {
    /// Reads a price or a plan.
    ///
    /// # Errors
    /// If `id` is missing or invalid.
    pub fn read(json: Json<'_>) -> Result<Self, Unreadable> {
        let mut reader = Reader::default();
        let price = json.object().unwrap_or_default();
        let recurring = reader.members(price.get("recurring"));
        let term = |key| Some(recurring.get(key)).filter(|value| !value.is_null()).unwrap_or(price.get(key));
        let interval = reader.text(term("interval"));
        let usage_type = reader.text(term("usage_type"));
        reader.expect_one_of(interval.as_deref(), &INTERVALS);
        reader.expect_one_of(usage_type.as_deref(), &USAGE_TYPES);
        Ok(Self {
            id: required(price.get("id"), "price.id")?,
            product_id: reader.reference(price.get("product")),
            livemode: reader.boolean(price.get("livemode")),
            active: reader.boolean(price.get("active")),
            interval,
            interval_count: reader.integer(term("interval_count")),
            usage_type,
            currency: reader.text(price.get("currency")),
            unit_amount_decimal: amount(&price, &mut reader),
            limits: limits(price.get("metadata")),
            notes: reader.notes,
        })
    }
}

/// The amounts of `currency_options`, in the smallest unit of each currency, and notes on invalid ones.
pub fn currency_options(options: Json<'_>) -> (BTreeMap<String, String>, BTreeSet<Reason>) {
    let mut reader = Reader::default();
    let mut amounts = BTreeMap::new();
    for (currency, option) in reader.members(options).iter() {
        let option = reader.members(option);
        if let Some(amount) = amount(&option, &mut reader) {
            amounts.insert(currency.to_owned(), amount);
        }
    }
    (amounts, reader.notes)
}

/// A limit in metadata, unparsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LimitEntry {
    /// The key in metadata: `limit_words`.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Prefix of a limit's name in metadata.
const LIMIT: &str = "limit_";

/// Maximum number of limits of one price, because each limit costs one balance per subscription. Stripe allows fewer:
/// 50 keys of metadata, of up to 40 characters.
const MOST_LIMITS: usize = 100;

/// The limits in metadata: `limit_words` is the limit of words, and so is `words`, its older name. At most
/// [`MOST_LIMITS`], and only names that can be keys; the others are left out.
pub(super) fn limits(metadata: Json<'_>) -> BTreeMap<String, LimitEntry> {
    let metadata = metadata.object().unwrap_or_default();
    let entry = |name: &str, key: &str, content: Json<'_>| {
        let value = content.text().unwrap_or_else(|| content.raw().to_owned());
        (!content.is_null()).then(|| (name.to_owned(), LimitEntry { key: key.to_owned(), value }))
    };
    let older = entry("words", "words", metadata.get("words"));
    let named = metadata.iter().filter_map(|(key, content)| {
        let name = key.strip_prefix(LIMIT).filter(|name| is_key(name))?;
        entry(name, key, content)
    });
    older.into_iter().chain(named).take(MOST_LIMITS).collect()
}

/// The decimal text first, because the integer is null for a fraction of the smallest unit. Both are the same amount,
/// so if one is invalid, the other counts.
fn amount(price: &Object<'_>, reader: &mut Reader) -> Option<String> {
    let mut decimal = |key| reader.decimal(price.get(key));
    let text = decimal("unit_amount_decimal").or_else(|| decimal("amount_decimal"));
    let mut whole = |key| reader.integer(price.get(key)).map(|amount| amount.to_string());
    text.or_else(|| whole("unit_amount")).or_else(|| whole("amount"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn read(text: &str) -> PriceView {
        PriceView::read(json(text)).unwrap()
    }

    fn amount_of(fields: &str) -> (Option<String>, bool) {
        let view = read(&format!(r#"{{"id":"price_1",{fields}}}"#));
        (view.unit_amount_decimal, !view.notes.is_empty())
    }

    #[test]
    fn limits_and_their_names_are_bounded() {
        let many: Vec<String> = (0..1000).map(|number| format!(r#""limit_{number}":"1""#)).collect();
        let metadata = format!(r#"{{"limit_{}":"1",{}}}"#, "x".repeat(9000), many.join(","));
        let limits = limits(json(&metadata));
        assert_eq!(limits.len(), MOST_LIMITS);
        assert!(limits.keys().all(|name| name.len() < 10));
    }

    #[test]
    fn a_price_without_an_id_is_invalid() {
        let error = PriceView::read(json(r#"{"id":7}"#)).unwrap_err();
        assert_eq!(error, Unreadable { field: "price.id" });
    }

    #[test]
    fn a_very_old_plan_reads_like_a_price() {
        let price = r#"{"id":"p","product":"prod_1","unit_amount_decimal":"1990","currency":"eur","active":true,
            "recurring":{"interval":"month","interval_count":3,"usage_type":"metered"}}"#;
        let plan = r#"{"id":"p","product":{"id":"prod_1"},"amount":1990,"currency":"eur","active":true,
            "interval":"month","interval_count":3,"usage_type":"metered"}"#;
        assert_eq!(read(price), read(plan));
        assert_eq!(read(plan).interval.as_deref(), Some("month"));
        assert!(read(plan).notes.is_empty());
    }

    #[test]
    fn the_decimal_amount_is_preferred_to_the_whole_one() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(amount_of(r#""unit_amount_decimal":"0.5","unit_amount":null"#), (some("0.5"), false));
        assert_eq!(amount_of(r#""unit_amount_decimal":"1990.0","unit_amount":1990"#), (some("1990.0"), false));
        assert_eq!(amount_of(r#""unit_amount":1990"#), (some("1990"), false));
        assert_eq!(amount_of(r#""amount_decimal":"1990.5","amount":null"#), (some("1990.5"), false));
        assert_eq!(amount_of(r#""unit_amount":null"#), (None, false), "tiers");
    }

    #[test]
    fn an_invalid_amount_is_noted() {
        assert_eq!(amount_of(r#""unit_amount_decimal":"1e3""#), (None, true));
        assert_eq!(amount_of(r#""unit_amount_decimal":1990,"unit_amount":1990"#), (Some("1990".to_owned()), true));
        assert_eq!(amount_of(r#""unit_amount":19.9"#), (None, true));
    }

    #[test]
    fn an_unknown_interval_or_usage_type_is_kept_and_noted() {
        let view = read(r#"{"id":"p","recurring":{"interval":"fortnight","usage_type":"licensed"}}"#);
        assert_eq!(view.interval.as_deref(), Some("fortnight"));
        assert_eq!(view.notes, BTreeSet::from([Reason::UnknownEnum]));
        let view = read(r#"{"id":"p","recurring":{"interval":"month","usage_type":"guessed"}}"#);
        assert_eq!(view.usage_type.as_deref(), Some("guessed"));
        assert_eq!(view.notes, BTreeSet::from([Reason::UnknownEnum]));
    }

    #[test]
    fn a_price_paid_once_has_no_interval() {
        let view = read(r#"{"id":"p","type":"one_time","recurring":null,"unit_amount":5}"#);
        assert_eq!((view.interval, view.interval_count, view.usage_type), (None, None, None));
        assert!(view.notes.is_empty());
    }
}
