//! Subscriptions with limits, delivered as webhooks.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::events::{customer, event, subscription, update, with};

pub(crate) const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";
const DAY: i64 = 86_400;

/// The subscription with these limits in the metadata of its price.
pub(crate) fn limited(subscription: &Value, limits: &Value) -> Value {
    let mut limited = subscription.clone();
    limited["items"]["data"][0]["price"]["metadata"] = limits.clone();
    limited
}

/// A subscription of [`WORKSPACE`] that began at the second 0 of the story and includes 1000 words a period.
pub(crate) fn writing() -> Value {
    let plain = with(&subscription("sub_1", "cus_1"), json!({ "metadata": { "workspace_id": WORKSPACE } }));
    limited(&plain, &json!({ "limit_words": "1000" }))
}

/// The second at which this day of the story begins.
pub(crate) fn day(number: i64) -> i64 {
    number * DAY
}

/// `customer.subscription.updated`.
pub(crate) fn changed(id: &str, second: i64, before: &Value, after: &Value) -> Value {
    update(id, "customer.subscription.updated", second, before, after)
}

impl TestApp {
    /// Delivers the subscription with its customer on the first day.
    pub(crate) async fn sell(&self, subscription: &Value) {
        let created = event("evt_created", "customer.subscription.created", 0, subscription, None);
        let customer = event("evt_customer", "customer.created", 0, &customer("cus_1", "Ada"), None);
        self.deliver_and_drain(&[customer, created]).await;
    }

    /// The closed periods of the words: end, outcome, included, used and carried over.
    pub(crate) async fn ledger(&self) -> Vec<String> {
        let query = "SELECT concat_ws(' ', to_char(period_end AT TIME ZONE 'UTC', 'MM-DD'), outcome, included, used, spilled_over)
            FROM billing.limit_renewals WHERE limit_key = 'words' ORDER BY period_end";
        sqlx::query_scalar(query).fetch_all(&self.pool).await.unwrap()
    }
}
