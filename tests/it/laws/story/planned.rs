//! Actions on planned changes of subscriptions, additional items, and the catalogue.

use serde_json::{Value, json};

use super::{Act, Story, id};

impl Story {
    /// Executes an action on a planned change of a subscription, or adds an item.
    pub(super) fn of_plan(&self, act: Act, number: usize) -> Option<()> {
        let (stripe, price) = (&self.stripe, &self.prices[number % 3]);
        let waits = |one: &Value| !one["pending_update"].is_null();
        match act {
            // Stripe refuses two items at one price
            Act::AddItem => {
                let without_price = |one: &Value| {
                    let items = one["items"]["data"].as_array().unwrap();
                    !self.one_period && items.iter().all(|item| item["price"]["id"] != **price)
                };
                _ = stripe.add_item(&self.subscription(number, without_price)?, price);
            }
            Act::WaitForPayment => stripe.set_pending_update(&self.subscription(number, |_| true)?, price),
            Act::ApplyPending => stripe.apply_pending_update(&self.subscription(number, waits)?),
            Act::ExpirePending => stripe.expire_pending_update(&self.subscription(number, waits)?),
            Act::NextPhase => {
                let follows =
                    |one: &Value| one["status"] == "active" && one["current_phase"] == running(&one["phases"][0]);
                stripe.next_phase(&id(&self.one("subscription_schedule", number, follows)?));
            }
            Act::Schedule => {
                let subscription = self.subscription(number, |one| one["schedule"].is_null())?;
                let (now, later) = (stripe.now(), stripe.now() + 5_000_000);
                let next = &self.prices[(number + 1) % 3];
                let end = ["release", "cancel"][number % 2];
                stripe.schedule(&subscription, &[(price, now, later), (next, later, later + 5_000_000)], end);
            }
            _ => {
                let schedule = self.one("subscription_schedule", number, |one| one["status"] == "active")?;
                stripe.release(&id(&schedule));
            }
        }
        Some(())
    }

    pub(super) fn of_catalog(&self, act: Act, number: usize) {
        if act == Act::RenameProduct {
            let name = ["Writing", "Words"][number % 2];
            self.stripe.update(&self.product, json!({ "name": name }));
        } else if act == Act::MarkPrice {
            let marker = [json!("true"), json!("false"), Value::Null][number % 3].clone();
            self.stripe.update(&self.prices[number % 3], json!({ "metadata": { "is_plan": marker } }));
        } else {
            let words = ["5000", "7000", "none"][number % 3];
            self.stripe.update(&self.prices[number % 3], json!({ "metadata": { "limit_words": words } }));
        }
    }
}

/// A phase as `current_phase` shows it.
fn running(phase: &Value) -> Value {
    json!({ "start_date": phase["start_date"], "end_date": phase["end_date"] })
}
