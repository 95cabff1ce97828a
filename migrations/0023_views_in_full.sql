-- Two views left out the ends of discounts, which a page about an invoice shows.
CREATE OR REPLACE VIEW billing.live_billing_contacts AS
SELECT c.id, c.account, c.stripe_customer_id, c.livemode, c.name, c.email, c.address_line1, c.address_line2, c.city,
    c.postal_code, c.state, c.country,
    CASE WHEN c.active_discount_ends_at <= now() THEN NULL ELSE c.active_discount END AS active_discount,
    c.default_payment_method, c.default_payment_method_card_brand, c.default_payment_card_number_last_four_digits,
    c.workspace_id, c.stripe_created_at, c.stripe_deleted_at, c.created_at, c.updated_at,
    CASE WHEN c.active_discount_ends_at > now() THEN c.active_discount_ends_at END AS active_discount_ends_at
FROM billing.billing_contacts AS c;

CREATE OR REPLACE VIEW billing.live_subscriptions AS
SELECT s.id, s.account, s.stripe_subscription_id, s.stripe_customer_id, s.livemode, s.billing_contact_id, s.workspace_id,
    s.stripe_status,
    s.active AND NOT crowded.is_so AS active,
    CASE WHEN s.active AND crowded.is_so THEN 'too_many_members' ELSE s.inactive_reason END AS inactive_reason,
    s.payment_paused, s.payment_resumes_at, s.sepa_payment_failed, s.is_trial, s.trial_started_at, s.trial_ends_at,
    s.is_grace_period, s.end_date, s.next_subscription_cycle_start, s.currency, s.stripe_subscription_item_id,
    s.stripe_price_id, s.pricing_plan_id, s.new_stripe_price_id, s.new_pricing_plan_id, s.payment_type,
    s.payment_method_card_brand, s.payment_card_number_last_four_digits,
    ARRAY(
        SELECT discount.coupon
        FROM unnest(s.active_discounts, s.active_discount_ends) WITH ORDINALITY AS discount (coupon, ends_at, place)
        WHERE discount.ends_at IS NULL OR discount.ends_at > now()
        ORDER BY discount.place
    ) AS active_discounts,
    s.stripe_created_at, s.started_at, s.created_at, s.updated_at,
    ARRAY(
        SELECT discount.ends_at
        FROM unnest(s.active_discount_ends) WITH ORDINALITY AS discount (ends_at, place)
        WHERE discount.ends_at IS NULL OR discount.ends_at > now()
        ORDER BY discount.place
    ) AS active_discount_ends
FROM billing.subscriptions AS s
CROSS JOIN LATERAL (
    -- unknown on either side is not enforced
    SELECT coalesce(bool_or(w.member_count > l.included), false) AS is_so
    FROM billing.workspaces AS w
    JOIN billing.plan_limits AS l ON l.pricing_plan_id = s.pricing_plan_id AND l.limit_key = 'members'
    WHERE w.id = s.workspace_id
) AS crowded;

-- an incomplete one that is paused as well was never paid for, and must not come before an unpaid one
CREATE OR REPLACE FUNCTION billing.subscription_rank(stripe_status text, payment_paused boolean) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- paused collection comes before the status: Stripe leaves it active meanwhile
    RETURN CASE
        WHEN payment_paused AND stripe_status NOT IN ('canceled', 'incomplete', 'incomplete_expired') THEN 2
        WHEN stripe_status IN ('active', 'trialing') THEN 0
        WHEN stripe_status = 'past_due' THEN 1
        WHEN stripe_status = 'paused' THEN 2
        WHEN stripe_status = 'unpaid' THEN 3
        WHEN stripe_status = 'canceled' THEN 5
        WHEN stripe_status = 'incomplete_expired' THEN 6
        ELSE 4
    END;

COMMENT ON COLUMN billing.live_billing_contacts.active_discount IS 'Coupon id of the discount that has an effect now; null is none.';
COMMENT ON COLUMN billing.live_billing_contacts.active_discount_ends_at IS 'When that discount ends; null where it does not end by itself, and where there is none.';
COMMENT ON COLUMN billing.live_subscriptions.active_discount_ends IS 'End of each of active_discounts, at the same place; null means that it does not end by itself.';

-- what a view passes on means there what it means in its table
DO $$
DECLARE
    passed record;
BEGIN
    FOR passed IN
        SELECT seen.oid::regclass AS view, of_view.attname AS name, col_description(base.oid, of_base.attnum) AS text
        FROM (VALUES ('live_billing_contacts', 'billing_contacts'), ('live_subscriptions', 'subscriptions'),
            ('plans', 'pricing_plans')) AS pair (view, base)
        JOIN pg_class AS seen ON seen.oid = ('billing.' || pair.view)::regclass
        JOIN pg_class AS base ON base.oid = ('billing.' || pair.base)::regclass
        JOIN pg_attribute AS of_view ON of_view.attrelid = seen.oid AND of_view.attnum > 0
        JOIN pg_attribute AS of_base ON of_base.attrelid = base.oid AND of_base.attname = of_view.attname
        WHERE col_description(seen.oid, of_view.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', passed.view, passed.name, passed.text);
    END LOOP;
END
$$;
