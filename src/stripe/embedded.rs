//! The objects that travel inside another object: the price of a subscription's item, the charge of a payment intent,
//! whatever a read expanded. Each has a key of its own in the mirror, at the version of what carried it.
//!
//! PURE. Knows the list of types that the mirror holds, and not where in which payload they stand: Stripe moves
//! them between versions, and a whole object says itself what it is.

use std::collections::BTreeMap;

use super::json::{Json, Object};
use super::views::whole;

/// A trial offer of an item: Stripe tells of it by reads only.
pub const TRIAL_OFFER: &str = "product_catalog.trial_offer";

/// The types of objects that the mirror holds, by Stripe's names.
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

/// Stripe expands four levels at most, and its own nesting is some ten deep.
const DEEPEST: usize = 24;

/// An object inside another one.
#[derive(Debug, Clone)]
pub struct Embedded<'a> {
    /// Stripe's name of its type.
    pub object_type: &'static str,
    /// Its id.
    pub object_id: String,
    /// The object as it was written.
    pub content: Json<'a>,
}

/// The type of an object, where the mirror holds it.
pub fn type_of(object: Json<'_>) -> Option<&'static str> {
    known(&object.get("object").text()?)
}

fn known(name: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|known| *known == name)
}

/// The whole objects inside `object`, itself left out, in the order of type and id, each once. Bare ids and the stubs
/// of deleted objects carry no content.
///
/// From 2020-08-27 on an item has a price and a plan of one id: the plan is the price's older shape and adds nothing.
pub fn embedded(object: Json<'_>) -> Vec<Embedded<'_>> {
    let mut found = BTreeMap::new();
    if let Some(members) = object.object() {
        search_members(&members, 0, &mut found);
    }
    let prices: Vec<String> = found.keys().filter(|(kind, _)| *kind == "price").map(|(_, id)| id.clone()).collect();
    found.retain(|(kind, id), _| *kind != "plan" || !prices.contains(id));
    let embed = |((object_type, object_id), content)| Embedded { object_type, object_id, content };
    found.into_iter().map(embed).collect()
}

type Found<'a> = BTreeMap<(&'static str, String), Json<'a>>;

fn search_members<'a>(members: &Object<'a>, depth: usize, found: &mut Found<'a>) {
    for (_, value) in members.iter() {
        search(value, depth + 1, found);
    }
}

fn search<'a>(value: Json<'a>, depth: usize, found: &mut Found<'a>) {
    if depth > DEEPEST {
        return;
    }
    if let Some(members) = value.object() {
        let object_type = members.get("object").text().and_then(|name| known(&name));
        if let (Some(object_type), Some(id)) = (object_type, whole(value)) {
            // twice in one payload: the one that says more, and of equals the same on every machine
            let rank = |content: Json<'a>| (content.raw().len(), content.raw());
            let known = found.entry((object_type, id)).or_insert(value);
            if rank(*known) < rank(value) {
                *known = value;
            }
        }
        search_members(&members, depth, found);
    } else if value.raw().starts_with('[') {
        for element in value.array().unwrap_or_default() {
            search(element, depth + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        let found = embedded(Json::parse(text).unwrap());
        found.iter().map(|one| format!("{}/{}", one.object_type, one.object_id)).collect()
    }

    #[test]
    fn whole_objects_are_found_wherever_they_stand() {
        let text = r#"{"id":"sub_1","object":"subscription",
            "customer":{"id":"cus_1","object":"customer","name":"Ada"},
            "latest_invoice":{"id":"in_1","object":"invoice","payments":{"object":"list","data":[
                {"id":"inpay_1","object":"invoice_payment","payment":{"type":"payment_intent","payment_intent":
                    {"id":"pi_1","object":"payment_intent","latest_charge":{"id":"ch_1","object":"charge"}}}}]}},
            "items":{"object":"list","data":[{"id":"si_1","object":"subscription_item",
                "price":{"id":"price_1","object":"price"},"plan":{"id":"price_1","object":"plan"}}]}}"#;
        let expected =
            ["charge/ch_1", "customer/cus_1", "invoice/in_1", "invoice_payment/inpay_1", "payment_intent/pi_1"];
        assert_eq!(keys(text)[..5], expected);
        assert_eq!(keys(text)[5..], ["price/price_1"], "the plan of that id adds nothing");
    }

    #[test]
    fn a_plan_without_its_price_counts() {
        let text = r#"{"items":{"data":[{"plan":{"id":"plan_1","object":"plan"}},
            {"price":"price_9","plan":{"id":"price_9","object":"plan"}}]}}"#;
        assert_eq!(keys(text), ["plan/plan_1", "plan/price_9"]);
    }

    #[test]
    fn ids_stubs_and_the_object_itself_are_left_out() {
        let text = r#"{"id":"sub_1","object":"subscription","customer":{"id":"cus_1","object":"customer","deleted":true},
            "default_source":"card_1","x":{"id":5,"object":"price"},"y":{"id":"z","object":"frobnicator"}}"#;
        assert_eq!(keys(text), Vec::<String>::new());
        for odd in ["null", "{}", "[]", r#"{"items":5}"#] {
            assert_eq!(keys(odd), Vec::<String>::new(), "{odd}");
        }
    }

    #[test]
    fn of_one_object_twice_the_fuller_stands() {
        let text = r#"{"a":{"id":"p","object":"price"},"b":{"id":"p","object":"price","active":true}}"#;
        let found = embedded(Json::parse(text).unwrap());
        assert_eq!((found.len(), found[0].content.get("active").boolean()), (1, Some(true)));
    }

    #[test]
    fn brackets_without_end_do_no_harm() {
        let deep = format!(r#"{{"a":{}{},"b":{{"id":"p","object":"price"}}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(keys(&deep), ["price/p"]);
    }
}
