//! The nested objects that are found, and whether each is current or a copy.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::stripe::catalogue;
use crate::stripe::json::json;

fn keys(text: &str) -> Vec<String> {
    let found = nested(json(text));
    found.iter().map(|one| format!("{}/{}", one.object_type, one.object_id)).collect()
}

#[test]
fn whole_objects_are_found_at_every_path() {
    let text = r#"{"id":"sub_1","object":"subscription",
        "customer":{"id":"cus_1","object":"customer","name":"Ada"},
        "latest_invoice":{"id":"in_1","object":"invoice","payments":{"object":"list","data":[
            {"id":"inpay_1","object":"invoice_payment","payment":{"type":"payment_intent","payment_intent":
                {"id":"pi_1","object":"payment_intent","latest_charge":{"id":"ch_1","object":"charge"}}}}]}},
        "items":{"object":"list","data":[{"id":"si_1","object":"subscription_item",
            "price":{"id":"price_1","object":"price"},"plan":{"id":"price_1","object":"plan"}}]}}"#;
    let expected = ["charge/ch_1", "customer/cus_1", "invoice/in_1", "invoice_payment/inpay_1", "payment_intent/pi_1"];
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
fn the_longer_of_two_copies_is_kept() {
    let text = r#"{"a":{"id":"p","object":"price"},"b":{"id":"p","object":"price","active":true}}"#;
    let found = nested(json(text));
    assert_eq!((found.len(), found[0].content.get("active").boolean()), (1, Some(true)));
}

#[test]
fn brackets_without_end_do_no_harm() {
    let deep = format!(r#"{{"a":{}{},"b":{{"id":"p","object":"price"}}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert_eq!(keys(&deep), ["price/p"]);
}

/// The nested objects as `type/id`; copies have the suffix `copy`.
fn states(text: &str) -> Vec<String> {
    let found = nested(json(text));
    let state = |one: &Nested<'_>| if one.is_current { "" } else { " copy" };
    found.iter().map(|one| format!("{}{}", one.object_id, state(one))).collect()
}

#[test]
fn the_path_decides_between_current_and_copy() {
    let subscription = r#"{"id":"sub_1","object":"subscription",
        "discount":{"id":"di_1","object":"discount","coupon":{"id":"co_1","object":"coupon"}},
        "items":{"data":[{"price":{"id":"price_1","object":"price","product":{"id":"prod_1","object":"product"}}}]},
        "pending_update":{"subscription_items":[{"price":{"id":"price_2","object":"price",
            "product":{"id":"prod_2","object":"product"}}}]}}"#;
    assert_eq!(states(subscription), ["co_1 copy", "di_1", "price_1", "price_2 copy", "prod_1", "prod_2 copy"]);
    let charge = r#"{"id":"ch_1","object":"charge","source":{"id":"card_1","object":"card"}}"#;
    assert_eq!(states(charge), ["card_1 copy"]);
    let unknown = r#"{"id":"in_1","object":"invoice","frobnicated":{"id":"di_1","object":"discount"}}"#;
    assert_eq!(states(unknown), ["di_1 copy"], "a path of no table");
}

#[test]
fn a_current_object_comes_before_a_copy() {
    let text = r#"{"id":"sub_1","object":"subscription","items":{"data":[{"price":{"id":"p","object":"price"}}]},
        "pending_update":{"subscription_items":[{"price":{"id":"p","object":"price","active":true}}]}}"#;
    let found = nested(json(text));
    assert_eq!((found.len(), found[0].is_current, found[0].content.get("active").is_null()), (1, true, true));
    let plan = r#"{"id":"sub_1","object":"subscription","items":{"data":[{"plan":{"id":"p","object":"plan"}}]},
        "pending_update":{"subscription_items":[{"price":{"id":"p","object":"price"}}]}}"#;
    assert_eq!(states(plan), ["p", "p copy"], "a current plan is better than the copy of its price");
}

/// The type of the object in events of a kind.
fn carrier(kind: &str) -> &'static str {
    let last = kind.rsplit('.').next().unwrap();
    match kind {
        "checkout.session" => "checkout.session",
        // cards, bank accounts and sources: they contain only a customer
        "customer.source" => "source",
        _ => known(last).unwrap_or_else(|| panic!("no type of {kind}")),
    }
}

#[test]
fn the_table_contains_every_carrier_of_the_catalogue() {
    let listed: BTreeSet<&str> = CURRENT.iter().chain(&COPIES).map(|(carrier, _)| *carrier).collect();
    for event_type in catalogue::handled() {
        let carrier = carrier(event_type.rsplit_once('.').unwrap().0);
        // a coupon and a source contain only ids
        assert!(listed.contains(carrier) || ["coupon", "source"].contains(&carrier), "{event_type}: {carrier}");
    }
}

#[test]
fn no_path_is_in_both_tables() {
    for (carrier, paths) in COPIES {
        for path in paths {
            assert_eq!(shown(carrier, path), Some(Shown::Copy), "{carrier} {path}");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Every path of a nested object in the fixtures must be in one of the two tables.
#[test]
fn every_nested_object_of_the_fixtures_is_in_the_table() {
    let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/events");
    let mut seen = BTreeSet::new();
    for file in files(&events).iter().flat_map(|version| files(version)) {
        let text = fs::read_to_string(&file).unwrap();
        let object = json(&text).get("data").get("object");
        each(object, &mut |carrier, path, _| {
            assert!(shown(carrier, path).is_some(), "{}: {carrier} {path} is in no table", file.display());
            seen.insert(format!("{carrier} {path}"));
        });
    }
    assert!(seen.len() > 10, "{seen:?}");
}
