//! Price → pricing plan, as far as the price inside a subscription item says it.
//!
//! Must not know products, prices per currency and limits: they come from objects of their own. PURE.

use crate::domain::object::row_id;
use crate::domain::plan::PricingPlan;
use crate::stripe::views::price::PriceView;

/// The pricing plan of a price. What was odd or unknown stands in the notes of the view.
pub fn plan(price_id: &str, graph: &super::graph::Graph) -> Option<super::PlanRows> {
    let node = graph.get("price", price_id).or_else(|| graph.get("plan", price_id))?;
    let view = PriceView::read(node.json()).ok()?;
    let row = of_view(graph.account(), &view);
    Some(super::PlanRows { plan: super::Projected { row, notes: view.notes, needs: std::collections::BTreeSet::new() }, limits: Vec::new() })
}
fn of_view(account: &str, view: &PriceView) -> PricingPlan {
    PricingPlan {
        id: row_id(account, &view.id),
        account: account.to_owned(),
        stripe_price_id: view.id.clone(),
        stripe_product_id: view.product_id.clone(),
        livemode: view.livemode,
        active: view.active,
        billing_interval: view.interval.clone(),
        billing_interval_count: view.interval_count,
        currency: view.currency.clone(),
        unit_amount_decimal: view.unit_amount_decimal.clone(),
        stripe_track_usage: view.usage_type.as_deref().map(|usage_type| usage_type == "metered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::Json;

    fn project(text: &str) -> PricingPlan {
        of_view("acct_1", &PriceView::read(Json::parse(text).unwrap()).unwrap())
    }

    #[test]
    fn only_metered_usage_is_tracked() {
        let tracked =
            |usage| project(&format!(r#"{{"id":"p","recurring":{{"usage_type":{usage}}}}}"#)).stripe_track_usage;
        assert_eq!(tracked(r#""metered""#), Some(true));
        assert_eq!(tracked(r#""licensed""#), Some(false));
        assert_eq!(tracked(r#""guessed""#), Some(false));
        assert_eq!(tracked("null"), None);
    }

    #[test]
    fn a_plan_and_a_price_with_one_id_are_one_row() {
        let price = r#"{"id":"p","object":"price","unit_amount":5,"recurring":{"interval":"year"}}"#;
        let plan = r#"{"id":"p","object":"plan","amount":5,"interval":"year"}"#;
        assert_eq!(project(price), project(plan));
        assert_eq!(project(price).id, row_id("acct_1", "p"));
    }
}
