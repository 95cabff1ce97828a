//! Rows as bodies of the workspace API: names and nesting only. PURE.

use super::schema::{
    Avatar, AvatarEmbedded, BillingContact, CheckoutSession, CheckoutSessionEmbedded, Coupon, CouponEmbedded, Limit,
    PricingPlan, PricingPlanCategory, Subscription, SubscriptionEmbedded, Workspace, WorkspaceEmbedded,
};
use crate::api::rows;

/// The limit that the word fields show.
const WORDS: &str = "words";

impl From<rows::Workspace> for Workspace {
    fn from(row: rows::Workspace) -> Self {
        Self {
            embedded: WorkspaceEmbedded {
                avatar: row.avatar.map(Into::into),
                billing_contact: row.contact.map(Into::into),
                current_subscription: row.subscription.map(Into::into),
            },
            billing_contact_id: row.billing_contact_id,
            created_at: row.created_at.map(Into::into),
            created_by_user_id: row.created_by_user_id,
            current_subscription_id: row.current_subscription_id,
            first_member_invited_at: row.first_member_invited_at.map(Into::into),
            first_paid_subscription_at: row.first_paid_subscription_at.map(Into::into),
            id: row.id,
            imported_from_legacy_customer_id: row.imported_from_legacy_customer_id,
            imported_from_legacy_team_id: row.imported_from_legacy_team_id,
            key: row.key,
            key_index: row.key_index,
            name: row.name,
            trial_started_at: row.trial_started_at.map(Into::into),
            updated_at: row.updated_at.map(Into::into),
        }
    }
}

impl From<rows::Avatar> for Avatar {
    fn from(row: rows::Avatar) -> Self {
        Self {
            embedded: AvatarEmbedded { signed_url: row.signed_url.clone() },
            created_at: row.created_at.into(),
            created_by_user_id: row.created_by_user_id,
            file_name: row.file_name,
            id: row.id,
            signed_url: row.signed_url,
            storage_key: row.storage_key,
            updated_at: row.updated_at.into(),
            workspace_id: row.workspace_id,
        }
    }
}

impl From<rows::Contact> for BillingContact {
    fn from(row: rows::Contact) -> Self {
        Self {
            active_discount: row.active_discount,
            address_line1: row.address_line1,
            address_line2: row.address_line2,
            city: row.city,
            country: row.country,
            created_at: row.created_at.into(),
            created_by_user_id: row.created_by_user_id,
            default_payment_card_number_last_four_digits: row.default_payment_card_number_last_four_digits,
            default_payment_method: row.default_payment_method,
            default_payment_method_card_brand: row.default_payment_method_card_brand,
            email: row.email,
            id: row.id,
            imported_from_legacy_customer_id: row.imported_from_legacy_customer_id,
            name: row.name,
            postal_code: row.postal_code,
            state: row.state,
            stripe_customer_id: row.stripe_customer_id,
            updated_at: row.updated_at.into(),
        }
    }
}

impl From<rows::Subscription> for Subscription {
    fn from(row: rows::Subscription) -> Self {
        let words = row.limit(WORDS).cloned();
        let words = words.as_ref();
        let available_words = words.and_then(|words| words.available);
        let renews_at = words.map_or(row.next_limit_renewal, |words| words.renews_at);
        Self {
            active: row.active,
            active_discounts: row.active_discounts,
            available_words,
            bonus_words: words.map(|words| words.bonus),
            created_at: row.created_at.into(),
            created_by_user_id: row.created_by_user_id,
            currency: row.currency,
            end_date: row.end_date.map(Into::into),
            id: row.id,
            imported_from_legacy_customer_id: row.imported_from_legacy_customer_id,
            inactive_reason: row.inactive_reason,
            is_grace_period: row.is_grace_period,
            is_trial: row.is_trial,
            // a balance does not contain a planned end
            limit_renewal_date: renews_at.filter(|at| row.end_date.is_none_or(|end| *at < end)).map(Into::into),
            next_subscription_cycle_start: row.next_subscription_cycle_start.map(Into::into),
            payment_card_number_last_four_digits: row.payment_card_number_last_four_digits,
            payment_method_card_brand: row.payment_method_card_brand,
            payment_paused: row.payment_paused,
            payment_type: row.payment_type,
            pricing_plan_id: row.pricing_plan_id,
            pricing_plan_words: words.and_then(|words| words.included),
            sepa_payment_failed: row.sepa_payment_failed,
            spillover_words: words.map(|words| words.spillover),
            stripe_status: row.stripe_status,
            stripe_subscription_id: row.stripe_subscription_id,
            stripe_subscription_item_id: row.stripe_subscription_item_id,
            trial_ends_at: row.trial_ends_at.map(Into::into),
            trial_started_at: row.trial_started_at.map(Into::into),
            updated_at: row.updated_at.into(),
            used_words: words.map(|words| words.used),
            workspace_id: row.workspace_id,
            limits: row.limits.into_iter().map(Into::into).collect(),
            embedded: SubscriptionEmbedded {
                available_words,
                pricing_plan_category: row.plan.as_ref().and_then(category),
                pricing_plan: row.plan.map(Into::into),
                new_pricing_plan: row.new_plan.map(Into::into),
            },
        }
    }
}

impl From<rows::Limit> for Limit {
    fn from(row: rows::Limit) -> Self {
        Self {
            key: row.key,
            kind: row.kind,
            unlimited: row.included.is_none(),
            included: row.included,
            spillover: row.spillover,
            bonus: row.bonus,
            used: row.used,
            available: row.available,
            period_started_at: row.period_started_at.into(),
            renews_at: row.renews_at.map(Into::into),
        }
    }
}

impl From<rows::Plan> for PricingPlan {
    fn from(row: rows::Plan) -> Self {
        Self {
            active: row.active,
            billing_interval: row.billing_interval,
            category_id: row.category_id,
            display_name: row.display_name,
            id: row.id,
            imported_from_legacy_id: row.imported_from_legacy_id,
            is_default: row.is_default,
            price_in_euro: row.price_in_euro,
            price_per_currency: row.price_per_currency,
            stripe_billing_portal_enabled: row.stripe_billing_portal_enabled,
            stripe_price_id: row.stripe_price_id,
            stripe_track_usage: row.stripe_track_usage,
            tier: row.tier,
            trial_days: row.trial_days,
        }
    }
}

impl From<rows::Category> for PricingPlanCategory {
    fn from(row: rows::Category) -> Self {
        Self { display_name: row.display_name, id: row.id, translation_key: row.translation_key }
    }
}

impl From<rows::CheckoutSession> for CheckoutSession {
    fn from(row: rows::CheckoutSession) -> Self {
        Self {
            embedded: CheckoutSessionEmbedded { coupon: row.coupon.map(Into::into) },
            callback_url: row.callback_url,
            language: row.language,
            legacy_pricing_plan_id: row.plan.as_ref().and_then(|plan| plan.imported_from_legacy_id),
            pricing_plan_id: row.plan.as_ref().map(|plan| plan.id),
            status: row.status,
            // no column contains it
            stripe_client_secret: None,
            stripe_price_id: row.stripe_price_id,
            stripe_subscription_id: row.stripe_subscription_id,
        }
    }
}

impl From<rows::Coupon> for Coupon {
    fn from(row: rows::Coupon) -> Self {
        Self {
            discount_percentage: row.discount_percentage,
            legacy_pricing_plan_id: row.plan.as_ref().and_then(|plan| plan.imported_from_legacy_id),
            pricing_plan_id: row.pricing_plan_id,
            translation_key: row.translation_key,
            embedded: CouponEmbedded {
                pricing_plan_category: row.plan.as_ref().and_then(category),
                pricing_plan: row.plan.map(Into::into),
            },
        }
    }
}

fn category(plan: &rows::Plan) -> Option<PricingPlanCategory> {
    plan.category.clone().map(Into::into)
}
