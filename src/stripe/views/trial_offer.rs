//! The trial offer (`product_catalog.trial_offer`, since 2026-09-30.endive): the price of an item after its trial.
//!
//! Only `active` of an offer can change, and Stripe sends no events about offers, so an offer is fetched once. PURE.

use super::reader::Reader;
use crate::stripe::json::Json;

/// The fields read from a trial offer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrialOfferView {
    /// `end_behavior.transition.price`: the price that the item changes to when the trial ends.
    pub next_price_id: Option<String>,
}

impl TrialOfferView {
    /// Reads a trial offer.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        let transition = json.get("end_behavior").get("transition");
        Self { next_price_id: reader.reference(transition.get("price")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::json;

    #[test]
    fn the_price_after_the_trial_is_an_id_or_an_object() {
        let read = |text: &str| TrialOfferView::read(json(text)).next_price_id;
        for price in [r#""price_2""#, r#"{"id":"price_2"}"#, r#"{"id":"price_2","deleted":true}"#] {
            let text = format!(r#"{{"end_behavior":{{"type":"transition","transition":{{"price":{price}}}}}}}"#);
            assert_eq!(read(&text).as_deref(), Some("price_2"), "{price}");
        }
        for odd in [r#"{"end_behavior":{"type":"frobnicate"}}"#, r#"{"end_behavior":null}"#, "{}"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
