CREATE TABLE billing.coupons (
    id uuid PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    stripe_coupon_id text COLLATE "C" NOT NULL,
    livemode boolean,
    name text,
    discount_percentage numeric,
    amount_off bigint,
    currency text,
    duration text,
    duration_in_months bigint,
    redeem_by timestamptz,
    max_redemptions bigint,
    times_redeemed bigint,
    valid boolean,
    stripe_created_at timestamptz,
    stripe_deleted_at timestamptz,
    pricing_plan_id uuid,
    translation_key text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT coupons_stripe_coupon UNIQUE (account, stripe_coupon_id)
);

COMMENT ON TABLE billing.coupons IS 'Discounts that can be given: one row for each Stripe coupon that was seen, as Stripe last sent it; live_coupons has it as of now. Written by the sync, but for the columns that say otherwise.';
COMMENT ON COLUMN billing.coupons.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.coupons.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.coupons.stripe_coupon_id IS 'coupon.id, as active_discount and active_discounts name it.';
COMMENT ON COLUMN billing.coupons.livemode IS 'coupon.livemode';
COMMENT ON COLUMN billing.coupons.name IS 'coupon.name';
COMMENT ON COLUMN billing.coupons.discount_percentage IS 'coupon.percent_off, from 0 to 100; null where an amount is taken off.';
COMMENT ON COLUMN billing.coupons.amount_off IS 'coupon.amount_off, in the smallest unit of currency; null where a percentage is taken off.';
COMMENT ON COLUMN billing.coupons.currency IS 'coupon.currency, of amount_off.';
COMMENT ON COLUMN billing.coupons.duration IS 'coupon.duration: once (the discount is used up by one invoice), repeating (for duration_in_months) or forever; unknown values are kept.';
COMMENT ON COLUMN billing.coupons.duration_in_months IS 'coupon.duration_in_months, of a repeating one.';
COMMENT ON COLUMN billing.coupons.redeem_by IS 'coupon.redeem_by: the last moment at which it can be given; null has none. Stripe sends no event when it passes.';
COMMENT ON COLUMN billing.coupons.max_redemptions IS 'coupon.max_redemptions: how often it can be given altogether; null is without limit.';
COMMENT ON COLUMN billing.coupons.times_redeemed IS 'coupon.times_redeemed: how often it was given, as of the newest event or read of the coupon.';
COMMENT ON COLUMN billing.coupons.valid IS 'coupon.valid as Stripe last sent it, false once the coupon is deleted. Whether it can be given now: live_coupons.';
COMMENT ON COLUMN billing.coupons.stripe_created_at IS 'coupon.created';
COMMENT ON COLUMN billing.coupons.stripe_deleted_at IS 'When it was deleted in Stripe. Discounts that were given go on.';
COMMENT ON COLUMN billing.coupons.pricing_plan_id IS 'Yours: the plan that you offer it for. Never written by the sync.';
COMMENT ON COLUMN billing.coupons.translation_key IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.coupons.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.coupons.updated_at IS 'When a field of this row last changed, by the database''s clock.';
