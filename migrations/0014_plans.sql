ALTER TABLE billing.pricing_plans
    ADD COLUMN product_name text,
    ADD COLUMN price_in_euro numeric,
    ADD COLUMN price_per_currency jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN display_name text,
    ADD COLUMN tier integer,
    ADD COLUMN is_default boolean,
    ADD COLUMN category_id text,
    ADD COLUMN translation_key text,
    ADD COLUMN trial_days integer,
    ADD COLUMN stripe_billing_portal_enabled boolean;

CREATE INDEX pricing_plans_product ON billing.pricing_plans (account, stripe_product_id);

COMMENT ON TABLE billing.pricing_plans IS 'What a subscription buys: one row for each Stripe price that was seen. Written by the sync, but for the columns that say otherwise.';
COMMENT ON COLUMN billing.pricing_plans.active IS 'Can be chosen: price.active, and its product is active, and neither is deleted. Subscriptions that have it go on.';
COMMENT ON COLUMN billing.pricing_plans.product_name IS 'product.name, as Stripe has it; null until the product is known.';
COMMENT ON COLUMN billing.pricing_plans.price_in_euro IS 'The price in euros, exact; null where it has none in that currency.';
COMMENT ON COLUMN billing.pricing_plans.price_per_currency IS 'The price in each currency that it has one in, as an object: {"eur": 19.90, "jpy": 2500}. In whole units of the currency, exact.';
COMMENT ON COLUMN billing.pricing_plans.display_name IS 'Yours: never written by the sync. The view plans falls back to product_name.';
COMMENT ON COLUMN billing.pricing_plans.tier IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.is_default IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.category_id IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.translation_key IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.trial_days IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.stripe_billing_portal_enabled IS 'Yours: never written by the sync.';

CREATE TABLE billing.plan_limits (
    id uuid PRIMARY KEY,
    pricing_plan_id uuid NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    included bigint CHECK (included BETWEEN 0 AND 1000000000000000000),
    per_unit bigint NOT NULL DEFAULT 0 CHECK (per_unit BETWEEN 0 AND 1000000000000000000),
    unlimited boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT plan_limits_key UNIQUE (pricing_plan_id, limit_key),
    CONSTRAINT plan_limits_unlimited_has_no_number CHECK (NOT unlimited OR included IS NULL)
);

COMMENT ON TABLE billing.plan_limits IS 'What a plan includes: one row for each limit_… key in the metadata of the price, else of its product. A subscription includes the sum over all its items. Written by the sync only.';
COMMENT ON COLUMN billing.plan_limits.id IS 'Row id, a UUIDv5 of account, Stripe id and limit: a rebuild gives the same.';
COMMENT ON COLUMN billing.plan_limits.pricing_plan_id IS 'pricing_plans.id';
COMMENT ON COLUMN billing.plan_limits.limit_key IS 'What is limited: words, images, members …, the key without limit_.';
COMMENT ON COLUMN billing.plan_limits.included IS 'How much an item includes whatever its quantity (limit_<key>), at most 10^18; null where it is unlimited, and where a value in Stripe cannot be read.';
COMMENT ON COLUMN billing.plan_limits.per_unit IS 'How much it includes for each unit of its quantity besides (limit_<key>_per_unit), at most 10^18.';
COMMENT ON COLUMN billing.plan_limits.unlimited IS 'One of the two values is unlimited.';
COMMENT ON COLUMN billing.plan_limits.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.plan_limits.updated_at IS 'When a field of this row last changed, by the database''s clock.';

CREATE FUNCTION billing.included_by(account text, price_ids text[], quantities bigint[], limit_key text) RETURNS TABLE (
    is_known boolean, is_unreadable boolean, unlimited boolean, included bigint, amounts bigint[]
) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT coalesce(bool_or(l.unlimited), false) OR (
            $2 IS NOT NULL
            AND NOT coalesce(bool_or(p.id IS NULL OR (l.included IS NULL AND l.id IS NOT NULL)), false)
            -- a product that is not known yet may name the limit, unless another item names it already
            AND (coalesce(bool_or(l.id IS NOT NULL), false)
                OR NOT coalesce(bool_or(p.stripe_product_id IS NOT NULL AND p.product_name IS NULL), false))),
        coalesce(bool_or(l.included IS NULL AND NOT l.unlimited), false),
        coalesce(bool_or(l.unlimited), false),
        CASE WHEN NOT coalesce(bool_or(l.unlimited), false) THEN least(1000000000000000000, coalesce(sum(item.amount), 0))::bigint END,
        coalesce(array_agg(item.amount ORDER BY i.place), '{}')
    FROM unnest($2, $3) WITH ORDINALITY AS i (price_id, quantity, place)
    LEFT JOIN billing.pricing_plans AS p ON p.account = $1 AND p.stripe_price_id = i.price_id
    LEFT JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id AND l.limit_key = $4
    CROSS JOIN LATERAL (
        -- as numeric, because the product of two large numbers is no bigint
        SELECT CASE
            WHEN l.unlimited THEN NULL
            WHEN l.per_unit > 0 THEN least(1000000000000000000, coalesce(l.included, 0) + i.quantity::numeric * l.per_unit)::bigint
            ELSE coalesce(l.included, 0) END AS amount
    ) AS item
$$;

COMMENT ON FUNCTION billing.included_by(text, text[], bigint[], text) IS 'What items of these prices and quantities include of a limit together, at most 10^18, and each of them (null is unlimited). is_known: all their prices are known and readable, or one of them is unlimited. is_unreadable: a value in Stripe cannot be read.';
