//! The rows of the demo, with the columns that the story checks and the output shows.
//!
//! Owns their form as text. Filled by the queries, and by the story with what it expects.

use time::OffsetDateTime;
use uuid::Uuid;

use super::objects::Price;
use crate::base::text::{to_the_minute, to_the_second};

/// A line of a history, as text.
pub(super) type Line<const COLUMNS: usize> = [String; COLUMNS];

/// A row of a table, with the columns that the story checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    /// A row of `billing.subscriptions`.
    Subscription(SubscriptionRow),
    /// A row of `billing.billing_contacts`.
    Contact(ContactRow),
    /// A row of `billing.workspace_billing`.
    Workspace(WorkspaceRow),
    /// A row of `billing.workspace_limits`.
    Limit(LimitRow),
}

impl Row {
    /// Its columns with their values as text, the key first.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Subscription(row) => row.fields(),
            Self::Contact(row) => row.fields(),
            Self::Workspace(row) => row.fields(),
            Self::Limit(row) => row.fields(),
        }
    }

    /// The differences of `found`; empty if the rows are equal.
    pub(super) fn differences(&self, found: Option<&Self>) -> Vec<String> {
        let fields = self.fields();
        let key = fields.first().map(|(_, key)| key.clone()).unwrap_or_default();
        let Some(found) = found else { return vec![format!("{key}: the row is missing")] };
        let pairs = fields.into_iter().zip(found.fields()).filter(|(wanted, found)| wanted != found);
        pairs.map(|((name, wanted), (_, found))| format!("{key}: {name} should be {wanted}, but is {found}")).collect()
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "the columns are booleans")]
pub(super) struct SubscriptionRow {
    pub(super) stripe_subscription_id: String,
    pub(super) stripe_status: String,
    pub(super) active: bool,
    pub(super) payment_paused: bool,
    pub(super) is_trial: bool,
    pub(super) trial_ends_at: Option<OffsetDateTime>,
    pub(super) is_grace_period: bool,
    pub(super) end_date: Option<OffsetDateTime>,
    pub(super) next_subscription_cycle_start: Option<OffsetDateTime>,
    pub(super) stripe_price_id: Option<String>,
    pub(super) payment_type: Option<String>,
}

impl SubscriptionRow {
    /// An active subscription on an ordinary day: no trial, no pause, no end.
    pub(super) fn active(id: &str, price: &Price, next_period: OffsetDateTime) -> Self {
        Self {
            stripe_subscription_id: id.to_owned(),
            stripe_status: "active".to_owned(),
            active: true,
            payment_paused: false,
            is_trial: false,
            trial_ends_at: None,
            is_grace_period: false,
            end_date: None,
            next_subscription_cycle_start: Some(next_period),
            stripe_price_id: Some(price.id.to_owned()),
            payment_type: None,
        }
    }

    /// Its columns with their values as text, the key first.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("stripe_subscription_id", self.stripe_subscription_id.clone()),
            ("stripe_status", self.stripe_status.clone()),
            ("active", self.active.to_string()),
            ("payment_paused", self.payment_paused.to_string()),
            ("is_trial", self.is_trial.to_string()),
            ("trial_ends_at", time(self.trial_ends_at)),
            ("is_grace_period", self.is_grace_period.to_string()),
            ("end_date", time(self.end_date)),
            ("next_subscription_cycle_start", time(self.next_subscription_cycle_start)),
            ("stripe_price_id", text(self.stripe_price_id.as_deref())),
            ("payment_type", text(self.payment_type.as_deref())),
        ]
    }
}

/// A billing contact.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct ContactRow {
    pub(super) stripe_customer_id: String,
    pub(super) name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) city: Option<String>,
    pub(super) stripe_deleted_at: Option<OffsetDateTime>,
}

impl ContactRow {
    /// Its columns with their values as text, the key first.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("stripe_customer_id", self.stripe_customer_id.clone()),
            ("name", text(self.name.as_deref())),
            ("email", text(self.email.as_deref())),
            ("city", text(self.city.as_deref())),
            ("stripe_deleted_at", time(self.stripe_deleted_at)),
        ]
    }
}

/// Whether a workspace may use the product.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct WorkspaceRow {
    pub(super) workspace_id: Uuid,
    pub(super) active: bool,
    pub(super) inactive_reason: Option<String>,
}

impl WorkspaceRow {
    /// Its columns with their values as text, the key first.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("workspace_id", self.workspace_id.to_string()),
            ("active", self.active.to_string()),
            ("inactive_reason", text(self.inactive_reason.as_deref())),
        ]
    }
}

/// How much of a limit a workspace may still use, and until when.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct LimitRow {
    pub(super) workspace_id: Uuid,
    pub(super) limit_key: String,
    /// `None` is unlimited.
    pub(super) included: Option<i64>,
    pub(super) spillover: i64,
    pub(super) used: i64,
    /// `None` is unlimited.
    pub(super) available: Option<i64>,
    pub(super) period_started_at: OffsetDateTime,
    pub(super) limit_renewal_date: Option<OffsetDateTime>,
}

impl LimitRow {
    /// Its columns with their values as text, the key first.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("workspace_id", self.workspace_id.to_string()),
            ("limit_key", self.limit_key.clone()),
            ("included", number(self.included)),
            ("spillover", self.spillover.to_string()),
            ("used", self.used.to_string()),
            ("available", number(self.available)),
            ("period_started_at", to_the_second(self.period_started_at)),
            ("limit_renewal_date", text(self.limit_renewal_date.map(to_the_second).as_deref())),
        ]
    }
}

/// Number of events with the same result.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct OutcomeRow {
    pub(super) state: String,
    pub(super) outcome: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) events: i64,
}

/// The result of one event.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct SettledRow {
    pub(super) state: String,
    pub(super) outcome: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) last_error: Option<String>,
}

/// The text, or `-` for null.
pub(super) fn text(value: Option<&str>) -> String {
    value.unwrap_or("-").to_owned()
}

/// The number, or `-` for null.
pub(super) fn number(value: Option<i64>) -> String {
    text(value.map(|value| value.to_string()).as_deref())
}

/// A time in UTC to the minute; the rows of the story need no seconds.
fn time(value: Option<OffsetDateTime>) -> String {
    text(value.map(to_the_minute).as_deref())
}
