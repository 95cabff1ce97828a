//! Chooses the item of a subscription that is its plan, and the first of several prices.
//!
//! The views define the order; this module applies it to the newest prices and products, which may contain more than
//! the payload of the subscription. PURE; called by the subscription projection.

use std::collections::BTreeSet;

use super::graph::{Graph, Node};
use crate::domain::object::ObjectKey;
use crate::stripe::expandable::id_or_object;
use crate::stripe::json::Json;
use crate::stripe::views::item::{self, ItemView};
use crate::stripe::views::standing::Standing;

/// Puts the item that is the plan first.
pub(super) fn sort(graph: &Graph, items: &mut [ItemView], needs: &mut BTreeSet<ObjectKey>) {
    // a single item needs no choice, so its price is not looked up
    if items.len() < 2 {
        return;
    }
    needs.extend(items.iter().filter_map(|item| unseen(graph, item.price_id.as_deref()?)));
    item::sort(items, |item| item.price_id.as_deref().map(|id| standing(graph, id)).unwrap_or_default());
}

/// The first of some prices; among equals the one with the smallest id, because their age is unknown.
pub(super) fn first<'a>(
    graph: &Graph,
    price_ids: &BTreeSet<&'a str>,
    needs: &mut BTreeSet<ObjectKey>,
) -> Option<&'a str> {
    if price_ids.len() > 1 {
        needs.extend(price_ids.iter().filter_map(|id| unseen(graph, id)));
    }
    price_ids.iter().copied().min_by_key(|id| (standing(graph, id), *id))
}

/// The standing by the newest price and product.
fn standing(graph: &Graph, price_id: &str) -> Standing {
    of_node(graph, price_node(graph, price_id))
}

/// The standing of a price, or a plan of very old API versions, that was looked up already.
pub(super) fn of_node(graph: &Graph, price: Option<&Node>) -> Standing {
    let price = price.map_or(Json::NULL, Node::json);
    let product = id_or_object(price.get("product")).and_then(|id| graph.get("product", &id));
    Standing::of(price, product.map_or(Json::NULL, Node::json))
}

/// The price, else the plan of very old API versions, with its content.
fn price_node<'a>(graph: &'a Graph, price_id: &str) -> Option<&'a Node> {
    // both are looked up, so that both are loaded
    let nodes = [graph.get("price", price_id), graph.get("plan", price_id)];
    nodes.into_iter().flatten().find(|node| node.content.is_some())
}

/// The key to fetch for an unknown price; `None` for a known or deleted price, or one that Stripe does not have.
fn unseen(graph: &Graph, price_id: &str) -> Option<ObjectKey> {
    let is_gone = graph.get("price", price_id).is_some_and(Node::is_gone);
    (!is_gone && price_node(graph, price_id).is_none()).then(|| graph.key("price", price_id))
}
