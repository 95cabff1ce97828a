//! Parts of SELECTs that several statements share: the JSON of one entity, with the fields of its struct in
//! [`super::entities`].
//!
//! Each macro takes the aliases of the tables that it reads, and expands to text.

/// The caller may see the workspace: `$2` is whether it sees all, `$3` otherwise its user.
macro_rules! visible {
    ($workspace:literal) => {
        concat!(
            "($2 OR EXISTS (SELECT FROM billing.workspace_members AS m WHERE m.workspace_id = ",
            $workspace,
            " AND m.user_id = $3))"
        )
    };
}

/// A billing contact: `c` of `live_billing_contacts`, `o` of `row_origins`.
macro_rules! contact_json {
    () => {
        "json_build_object('id', c.id, 'account', c.account, 'is_deleted', c.stripe_deleted_at IS NOT NULL,
            'name', c.name, 'email', c.email, 'address_line1', c.address_line1,
            'address_line2', c.address_line2, 'city', c.city, 'postal_code', c.postal_code, 'state', c.state,
            'country', c.country, 'default_payment_method', c.default_payment_method,
            'default_payment_method_card_brand', c.default_payment_method_card_brand,
            'default_payment_card_number_last_four_digits', c.default_payment_card_number_last_four_digits,
            'active_discount', c.active_discount, 'stripe_customer_id', c.stripe_customer_id,
            'created_by_user_id', o.created_by_user_id,
            'imported_from_legacy_customer_id', o.imported_from_legacy_customer_id,
            'created_at', coalesce(c.stripe_created_at, c.created_at), 'updated_at', c.updated_at)"
    };
}

/// A plan with its category, by a condition on `p` of `plans`; null if there is none.
macro_rules! plan_json {
    ($condition:literal) => {
        concat!(
            "(SELECT json_build_object('id', p.id, 'active', p.active, 'billing_interval', p.billing_interval,
                'category_id', p.category_id, 'display_name', p.display_name,
                'imported_from_legacy_id', p.imported_from_legacy_id, 'is_default', p.is_default,
                'price_in_euro', p.price_in_euro, 'price_per_currency', p.price_per_currency,
                'stripe_billing_portal_enabled', p.stripe_billing_portal_enabled,
                'stripe_price_id', p.stripe_price_id, 'stripe_track_usage', p.stripe_track_usage, 'tier', p.tier,
                'trial_days', p.trial_days,
                'category', CASE WHEN p.category_id IS NOT NULL THEN json_build_object('id', p.category_id,
                    'display_name', k.display_name, 'translation_key', k.translation_key) END)
            FROM billing.plans AS p
            LEFT JOIN billing.pricing_plan_categories AS k ON k.id = p.category_id
            WHERE ",
            $condition,
            " LIMIT 1)"
        )
    };
}

/// The limits `l` of `current_limits`, of the subscription `s` of `live_subscriptions`, as an array.
macro_rules! limits_json {
    () => {
        "coalesce(json_agg(json_build_object('key', l.limit_key, 'kind', l.kind, 'included', l.included,
                'spillover', l.spillover, 'bonus', l.bonus, 'used', l.used,
                'available', CASE WHEN s.active THEN l.available ELSE 0 END, 'period_started_at', l.period_start,
                'renews_at', l.renews_at) ORDER BY l.limit_key), '[]')"
    };
}

/// A subscription with its plans and limits, by a condition on `s` of `live_subscriptions`; null if there is none.
macro_rules! subscription_json {
    ($condition:literal) => {
        concat!(
            "(SELECT json_build_object('id', s.id, 'active', s.active, 'inactive_reason', s.inactive_reason,
                'active_discounts', s.active_discounts, 'currency', s.currency, 'end_date', s.end_date,
                'is_grace_period', s.is_grace_period, 'is_trial', s.is_trial,
                'next_subscription_cycle_start', s.next_subscription_cycle_start,
                'payment_card_number_last_four_digits', s.payment_card_number_last_four_digits,
                'payment_method_card_brand', s.payment_method_card_brand, 'payment_type', s.payment_type,
                'payment_paused', s.payment_paused, 'pricing_plan_id', s.pricing_plan_id,
                'sepa_payment_failed', s.sepa_payment_failed, 'stripe_status', s.stripe_status,
                'stripe_subscription_id', s.stripe_subscription_id,
                'stripe_subscription_item_id', s.stripe_subscription_item_id, 'trial_ends_at', s.trial_ends_at,
                'trial_started_at', s.trial_started_at, 'workspace_id', s.workspace_id,
                'created_by_user_id', o.created_by_user_id,
                'imported_from_legacy_customer_id', o.imported_from_legacy_customer_id,
                'created_at', coalesce(s.stripe_created_at, s.created_at), 'updated_at', s.updated_at,
                'limits', limits.list,
                'next_limit_renewal', coalesce(limits.renews_at, billing.next_limit_renewal(s.id)), 'plan', ",
            plan_json!("p.id = s.pricing_plan_id"),
            ", 'new_plan', ",
            plan_json!("p.id = s.new_pricing_plan_id"),
            ")
            FROM billing.live_subscriptions AS s
            LEFT JOIN billing.row_origins AS o ON o.row_id = s.id
            CROSS JOIN LATERAL (
                SELECT ",
            limits_json!(),
            " AS list, min(l.renews_at) AS renews_at FROM billing.current_limits(s.id) AS l
            ) AS limits
            WHERE ",
            $condition,
            " LIMIT 1)"
        )
    };
}

/// A workspace with its embedded rows: `b` of `workspace_billing`, `w` of `workspaces`.
macro_rules! workspace_json {
    () => {
        concat!(
            "json_build_object('id', b.workspace_id, 'billing_contact_id', b.billing_contact_id, 'name', w.name,
            'key', w.key, 'key_index', w.key_index, 'current_subscription_id', b.current_subscription_id,
            'created_by_user_id', w.created_by_user_id, 'first_member_invited_at', w.first_member_invited_at,
            'first_paid_subscription_at', b.first_paid_subscription_at,
            'imported_from_legacy_customer_id', w.imported_from_legacy_customer_id,
            'imported_from_legacy_team_id', w.imported_from_legacy_team_id, 'trial_started_at', b.trial_started_at,
            'created_at', w.created_at, 'updated_at', w.updated_at,
            'avatar', (SELECT json_build_object('id', a.id, 'workspace_id', a.workspace_id, 'signed_url', a.signed_url,
                    'file_name', a.file_name, 'storage_key', a.storage_key,
                    'created_by_user_id', a.created_by_user_id, 'created_at', a.created_at, 'updated_at', a.updated_at)
                FROM billing.workspace_avatars AS a WHERE a.workspace_id = b.workspace_id),
            'contact', (SELECT ",
            contact_json!(),
            "
                FROM billing.live_billing_contacts AS c LEFT JOIN billing.row_origins AS o ON o.row_id = c.id
                WHERE c.id = b.billing_contact_id),
            'subscription', ",
            subscription_json!("s.id = b.current_subscription_id"),
            ")"
        )
    };
}

pub(super) use {contact_json, limits_json, plan_json, subscription_json, visible, workspace_json};
