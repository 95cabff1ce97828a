//! The contents of a plan's row, rule by rule.

use super::*;
use crate::projection::world::{World, needs};

fn price(fields: &str) -> World {
    World::default().put(&format!(r#"{{"id":"price_1","object":"price",{fields}}}"#))
}

fn project(world: &World) -> PlanRows {
    world.project(|graph| plan("price_1", graph)).unwrap()
}

fn row(fields: &str) -> PricingPlan {
    project(&price(fields)).plan.row
}

/// The prices as JSON, which shows every digit.
fn prices(world: &World) -> String {
    serde_json::to_string(&project(world).plan.row.price_per_currency).unwrap()
}

/// The limits, `words=500` for example.
fn limits(world: &World) -> Vec<String> {
    let text = |limit: PlanLimit| {
        let value = limit.included.map(|included| included.to_string());
        let value = value.unwrap_or_else(|| if limit.unlimited { "unlimited" } else { "?" }.to_owned());
        let per_unit = if limit.per_unit > 0 { format!("+{}", limit.per_unit) } else { String::new() };
        format!("{}={value}{per_unit}", limit.limit_key)
    };
    project(world).limits.into_iter().map(text).collect()
}

#[test]
fn only_metered_usage_is_tracked() {
    let tracked = |usage| row(&format!(r#""recurring":{{"usage_type":{usage}}}"#)).stripe_track_usage;
    assert_eq!(tracked(r#""metered""#), Some(true));
    assert_eq!(tracked(r#""licensed""#), Some(false));
    assert_eq!(tracked(r#""guessed""#), Some(false));
    assert_eq!(tracked("null"), None);
}

#[test]
fn a_plan_and_a_price_with_one_id_are_one_row_and_the_price_counts() {
    let old = World::default().put(r#"{"id":"price_1","object":"plan","amount":5,"currency":"eur","interval":"year"}"#);
    let of_plan = project(&old).plan.row;
    let both = old
        .put(r#"{"id":"price_1","object":"price","unit_amount":5,"currency":"eur","recurring":{"interval":"year"}}"#);
    assert_eq!(project(&both).plan.row, of_plan);
    let dearer = both.put(r#"{"id":"price_1","object":"price","unit_amount":7,"currency":"eur"}"#);
    assert_eq!(project(&dearer).plan.row.unit_amount_decimal.as_deref(), Some("7"));
}

#[test]
fn an_unseen_price_has_no_row() {
    assert!(World::default().project(|graph| plan("price_1", graph)).is_none());
    assert!(World::default().missing("price", "price_1").project(|graph| plan("price_1", graph)).is_none());
}

#[test]
fn amounts_are_exact_in_every_currency() {
    for (currency, amount, expected) in [
        ("eur", "1990", r#"{"eur":19.90}"#),
        ("jpy", "2500", r#"{"jpy":2500}"#),
        ("kwd", "12345", r#"{"kwd":12.345}"#),
        ("isk", "50000", r#"{"isk":500.00}"#),
        ("usd", "0.5", r#"{"usd":0.005}"#),
    ] {
        let fields = format!(r#""currency":"{currency}","unit_amount_decimal":"{amount}""#);
        assert_eq!(prices(&price(&fields)), expected);
    }
    assert_eq!(prices(&price(r#""currency":"eur","unit_amount":null,"billing_scheme":"tiered""#)), "{}");
}

#[test]
fn other_currencies_come_with_a_read() {
    let world = price(r#""currency":"usd","unit_amount":2000"#);
    assert_eq!(needs(&project(&world).plan), ["price/price_1"]);
    let options = r#"{"currency_options":{"eur":{"unit_amount":1850,"unit_amount_decimal":"1850"},
        "jpy":{"unit_amount":3000},"chf":{"unit_amount":null},"usd":{"unit_amount":2000}}}"#;
    let read = world.expand("price", "price_1", 0, options);
    assert_eq!(prices(&read), r#"{"eur":18.50,"jpy":3000,"usd":20.00}"#);
    let rows = project(&read);
    assert_eq!(serde_json::to_string(&rows.plan.row.price_in_euro).unwrap(), "18.50");
    assert!(rows.plan.needs.is_empty() && rows.plan.notes.is_empty());
}

#[test]
fn a_plan_is_active_with_its_price_and_its_product() {
    let product = |fields: &str| format!(r#"{{"id":"prod_1","object":"product",{fields}}}"#);
    let world = price(r#""active":true,"product":"prod_1""#);
    assert!(needs(&project(&world).plan).contains(&"product/prod_1".to_owned()));
    let active = |world: &World| project(world).plan.row.active;
    let sold = world.put(&product(r#""active":true,"name":"Gold""#));
    assert_eq!((active(&sold), project(&sold).plan.row.product_name.as_deref()), (Some(true), Some("Gold")));
    assert_eq!(active(&sold.clone().put(&product(r#""active":false"#))), Some(false));
    assert_eq!(active(&sold.clone().delete("product", "prod_1", 1)), Some(false));
    assert_eq!(active(&sold.clone().delete("price", "price_1", 1)), Some(false));
    assert_eq!(
        active(&sold.put(r#"{"id":"price_1","object":"price","active":false,"product":"prod_1"}"#)),
        Some(false)
    );
}

#[test]
fn a_price_that_was_not_found_is_inactive() {
    let world = price(r#""active":true,"product":"prod_1""#).put(r#"{"id":"prod_1","object":"product","active":true}"#);
    let active = |world: &World| project(world).plan.row.active;
    assert_eq!(active(&world), Some(true));
    for gone in [world.clone().missing("price", "price_1"), world.missing("product", "prod_1")] {
        assert_eq!(active(&gone), Some(false), "the event of its deletion was lost");
    }
    assert_eq!(
        active(&price(r#""active":null"#).delete("price", "price_1", 1)),
        Some(false),
        "independent of its earlier state"
    );
    assert_eq!(active(&price(r#""active":null"#)), None);
}

#[test]
fn an_old_plan_needs_its_price() {
    let old = World::default().put(r#"{"id":"price_1","object":"plan","amount":5,"currency":"usd"}"#);
    let needed = |world: &World| needs(&project(world).plan);
    assert_eq!(needed(&old), ["price/price_1"]);
    assert!(needed(&old.clone().missing("price", "price_1")).is_empty(), "Stripe has no such price");
    assert!(needed(&old.delete("plan", "price_1", 1)).is_empty(), "a deleted plan cannot be bought");
}

#[test]
fn deleted_objects_are_not_needed() {
    let world = price(r#""product":"prod_1""#).delete("price", "price_1", 1).missing("product", "prod_1");
    assert!(project(&world).plan.needs.is_empty());
}

#[test]
fn invalid_values_of_products_and_currencies_are_noted() {
    let noted = |world: &World| project(world).plan.notes.contains(&Reason::InvalidValue);
    let sold = price(r#""currency":"eur","unit_amount":5,"product":"prod_1""#);
    assert!(!noted(&sold));
    assert!(noted(&sold.clone().put(r#"{"id":"prod_1","object":"product","active":"yes"}"#)));
    let odd = sold.expand("price", "price_1", 0, r#"{"currency_options":{"usd":{"unit_amount":"many"}}}"#);
    assert!(noted(&odd));
    assert_eq!(prices(&odd), r#"{"eur":0.05}"#);
}

#[test]
fn limits_come_from_the_price_then_the_product() {
    let world =
        price(r#""product":"prod_1","metadata":{"limit_words":"500","limit_members":"unlimited","color":"red"}"#);
    assert_eq!(limits(&world), ["members=unlimited", "words=500"]);
    let product = r#"{"id":"prod_1","object":"product","metadata":{"limit_words":"1","limit_images":"20"}}"#;
    assert_eq!(limits(&world.put(product)), ["images=20", "members=unlimited", "words=500"]);
}

#[test]
fn words_is_an_older_name_of_limit_words() {
    assert_eq!(limits(&price(r#""metadata":{"words":"500"}"#)), ["words=500"]);
    assert_eq!(limits(&price(r#""metadata":{"words":"500","limit_words":"700"}"#)), ["words=700"]);
}

#[test]
fn an_invalid_limit_is_null_and_noted() {
    for odd in ["many", "-5", "+5", "5.5", "1 000", "", "Unlimited!"] {
        let world = price(&format!(r#""metadata":{{"limit_words":"{odd}"}}"#));
        assert_eq!(limits(&world), ["words=?"], "{odd:?}");
        assert!(project(&world).plan.notes.contains(&Reason::InvalidValue), "{odd:?}");
    }
    assert_eq!(limits(&price(r#""metadata":{"limit_words":" 0 "}"#)), ["words=0"]);
}

#[test]
fn an_invalid_limit_contains_the_value_its_key_and_its_object() {
    let invalid = |world: &World| project(world).limits.remove(0).invalid_value;
    let of = |metadata: &str| invalid(&price(&format!(r#""product":"prod_1","metadata":{metadata}"#)));
    assert_eq!(of(r#"{"limit_words":"lots"}"#).as_deref(), Some(r#"price price_1: limit_words = "lots""#));
    assert_eq!(of(r#"{"words":"lots"}"#).as_deref(), Some(r#"price price_1: words = "lots""#), "as it is in Stripe");
    let both = of(r#"{"limit_words_per_unit":"","limit_words":"a\u0000\"b"}"#);
    let expected = "price price_1: limit_words = \"a\u{fffd}\\\"b\", price price_1: limit_words_per_unit = \"\"";
    assert_eq!(both.as_deref(), Some(expected), "PostgreSQL stores no NUL");
    let product = r#"{"id":"prod_1","object":"product","metadata":{"limit_words":"lots"}}"#;
    let world = price(r#""product":"prod_1","metadata":{}"#).put(product);
    assert_eq!(invalid(&world).as_deref(), Some(r#"product prod_1: limit_words = "lots""#));
    let long = of(&format!(r#"{{"limit_words":"{}"}}"#, "ä".repeat(9000))).unwrap();
    assert_eq!(long.chars().count(), "price price_1: limit_words = ".len() + 2 + 100);
    for readable in [r#"{"limit_words":"7"}"#, r#"{"limit_words":"unlimited","limit_words_per_unit":"lots"}"#] {
        assert_eq!(of(readable), None, "{readable}");
    }
}

#[test]
fn a_limit_may_have_an_amount_for_each_unit_of_the_quantity() {
    let of = |metadata: &str| limits(&price(&format!(r#""product":"prod_1","metadata":{metadata}"#)));
    assert_eq!(of(r#"{"limit_members_per_unit":"1"}"#), ["members=0+1"]);
    assert_eq!(of(r#"{"limit_words":"500","limit_words_per_unit":" 100 "}"#), ["words=500+100"]);
    assert_eq!(of(r#"{"limit_words":"500","limit_words_per_unit":"unlimited"}"#), ["words=unlimited"]);
    assert_eq!(of(r#"{"limit_words":"unlimited","limit_words_per_unit":"5"}"#), ["words=unlimited"]);
    assert_eq!(of(r#"{"limit_words":"500","limit_words_per_unit":"many"}"#), ["words=?"]);
    assert_eq!(of(r#"{"limit__per_unit":"5"}"#), ["_per_unit=5"], "only the suffix: a key");
    let product = r#"{"id":"prod_1","object":"product","metadata":{"limit_words":"1","limit_words_per_unit":"20"}}"#;
    let world = price(r#""product":"prod_1","metadata":{"limit_words":"500"}"#).put(product);
    assert_eq!(limits(&world), ["words=500+20"], "each value from the price, else from the product");
}

proptest::proptest! {
    /// Any number of digits is an amount that the database can store and sum.
    #[test]
    fn amounts_are_capped_at_the_maximum(base in "[0-9]{1,40}", per_unit in "[0-9]{1,40}") {
        let metadata = format!(r#"{{"limit_words":"{base}","limit_words_per_unit":"{per_unit}"}}"#);
        let limit = project(&price(&format!(r#""metadata":{metadata}"#))).limits.remove(0);
        // a number of more than 18 digits is at least the largest amount
        let bounded = |text: &str| {
            let digits = text.trim_start_matches('0');
            if digits.len() > 18 { LARGEST_AMOUNT } else { digits.parse().unwrap_or(0) }
        };
        proptest::prop_assert_eq!((limit.included, limit.per_unit), (Some(bounded(&base)), bounded(&per_unit)));
    }
}
