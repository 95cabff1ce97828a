//! The subscription, in every API version since 2020-08-27.
//!
//! Owns the location of its fields: 2025-03-31.basil moved the period to the items, and replaced `discount` by
//! `discounts`. Must not know the results derived from them (active, grace, end). PURE; called by the projection.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::discount::{self, ListedDiscount};
use super::item::{self, ItemView, TrialView};
use super::reader::{Reader, reference, required};
use super::unreadable::Unreadable;
use super::workspace::WorkspaceLink;
use crate::domain::event::Reason;
use crate::stripe::json::{Json, Object};

const STATUSES: [&str; 8] =
    ["active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid"];
const PAUSE_REASONS: [&str; 5] =
    ["final_payment_failure", "first_payment_failure", "pause_requested", "system", "trial_end_without_payment_method"];
const TRIAL_END_BEHAVIORS: [&str; 3] = ["cancel", "create_invoice", "pause"];

/// The field reported for a subscription without a customer.
pub const NO_CUSTOMER: &str = "subscription.customer";

/// The fields read from a subscription.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriptionView {
    /// `id`.
    pub id: String,
    /// `customer`: an id, the expanded object or the stub of a deleted one.
    pub customer_id: String,
    /// `livemode`.
    pub livemode: Option<bool>,
    /// `status`, unknown values kept.
    pub status: String,
    /// Whether `pause_collection` is not null.
    pub payment_paused: bool,
    /// `trial_start`.
    pub trial_start: Option<OffsetDateTime>,
    /// `trial_end`.
    pub trial_end: Option<OffsetDateTime>,
    /// `cancel_at`.
    pub cancel_at: Option<OffsetDateTime>,
    /// `cancel_at_period_end`.
    pub cancel_at_period_end: bool,
    /// `ended_at`. (`canceled_at` is the time of the request, never an end; it is not read.)
    pub ended_at: Option<OffsetDateTime>,
    /// `current_period_start`, the old location, before 2025-03-31.basil.
    pub current_period_start: Option<OffsetDateTime>,
    /// `current_period_end`, the old location, before 2025-03-31.basil.
    pub current_period_end: Option<OffsetDateTime>,
    /// `currency`.
    pub currency: Option<String>,
    /// `items.data`; by this payload, the first is the plan.
    pub items: Vec<ItemView>,
    /// `items.has_more`.
    pub more_items: bool,
    /// `discounts`, the discounts of the items, and the old `discount`.
    pub discounts: Vec<ListedDiscount>,
    /// `default_payment_method`.
    pub payment_method_id: Option<String>,
    /// `default_source`.
    pub source_id: Option<String>,
    /// `latest_invoice`.
    pub latest_invoice_id: Option<String>,
    /// `schedule`: it may set an end and the next price.
    pub schedule_id: Option<String>,
    /// `pending_update.subscription_items`: the items once the update is paid, in no order.
    pub pending_items: Vec<ItemView>,
    /// `pause_collection.resumes_at`.
    pub resumes_at: Option<OffsetDateTime>,
    /// `status_details.paused.subscription.type`: why the status became `paused`, since 2026-09-30.endive; unknown
    /// values kept.
    pub pause_reason: Option<String>,
    /// `status_details.paused.transitioned_at`: when the status became `paused`.
    pub paused_at: Option<OffsetDateTime>,
    /// `trial_settings.end_behavior.missing_payment_method`, unknown values kept.
    pub trial_end_behavior: Option<String>,
    /// `billing_cycle_anchor`.
    pub billing_cycle_anchor: Option<OffsetDateTime>,
    /// `billing_cycle_anchor_config.day_of_month`, from 1 to 31.
    pub anchor_day: Option<i32>,
    /// `metadata`.
    pub workspace: WorkspaceLink,
    /// `created`.
    pub created: Option<OffsetDateTime>,
    /// `start_date`.
    pub start_date: Option<OffsetDateTime>,
    /// Notes on invalid and unknown values.
    pub notes: BTreeSet<Reason>,
}

impl SubscriptionView {
    /// Reads a subscription.
    ///
    /// # Errors
    /// If `id`, `status` or the customer is missing or invalid.
    pub fn read(json: Json<'_>) -> Result<Self, Unreadable> {
        let mut reader = Reader::default();
        let fields = json.object().unwrap_or_default();
        let status = required(fields.get("status"), "subscription.status");
        let list = reader.members(fields.get("items"));
        let data = reader.elements(list.get("data"));
        let paused = reader.members(fields.get("status_details").get("paused"));
        Ok(Self {
            id: required(fields.get("id"), "subscription.id")?,
            customer_id: reference(fields.get("customer"))
                .or_else(|| reference(fields.get("customer_account")))
                .ok_or(Unreadable { field: NO_CUSTOMER })?,
            livemode: reader.boolean(fields.get("livemode")),
            status: status.inspect(|status| reader.expect_one_of(Some(status), &STATUSES))?,
            payment_paused: payment_paused(fields.get("pause_collection"), &mut reader),
            trial_start: reader.instant(fields.get("trial_start")),
            trial_end: reader.instant(fields.get("trial_end")),
            cancel_at: reader.instant(fields.get("cancel_at")),
            cancel_at_period_end: reader.boolean(fields.get("cancel_at_period_end")) == Some(true),
            ended_at: reader.instant(fields.get("ended_at")),
            current_period_start: reader.instant(fields.get("current_period_start")),
            current_period_end: reader.instant(fields.get("current_period_end")),
            currency: reader.text(fields.get("currency")),
            items: items(&data, &mut reader),
            more_items: reader.boolean(list.get("has_more")) == Some(true),
            discounts: discounts(&fields, &data, &mut reader),
            workspace: WorkspaceLink::read(fields.get("metadata")),
            created: reader.instant(fields.get("created")),
            start_date: reader.instant(fields.get("start_date")),
            payment_method_id: reader.reference(fields.get("default_payment_method")),
            source_id: reader.reference(fields.get("default_source")),
            latest_invoice_id: reader.reference(fields.get("latest_invoice")),
            schedule_id: reader.reference(fields.get("schedule")),
            pending_items: pending_items(fields.get("pending_update"), &mut reader),
            resumes_at: reader.instant(fields.get("pause_collection").get("resumes_at")),
            pause_reason: one_of(paused.get("subscription").get("type"), &PAUSE_REASONS, &mut reader),
            paused_at: reader.instant(paused.get("transitioned_at")),
            trial_end_behavior: trial_end_behavior(fields.get("trial_settings"), &mut reader),
            billing_cycle_anchor: reader.instant(fields.get("billing_cycle_anchor")),
            anchor_day: anchor_day(fields.get("billing_cycle_anchor_config")),
            notes: reader.notes,
        })
    }
}

/// Whether payment is paused. Every value counts as a pause, because a free month costs more than a wrong pause, which
/// the customer reports. A value that is not an object is noted.
fn payment_paused(value: Json<'_>, reader: &mut Reader) -> bool {
    reader.members(value);
    !value.is_null()
}

/// Reads a text with documented values; other values are kept and noted.
fn one_of(value: Json<'_>, known: &[&str], reader: &mut Reader) -> Option<String> {
    let value = reader.text(value);
    reader.expect_one_of(value.as_deref(), known);
    value
}

fn trial_end_behavior(settings: Json<'_>, reader: &mut Reader) -> Option<String> {
    let behavior = reader.members(settings).get("end_behavior");
    one_of(behavior.get("missing_payment_method"), &TRIAL_END_BEHAVIORS, reader)
}

fn pending_items(update: Json<'_>, reader: &mut Reader) -> Vec<ItemView> {
    let update = reader.members(update);
    let elements = reader.elements(update.get("subscription_items"));
    elements.into_iter().filter_map(|element| ItemView::read(element, reader)).collect()
}

fn anchor_day(config: Json<'_>) -> Option<i32> {
    let day = config.get("day_of_month").integer().filter(|day| (1..=31).contains(day))?;
    i32::try_from(day).ok()
}

impl SubscriptionView {
    /// Replaces the items by the complete list of a fetch, if the payload contains only the first ones.
    #[must_use]
    pub fn with_items(mut self, data: &[Json<'_>]) -> Self {
        let mut reader = Reader::default();
        self.items = items(data, &mut reader);
        for item in data {
            let own = reader.elements(item.get("discounts"));
            self.discounts.extend(discount::read_all(&own, Json::NULL, &mut reader));
        }
        self.more_items = false;
        self.notes.extend(reader.notes);
        self
    }
}

impl SubscriptionView {
    /// The latest start of its items' current periods.
    pub fn period_start(&self) -> Option<OffsetDateTime> {
        let of_items = self.items.iter().filter_map(|item| item.current_period_start).max();
        of_items.or(self.current_period_start)
    }

    /// The running trial offer of the plan's item. A free offer makes the status `trialing`; a paid one does not change
    /// the status, and begins with its first payment.
    pub fn running_offer(&self) -> Option<&TrialView> {
        let runs = matches!(self.status.as_str(), "trialing" | "active" | "past_due") && self.ended_at.is_none();
        self.items.first()?.current_trial.as_ref().filter(|_| runs)
    }
}

fn items(data: &[Json<'_>], reader: &mut Reader) -> Vec<ItemView> {
    let mut items: Vec<ItemView> = data.iter().filter_map(|item| ItemView::read(*item, reader)).collect();
    item::sort(&mut items, |item| item.standing);
    items
}

/// The discounts in `discounts` and of the items, then in `discount`, which 2025-03-31.basil removed. In versions with
/// both fields only `discount` is whole, and `discounts` contains ids.
fn discounts(fields: &Object<'_>, data: &[Json<'_>], reader: &mut Reader) -> Vec<ListedDiscount> {
    let mut elements = reader.elements(fields.get("discounts"));
    for item in data {
        elements.extend(reader.elements(item.get("discounts")));
    }
    discount::read_all(&elements, fields.get("discount"), reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    fn read(fields: &str) -> Result<SubscriptionView, Unreadable> {
        SubscriptionView::read(json(&format!("{{{fields}}}")))
    }

    fn with(fields: &str) -> SubscriptionView {
        read(&format!(r#""id":"sub_1","customer":"cus_1","status":"active",{fields}"#)).unwrap()
    }

    /// The coupons, and for a discount given as an id, `#` with that id.
    fn coupons(fields: &str) -> (Vec<String>, bool) {
        let view = with(fields);
        let name = |listed| match listed {
            ListedDiscount::Id(id) => format!("#{id}"),
            ListedDiscount::Whole(discount) => discount.coupon_id,
        };
        let names: std::collections::BTreeSet<String> = view.discounts.into_iter().map(name).collect();
        (names.into_iter().collect(), !view.notes.is_empty())
    }

    #[test]
    fn a_subscription_without_id_customer_or_status_cannot_be_read() {
        let field = |fields| read(fields).unwrap_err().field;
        assert_eq!(field(r#""customer":"cus_1","status":"active""#), "subscription.id");
        assert_eq!(field(r#""id":"sub_1","status":"active""#), "subscription.customer");
        assert_eq!(field(r#""id":"sub_1","customer":{"deleted":true},"status":"active""#), "subscription.customer");
        assert_eq!(field(r#""id":"sub_1","customer":"cus_1","status":7"#), "subscription.status");
    }

    #[test]
    fn the_customer_is_an_id_an_object_or_the_stub_of_a_deleted_one() {
        for customer in [r#""cus_1""#, r#"{"id":"cus_1","name":"Ada"}"#, r#"{"id":"cus_1","deleted":true}"#] {
            let view = read(&format!(r#""id":"sub_1","customer":{customer},"status":"active""#)).unwrap();
            assert_eq!(view.customer_id, "cus_1", "{customer}");
        }
    }

    #[test]
    fn an_unknown_status_is_kept_and_noted() {
        let view = read(r#""id":"sub_1","customer":"cus_1","status":"dormant""#).unwrap();
        assert_eq!(view.status, "dormant");
        assert_eq!(view.notes, BTreeSet::from([Reason::UnknownEnum]));
    }

    #[test]
    fn discounts_are_found_in_every_api_version() {
        let one = (vec!["SAVE20".to_owned()], false);
        let (old, new) = (r#"{"id":"di_1","coupon":{"id":"SAVE20"}}"#, r#"{"source":{"coupon":"SAVE20"}}"#);
        assert_eq!(coupons(&format!(r#""discount":{old}"#)), one, "2020-08-27");
        assert_eq!(coupons(&format!(r#""discount":{old},"discounts":["di_1"]"#)), one, "2024-06-20");
        assert_eq!(coupons(&format!(r#""discounts":[{old}]"#)), one, "basil, expanded");
        assert_eq!(coupons(&format!(r#""discounts":[{new}]"#)), one, "clover, expanded");
        assert_eq!(coupons(&format!(r#""items":{{"data":[{{"discounts":[{new}]}}]}}"#)), one, "at the item");
        assert_eq!(coupons(&format!(r#""discounts":[{new}],"discount":{old}"#)), one, "in both, once");
        assert_eq!(coupons(r#""discounts":["di_1"],"discount":null"#), (vec!["#di_1".to_owned()], false), "an id");
        assert_eq!(coupons(r#""discounts":[5],"discount":"di_1""#), (vec![], true), "odd");
    }

    #[test]
    fn an_odd_pause_is_a_pause_and_noted() {
        assert!(!with(r#""pause_collection":null"#).payment_paused);
        assert!(with(r#""pause_collection":{"behavior":"void"}"#).notes.is_empty());
        let odd = with(r#""pause_collection":"void""#);
        assert!(odd.payment_paused && odd.notes.contains(&Reason::InvalidValue));
    }

    #[test]
    fn odd_values_read_as_none_and_are_noted() {
        for odd in [
            r#""created":99999999999999999999"#,
            r#""ended_at":1767225600.5"#,
            r#""cancel_at":"1767225600""#,
            r#""cancel_at_period_end":"yes""#,
            r#""livemode":0"#,
            r#""currency":978"#,
            r#""items":[]"#,
            r#""items":{"data":{}}"#,
            r#""items":{"data":["si_1"],"has_more":0}"#,
            r#""discounts":{}"#,
        ] {
            let (view, plain) = (with(odd), with(r#""currency":null"#));
            assert_eq!(view.notes, BTreeSet::from([Reason::InvalidValue]), "{odd}");
            assert_eq!(SubscriptionView { notes: BTreeSet::new(), ..view }, plain, "{odd}");
        }
    }

    #[test]
    fn payment_method_schedule_and_pending_update_are_read() {
        let view = with(
            r#""default_payment_method":{"id":"pm_1"},"default_source":"src_1","latest_invoice":{"id":"in_1"},
            "schedule":"sub_sched_1","pending_update":{"subscription_items":[{"id":"si_2","price":{"id":"price_2"}}]},
            "pause_collection":{"behavior":"void","resumes_at":1767225600},"billing_cycle_anchor":1767225600,
            "billing_cycle_anchor_config":{"day_of_month":31}"#,
        );
        let named = [view.payment_method_id, view.source_id, view.latest_invoice_id, view.schedule_id];
        assert_eq!(named.map(Option::unwrap), ["pm_1", "src_1", "in_1", "sub_sched_1"]);
        let pending: Vec<_> =
            view.pending_items.iter().map(|item| (item.id.as_deref(), item.price_id.as_deref())).collect();
        assert_eq!((pending, view.anchor_day), (vec![(Some("si_2"), Some("price_2"))], Some(31)));
        assert_eq!((view.resumes_at, view.billing_cycle_anchor.is_some()), (view.billing_cycle_anchor, true));
        assert!(view.notes.is_empty());
    }

    #[test]
    fn fields_of_endive_are_read_and_unknown_values_noted() {
        let view = with(
            r#""status_details":{"paused":{"type":"subscription","transitioned_at":1767225600,
                "subscription":{"type":"first_payment_failure"}}},
            "trial_settings":{"end_behavior":{"billing_cycle_anchor":"now","missing_payment_method":"pause"}},
            "items":{"data":[{"id":"si_1","current_trial":{"start_date":1767225600,"end_date":1769904000,
                "trial_offer":"to_1"}}]}"#,
        );
        assert_eq!(view.pause_reason.as_deref(), Some("first_payment_failure"));
        assert_eq!(view.paused_at.map(OffsetDateTime::unix_timestamp), Some(1_767_225_600));
        assert_eq!(view.trial_end_behavior.as_deref(), Some("pause"));
        let offer = view.running_offer().unwrap();
        assert_eq!((offer.offer_id.as_deref(), offer.end > offer.start), (Some("to_1"), true));
        assert!(view.notes.is_empty());
        let new = with(r#""trial_settings":{"end_behavior":{"missing_payment_method":"dance"}}"#);
        assert_eq!(new.trial_end_behavior.as_deref(), Some("dance"));
        assert_eq!(new.notes, BTreeSet::from([Reason::UnknownEnum]));
        for absent in [r#""status_details":null,"trial_settings":null"#, r#""status_details":{"paused":null}"#] {
            let view = with(absent);
            assert_eq!((view.pause_reason, view.trial_end_behavior), (None, None));
            assert!(view.notes.is_empty(), "{absent}");
        }
    }

    #[test]
    fn truncated_items_are_replaced_by_a_complete_list() {
        let all = [r#"{"id":"si_2","created":1700000001}"#, r#"{"id":"si_1","created":1700000000}"#];
        let all: Vec<_> = all.iter().map(|text| json(text)).collect();
        let view = with(r#""items":{"has_more":true,"data":[{"id":"si_2"}]}"#).with_items(&all);
        assert_eq!((view.items.len(), view.items[0].id.as_deref(), view.more_items), (2, Some("si_1"), false));
    }

    #[test]
    fn empty_and_missing_items_are_no_items() {
        for items in [r#""items":{"data":[],"has_more":false}"#, r#""items":null"#, r#""items":{}"#] {
            let view = with(items);
            assert!(view.items.is_empty() && !view.more_items && view.notes.is_empty(), "{items}");
        }
    }
}
