//! What a subscription will be charged for next: what its plan becomes by an update that waits for its payment, else by
//! the next phase of its schedule.
//!
//! Neither list has a documented order, so no place in them means anything. PURE; called by the subscription projection.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::graph::Graph;
use super::item_choice;
use crate::domain::object::ObjectKey;
use crate::stripe::views::item::ItemView;
use crate::stripe::views::schedule::ScheduleView;
use crate::stripe::views::subscription::SubscriptionView;

/// A price that will take the place of the plan's.
pub(super) struct Next {
    pub(super) price_id: String,
    /// When; none while it waits for its payment.
    pub(super) at: Option<OffsetDateTime>,
}

/// What the plan, the first of the items, becomes; none where it stays.
pub(super) fn of(
    graph: &Graph,
    view: &SubscriptionView,
    schedule: Option<&ScheduleView>,
    needs: &mut BTreeSet<ObjectKey>,
) -> Option<Next> {
    // it takes effect as soon as it is paid, which comes before any later phase
    waiting(view).or_else(|| scheduled(graph, &view.items, schedule?, needs))
}

/// By `pending_update`. Its items are matched by id; a change of seats only leaves the price as it is, and hides no phase.
fn waiting(view: &SubscriptionView) -> Option<Next> {
    let plan = view.items.first()?;
    let becomes = view.pending_items.iter().find(|item| item.id.is_some() && item.id == plan.id)?;
    let price_id = becomes.price_id.clone().filter(|price_id| plan.price_id.as_ref() != Some(price_id))?;
    Some(Next { price_id, at: None })
}

/// By the phase that follows. Its items have no ids: those at the prices of the other items are those items, and where
/// none is at the plan's own price, the plan becomes the first of the others.
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
