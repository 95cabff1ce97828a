//! The contents of a subscription's row, rule by rule.

use time::macros::datetime;

use super::*;
use crate::projection::customer;
use crate::projection::payment::Payment;
use crate::projection::world::{NOW, World, needs};

const OWN: &str = "0c8f5a54-3b1e-4f57-9a53-61d1f8a6e901";
const OF_CUSTOMER: &str = "7f3f2d0e-94ab-4c39-8a0a-0d6c5a1a7b02";
const OF_CHECKOUT: &str = "9d7c1f6a-3f42-4a51-b1be-2f0c4c8c5d03";
const STRICT: Rules = Rules { past_due_active: false };
const LENIENT: Rules = Rules { past_due_active: true };

/// A customer with this metadata.
fn customer_of(metadata: &str) -> World {
    World::default().put(&format!(r#"{{"id":"cus_1","object":"customer","metadata":{metadata}}}"#))
}

/// The world with an active subscription that also has these fields.
fn with(world: World, fields: &str) -> World {
    let comma = if fields.is_empty() { "" } else { "," };
    let base = r#""id":"sub_1","object":"subscription","customer":"cus_1""#;
    let status = if fields.contains(r#""status""#) { "" } else { r#","status":"active""# };
    world.put(&format!("{{{base}{status}{comma}{fields}}}"))
}

fn project(fields: &str) -> Projected<Subscription> {
    with(customer_of("{}"), fields).subscription()
}

fn notes(reasons: &[Reason]) -> BTreeSet<Reason> {
    reasons.iter().copied().collect()
}

fn price(id: &str) -> String {
    format!(r#"{{"id":"{id}","object":"price"}}"#)
}

#[test]
fn each_status_is_active_or_not() {
    let cases = [
        ("active", true, true),
        ("trialing", true, true),
        ("past_due", true, false),
        ("incomplete", false, false),
        ("incomplete_expired", false, false),
        ("unpaid", false, false),
        ("canceled", false, false),
        ("paused", false, false),
        ("dormant", false, false),
    ];
    for (status, lenient, strict) in cases {
        let world = with(customer_of("{}"), &format!(r#""status":"{status}""#));
        let row = |rules| world.project(|graph| customer("cus_1", graph, &rules)).subscriptions.remove(0).row;
        for rules in [LENIENT, STRICT] {
            assert_eq!(row(rules).active, row(rules).inactive_reason.is_none(), "{status}");
        }
        let active = |rules| row(rules).active;
        assert_eq!((active(LENIENT), active(STRICT)), (lenient, strict), "{status}");
    }
}

#[test]
fn an_unknown_status_is_kept_inactive_and_noted() {
    let projected = project(r#""status":"dormant""#);
    assert_eq!((projected.row.stripe_status.as_str(), projected.row.active), ("dormant", false));
    assert_eq!(projected.notes, notes(&[Reason::UnknownEnum]));
}

#[test]
fn paused_payment_makes_a_subscription_inactive() {
    for pause in [r#"{"behavior":"void","resumes_at":null}"#, r#"{"behavior":"keep_as_draft","resumes_at":1590000000}"#]
    {
        let row = project(&format!(r#""pause_collection":{pause}"#)).row;
        assert!(row.payment_paused && !row.active && row.stripe_status == "active", "{pause}");
    }
    assert!(!project(r#""pause_collection":null"#).row.payment_paused);
}

#[test]
fn the_status_paused_is_not_a_paused_payment() {
    let row = project(r#""status":"paused","pause_collection":null"#).row;
    assert!(!row.active && !row.payment_paused);
}

#[test]
fn the_inactive_reason_is_the_cause() {
    use InactiveReason as R;
    for (fields, reason) in [
        (r#""status":"active""#, None),
        (r#""status":"trialing""#, None),
        (r#""pause_collection":{"behavior":"void"}"#, Some(R::PaymentPaused)),
        (r#""status":"paused","pause_collection":{"behavior":"void"}"#, Some(R::Paused)),
        (r#""status":"unpaid""#, Some(R::Unpaid)),
        (r#""status":"incomplete""#, Some(R::Incomplete)),
        (r#""status":"incomplete_expired""#, Some(R::IncompleteExpired)),
        (r#""status":"canceled","ended_at":1790000000"#, Some(R::Canceled)),
        (r#""status":"active","ended_at":1790000000"#, Some(R::Ended)),
        (r#""status":"hibernating""#, Some(R::UnknownStatus)),
    ] {
        assert_eq!(project(fields).row.inactive_reason, reason, "{fields}");
    }
}

#[test]
fn a_pause_has_its_planned_end() {
    let row = project(r#""pause_collection":{"behavior":"void","resumes_at":1590000000}"#).row;
    assert_eq!(row.payment_resumes_at, time::OffsetDateTime::from_unix_timestamp(1_590_000_000).ok());
    assert!(row.payment_paused, "Stripe sends an event when it is over");
}

#[test]
fn an_ended_subscription_is_inactive() {
    assert!(!project(r#""ended_at":1790000000"#).row.active);
}

#[test]
fn the_start_of_a_trial_is_set_only_while_it_runs() {
    let trial = r#""trial_start":1764547200,"trial_end":1767225600"#;
    let (start, end) = (Some(datetime!(2025-12-01 0:00 UTC)), Some(datetime!(2026-01-01 0:00 UTC)));
    let running = project(&format!(r#""status":"trialing",{trial}"#)).row;
    assert_eq!((running.is_trial, running.trial_started_at, running.trial_ends_at), (true, start, end));
    for status in ["active", "canceled", "paused", "past_due"] {
        let over = project(&format!(r#""status":"{status}",{trial}"#)).row;
        assert_eq!((over.is_trial, over.trial_started_at, over.trial_ends_at), (false, None, end), "{status}");
    }
}

/// A subscription whose item has a trial offer until 2027-01-15, with more fields of its own.
fn with_offer(fields: &str) -> World {
    let item = r#"{"id":"si_1","created":1700000000,"price":{"id":"price_1","object":"price"},
        "current_trial":{"start_date":1800000000,"end_date":1801000000,"trial_offer":"to_1"}}"#;
    with(customer_of("{}"), &format!(r#""items":{{"data":[{item}]}}{fields}"#))
}

const OFFER: &str = r#"{"id":"to_1","object":"product_catalog.trial_offer",
    "end_behavior":{"type":"transition","transition":{"price":"price_2"}},"price":"price_1"}"#;

#[test]
fn the_price_after_a_trial_offer_is_the_next_plan() {
    let unknown = with_offer("").subscription();
    assert_eq!((unknown.row.new_stripe_price_id.as_deref(), unknown.row.is_trial), (None, true));
    assert!(needs(&unknown).contains(&"product_catalog.trial_offer/to_1".to_owned()), "{:?}", needs(&unknown));
    let known = with_offer("").put(OFFER).put(&price("price_2")).subscription();
    assert_eq!(known.row.new_stripe_price_id.as_deref(), Some("price_2"));
    assert_eq!(known.row.new_pricing_plan_id, Some(row_id("", "price_2")));
    assert_eq!(known.notes, BTreeSet::new());
    let same = with_offer("").put(&OFFER.replace("price_2", "price_1")).subscription();
    assert_eq!(same.row.new_stripe_price_id, None, "the item's price already");
}

#[test]
fn a_trial_offer_without_a_continuation_has_no_next_plan() {
    let next =
        |fields: &str| with_offer(fields).put(OFFER).put(&price("price_2")).subscription().row.new_stripe_price_id;
    assert_eq!(next(r#","cancel_at":1801000000"#), None, "it ends with the trial");
    assert_eq!(next(r#","cancel_at":1802000000"#).as_deref(), Some("price_2"), "it ends later");
    assert_eq!(next(r#","status":"canceled","ended_at":1800500000"#), None);
    assert_eq!(next(r#","status":"incomplete""#), None, "it has not begun");
}

#[test]
fn the_earlier_of_trial_offer_and_phase_is_next() {
    for (phase_start, expected) in [(1_800_500_000, "price_3"), (1_801_500_000, "price_2")] {
        let schedule = format!(
            r#"{{"id":"sub_sched_1","object":"subscription_schedule","status":"active",
            "current_phase":{{"start_date":1799000000,"end_date":{phase_start}}},"phases":[
            {{"start_date":1799000000,"end_date":{phase_start},"items":[{{"price":"price_1"}}]}},
            {{"start_date":{phase_start},"end_date":1809000000,"items":[{{"price":"price_3"}}]}}]}}"#
        );
        let world = with_offer(r#","schedule":"sub_sched_1""#).put(OFFER).put(&schedule);
        let row = world.put(&price("price_2")).put(&price("price_3")).subscription().row;
        assert_eq!(row.new_stripe_price_id.as_deref(), Some(expected), "the phase begins at {phase_start}");
        assert_eq!(
            row.new_pricing_plan_at.map(time::OffsetDateTime::unix_timestamp),
            Some(phase_start.min(1_801_000_000))
        );
    }
    let waiting = r#","pending_update":{"subscription_items":[{"id":"si_1","price":"price_4"}]}"#;
    let row = with_offer(waiting).put(OFFER).put(&price("price_2")).put(&price("price_4")).subscription().row;
    assert_eq!((row.new_stripe_price_id.as_deref(), row.new_pricing_plan_at), (Some("price_4"), None));
}

#[test]
fn a_missing_trial_offer_is_not_needed() {
    let missing = with_offer("").missing("product_catalog.trial_offer", "to_1").subscription();
    assert!(!needs(&missing).iter().any(|need| need.contains("to_1")), "{:?}", needs(&missing));
}

#[test]
fn item_and_price_are_those_of_the_oldest_item() {
    let items = r#""items":{"has_more":false,"data":[
        {"id":"si_2","created":1750000000,"price":{"id":"price_2","object":"price"}},
        {"id":"si_1","created":1700000000,"price":{"id":"price_1","object":"price"}}]}"#;
    let projected = project(items);
    assert_eq!(projected.row.stripe_subscription_item_id.as_deref(), Some("si_1"));
    assert_eq!(projected.row.stripe_price_id.as_deref(), Some("price_1"));
    assert_eq!(projected.row.pricing_plan_id, Some(row_id("", "price_1")));
    assert_eq!(projected.notes, notes(&[Reason::MultipleItems]));
}

#[test]
fn an_unseen_price_has_no_plan_and_is_needed() {
    let world = with(customer_of("{}"), r#""items":{"data":[{"id":"si_1","price":"price_1"}]}"#);
    let projected = world.subscription();
    assert_eq!(projected.row.stripe_price_id.as_deref(), Some("price_1"));
    assert_eq!(projected.row.pricing_plan_id, None);
    assert_eq!(projected.notes, notes(&[Reason::UnknownPrice, Reason::NeedsFetch]));
    assert_eq!(needs(&projected), ["price/price_1"]);
    let known = world.clone().put(&price("price_1")).subscription();
    assert_eq!((known.row.pricing_plan_id, known.notes), (Some(row_id("", "price_1")), notes(&[])));
    let missing = world.missing("price", "price_1").subscription();
    assert_eq!((needs(&missing), missing.notes), (vec![], notes(&[Reason::UnknownPrice])), "Stripe has none");
}

#[test]
fn a_very_old_item_has_the_plan_of_its_plan_object() {
    let projected = project(r#""items":{"data":[{"id":"si_1","plan":{"id":"gold","object":"plan","amount":5}}]}"#);
    assert_eq!(projected.row.stripe_price_id.as_deref(), Some("gold"));
    assert_eq!(projected.row.pricing_plan_id, Some(row_id("", "gold")));
    assert!(projected.notes.is_empty());
}

#[test]
fn no_items_leave_the_item_fields_empty() {
    let projected = project(r#""items":{"data":[],"has_more":false}"#);
    assert_eq!(projected.row.stripe_subscription_item_id, None);
    assert_eq!((projected.row.stripe_price_id, projected.row.pricing_plan_id), (None, None));
    assert!(projected.notes.is_empty());
}

#[test]
fn items_beyond_the_payload_are_listed_by_a_read() {
    let items = r#""items":{"has_more":true,"data":[{"id":"si_2","created":1700000001,"price":"price_1"}]}"#;
    let world = with(customer_of("{}"), items).put(&price("price_1")).put(&price("price_0"));
    let projected = world.subscription();
    assert_eq!(projected.notes, notes(&[Reason::ItemsTruncated, Reason::NeedsFetch]));
    assert_eq!(needs(&projected), ["subscription/sub_1"]);
    let all = r#"{"items":[{"id":"si_2","created":1700000001,"price":"price_1"},
        {"id":"si_1","created":1700000000,"price":"price_0"}]}"#;
    let read = world.clone().expand("subscription", "sub_1", 0, all).subscription();
    assert_eq!(read.row.stripe_subscription_item_id.as_deref(), Some("si_1"), "the oldest of all");
    assert_eq!((read.notes.clone(), needs(&read)), (notes(&[Reason::MultipleItems]), vec![]));
    let stale = world.expand("subscription", "sub_1", -1, all).subscription();
    assert_eq!(needs(&stale), ["subscription/sub_1"], "the items may have changed since");
}

#[test]
fn the_workspace_comes_from_subscription_customer_or_checkout() {
    let link = |id: &str| format!(r#"{{"workspace_id":"{id}"}}"#);
    let session = format!(
        r#"{{"id":"cs_1","object":"checkout.session","subscription":"sub_1","created":1,"client_reference_id":"{OF_CHECKOUT}"}}"#
    );
    let workspace = |own: &str, customers: &str| {
        let world = with(customer_of(customers).put(&session), &format!(r#""metadata":{own}"#));
        let projected = world.subscription();
        (projected.row.workspace_id.map(|id| id.to_string()), projected.notes)
    };
    let clean = |id: &str| (Some(id.to_owned()), notes(&[]));
    let bad = (None, notes(&[Reason::InvalidWorkspaceId]));
    assert_eq!(workspace(&link(OWN), &link(OF_CUSTOMER)), clean(OWN));
    assert_eq!(workspace("{}", &link(OF_CUSTOMER)), clean(OF_CUSTOMER));
    assert_eq!(workspace("null", &format!(r#"{{"workspaceId":"{OF_CUSTOMER}"}}"#)), clean(OF_CUSTOMER));
    assert_eq!(workspace("{}", "{}"), clean(OF_CHECKOUT));
    assert_eq!(workspace(&link("42"), &link(OF_CUSTOMER)), bad, "the search stops at an invalid link");
    assert_eq!(workspace("{}", &link("42")), bad);
    assert_eq!(workspace(&link(OWN), &link("42")), clean(OWN), "an unused invalid link is not noted");
    assert_eq!(project("").row.workspace_id, None);
}

#[test]
fn the_newest_checkout_has_the_workspace() {
    let session = |id: &str, created: i64, workspace: &str| {
        format!(
            r#"{{"id":"{id}","object":"checkout.session","subscription":"sub_1","created":{created},
                "client_reference_id":"{workspace}"}}"#
        )
    };
    let world = customer_of("{}").put(&session("cs_1", 2, OWN)).put(&session("cs_2", 1, OF_CHECKOUT));
    assert_eq!(with(world, "").subscription().row.workspace_id.map(|id| id.to_string()).as_deref(), Some(OWN));
}

#[test]
fn an_unseen_customer_is_needed_and_referenced() {
    let projected = with(World::default(), &format!(r#""metadata":{{"workspaceId":"{OWN}"}}"#)).subscription();
    assert_eq!(projected.notes, notes(&[Reason::UnknownCustomer, Reason::NeedsFetch]));
    assert_eq!(needs(&projected), ["customer/cus_1"]);
    assert_eq!(projected.row.workspace_id.map(|id| id.to_string()).as_deref(), Some(OWN));
    assert_eq!(projected.row.billing_contact_id, customer_of("{}").contact().row.id);
    // a fetch returns no content any more, but the deletion has ended subscriptions whose last state was live
    let deleted = |second, fields| with(World::default().delete("customer", "cus_1", second), fields).subscription();
    assert_eq!(needs(&deleted(0, "")), ["subscription/sub_1"]);
    assert!(deleted(0, "").notes.contains(&Reason::NeedsFetch));
    assert_eq!(needs(&deleted(-1, "")), Vec::<String>::new(), "a state from after the deletion is trusted");
    assert_eq!(needs(&deleted(0, r#""ended_at":1767225600"#)), Vec::<String>::new());
}

#[test]
fn discounts_and_their_ends_have_the_same_index() {
    let row =
        project(r#""discounts":[{"source":{"coupon":"B"},"end":1767225600},{"source":{"coupon":"A"},"end":null}]"#).row;
    assert_eq!(row.active_discounts, ["A", "B"]);
    assert_eq!(row.active_discount_ends, [None, Some(datetime!(2026-01-01 0:00 UTC))]);
}

#[test]
fn a_discount_that_is_an_id_is_looked_up() {
    let world =
        with(customer_of("{}"), r#""discounts":["di_1"],"items":{"data":[{"id":"si_1","discounts":["di_2"]}]}"#);
    assert_eq!(needs(&world.subscription()), ["subscription/sub_1"], "discounts cannot be fetched themselves");
    let discount = |id: &str, coupon: &str| {
        format!(r#"{{"id":"{id}","object":"discount","subscription":"sub_1","source":{{"coupon":"{coupon}"}}}}"#)
    };
    let world = world.put(&discount("di_1", "A")).put(&discount("di_2", "B"));
    let known = world.subscription();
    assert_eq!(known.row.active_discounts, ["A", "B"]);
    assert_eq!(needs(&known), ["coupon/A", "coupon/B"], "their own rows are still missing");
    assert!(!known.notes.contains(&Reason::NeedsFetch), "this row is complete");
    assert_eq!(world.delete("discount", "di_1", 1).subscription().row.active_discounts, ["B"]);
}

fn next(world: &World) -> (Option<String>, Option<uuid::Uuid>) {
    let row = world.subscription().row;
    (row.new_stripe_price_id, row.new_pricing_plan_id)
}

#[test]
fn a_pending_plan_comes_before_the_schedules() {
    let schedule = r#"{"id":"sub_sched_1","object":"subscription_schedule","status":"active","subscription":"sub_1",
        "current_phase":{"end_date":1769904000},"phases":[{"start_date":1767225600,"items":[{"price":"price_1"}]},
        {"start_date":1769904000,"items":[{"price":"price_2"}]}]}"#;
    let item = r#""items":{"data":[{"id":"si_1","price":"price_1"}]}"#;
    let fields = format!(r#""schedule":"sub_sched_1",{item}"#);
    let prices = customer_of("{}").put(&price("price_1")).put(&price("price_2")).put(&price("price_3"));
    let expected = |id: &str| (Some(id.to_owned()), Some(row_id("", id)));
    let world = with(prices.clone(), &fields);
    assert_eq!(needs(&world.subscription()), ["subscription_schedule/sub_sched_1"]);
    let world = world.put(schedule);
    assert_eq!(next(&world), expected("price_2"));
    let pending = format!(r#"{fields},"pending_update":{{"subscription_items":[{{"id":"si_1","price":"price_3"}}]}}"#);
    assert_eq!(next(&with(world.clone(), &pending)), expected("price_3"));
    assert_eq!(next(&world.put(&schedule.replace("price_2", "price_1"))), (None, None), "no new plan");
    assert_eq!(next(&with(prices, item)), (None, None));
}

#[test]
fn a_failed_sepa_payment_is_flagged() {
    let failed = Payment {
        charge_id: "ch_1".to_owned(),
        created: NOW,
        sepa: true,
        failed: true,
        succeeded: false,
        invoice_paid_at: None,
        disputed_at: Vec::new(),
    };
    let world = with(customer_of("{}"), "");
    assert!(!world.subscription().row.sepa_payment_failed);
    assert!(world.pay("sub_1", vec![failed]).subscription().row.sepa_payment_failed);
}
