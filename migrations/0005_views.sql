-- What the product reads. Everything that depends on the current time, or on tables that the product writes, is computed
-- here and not stored: it cannot become stale, and no lock of the product can delay the sync.
CREATE VIEW billing.live_billing_contacts AS
SELECT c.id, c.account, c.stripe_customer_id, c.livemode, c.name, c.email, c.address_line1, c.address_line2, c.city,
    c.postal_code, c.state, c.country,
    c.default_payment_method, c.default_payment_method_card_brand, c.default_payment_card_number_last_four_digits,
    CASE WHEN c.active_discount_ends_at <= now() THEN NULL ELSE c.active_discount END AS active_discount,
    CASE WHEN c.active_discount_ends_at > now() THEN c.active_discount_ends_at END AS active_discount_ends_at,
    c.workspace_id, c.stripe_created_at, c.stripe_deleted_at, c.created_at, c.updated_at
FROM billing.billing_contacts AS c;

COMMENT ON VIEW billing.live_billing_contacts IS 'billing_contacts as of now: active_discount is null after its end.';
COMMENT ON COLUMN billing.live_billing_contacts.active_discount IS 'Coupon id of the discount that has an effect now; null means none.';
COMMENT ON COLUMN billing.live_billing_contacts.active_discount_ends_at IS 'When that discount ends; null if no end is set, and if there is no discount. A discount of a coupon with duration once has no end either: Stripe removes it after the invoice that it reduced.';

CREATE VIEW billing.live_subscriptions AS
SELECT s.id, s.account, s.stripe_subscription_id, s.stripe_customer_id, s.livemode, s.billing_contact_id, s.workspace_id,
    s.stripe_status,
    s.active AND NOT crowded.is_so AS active,
    CASE WHEN s.active AND crowded.is_so THEN 'too_many_members' ELSE s.inactive_reason END AS inactive_reason,
    s.payment_paused, s.payment_resumes_at, s.pause_reason, s.paused_at, s.pauses_at, s.resumes_at, s.sepa_payment_failed,
    s.is_trial, s.trial_started_at, s.trial_ends_at, s.trial_end_behavior,
    -- if the end was requested, the missing payment method is not its reason
    coalesce(s.stripe_status = 'trialing' AND s.trial_end_behavior IN ('cancel', 'pause') AND s.payment_type IS NULL
        AND NOT (s.is_grace_period AND s.end_date <= s.trial_ends_at), false) AS trial_will_end_without_payment_method,
    s.is_grace_period, s.end_date, s.next_subscription_cycle_start, s.currency, s.stripe_subscription_item_id,
    s.stripe_price_id, s.pricing_plan_id, s.new_stripe_price_id, s.new_pricing_plan_id, s.new_pricing_plan_at, s.payment_type,
    s.payment_method_card_brand, s.payment_card_number_last_four_digits,
    ARRAY(
        SELECT discount.coupon
        FROM unnest(s.active_discounts, s.active_discount_ends) WITH ORDINALITY AS discount (coupon, ends_at, place)
        WHERE discount.ends_at IS NULL OR discount.ends_at > now()
        ORDER BY discount.place
    ) AS active_discounts,
    ARRAY(
        SELECT discount.ends_at
        FROM unnest(s.active_discount_ends) WITH ORDINALITY AS discount (ends_at, place)
        WHERE discount.ends_at IS NULL OR discount.ends_at > now()
        ORDER BY discount.place
    ) AS active_discount_ends,
    s.stripe_created_at, s.started_at, s.created_at, s.updated_at
FROM billing.subscriptions AS s
CROSS JOIN LATERAL (
    -- not enforced if either side is unknown
    SELECT coalesce(bool_or(w.member_count > seats.included), false) AS is_so
    FROM billing.workspaces AS w
    CROSS JOIN LATERAL (
        SELECT sum(l.included + i.quantity::numeric * l.per_unit) AS included
        FROM jsonb_to_recordset(s.items) AS i (price_id text, quantity bigint)
        LEFT JOIN billing.pricing_plans AS p ON p.account = s.account AND p.stripe_price_id = i.price_id
        LEFT JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id AND l.limit_key = 'members'
        -- included is null if it is unlimited or invalid
        HAVING count(l.id) > 0 AND bool_and(p.id IS NOT NULL AND (l.id IS NULL OR l.included IS NOT NULL))
    ) AS seats
    -- no more rows are read for a subscription that is inactive anyway, or whose members are not counted
    WHERE w.id = s.workspace_id AND s.active AND w.member_count IS NOT NULL
) AS crowded;

COMMENT ON VIEW billing.live_subscriptions IS 'subscriptions as of now: active_discounts without those that have ended, and inactive (too_many_members) if the workspace has more members than its items include together.';
COMMENT ON COLUMN billing.live_subscriptions.active IS 'The subscription may be used now.';
COMMENT ON COLUMN billing.live_subscriptions.inactive_reason IS 'As in subscriptions, or too_many_members; null exactly if the subscription is active.';
COMMENT ON COLUMN billing.live_subscriptions.trial_will_end_without_payment_method IS 'A trial runs, neither the subscription nor its customer has a known payment method, and therefore Stripe will cancel or pause it when the trial ends (see trial_end_behavior). False if it is to end by then anyway.';
COMMENT ON COLUMN billing.live_subscriptions.active_discounts IS 'Coupon ids of the discounts that have an effect now.';
COMMENT ON COLUMN billing.live_subscriptions.active_discount_ends IS 'End of each of active_discounts, at the same array position; null if none is set. A discount of a coupon with duration once has none either: Stripe removes it after the invoice that it reduced.';

CREATE VIEW billing.plans AS
SELECT p.id, p.account, p.stripe_price_id, p.stripe_product_id, p.livemode, p.active, p.billing_interval,
    p.billing_interval_count, p.currency, p.unit_amount_decimal, p.price_in_euro, p.price_per_currency,
    p.stripe_track_usage, coalesce(p.display_name, p.product_name) AS display_name, p.tier, p.is_default, p.category_id,
    p.translation_key, p.trial_days, p.stripe_billing_portal_enabled,
    coalesce(
        (SELECT jsonb_object_agg(l.limit_key, CASE WHEN l.unlimited THEN '"unlimited"' ELSE to_jsonb(l.included) END)
         FROM billing.plan_limits AS l WHERE l.pricing_plan_id = p.id),
        '{}') AS limits,
    coalesce(
        (SELECT jsonb_object_agg(l.limit_key, l.per_unit)
         FROM billing.plan_limits AS l WHERE l.pricing_plan_id = p.id AND l.per_unit > 0),
        '{}') AS limits_per_unit,
    p.created_at, p.updated_at, p.imported_from_legacy_id
FROM billing.pricing_plans AS p;

COMMENT ON VIEW billing.plans IS 'pricing_plans with their limits, and with the product''s name if you have set no display_name.';
COMMENT ON COLUMN billing.plans.display_name IS 'Your display_name, else the name of the product in Stripe.';
COMMENT ON COLUMN billing.plans.limits IS 'Amounts per item, independent of its quantity, as an object: {"words": 10000, "members": "unlimited"}; null if the value in Stripe is invalid.';
COMMENT ON COLUMN billing.plans.limits_per_unit IS 'Additional amounts per unit of the quantity, as an object: {"members": 1}.';

CREATE VIEW billing.subscription_items AS
SELECT s.id AS subscription_id, s.workspace_id, s.stripe_subscription_id, i.item_id AS stripe_subscription_item_id, i.place = 1 AS is_plan,
    i.price_id AS stripe_price_id, p.id AS pricing_plan_id, coalesce(p.display_name, p.product_name) AS display_name, i.quantity,
    coalesce(i.metered, false) AS metered, i.current_period_start, i.current_period_end,
    coalesce(
        (SELECT jsonb_object_agg(l.limit_key, CASE
            WHEN l.unlimited THEN '"unlimited"'
            ELSE to_jsonb(least(1000000000000000000, l.included + i.quantity::numeric * l.per_unit)::bigint) END)
         FROM billing.plan_limits AS l WHERE l.pricing_plan_id = p.id),
        '{}') AS includes
FROM billing.subscriptions AS s
CROSS JOIN LATERAL ROWS FROM (jsonb_to_recordset(s.items) AS (item_id text, price_id text, quantity bigint, metered boolean,
    current_period_start timestamptz, current_period_end timestamptz)) WITH ORDINALITY AS i (item_id, price_id, quantity, metered,
    current_period_start, current_period_end, place)
LEFT JOIN billing.pricing_plans AS p ON p.account = s.account AND p.stripe_price_id = i.price_id;

COMMENT ON VIEW billing.subscription_items IS 'The items of each subscription: one row for each item, with what it includes of each limit.';
COMMENT ON COLUMN billing.subscription_items.subscription_id IS 'subscriptions.id';
COMMENT ON COLUMN billing.subscription_items.workspace_id IS 'Its workspace.';
COMMENT ON COLUMN billing.subscription_items.stripe_subscription_id IS 'subscription.id';
COMMENT ON COLUMN billing.subscription_items.stripe_subscription_item_id IS 'item.id';
COMMENT ON COLUMN billing.subscription_items.is_plan IS 'The item is the plan of subscriptions.pricing_plan_id.';
COMMENT ON COLUMN billing.subscription_items.stripe_price_id IS 'item.price';
COMMENT ON COLUMN billing.subscription_items.pricing_plan_id IS 'pricing_plans.id of that price; null while the price is not known.';
COMMENT ON COLUMN billing.subscription_items.display_name IS 'Your display_name of that plan, else the name of the product in Stripe.';
COMMENT ON COLUMN billing.subscription_items.quantity IS 'item.quantity: seats; 0 for a metered item, which has no quantity.';
COMMENT ON COLUMN billing.subscription_items.metered IS 'The item is billed by usage, not by quantity.';
COMMENT ON COLUMN billing.subscription_items.current_period_start IS 'item.current_period_start, before 2025-03-31.basil that of the subscription.';
COMMENT ON COLUMN billing.subscription_items.current_period_end IS 'item.current_period_end, before 2025-03-31.basil that of the subscription.';
COMMENT ON COLUMN billing.subscription_items.includes IS 'What the item includes of each limit, for its quantity, as an object: {"words": 10000, "members": 25, "images": "unlimited"}; null if a value in Stripe is invalid.';

CREATE VIEW billing.live_coupons AS
SELECT c.id, c.account, c.stripe_coupon_id, c.livemode, c.name, c.discount_percentage, c.amount_off, c.currency, c.duration,
    c.duration_in_months, c.redeem_by, c.max_redemptions, c.times_redeemed,
    -- Stripe sends no event when redeem_by passes. Unknown values have no effect
    CASE WHEN c.stripe_deleted_at IS NOT NULL OR c.redeem_by < now() OR c.times_redeemed >= c.max_redemptions THEN false
        ELSE c.valid END AS valid,
    c.stripe_created_at, c.stripe_deleted_at, c.pricing_plan_id, c.translation_key, c.created_at, c.updated_at
FROM billing.coupons AS c;

COMMENT ON VIEW billing.live_coupons IS 'coupons as of now: valid is false after redeem_by, after max_redemptions, and if the coupon is deleted.';
COMMENT ON COLUMN billing.live_coupons.valid IS 'The coupon can be given now. Discounts that were given before continue.';

CREATE FUNCTION billing.subscription_rank(stripe_status text, payment_paused boolean) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- paused collection before the status, because Stripe leaves the status active meanwhile. An incomplete subscription
    -- was never paid
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

COMMENT ON FUNCTION billing.subscription_rank(text, boolean) IS 'Rank that decides which of a workspace''s subscriptions is the current one, the lowest first: 0 active or trialing, 1 past_due, 2 paused (status or collection), 3 unpaid, 4 incomplete and statuses new in Stripe, 5 canceled, 6 incomplete_expired.';

CREATE VIEW billing.current_subscriptions AS
SELECT DISTINCT ON (s.workspace_id) s.workspace_id, s.id, s.active AND deleted.id IS NULL AS active,
    CASE WHEN deleted.id IS NULL THEN s.inactive_reason ELSE 'workspace_deleted' END AS inactive_reason, s.pricing_plan_id
FROM billing.live_subscriptions AS s
LEFT JOIN billing.workspaces AS deleted ON deleted.id = s.workspace_id AND deleted.deleted_at IS NOT NULL
WHERE s.workspace_id IS NOT NULL
ORDER BY s.workspace_id, billing.subscription_rank(s.stripe_status, s.payment_paused),
    s.stripe_created_at DESC NULLS LAST, s.stripe_subscription_id DESC;

COMMENT ON VIEW billing.current_subscriptions IS 'The current subscription of each workspace that has one: the lowest subscription_rank, then the newest, then the greatest Stripe id.';
COMMENT ON COLUMN billing.current_subscriptions.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.current_subscriptions.id IS 'subscriptions.id';
COMMENT ON COLUMN billing.current_subscriptions.active IS 'The workspace may use the subscription now.';
COMMENT ON COLUMN billing.current_subscriptions.inactive_reason IS 'As in live_subscriptions, or workspace_deleted; null exactly if active.';
COMMENT ON COLUMN billing.current_subscriptions.pricing_plan_id IS 'pricing_plans.id of its plan; null while the plan is not known.';

CREATE VIEW billing.workspace_billing AS
SELECT known.workspace_id, current.id AS current_subscription_id,
    coalesce(known.billing_contact_override, current.billing_contact_id, (
        SELECT c.id FROM billing.billing_contacts AS c
        WHERE c.workspace_id = known.workspace_id AND c.stripe_deleted_at IS NULL
        ORDER BY c.stripe_created_at DESC NULLS LAST, c.stripe_customer_id DESC LIMIT 1)) AS billing_contact_id,
    coalesce(current.active, false) AS active,
    CASE WHEN current.id IS NULL THEN 'no_subscription' ELSE current.inactive_reason END AS inactive_reason,
    current.pricing_plan_id,
    -- these two are computed only for a query that selects them
    (SELECT min(i.paid_at)
        FROM billing.subscriptions AS s
        JOIN billing.invoice_facts AS i ON i.account = s.account AND i.subscription_id = s.stripe_subscription_id
        WHERE s.workspace_id = known.workspace_id) AS first_paid_subscription_at,
    (SELECT min(t.started_at)
        FROM billing.subscriptions AS s
        JOIN billing.trial_facts AS t ON t.account = s.account AND t.subscription_id = s.stripe_subscription_id
        WHERE s.workspace_id = known.workspace_id) AS trial_started_at
FROM (
    SELECT w.id AS workspace_id, w.billing_contact_override FROM billing.workspaces AS w WHERE w.deleted_at IS NULL
    UNION ALL
    SELECT DISTINCT named.workspace_id, NULL::uuid
    FROM (
        SELECT s.workspace_id FROM billing.subscriptions AS s
        UNION ALL
        SELECT c.workspace_id FROM billing.billing_contacts AS c WHERE c.stripe_deleted_at IS NULL
    ) AS named
    WHERE named.workspace_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM billing.workspaces AS w WHERE w.id = named.workspace_id)
) AS known
LEFT JOIN LATERAL (
    SELECT s.id, s.billing_contact_id, s.active, s.inactive_reason, s.pricing_plan_id
    FROM billing.live_subscriptions AS s
    WHERE s.workspace_id = known.workspace_id
    ORDER BY billing.subscription_rank(s.stripe_status, s.payment_paused), s.stripe_created_at DESC NULLS LAST,
        s.stripe_subscription_id DESC
    LIMIT 1
) AS current ON true;

COMMENT ON VIEW billing.workspace_billing IS 'One row for each workspace that is not deleted and that workspaces, a subscription or a contact that is not deleted names: whether it may use the product now, and by which subscription. workspace_state answers for every other id as well.';
COMMENT ON COLUMN billing.workspace_billing.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.workspace_billing.current_subscription_id IS 'subscriptions.id of the current subscription: the lowest subscription_rank, then the newest, then the greatest Stripe id.';
COMMENT ON COLUMN billing.workspace_billing.billing_contact_id IS 'billing_contacts.id of the payer: workspaces.billing_contact_override, else the contact of the current subscription, else the newest contact whose metadata in Stripe names the workspace.';
COMMENT ON COLUMN billing.workspace_billing.active IS 'The workspace may use the product now; false if it has no subscription.';
COMMENT ON COLUMN billing.workspace_billing.inactive_reason IS 'Why not: inactive_reason of the current subscription, or no_subscription; null exactly if active.';
COMMENT ON COLUMN billing.workspace_billing.pricing_plan_id IS 'pricing_plans.id of the current subscription.';
COMMENT ON COLUMN billing.workspace_billing.first_paid_subscription_at IS 'When an invoice of one of its subscriptions was first paid with money, through Stripe or out of band. Can only become earlier.';
COMMENT ON COLUMN billing.workspace_billing.trial_started_at IS 'When the first trial of one of its subscriptions began. Never cleared.';

CREATE FUNCTION billing.workspace_state(workspace_id uuid) RETURNS TABLE (
    active boolean, inactive_reason text, current_subscription_id uuid, billing_contact_id uuid, pricing_plan_id uuid
) LANGUAGE plpgsql STABLE ROWS 1 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF workspace_state.workspace_id IS NULL THEN
        RAISE EXCEPTION 'workspace_id must not be null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    SELECT b.active, b.inactive_reason, b.current_subscription_id, b.billing_contact_id, b.pricing_plan_id
    FROM billing.workspace_billing AS b WHERE b.workspace_id = workspace_state.workspace_id;
    IF NOT FOUND THEN
        -- the view omits deleted workspaces, so a row in the table means deleted
        RETURN QUERY
        SELECT false, CASE WHEN EXISTS (SELECT FROM billing.workspaces AS w WHERE w.id = workspace_state.workspace_id)
            THEN 'workspace_deleted' ELSE 'unknown_workspace' END, NULL::uuid, NULL::uuid, NULL::uuid;
    END IF;
END
$$;

COMMENT ON FUNCTION billing.workspace_state(uuid) IS 'Whether a workspace may use the product now: exactly one row for every id, with the columns of workspace_billing. If that has no row, active is false and inactive_reason is workspace_deleted, or unknown_workspace: neither workspaces nor a subscription or contact names the id. Raises 22023 if the id is null.';

REVOKE ALL ON FUNCTION billing.workspace_state(uuid) FROM PUBLIC;

-- a column that a view passes on has the comment of its table's column
DO $$
DECLARE
    passed record;
BEGIN
    FOR passed IN
        SELECT seen.oid::regclass AS view, of_view.attname AS name, col_description(base.oid, of_base.attnum) AS text
        FROM (VALUES ('live_billing_contacts', 'billing_contacts'), ('live_subscriptions', 'subscriptions'),
            ('plans', 'pricing_plans'), ('live_coupons', 'coupons')) AS pair (view, base)
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
