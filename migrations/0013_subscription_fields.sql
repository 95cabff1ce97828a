ALTER TABLE billing.subscriptions
    ADD COLUMN inactive_reason text,
    ADD COLUMN payment_resumes_at timestamptz,
    ADD COLUMN sepa_payment_failed boolean NOT NULL DEFAULT false,
    ADD COLUMN new_stripe_price_id text COLLATE "C",
    ADD COLUMN new_pricing_plan_id uuid,
    ADD COLUMN new_pricing_plan_at timestamptz,
    ADD COLUMN payment_type text,
    ADD COLUMN payment_method_card_brand text,
    ADD COLUMN payment_card_number_last_four_digits text;

-- rows that are there already: what the projection would say
UPDATE billing.subscriptions SET inactive_reason = CASE
    WHEN stripe_status IN ('past_due', 'unpaid', 'paused', 'incomplete', 'incomplete_expired', 'canceled') THEN stripe_status
    WHEN stripe_status NOT IN ('active', 'trialing') THEN 'unknown_status'
    WHEN payment_paused THEN 'payment_paused'
    ELSE 'ended'
END
WHERE NOT active;

ALTER TABLE billing.subscriptions
    ADD CONSTRAINT subscriptions_inactive_has_a_reason CHECK (active = (inactive_reason IS NULL)),
    ADD CONSTRAINT subscriptions_known_reasons CHECK (inactive_reason IN ('payment_paused', 'paused', 'pause_requested',
        'trial_end_without_payment_method', 'first_payment_failure', 'final_payment_failure', 'past_due', 'unpaid', 'incomplete', 'incomplete_expired', 'canceled', 'ended', 'unknown_status')),
    ADD CONSTRAINT subscriptions_brand_is_of_a_card CHECK (payment_method_card_brand IS NULL OR payment_type = 'card'),
    ADD CONSTRAINT subscriptions_new_plan_has_a_price CHECK (new_pricing_plan_id IS NULL OR new_stripe_price_id IS NOT NULL),
    ADD CONSTRAINT subscriptions_new_plan_at_has_a_price CHECK (new_pricing_plan_at IS NULL OR new_stripe_price_id IS NOT NULL);

COMMENT ON COLUMN billing.subscriptions.inactive_reason IS 'Why it is not active: payment_paused (its collection is paused), paused (the status, for a reason that Stripe does not give), pause_requested, trial_end_without_payment_method, first_payment_failure and final_payment_failure (the status is paused, and why), past_due, unpaid, incomplete, incomplete_expired, canceled, ended, unknown_status; null exactly where it is active.';
COMMENT ON COLUMN billing.subscriptions.payment_resumes_at IS 'When Stripe will end the pause of collection (pause_collection.resumes_at); it ends here when Stripe says so.';
COMMENT ON COLUMN billing.subscriptions.sepa_payment_failed IS 'A SEPA payment failed and its invoice was not paid since, or was disputed and the dispute not won; and no later charge of this subscription has succeeded.';
COMMENT ON COLUMN billing.subscriptions.new_stripe_price_id IS 'The price that its item will change to: by an update that waits for its payment (pending_update), else by the next phase of its schedule; null where no other price is planned.';
COMMENT ON COLUMN billing.subscriptions.new_pricing_plan_id IS 'pricing_plans.id of that price; null while the price is not known.';
COMMENT ON COLUMN billing.subscriptions.new_pricing_plan_at IS 'When it will change: the start of that phase; null while the change waits for its payment, and where none is planned.';
COMMENT ON COLUMN billing.subscriptions.payment_type IS 'Type of the method that it will be charged to, in Stripe''s order: its own default payment method, its own default source, its customer''s default payment method, its customer''s default source; where none of these is known, what paid its last invoice.';
COMMENT ON COLUMN billing.subscriptions.payment_method_card_brand IS 'Brand of that card: visa, mastercard, amex …; null where it is no card.';
COMMENT ON COLUMN billing.subscriptions.payment_card_number_last_four_digits IS 'Last four digits of that card, account or IBAN, or of the card behind a wallet, leading zeros kept.';
COMMENT ON COLUMN billing.subscriptions.pricing_plan_id IS 'pricing_plans.id of that price; null while the price is not known.';
COMMENT ON COLUMN billing.subscriptions.active_discounts IS 'Coupon ids of its discounts and its items'', in stable order. One has no effect any more once its end has passed: live_subscriptions leaves it out.';
COMMENT ON COLUMN billing.subscriptions.workspace_id IS 'The workspace named by the metadata (workspace_id or workspaceId) of the subscription, else of its customer, else by the checkout session that made it (metadata, or client_reference_id, unless it is of a Payment Link); null where none names one.';
COMMENT ON COLUMN billing.subscriptions.end_date IS 'When it ended (ended_at), or will end (cancel_at, the end of the period, or the end of a schedule that cancels); null where no end is set.';
