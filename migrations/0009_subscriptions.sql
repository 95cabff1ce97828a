CREATE TABLE billing.subscriptions (
    id uuid PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    stripe_subscription_id text COLLATE "C" NOT NULL,
    stripe_customer_id text COLLATE "C" NOT NULL,
    livemode boolean,
    billing_contact_id uuid NOT NULL,
    workspace_id uuid,
    stripe_status text NOT NULL,
    active boolean NOT NULL,
    payment_paused boolean NOT NULL,
    is_trial boolean NOT NULL,
    trial_started_at timestamptz,
    trial_ends_at timestamptz,
    is_grace_period boolean NOT NULL,
    end_date timestamptz,
    next_subscription_cycle_start timestamptz,
    currency text,
    stripe_subscription_item_id text COLLATE "C",
    stripe_price_id text COLLATE "C",
    pricing_plan_id uuid,
    active_discounts text[] NOT NULL,
    active_discount_ends timestamptz[] NOT NULL,
    stripe_created_at timestamptz,
    started_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT subscriptions_stripe_subscription UNIQUE (account, stripe_subscription_id),
    CONSTRAINT subscriptions_paused_is_inactive CHECK (NOT (active AND payment_paused)),
    CONSTRAINT subscriptions_grace_has_an_end CHECK (NOT is_grace_period OR end_date IS NOT NULL),
    CONSTRAINT subscriptions_discounts_are_pairs CHECK (cardinality(active_discounts) = cardinality(active_discount_ends))
);

CREATE INDEX subscriptions_workspace ON billing.subscriptions (workspace_id);
CREATE INDEX subscriptions_contact ON billing.subscriptions (billing_contact_id);

COMMENT ON TABLE billing.subscriptions IS 'For what, until when, and whether it may be used: one row for each Stripe subscription. Written by the sync only.';
COMMENT ON COLUMN billing.subscriptions.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.subscriptions.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.subscriptions.stripe_subscription_id IS 'subscription.id';
COMMENT ON COLUMN billing.subscriptions.stripe_customer_id IS 'subscription.customer; under Accounts v2, where that is null, subscription.customer_account (acct_…), of which there is no contact';
COMMENT ON COLUMN billing.subscriptions.livemode IS 'subscription.livemode';
COMMENT ON COLUMN billing.subscriptions.billing_contact_id IS 'billing_contacts.id of the customer. No foreign key: events come in any order, so that row may come later.';
COMMENT ON COLUMN billing.subscriptions.workspace_id IS 'The workspace named by the metadata (workspace_id or workspaceId) of the subscription, else of its customer; null where neither names one.';
COMMENT ON COLUMN billing.subscriptions.stripe_status IS 'subscription.status: active, canceled, incomplete, incomplete_expired, past_due, paused, trialing or unpaid; a value that is new in Stripe is kept.';
COMMENT ON COLUMN billing.subscriptions.active IS 'May be used: the status is active or trialing (or past_due, by BILLING_SYNC_PAST_DUE_ACTIVE), payment is not paused, and it has not ended.';
COMMENT ON COLUMN billing.subscriptions.payment_paused IS 'Payment collection is paused (pause_collection). Stripe leaves the status as it is; here the subscription is inactive meanwhile.';
COMMENT ON COLUMN billing.subscriptions.is_trial IS 'The status is trialing.';
COMMENT ON COLUMN billing.subscriptions.trial_started_at IS 'subscription.trial_start, only while the trial runs.';
COMMENT ON COLUMN billing.subscriptions.trial_ends_at IS 'subscription.trial_end, kept after the trial.';
COMMENT ON COLUMN billing.subscriptions.is_grace_period IS 'It will end at end_date and has not ended yet.';
COMMENT ON COLUMN billing.subscriptions.end_date IS 'When it ended (ended_at), or will end (cancel_at, or the end of the period); null where no end is set.';
COMMENT ON COLUMN billing.subscriptions.next_subscription_cycle_start IS 'When the next billing period begins; null where none will.';
COMMENT ON COLUMN billing.subscriptions.currency IS 'subscription.currency, lower-case ISO 4217.';
COMMENT ON COLUMN billing.subscriptions.stripe_subscription_item_id IS 'Id of the item that counts: the oldest, then the smallest id.';
COMMENT ON COLUMN billing.subscriptions.stripe_price_id IS 'Price of that item (plan in API versions without prices).';
COMMENT ON COLUMN billing.subscriptions.pricing_plan_id IS 'pricing_plans.id of that price; null where the payload named the price without its content.';
COMMENT ON COLUMN billing.subscriptions.active_discounts IS 'Coupon ids of the discounts that Stripe''s payload carries whole, in stable order. One has no effect any more once its end has passed.';
COMMENT ON COLUMN billing.subscriptions.active_discount_ends IS 'End of each of those discounts, at the same place; null means that it does not end by itself.';
COMMENT ON COLUMN billing.subscriptions.stripe_created_at IS 'subscription.created';
COMMENT ON COLUMN billing.subscriptions.started_at IS 'subscription.start_date';
COMMENT ON COLUMN billing.subscriptions.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.subscriptions.updated_at IS 'When a field of this row last changed, by the database''s clock.';
