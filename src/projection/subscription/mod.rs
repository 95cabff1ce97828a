//! Projects a Stripe subscription to a row of `billing.subscriptions`.
//!
//! Owns the meaning of "active" and the choice of workspace, pricing plan and discounts. PURE.

use std::collections::BTreeSet;

use super::ending::Ending;
use super::graph::{Graph, Node, is_unseen};
use super::next_plan::Next;
use super::pause::Pause;
use super::payment::sepa_payment_failed;
use super::trial::Trial;
use super::{Projected, Rules, item_choice, method, next_plan};
use crate::domain::event::Reason;
use crate::domain::object::{ObjectKey, row_id};
use crate::domain::subscription::{InactiveReason, Item, Subscription};
use crate::stripe::json::Json;
use crate::stripe::nested::TRIAL_OFFER;
use crate::stripe::reference::is_account;
use crate::stripe::views::customer::CustomerView;
use crate::stripe::views::discount::{DiscountView, ListedDiscount, by_coupon};
use crate::stripe::views::schedule::ScheduleView;
use crate::stripe::views::subscription::SubscriptionView;
use crate::stripe::views::trial_offer::TrialOfferView;
use crate::stripe::views::workspace::WorkspaceLink;

/// The row of a subscription; `None` if its content was never known. `customer`: its customer, if known.
pub(super) fn row(
    graph: &Graph,
    node: &Node,
    customer: Option<&CustomerView>,
    rules: Rules,
) -> Option<Projected<Subscription>> {
    let mut view = with_all_items(node, SubscriptionView::read(node.json()).ok()?);
    let mut needs = BTreeSet::new();
    item_choice::sort(graph, &mut view.items, &mut needs);
    let mut around =
        RowContext { graph, view: &view, customer, notes: view.notes.clone(), needs, beside: BTreeSet::new() };
    if is_account(&view.customer_id) {
        around.notes.insert(Reason::CustomerAccount);
    } else if customer.is_none() {
        around.notes.insert(Reason::UnknownCustomer);
        around.need_if_unseen("customer", &view.customer_id);
    }
    if view.more_items {
        around.notes.insert(Reason::ItemsTruncated);
        around.needs.insert(graph.key("subscription", &view.id));
    }
    if view.items.len() > 1 {
        around.notes.insert(Reason::MultipleItems);
    }
    let row = around.row(rules);
    let RowContext { mut notes, mut needs, beside, .. } = around;
    if !needs.is_empty() {
        notes.insert(Reason::NeedsFetch);
    }
    needs.extend(beside);
    Some(Projected { row, notes, needs })
}

/// Replaces truncated items: the payload of a subscription with many items contains only the first ones, but a fetch
/// that is not older has listed all of them.
fn with_all_items(node: &Node, view: SubscriptionView) -> SubscriptionView {
    let all = node.expansion().get("items").array().filter(|_| node.expansion_version >= node.version);
    match all {
        Some(items) if view.more_items => view.with_items(&items),
        _ => view,
    }
}

/// A subscription and its related objects, while its row is projected.
struct RowContext<'a> {
    graph: &'a Graph,
    view: &'a SubscriptionView,
    customer: Option<&'a CustomerView>,
    notes: BTreeSet<Reason>,
    needs: BTreeSet<ObjectKey>,
    /// Objects with their own rows that must be fetched, although this row is complete without them.
    beside: BTreeSet<ObjectKey>,
}

impl RowContext<'_> {
    fn row(&mut self, rules: Rules) -> Subscription {
        let (account, view) = (self.graph.account(), self.view);
        let schedule = self.schedule();
        let ending = Ending::of(view, schedule.as_ref());
        let item = view.items.first();
        let price = item.and_then(|item| item.price_id.clone());
        let next = next_plan::of(self.graph, view, schedule.as_ref(), &mut self.needs);
        // the earlier of phase and trial end comes next; a pending update has no time and comes first
        let next = [next, self.after_trial(&ending)].into_iter().flatten().min_by_key(|next| next.at);
        let method = method::of_subscription(self.graph, view, self.customer, &mut self.needs);
        let discounts = self.discounts();
        let inactive_reason = inactive_reason(view, rules);
        let trial = Trial::of(view);
        let pause = Pause::of(view, schedule.as_ref());
        Subscription {
            id: row_id(account, &view.id),
            account: account.to_owned(),
            stripe_subscription_id: view.id.clone(),
            stripe_customer_id: view.customer_id.clone(),
            livemode: view.livemode,
            billing_contact_id: row_id(account, &view.customer_id),
            workspace_id: self.workspace().named(),
            stripe_status: view.status.clone(),
            active: inactive_reason.is_none(),
            inactive_reason,
            payment_paused: view.payment_paused,
            payment_resumes_at: view.resumes_at,
            pause_reason: pause.reason,
            paused_at: pause.since,
            pauses_at: pause.next,
            resumes_at: pause.resumes_at,
            sepa_payment_failed: sepa_payment_failed(self.graph.payments(&view.id)),
            is_trial: trial.runs,
            trial_started_at: trial.started_at,
            trial_ends_at: trial.ends_at,
            trial_end_behavior: view.trial_end_behavior.clone(),
            is_grace_period: ending.grace,
            end_date: ending.end_date,
            next_subscription_cycle_start: ending.next_cycle_start,
            currency: view.currency.clone(),
            stripe_subscription_item_id: item.and_then(|item| item.id.clone()),
            pricing_plan_id: price.as_deref().and_then(|id| self.plan(id)),
            stripe_price_id: price,
            items: items(view),
            new_pricing_plan_id: next.as_ref().and_then(|next| self.plan(&next.price_id)),
            new_pricing_plan_at: next.as_ref().and_then(|next| next.at),
            new_stripe_price_id: next.map(|next| next.price_id),
            payment_type: method.as_ref().map(|method| method.kind.clone()),
            payment_method_card_brand: method.as_ref().and_then(|method| method.card_brand.clone()),
            payment_card_number_last_four_digits: method.and_then(|method| method.last_four),
            active_discounts: discounts.iter().map(|(coupon, _)| coupon.clone()).collect(),
            active_discount_ends: discounts.into_iter().map(|(_, ends_at)| ends_at).collect(),
            stripe_created_at: view.created,
            started_at: view.start_date,
        }
    }

    /// Adds an unknown object to the needs.
    fn need_if_unseen(&mut self, object_type: &str, id: &str) {
        if is_unseen(self.graph.get(object_type, id)) {
            self.needs.insert(self.graph.key(object_type, id));
        }
    }

    /// The schedule that drives the subscription.
    fn schedule(&mut self) -> Option<ScheduleView> {
        let id = self.view.schedule_id.as_deref()?;
        let Some(node) = self.graph.get("subscription_schedule", id) else {
            self.needs.insert(self.graph.key("subscription_schedule", id));
            return None;
        };
        node.content.as_ref()?;
        Some(ScheduleView::read(node.json())).filter(|schedule| schedule.drives)
    }

    /// The price after the running trial offer, and its start. `None` if the subscription ends by then: such a trial is
    /// sold without a commitment to continue.
    fn after_trial(&mut self, ending: &Ending) -> Option<Next> {
        let offer = self.view.running_offer()?;
        if ending.end_date.zip(offer.end).is_some_and(|(end, trial_end)| end <= trial_end) {
            return None;
        }
        let id = offer.offer_id.as_deref()?;
        self.need_if_unseen(TRIAL_OFFER, id);
        let price_id = TrialOfferView::read(self.graph.get(TRIAL_OFFER, id)?.json()).next_price_id?;
        let own = self.view.items.first().and_then(|item| item.price_id.as_ref());
        (own != Some(&price_id)).then_some(Next { price_id, at: offer.end })
    }

    /// Row id of a price's plan, if the price is known: as a price, or as a plan of very old API versions.
    fn plan(&mut self, price_id: &str) -> Option<uuid::Uuid> {
        let known = |kind| self.graph.get(kind, price_id).is_some_and(|node| node.content.is_some());
        // both are looked up, so that both are loaded
        if known("price") | known("plan") {
            return Some(row_id(self.graph.account(), price_id));
        }
        self.notes.insert(Reason::UnknownPrice);
        self.need_if_unseen("price", price_id);
        None
    }

    /// Its discounts as coupon and end. The discount's own object counts before the content in the payload.
    fn discounts(&mut self) -> Vec<(String, Option<time::OffsetDateTime>)> {
        let mut found = Vec::new();
        for listed in &self.view.discounts {
            let id = match listed {
                ListedDiscount::Id(id) => Some(id),
                ListedDiscount::Whole(discount) => discount.id.as_ref(),
            };
            let node = id.and_then(|id| self.graph.get("discount", id));
            match (node, listed) {
                (Some(node), _) if node.deleted_at.is_some() => {}
                (Some(node), _) if node.content.is_some() => found.extend(DiscountView::of_object(node.json())),
                (_, ListedDiscount::Whole(discount)) => found.push(discount.clone()),
                // discounts cannot be fetched themselves
                (_, ListedDiscount::Id(_)) => _ = self.needs.insert(self.graph.key("subscription", &self.view.id)),
            }
        }
        let discounts = by_coupon(found);
        self.beside.extend(discounts.iter().filter_map(|(coupon, _)| unseen_coupon(self.graph, coupon)));
        discounts
    }

    /// The subscription's own link, else the customer's, else that of the checkout session that created it.
    ///
    /// The search stops at an invalid link: it shows that this subscription belongs to another workspace than the
    /// customer's others. A subscription without a workspace is repaired sooner than one with a wrong workspace.
    fn workspace(&mut self) -> WorkspaceLink {
        let own = [self.view.workspace, self.customer.map(|customer| customer.workspace).unwrap_or_default()];
        let link = own.into_iter().find(|link| *link != WorkspaceLink::Absent).unwrap_or_else(|| self.checkout());
        if link == WorkspaceLink::Invalid {
            self.notes.insert(Reason::InvalidWorkspaceId);
        }
        link
    }

    /// The link of the newest checkout session of this subscription.
    fn checkout(&self) -> WorkspaceLink {
        let sessions = self.graph.referencing("subscription", &self.view.id, "checkout.session");
        let newest = sessions.into_iter().max_by_key(|(key, node)| (created(node.json()), &key.object_id));
        newest.map(|(_, node)| WorkspaceLink::of_session(node.json())).unwrap_or_default()
    }
}

/// All items, in the order of the item choice; `None` unless the payload contains all of them.
fn items(view: &SubscriptionView) -> Option<Vec<Item>> {
    let items = view.items.iter().map(|item| Item {
        item_id: item.id.clone(),
        price_id: item.price_id.clone(),
        quantity: item.quantity,
        metered: item.metered,
        current_period_start: item.current_period_start.or(view.current_period_start),
        current_period_end: item.current_period_end.or(view.current_period_end),
    });
    (!view.more_items).then(|| items.collect())
}

/// The coupon to fetch, if unknown: since 2025-09-30.clover a discount contains only the id of its coupon, and there
/// may be no event of that coupon.
pub(super) fn unseen_coupon(graph: &Graph, coupon_id: &str) -> Option<ObjectKey> {
    is_unseen(graph.get("coupon", coupon_id)).then(|| graph.key("coupon", coupon_id))
}

fn created(session: Json<'_>) -> Option<i64> {
    session.get("created").integer()
}

/// Why a subscription is not active: its status forbids it, it has ended, or its payment is paused. An unknown status
/// is not active.
///
/// At Stripe a subscription with paused collection stays active and is free; here it is not active.
fn inactive_reason(view: &SubscriptionView, rules: Rules) -> Option<InactiveReason> {
    let by_status = match view.status.as_str() {
        "active" | "trialing" => None,
        "past_due" => (!rules.past_due_active).then_some(InactiveReason::PastDue),
        "unpaid" => Some(InactiveReason::Unpaid),
        "paused" => Some(Pause::inactive_reason(view)),
        "incomplete" => Some(InactiveReason::Incomplete),
        "incomplete_expired" => Some(InactiveReason::IncompleteExpired),
        "canceled" => Some(InactiveReason::Canceled),
        _ => Some(InactiveReason::UnknownStatus),
    };
    by_status
        .or_else(|| view.ended_at.map(|_| InactiveReason::Ended))
        .or_else(|| view.payment_paused.then_some(InactiveReason::PaymentPaused))
}

#[cfg(test)]
mod laws_tests;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;
