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
    pause_reason text,
    paused_at timestamptz,
    pauses_at timestamptz,
    resumes_at timestamptz,
    is_trial boolean NOT NULL,
    trial_started_at timestamptz,
    trial_ends_at timestamptz,
    trial_end_behavior text,
    is_grace_period boolean NOT NULL,
    end_date timestamptz,
    next_subscription_cycle_start timestamptz,
    currency text,
    stripe_subscription_item_id text COLLATE "C",
    stripe_price_id text COLLATE "C",
    pricing_plan_id uuid,
    items jsonb CHECK (jsonb_typeof(items) = 'array'),
    active_discounts text[] NOT NULL,
    active_discount_ends timestamptz[] NOT NULL,
    stripe_created_at timestamptz,
    started_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT subscriptions_stripe_subscription UNIQUE (account, stripe_subscription_id),
    CONSTRAINT subscriptions_paused_is_inactive CHECK (NOT (active AND payment_paused)),
    CONSTRAINT subscriptions_pause_has_its_status
        CHECK (stripe_status = 'paused' OR (pause_reason IS NULL AND paused_at IS NULL)),
    CONSTRAINT subscriptions_paused_is_not_to_be_paused CHECK (stripe_status <> 'paused' OR pauses_at IS NULL),
    CONSTRAINT subscriptions_only_a_trial_has_started CHECK (is_trial OR trial_started_at IS NULL),
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
COMMENT ON COLUMN billing.subscriptions.pause_reason IS 'Why the status is paused (status_details.paused.subscription.type): pause_requested, trial_end_without_payment_method, first_payment_failure, final_payment_failure or system; a value that is new in Stripe is kept. Null while it is not paused, and where Stripe does not say: API versions before 2026-09-30.endive.';
COMMENT ON COLUMN billing.subscriptions.paused_at IS 'When the status became paused (status_details.paused.transitioned_at); null as pause_reason is.';
COMMENT ON COLUMN billing.subscriptions.pauses_at IS 'When its schedule will pause it (subscription_schedule.pause_schedules); null where no pause is planned, and while it is paused. Stripe says when it has.';
COMMENT ON COLUMN billing.subscriptions.resumes_at IS 'When its schedule will resume it (subscription_schedule.pause_schedules), from the pause that holds or the one that is planned; null where it stays paused until it is resumed. It may stay paused longer: a resume may wait for its payment.';
COMMENT ON COLUMN billing.subscriptions.is_trial IS 'The status is trialing, or a trial offer runs for the item that counts (item.current_trial): a paid trial has the status active.';
COMMENT ON COLUMN billing.subscriptions.trial_started_at IS 'Start of that trial offer (current_trial.start_date), else subscription.trial_start; only while the trial runs.';
COMMENT ON COLUMN billing.subscriptions.trial_ends_at IS 'End of the trial offer of that item (current_trial.end_date), else subscription.trial_end, which stays after the trial.';
COMMENT ON COLUMN billing.subscriptions.trial_end_behavior IS 'What Stripe does when a trial ends and no payment method is there (trial_settings.end_behavior.missing_payment_method): cancel, create_invoice or pause; a value that is new in Stripe is kept.';
COMMENT ON COLUMN billing.subscriptions.is_grace_period IS 'It will end at end_date and has not ended yet.';
COMMENT ON COLUMN billing.subscriptions.end_date IS 'When it ended (ended_at), or will end (cancel_at, or the end of the period); null where no end is set.';
COMMENT ON COLUMN billing.subscriptions.next_subscription_cycle_start IS 'When the next billing period begins; null where none will.';
COMMENT ON COLUMN billing.subscriptions.currency IS 'subscription.currency, lower-case ISO 4217.';
COMMENT ON COLUMN billing.subscriptions.stripe_subscription_item_id IS 'Id of the item that is the plan: of several the one whose price has the lowest pricing_plans.plan_rank, then the oldest, then the smallest id.';
COMMENT ON COLUMN billing.subscriptions.stripe_price_id IS 'Price of that item (plan in API versions without prices).';
COMMENT ON COLUMN billing.subscriptions.pricing_plan_id IS 'pricing_plans.id of that price; null where the payload named the price without its content.';
COMMENT ON COLUMN billing.subscriptions.items IS 'All its items, the plan first: an array of objects. The view subscription_items has a row for each. Null where the payload does not list all of them and no read has done so yet.';
COMMENT ON COLUMN billing.subscriptions.active_discounts IS 'Coupon ids of the discounts that Stripe''s payload carries whole, in stable order. One has no effect any more once its end has passed.';
COMMENT ON COLUMN billing.subscriptions.active_discount_ends IS 'End of each of those discounts (discount.end), at the same place; null where none is set: duration forever, but also duration once, whose discount Stripe takes away after the invoice that it reduced.';
COMMENT ON COLUMN billing.subscriptions.stripe_created_at IS 'subscription.created';
COMMENT ON COLUMN billing.subscriptions.started_at IS 'subscription.start_date';
COMMENT ON COLUMN billing.subscriptions.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.subscriptions.updated_at IS 'When a field of this row last changed, by the database''s clock.';
