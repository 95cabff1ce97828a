CREATE TABLE billing.pricing_plans (
    id uuid PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    stripe_price_id text COLLATE "C" NOT NULL,
    stripe_product_id text COLLATE "C",
    livemode boolean,
    active boolean,
    billing_interval text,
    billing_interval_count bigint,
    currency text,
    unit_amount_decimal numeric,
    stripe_track_usage boolean,
    plan_rank smallint NOT NULL DEFAULT 8,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pricing_plans_stripe_price UNIQUE (account, stripe_price_id)
);

COMMENT ON TABLE billing.pricing_plans IS 'What a subscription buys: one row for each Stripe price that a subscription was seen with. Written by the sync only.';
COMMENT ON COLUMN billing.pricing_plans.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.pricing_plans.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.pricing_plans.stripe_price_id IS 'price.id (plan.id in API versions without prices).';
COMMENT ON COLUMN billing.pricing_plans.stripe_product_id IS 'price.product';
COMMENT ON COLUMN billing.pricing_plans.livemode IS 'price.livemode';
COMMENT ON COLUMN billing.pricing_plans.active IS 'price.active, as the newest subscription event carried it.';
COMMENT ON COLUMN billing.pricing_plans.billing_interval IS 'price.recurring.interval: day, week, month or year; unknown values are kept.';
COMMENT ON COLUMN billing.pricing_plans.billing_interval_count IS 'price.recurring.interval_count: how many intervals one billing period has.';
COMMENT ON COLUMN billing.pricing_plans.currency IS 'price.currency, lower-case ISO 4217.';
COMMENT ON COLUMN billing.pricing_plans.unit_amount_decimal IS 'price.unit_amount_decimal (else unit_amount), in the smallest unit of the currency, exact; null for tiers and custom amounts.';
COMMENT ON COLUMN billing.pricing_plans.stripe_track_usage IS 'price.recurring.usage_type is metered.';
COMMENT ON COLUMN billing.pricing_plans.plan_rank IS 'Which of several items of a subscription is its plan: the one whose price has the lowest rank, then the oldest, then the smallest id. By the metadata is_plan of the price, else of its product (true 0, none 6, false 12), plus 3 for a metered price, plus 0 where the price''s metadata names a limit, 1 where its product''s does, 2 where neither does.';
COMMENT ON COLUMN billing.pricing_plans.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.pricing_plans.updated_at IS 'When a field of this row last changed, by the database''s clock.';
