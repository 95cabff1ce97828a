//! The next price of a subscription's plan: by a pending update, else by the next phase of its schedule.
//!
//! Neither list has a documented order, so positions in them have no meaning. PURE; called by the subscription
//! projection.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::graph::Graph;
use super::item_choice;
use crate::domain::object::ObjectKey;
use crate::stripe::views::item::ItemView;
use crate::stripe::views::schedule::ScheduleView;
use crate::stripe::views::subscription::SubscriptionView;

/// The price that will replace the plan's price.
pub(super) struct Next {
    pub(super) price_id: String,
    /// Time of the change; `None` for a pending update, which waits for its payment.
    pub(super) at: Option<OffsetDateTime>,
}

/// The next price of the plan, the first of the items; `None` if it does not change.
pub(super) fn of(
    graph: &Graph,
    view: &SubscriptionView,
    schedule: Option<&ScheduleView>,
    needs: &mut BTreeSet<ObjectKey>,
) -> Option<Next> {
    // a pending update takes effect as soon as it is paid, before any later phase
    waiting(view).or_else(|| scheduled(graph, &view.items, schedule?, needs))
}

/// The next price by `pending_update`, whose items are matched by id. An update of the quantity only keeps the price,
/// so the schedule still counts.
fn waiting(view: &SubscriptionView) -> Option<Next> {
    let plan = view.items.first()?;
    let becomes = view.pending_items.iter().find(|item| item.id.is_some() && item.id == plan.id)?;
    let price_id = becomes.price_id.clone().filter(|price_id| plan.price_id.as_ref() != Some(price_id))?;
    Some(Next { price_id, at: None })
}

/// The next price by the following phase. Its items have no ids, so they are matched by price: unless one has the
/// plan's own price, the plan changes to the first price that is not one of the other items.
fn scheduled(
    graph: &Graph,
    items: &[ItemView],
    schedule: &ScheduleView,
    needs: &mut BTreeSet<ObjectKey>,
) -> Option<Next> {
    let phase = schedule.next_phase()?;
    let held: BTreeSet<&str> = items.iter().skip(1).filter_map(|item| item.price_id.as_deref()).collect();
    let own = items.first().and_then(|item| item.price_id.as_deref());
    if own.is_some_and(|own| phase.price_ids.contains(own)) {
        return None;
    }
    let others = phase.price_ids.iter().map(String::as_str).filter(|price_id| !held.contains(price_id)).collect();
    let price_id = item_choice::first(graph, &others, needs)?.to_owned();
    Some(Next { price_id, at: phase.start })
}
