//! Reads what a body asks for, and compares it with the prices that exist. Every mistake is named. PURE.

use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::schema::{Action, AfterCheckout, CheckoutLinkOptions, ItemType};
use crate::api::changes::MAX_TRIAL_DAYS;
use crate::api::problem::Problem;
use crate::api::request::Mistakes;
use crate::api::rows::SoldPlan;

/// Maximum length of a URL or message in characters.
const MAX_TEXT: usize = 255;
/// Maximum number of items, as at Stripe.
const MAX_ITEMS: usize = 20;
/// Maximum quantity, as at Stripe.
const MAX_QUANTITY: u32 = 999_999;

type Fields = Map<String, Value>;

/// What a body asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) items: Vec<WantedItem>,
    pub(super) after: AfterCheckout,
    pub(super) options: CheckoutLinkOptions,
    pub(super) is_enabled: bool,
}

/// One item. Plan and price are ids of ours or of Stripe.
#[derive(Debug)]
pub(super) struct WantedItem {
    pub(super) kind: ItemType,
    pub(super) plan: Option<String>,
    pub(super) price: String,
    pub(super) product: Option<String>,
    pub(super) quantity: u32,
    pub(super) periods: Option<Vec<Value>>,
}

impl Wanted {
    pub(super) fn read(fields: &Fields) -> Result<Self, Problem> {
        let mut mistakes = Mistakes::default();
        let items = items(fields, &mut mistakes);
        let after = mistakes.optional_object(fields, "afterCheckout");
        let after = match after {
            Some(after) => mistakes.within("/afterCheckout", |mistakes| after_checkout(after, mistakes)),
            None => Some(AfterCheckout {
                action: Action::ConfirmationMessage,
                back_to_provider_url: None,
                confirmation_message: None,
                url: None,
            }),
        };
        let none = Fields::new();
        let chosen = mistakes.optional_object(fields, "options").unwrap_or(&none);
        let options = mistakes.within("/options", |mistakes| options(chosen, mistakes));
        let is_enabled = mistakes.optional_boolean(fields, "isEnabled").unwrap_or(true);
        let values = items.zip(after).map(|(items, after)| Self { items, after, options, is_enabled });
        mistakes.check(values)
    }

    /// The ids that name prices: ours, and Stripe's.
    pub(super) fn prices(&self) -> (Vec<Uuid>, Vec<String>) {
        let ids = self.items.iter().filter_map(|item| Uuid::try_parse(&item.price).ok()).collect();
        (ids, self.items.iter().map(|item| item.price.clone()).collect())
    }

    /// The price of each item, if Stripe can sell them together.
    pub(super) fn sold(&self, found: &[SoldPlan]) -> Result<Vec<SoldPlan>, Problem> {
        let mut mistakes = Mistakes::default();
        let mut sold = Vec::new();
        for (place, item) in self.items.iter().enumerate() {
            let plan = found.iter().find(|plan| is_named(plan, &item.price));
            let plan = mistakes.within(&format!("/items/{place}"), |mistakes| check(item, plan, mistakes));
            sold.extend(plan.cloned());
        }
        if sold.len() == self.items.len() {
            self.check_together(&sold, &mut mistakes);
        }
        mistakes.check(Some(sold))
    }

    fn check_together(&self, sold: &[SoldPlan], mistakes: &mut Mistakes) {
        let interval = |plan: &SoldPlan| plan.billing_interval.clone().zip(plan.billing_interval_count.or(Some(1)));
        let recurring = sold.iter().find_map(interval);
        for (place, plan) in sold.iter().enumerate() {
            let pointer = format!("/items/{place}/price/id");
            if plan.currency != sold[0].currency {
                mistakes.add(
                    &pointer,
                    "must be a price in the currency of the first item: Stripe sells no others together",
                );
            }
            if interval(plan).is_some_and(|interval| Some(interval) != recurring) {
                let wrong =
                    "must be a price with the billing interval of the other items: Stripe sells no others together";
                mistakes.add(&pointer, wrong);
            }
        }
        if recurring.is_none() && self.options.trial_days.is_some_and(|days| days > 0) {
            mistakes.add("/options/trialDays", "must be absent or 0, because no item is recurring");
        }
    }
}

/// The price of an item, if it can be sold, and belongs to the plan and product of the item.
fn check<'a>(item: &WantedItem, plan: Option<&'a SoldPlan>, mistakes: &mut Mistakes) -> Option<&'a SoldPlan> {
    let Some(plan) = plan else {
        mistakes.add("/price/id", "must be the id of a price of this account, or of its plan");
        return None;
    };
    if plan.active != Some(true) {
        mistakes.add("/price/id", "must be the id of an active price");
    }
    if item.plan.as_deref().is_some_and(|id| !is_named(plan, id)) {
        mistakes.add("/plan/id", "must be the plan of the price: its id in billing-sync, or that of the price");
    }
    if item.product.is_some() && item.product != plan.stripe_product_id {
        mistakes.add("/product/id", "must be the product of the price, by its id in Stripe");
    }
    Some(plan)
}

/// Whether a plan has this id: its own, or that of its price in Stripe.
fn is_named(plan: &SoldPlan, id: &str) -> bool {
    plan.stripe_price_id == id || Uuid::try_parse(id).is_ok_and(|id| plan.id == id)
}

fn items(fields: &Fields, mistakes: &mut Mistakes) -> Option<Vec<WantedItem>> {
    let wanted = match mistakes.optional_array(fields, "items") {
        Some(wanted) if (1..=MAX_ITEMS).contains(&wanted.len()) => wanted,
        Some(_) => {
            mistakes.add("/items", format!("must have 1 to {MAX_ITEMS} items"));
            return None;
        }
        None if fields.get("items").is_none_or(Value::is_null) => {
            mistakes.add("/items", "is required");
            return None;
        }
        None => return None,
    };
    let items = wanted.iter().enumerate();
    let items: Vec<_> = items
        .map(|(place, value)| mistakes.within(&format!("/items/{place}"), |mistakes| item(value, mistakes)))
        .collect();
    items.into_iter().collect()
}

fn item(value: &Value, mistakes: &mut Mistakes) -> Option<WantedItem> {
    let Value::Object(fields) = value else {
        mistakes.add("", "must be an object");
        return None;
    };
    let kinds = [("product", ItemType::Product), ("plan", ItemType::Plan)];
    let kind = mistakes.choice(fields, "type", &kinds);
    let plan = reference(fields, "plan", kind == Some(ItemType::Plan), mistakes);
    let price = reference(fields, "price", true, mistakes);
    let product = reference(fields, "product", kind == Some(ItemType::Product), mistakes);
    let has_quantity = fields.get("quantity").is_some_and(|quantity| !quantity.is_null());
    let quantity = if has_quantity || kind == Some(ItemType::Product) {
        let amount = mistakes.amount(fields, "quantity").map(|amount| u32::try_from(amount).unwrap_or(u32::MAX));
        if amount.is_some_and(|amount| amount > MAX_QUANTITY) {
            mistakes.add("/quantity", format!("must be at most {MAX_QUANTITY}"));
        }
        amount
    } else {
        Some(1)
    };
    let periods = mistakes.optional_array(fields, "periods").map(<[Value]>::to_vec);
    for (place, _) in periods.iter().flatten().enumerate().filter(|(_, period)| !period.is_object()) {
        mistakes.add(format!("/periods/{place}"), "must be an object");
    }
    Some(WantedItem { kind: kind?, plan, price: price?, product, quantity: quantity?, periods })
}

/// The id in a field such as `{"id": "price_…"}`.
fn reference(fields: &Fields, name: &str, is_required: bool, mistakes: &mut Mistakes) -> Option<String> {
    if is_required && fields.get(name).is_none_or(Value::is_null) {
        mistakes.add(format!("/{name}"), "is required for an item of this type");
        return None;
    }
    let object = mistakes.optional_object(fields, name)?;
    mistakes.within(&format!("/{name}"), |mistakes| mistakes.text(object, "id", MAX_TEXT))
}

fn after_checkout(fields: &Fields, mistakes: &mut Mistakes) -> Option<AfterCheckout> {
    let actions = [("redirect", Action::Redirect), ("confirmation_message", Action::ConfirmationMessage)];
    let action = mistakes.choice(fields, "action", &actions);
    let back_to_provider_url = url(fields, "backToProviderUrl", mistakes);
    let confirmation_message = mistakes.optional_short(fields, "confirmationMessage", MAX_TEXT);
    let has_url = fields.get("url").is_some_and(|url| !url.is_null() && *url != "");
    let url = url(fields, "url", mistakes);
    if action == Some(Action::Redirect) && !has_url {
        mistakes.add("/url", "is required, because action is redirect");
    }
    Some(AfterCheckout { action: action?, back_to_provider_url, confirmation_message, url })
}

/// An optional URL of a web page.
fn url(fields: &Fields, name: &str, mistakes: &mut Mistakes) -> Option<String> {
    let text = mistakes.optional_short(fields, name, MAX_TEXT)?;
    let url = Url::parse(&text).ok().filter(|url| ["https", "http"].contains(&url.scheme()));
    if url.is_none_or(|url| !url.username().is_empty() || url.password().is_some()) {
        let wrong = "must be a URL such as https://app.example.com/paid, without a user or a password";
        mistakes.add(format!("/{name}"), wrong);
    }
    Some(text)
}

fn options(fields: &Fields, mistakes: &mut Mistakes) -> CheckoutLinkOptions {
    let days = mistakes.optional_whole(fields, "trialDays");
    let trial_days = days.and_then(|days| u32::try_from(days).ok()).filter(|days| *days <= MAX_TRIAL_DAYS);
    if days.is_some() && trial_days.is_none() {
        mistakes.add("/trialDays", format!("must be a whole number from 0 to {MAX_TRIAL_DAYS}"));
    }
    let mut is_set = |name| mistakes.optional_boolean(fields, name).unwrap_or(false);
    CheckoutLinkOptions {
        allow_coupons: is_set("allowCoupons"),
        force_company: is_set("forceCompany"),
        quantity_editable: is_set("quantityEditable"),
        trial_days,
    }
}
