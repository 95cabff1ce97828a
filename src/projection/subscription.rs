//! Subscription → our subscription.
//!
//! Owns what "active" means, which workspace is meant and which pricing plan. Must not know schedules, payment methods
//! and discounts that are bare ids: those need other objects. PURE.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::ending::Ending;
use super::{Projected, Rules};
use crate::domain::event::Reason;
use crate::domain::object::row_id;
use crate::domain::subscription::Subscription;
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::item::ItemView;
use crate::stripe::views::subscription::SubscriptionView;
use crate::stripe::views::workspace::WorkspaceLink;

/// The row of a subscription. `customer` is its customer, where it has been seen.
pub fn subscription(
    account: &str,
    view: &SubscriptionView,
    customer: Option<&CustomerView>,
    rules: &Rules,
) -> Projected<Subscription> {
    let ending = Ending::of(view);
    let item = view.items.first();
    let is_trial = view.status == "trialing";
    let row = Subscription {
        id: row_id(account, &view.id),
        account: account.to_owned(),
        stripe_subscription_id: view.id.clone(),
        stripe_customer_id: view.customer_id.clone(),
        livemode: view.livemode,
        billing_contact_id: row_id(account, &view.customer_id),
        workspace_id: workspace(view, customer).named(),
        stripe_status: view.status.clone(),
        active: is_active(view, *rules),
        payment_paused: view.payment_paused,
        is_trial,
        trial_started_at: view.trial_start.filter(|_| is_trial),
        trial_ends_at: view.trial_end,
        is_grace_period: ending.grace,
        end_date: ending.end_date,
        next_subscription_cycle_start: ending.next_cycle_start,
        currency: view.currency.clone(),
        stripe_subscription_item_id: item.and_then(|item| item.id.clone()),
        stripe_price_id: item.and_then(|item| item.price_id.clone()),
        pricing_plan_id: item.and_then(|item| pricing_plan_id(account, item)),
        active_discounts: view.discounts.iter().map(|discount| discount.coupon_id.clone()).collect(),
        active_discount_ends: view.discounts.iter().map(|discount| discount.ends_at).collect(),
        stripe_created_at: view.created,
        started_at: view.start_date,
    };
    Projected { row, notes: notes(view, customer), needs: BTreeSet::new() }
}

/// Usable: the status allows it, payment is not paused, it has not ended. An unknown status allows nothing.
///
/// Stripe means a subscription with paused collection to stay active and be free; the product does not.
fn is_active(view: &SubscriptionView, rules: Rules) -> bool {
    let allowed = match view.status.as_str() {
        "active" | "trialing" => true,
        "past_due" => rules.past_due_active,
        _ => false,
    };
    allowed && !view.payment_paused && view.ended_at.is_none()
}

/// The subscription's own link, else the customer's.
///
/// A bad link does not fall through: it says that this subscription belongs elsewhere than its customer's others, and
/// a subscription that counts for no workspace is repaired sooner than one that counts for the wrong one.
fn workspace(view: &SubscriptionView, customer: Option<&CustomerView>) -> WorkspaceLink {
    match view.workspace {
        WorkspaceLink::Absent => customer.map(|customer| customer.workspace).unwrap_or_default(),
        link => link,
    }
}

/// Only where the price came with its content, because only then is there a plan row to name.
fn pricing_plan_id(account: &str, item: &ItemView) -> Option<Uuid> {
    item.price_id.as_deref().filter(|_| item.price_is_whole).map(|price_id| row_id(account, price_id))
}

fn notes(view: &SubscriptionView, customer: Option<&CustomerView>) -> BTreeSet<Reason> {
    let noticed = [
        (Reason::UnknownCustomer, customer.is_none()),
        (Reason::UnknownPrice, view.items.first().is_some_and(|item| !item.price_is_whole)),
        (Reason::BadWorkspaceId, workspace(view, customer) == WorkspaceLink::Bad),
        (Reason::SeveralItems, view.items.len() > 1),
        (Reason::MoreItems, view.more_items),
        (Reason::NeedsFetch, view.scheduled && Ending::of(view).end_date.is_none()),
    ];
    let noticed = noticed.into_iter().filter_map(|(reason, holds)| holds.then_some(reason));
    view.notes.iter().copied().chain(noticed).collect()
}

#[cfg(test)]
mod tests;
