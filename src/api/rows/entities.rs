//! What the API reads from the database, as data: one struct for each entity, with the names of our columns.
//!
//! The dialects render them under their own names. Numbers of money keep the digits that the database has.

use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

/// A workspace with its embedded rows.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    pub(crate) id: Uuid,
    pub(crate) billing_contact_id: Option<Uuid>,
    pub(crate) name: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) key_index: Option<i64>,
    pub(crate) current_subscription_id: Option<Uuid>,
    pub(crate) created_by_user_id: Option<Uuid>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) first_member_invited_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) first_paid_subscription_at: Option<OffsetDateTime>,
    pub(crate) imported_from_legacy_customer_id: Option<i64>,
    pub(crate) imported_from_legacy_team_id: Option<i64>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) trial_started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) created_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) updated_at: Option<OffsetDateTime>,
    pub(crate) avatar: Option<Avatar>,
    pub(crate) contact: Option<Contact>,
    pub(crate) subscription: Option<Subscription>,
}

/// The picture of a workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Avatar {
    pub(crate) id: Uuid,
    pub(crate) workspace_id: Uuid,
    pub(crate) signed_url: String,
    pub(crate) file_name: Option<String>,
    pub(crate) storage_key: Option<String>,
    pub(crate) created_by_user_id: Option<Uuid>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) updated_at: OffsetDateTime,
}

/// A billing contact, with the time at which Stripe created its customer.
#[derive(Debug, Deserialize)]
pub(crate) struct Contact {
    pub(crate) id: Uuid,
    /// Connected account, or empty.
    pub(crate) account: String,
    /// Whether Stripe has deleted the customer.
    pub(crate) is_deleted: bool,
    pub(crate) name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) address_line1: Option<String>,
    pub(crate) address_line2: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) postal_code: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) country: Option<String>,
    pub(crate) default_payment_method: Option<String>,
    pub(crate) default_payment_method_card_brand: Option<String>,
    pub(crate) default_payment_card_number_last_four_digits: Option<String>,
    pub(crate) active_discount: Option<String>,
    pub(crate) stripe_customer_id: String,
    pub(crate) created_by_user_id: Option<Uuid>,
    pub(crate) imported_from_legacy_customer_id: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) updated_at: OffsetDateTime,
}

/// A subscription as of now, with its plans and limits.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent columns")]
pub(crate) struct Subscription {
    pub(crate) id: Uuid,
    pub(crate) active: bool,
    pub(crate) inactive_reason: Option<String>,
    pub(crate) active_discounts: Vec<String>,
    pub(crate) currency: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) end_date: Option<OffsetDateTime>,
    pub(crate) is_grace_period: bool,
    pub(crate) is_trial: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) next_subscription_cycle_start: Option<OffsetDateTime>,
    pub(crate) payment_card_number_last_four_digits: Option<String>,
    pub(crate) payment_method_card_brand: Option<String>,
    pub(crate) payment_type: Option<String>,
    pub(crate) payment_paused: bool,
    pub(crate) pricing_plan_id: Option<Uuid>,
    pub(crate) sepa_payment_failed: bool,
    pub(crate) stripe_status: String,
    pub(crate) stripe_subscription_id: String,
    pub(crate) stripe_subscription_item_id: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) trial_ends_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) trial_started_at: Option<OffsetDateTime>,
    pub(crate) workspace_id: Option<Uuid>,
    pub(crate) created_by_user_id: Option<Uuid>,
    pub(crate) imported_from_legacy_customer_id: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) updated_at: OffsetDateTime,
    pub(crate) limits: Vec<Limit>,
    /// When its limits renew next, also if it has none; null if it ends before.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) next_limit_renewal: Option<OffsetDateTime>,
    pub(crate) plan: Option<Plan>,
    pub(crate) new_plan: Option<Plan>,
}

impl Subscription {
    /// Its limit with this key.
    pub(crate) fn limit(&self, key: &str) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.key == key)
    }
}

/// A limit as of now; `included` and `available` are null if it is unlimited.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Limit {
    pub(crate) key: String,
    pub(crate) kind: String,
    pub(crate) included: Option<i64>,
    pub(crate) spillover: i64,
    pub(crate) bonus: i64,
    pub(crate) used: i64,
    pub(crate) available: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) period_started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) renews_at: Option<OffsetDateTime>,
}

/// A pricing plan with its category.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Plan {
    pub(crate) id: Uuid,
    pub(crate) active: Option<bool>,
    pub(crate) billing_interval: Option<String>,
    pub(crate) category_id: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) imported_from_legacy_id: Option<i64>,
    pub(crate) is_default: Option<bool>,
    pub(crate) price_in_euro: Option<Box<RawValue>>,
    pub(crate) price_per_currency: Box<RawValue>,
    pub(crate) stripe_billing_portal_enabled: Option<bool>,
    pub(crate) stripe_price_id: String,
    pub(crate) stripe_track_usage: Option<bool>,
    pub(crate) tier: Option<i32>,
    pub(crate) trial_days: Option<i32>,
    pub(crate) category: Option<Category>,
}

/// The category of a plan; only its id is known if the product has stored no more.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Category {
    pub(crate) id: String,
    pub(crate) display_name: Option<String>,
    pub(crate) translation_key: Option<String>,
}

/// A checkout session with its plan and coupon.
#[derive(Debug, Deserialize)]
pub(crate) struct CheckoutSession {
    pub(crate) callback_url: Option<String>,
    pub(crate) language: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) stripe_price_id: Option<String>,
    pub(crate) stripe_subscription_id: Option<String>,
    pub(crate) plan: Option<Plan>,
    pub(crate) coupon: Option<Coupon>,
}

/// A coupon with the plan for which the product offers it.
#[derive(Debug, Deserialize)]
pub(crate) struct Coupon {
    pub(crate) discount_percentage: Option<Box<RawValue>>,
    pub(crate) pricing_plan_id: Option<Uuid>,
    pub(crate) translation_key: Option<String>,
    pub(crate) plan: Option<Plan>,
}

/// How fresh the rows of an answer are.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Freshness {
    /// The events up to this time were compared with Stripe's list; `None` before the first comparison.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) as_of: Option<OffsetDateTime>,
    /// Stored events of the customer that are not applied yet; `None` if they cannot be counted quickly.
    pub(crate) pending: Option<i64>,
}
