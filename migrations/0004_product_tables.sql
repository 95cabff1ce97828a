CREATE TABLE billing.billing_contacts (
    id uuid PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    stripe_customer_id text COLLATE "C" NOT NULL,
    livemode boolean,
    name text,
    email text,
    address_line1 text,
    address_line2 text,
    city text,
    postal_code text,
    state text,
    country text,
    default_payment_method text,
    default_payment_method_card_brand text,
    default_payment_card_number_last_four_digits text,
    active_discount text,
    active_discount_ends_at timestamptz,
    workspace_id uuid,
    stripe_created_at timestamptz,
    stripe_deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT billing_contacts_stripe_customer UNIQUE (account, stripe_customer_id),
    CONSTRAINT billing_contacts_brand_is_of_a_card CHECK (
        default_payment_method_card_brand IS NULL OR default_payment_method = 'card'),
    CONSTRAINT billing_contacts_discount_end_needs_a_discount CHECK (active_discount IS NOT NULL OR active_discount_ends_at IS NULL)
);
CREATE INDEX billing_contacts_workspace ON billing.billing_contacts (workspace_id);

COMMENT ON TABLE billing.billing_contacts IS 'The payers: one row for each Stripe customer. Written by the sync only.';
COMMENT ON COLUMN billing.billing_contacts.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.billing_contacts.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.billing_contacts.stripe_customer_id IS 'customer.id';
COMMENT ON COLUMN billing.billing_contacts.livemode IS 'customer.livemode';
COMMENT ON COLUMN billing.billing_contacts.name IS 'customer.name, as in Stripe, null included.';
COMMENT ON COLUMN billing.billing_contacts.email IS 'customer.email, as in Stripe, null included.';
COMMENT ON COLUMN billing.billing_contacts.address_line1 IS 'customer.address.line1; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.address_line2 IS 'customer.address.line2; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.city IS 'customer.address.city; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.postal_code IS 'customer.address.postal_code; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.state IS 'customer.address.state; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.country IS 'customer.address.country, two letters; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.default_payment_method IS 'Type of the default payment method for invoices: card, sepa_debit …, as Stripe names it; invoice_settings.default_payment_method, else default_source.';
COMMENT ON COLUMN billing.billing_contacts.default_payment_method_card_brand IS 'Brand of that card: visa, mastercard, amex …; null if it is not a card.';
COMMENT ON COLUMN billing.billing_contacts.default_payment_card_number_last_four_digits IS 'Last four digits of that card, account or IBAN, or of the card behind a wallet, leading zeros kept.';
COMMENT ON COLUMN billing.billing_contacts.active_discount IS 'Coupon id of the customer''s own discount; null means none. The discount has no effect after active_discount_ends_at.';
COMMENT ON COLUMN billing.billing_contacts.active_discount_ends_at IS 'End of that discount (discount.end); null if none is set: duration forever, but also duration once, because Stripe removes that discount after the invoice that it reduced.';
COMMENT ON COLUMN billing.billing_contacts.workspace_id IS 'The workspace in customer.metadata (workspace_id or workspaceId); used for subscriptions without one.';
COMMENT ON COLUMN billing.billing_contacts.stripe_created_at IS 'customer.created';
COMMENT ON COLUMN billing.billing_contacts.stripe_deleted_at IS 'When the customer was deleted in Stripe. The row stays, with its last content and without its discount.';
COMMENT ON COLUMN billing.billing_contacts.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.billing_contacts.updated_at IS 'When a field of this row last changed, by the database''s clock.';

CREATE TABLE billing.pricing_plans (
    id uuid PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    stripe_price_id text COLLATE "C" NOT NULL,
    stripe_product_id text COLLATE "C",
    livemode boolean,
    product_name text,
    active boolean,
    billing_interval text,
    billing_interval_count bigint,
    currency text,
    unit_amount_decimal numeric,
    price_in_euro numeric,
    price_per_currency jsonb NOT NULL DEFAULT '{}',
    stripe_track_usage boolean,
    plan_rank smallint NOT NULL DEFAULT 8,
    display_name text,
    tier integer,
    is_default boolean,
    category_id text,
    translation_key text,
    trial_days integer,
    stripe_billing_portal_enabled boolean,
    imported_from_legacy_id bigint,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pricing_plans_stripe_price UNIQUE (account, stripe_price_id),
    CONSTRAINT pricing_plans_legacy UNIQUE (account, imported_from_legacy_id)
);
CREATE INDEX pricing_plans_product ON billing.pricing_plans (account, stripe_product_id);

COMMENT ON TABLE billing.pricing_plans IS 'What a subscription buys: one row for each known Stripe price. Written by the sync, except the columns marked as yours.';
COMMENT ON COLUMN billing.pricing_plans.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.pricing_plans.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.pricing_plans.stripe_price_id IS 'price.id (plan.id in API versions without prices).';
COMMENT ON COLUMN billing.pricing_plans.stripe_product_id IS 'price.product';
COMMENT ON COLUMN billing.pricing_plans.livemode IS 'price.livemode';
COMMENT ON COLUMN billing.pricing_plans.product_name IS 'product.name, as in Stripe; null until the product is known.';
COMMENT ON COLUMN billing.pricing_plans.active IS 'The plan can be chosen: price and product are active, and neither is deleted. Subscriptions that have it continue.';
COMMENT ON COLUMN billing.pricing_plans.billing_interval IS 'price.recurring.interval: day, week, month or year; unknown values are kept.';
COMMENT ON COLUMN billing.pricing_plans.billing_interval_count IS 'price.recurring.interval_count: number of intervals in a billing period.';
COMMENT ON COLUMN billing.pricing_plans.currency IS 'price.currency, lower-case ISO 4217.';
COMMENT ON COLUMN billing.pricing_plans.unit_amount_decimal IS 'price.unit_amount_decimal (else unit_amount), in the smallest unit of the currency, exact; null for tiers and custom amounts.';
COMMENT ON COLUMN billing.pricing_plans.price_in_euro IS 'The price in euros, exact; null if it has none in that currency.';
COMMENT ON COLUMN billing.pricing_plans.price_per_currency IS 'The price in each of its currencies, as an object: {"eur": 19.90, "jpy": 2500}. In whole units of the currency, exact.';
COMMENT ON COLUMN billing.pricing_plans.stripe_track_usage IS 'True if price.recurring.usage_type is metered.';
COMMENT ON COLUMN billing.pricing_plans.plan_rank IS 'Decides which of several items of a subscription is its plan: the item whose price has the lowest rank, then the oldest item, then the smallest id. The rank is is_plan in the metadata of the price, else of its product (true 0, missing 6, false 12), plus 3 for a metered price, plus 0 if the price''s metadata contains a limit, 1 if only the product''s does, 2 if neither does.';
COMMENT ON COLUMN billing.pricing_plans.display_name IS 'Yours: never written by the sync. The view plans falls back to product_name.';
COMMENT ON COLUMN billing.pricing_plans.tier IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.is_default IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.category_id IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.translation_key IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.trial_days IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.stripe_billing_portal_enabled IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.imported_from_legacy_id IS 'Yours: id of the plan in a legacy system. Never written by the sync.';
COMMENT ON COLUMN billing.pricing_plans.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.pricing_plans.updated_at IS 'When a field of this row last changed, by the database''s clock.';

CREATE TABLE billing.plan_limits (
    id uuid PRIMARY KEY,
    pricing_plan_id uuid NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    included bigint CHECK (included BETWEEN 0 AND 1000000000000000000),
    per_unit bigint NOT NULL DEFAULT 0 CHECK (per_unit BETWEEN 0 AND 1000000000000000000),
    unlimited boolean NOT NULL,
    invalid_value text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT plan_limits_key UNIQUE (pricing_plan_id, limit_key),
    CONSTRAINT plan_limits_unlimited_has_no_number CHECK (NOT unlimited OR included IS NULL),
    CONSTRAINT plan_limits_invalid_has_no_number CHECK (invalid_value IS NULL OR (included IS NULL AND NOT unlimited))
);

COMMENT ON TABLE billing.plan_limits IS 'Limits that a plan includes: one row for each limit_… key in the metadata of the price, else of its product. A subscription includes the sum over all its items. Written by the sync only.';
COMMENT ON COLUMN billing.plan_limits.id IS 'Row id, a UUIDv5 of account, Stripe id and limit: a rebuild gives the same.';
COMMENT ON COLUMN billing.plan_limits.pricing_plan_id IS 'pricing_plans.id';
COMMENT ON COLUMN billing.plan_limits.limit_key IS 'The limited quantity: words, images, members …; the metadata key without limit_.';
COMMENT ON COLUMN billing.plan_limits.included IS 'Amount per item, independent of its quantity (limit_<key>), at most 10^18; null if unlimited, or if the value in Stripe is invalid.';
COMMENT ON COLUMN billing.plan_limits.per_unit IS 'Additional amount per unit of the item''s quantity (limit_<key>_per_unit), at most 10^18.';
COMMENT ON COLUMN billing.plan_limits.unlimited IS 'True if one of the two values is unlimited.';
COMMENT ON COLUMN billing.plan_limits.invalid_value IS 'What is neither a whole number nor unlimited, and the object whose metadata contains it: price price_1: limit_words = "lots". Null if there is no such value, or if the limit is unlimited all the same.';
COMMENT ON COLUMN billing.plan_limits.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.plan_limits.updated_at IS 'When a field of this row last changed, by the database''s clock.';

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
    inactive_reason text,
    payment_paused boolean NOT NULL,
    payment_resumes_at timestamptz,
    pause_reason text,
    paused_at timestamptz,
    pauses_at timestamptz,
    resumes_at timestamptz,
    sepa_payment_failed boolean NOT NULL DEFAULT false,
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
    new_stripe_price_id text COLLATE "C",
    new_pricing_plan_id uuid,
    new_pricing_plan_at timestamptz,
    payment_type text,
    payment_method_card_brand text,
    payment_card_number_last_four_digits text,
    active_discounts text[] NOT NULL,
    active_discount_ends timestamptz[] NOT NULL,
    stripe_created_at timestamptz,
    started_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT subscriptions_stripe_subscription UNIQUE (account, stripe_subscription_id),
    CONSTRAINT subscriptions_inactive_has_a_reason CHECK (active = (inactive_reason IS NULL)),
    CONSTRAINT subscriptions_known_reasons CHECK (inactive_reason IN ('payment_paused', 'paused', 'pause_requested',
        'trial_end_without_payment_method', 'first_payment_failure', 'final_payment_failure', 'past_due', 'unpaid', 'incomplete',
        'incomplete_expired', 'canceled', 'ended', 'unknown_status')),
    CONSTRAINT subscriptions_paused_is_inactive CHECK (NOT (active AND payment_paused)),
    CONSTRAINT subscriptions_pause_has_its_status
        CHECK (stripe_status = 'paused' OR (pause_reason IS NULL AND paused_at IS NULL)),
    CONSTRAINT subscriptions_paused_is_not_to_be_paused CHECK (stripe_status <> 'paused' OR pauses_at IS NULL),
    CONSTRAINT subscriptions_only_a_trial_has_started CHECK (is_trial OR trial_started_at IS NULL),
    CONSTRAINT subscriptions_grace_has_an_end CHECK (NOT is_grace_period OR end_date IS NOT NULL),
    CONSTRAINT subscriptions_new_plan_has_a_price CHECK (new_pricing_plan_id IS NULL OR new_stripe_price_id IS NOT NULL),
    CONSTRAINT subscriptions_new_plan_at_has_a_price CHECK (new_pricing_plan_at IS NULL OR new_stripe_price_id IS NOT NULL),
    CONSTRAINT subscriptions_brand_is_of_a_card CHECK (payment_method_card_brand IS NULL OR payment_type = 'card'),
    CONSTRAINT subscriptions_discounts_are_pairs CHECK (cardinality(active_discounts) = cardinality(active_discount_ends))
);
CREATE INDEX subscriptions_workspace ON billing.subscriptions (workspace_id);
CREATE INDEX subscriptions_contact ON billing.subscriptions (billing_contact_id);
-- For the search for trials that should be over, every minute.
CREATE INDEX subscriptions_trial ON billing.subscriptions (trial_ends_at) WHERE is_trial;

COMMENT ON TABLE billing.subscriptions IS 'What a subscription is for, until when, and whether it is active: one row for each Stripe subscription. Written by the sync only.';
COMMENT ON COLUMN billing.subscriptions.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.subscriptions.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.subscriptions.stripe_subscription_id IS 'subscription.id';
COMMENT ON COLUMN billing.subscriptions.stripe_customer_id IS 'subscription.customer; under Accounts v2, where that is null, subscription.customer_account (acct_…), which has no contact.';
COMMENT ON COLUMN billing.subscriptions.livemode IS 'subscription.livemode';
COMMENT ON COLUMN billing.subscriptions.billing_contact_id IS 'billing_contacts.id of the customer. No foreign key: events arrive in any order, so the contact may arrive later.';
COMMENT ON COLUMN billing.subscriptions.workspace_id IS 'The workspace in the metadata (workspace_id or workspaceId) of the subscription, else of its customer, else of the checkout session that created it (metadata, or client_reference_id, unless it is of a Payment Link); null if none contains one.';
COMMENT ON COLUMN billing.subscriptions.stripe_status IS 'subscription.status: active, canceled, incomplete, incomplete_expired, past_due, paused, trialing or unpaid; values that are new in Stripe are kept.';
COMMENT ON COLUMN billing.subscriptions.active IS 'The subscription may be used: its status is active or trialing (or past_due, by BILLING_SYNC_PAST_DUE_ACTIVE), payment is not paused, and it has not ended.';
COMMENT ON COLUMN billing.subscriptions.inactive_reason IS 'Why the subscription is not active: payment_paused (collection is paused), paused (the status, without a reason from Stripe), pause_requested, trial_end_without_payment_method, first_payment_failure and final_payment_failure (the status is paused, and why), past_due, unpaid, incomplete, incomplete_expired, canceled, ended, unknown_status; null exactly if it is active.';
COMMENT ON COLUMN billing.subscriptions.payment_paused IS 'Payment collection is paused (pause_collection). Stripe does not change the status; here the subscription is inactive meanwhile.';
COMMENT ON COLUMN billing.subscriptions.payment_resumes_at IS 'When Stripe will end the pause of collection (pause_collection.resumes_at). The pause ends here when Stripe reports it.';
COMMENT ON COLUMN billing.subscriptions.pause_reason IS 'Why the status is paused (status_details.paused.subscription.type): pause_requested, trial_end_without_payment_method, first_payment_failure, final_payment_failure or system; values that are new in Stripe are kept. Null if not paused, and in API versions before 2026-09-30.endive.';
COMMENT ON COLUMN billing.subscriptions.paused_at IS 'When the status became paused (status_details.paused.transitioned_at); null if pause_reason is null.';
COMMENT ON COLUMN billing.subscriptions.pauses_at IS 'When its schedule will pause the subscription (subscription_schedule.pause_schedules); null if no pause is planned, and while it is paused. The pause counts when Stripe reports it.';
COMMENT ON COLUMN billing.subscriptions.resumes_at IS 'When its schedule will end the current or the planned pause (subscription_schedule.pause_schedules); null if it stays paused until it is resumed manually. It may stay paused longer, because a resume may wait for its payment.';
COMMENT ON COLUMN billing.subscriptions.sepa_payment_failed IS 'A SEPA payment failed and its invoice was not paid since, or was disputed and the dispute was not won; and no later charge of this subscription has succeeded.';
COMMENT ON COLUMN billing.subscriptions.is_trial IS 'The status is trialing, or a trial offer runs for the plan''s item (item.current_trial): a paid trial has the status active.';
COMMENT ON COLUMN billing.subscriptions.trial_started_at IS 'Start of that trial offer (current_trial.start_date), else subscription.trial_start; only while the trial runs.';
COMMENT ON COLUMN billing.subscriptions.trial_ends_at IS 'End of the trial offer of that item (current_trial.end_date), else subscription.trial_end, which stays after the trial.';
COMMENT ON COLUMN billing.subscriptions.trial_end_behavior IS 'What Stripe does if a trial ends without a payment method (trial_settings.end_behavior.missing_payment_method): cancel, create_invoice or pause; values that are new in Stripe are kept.';
COMMENT ON COLUMN billing.subscriptions.is_grace_period IS 'The subscription will end at end_date and has not ended yet.';
COMMENT ON COLUMN billing.subscriptions.end_date IS 'When the subscription ended (ended_at), or will end (cancel_at, the end of the period, or the end of a schedule that cancels); null if no end is set.';
COMMENT ON COLUMN billing.subscriptions.next_subscription_cycle_start IS 'When the next billing period begins; null if there is none.';
COMMENT ON COLUMN billing.subscriptions.currency IS 'subscription.currency, lower-case ISO 4217.';
COMMENT ON COLUMN billing.subscriptions.stripe_subscription_item_id IS 'Id of the item that is the plan: of several the one whose price has the lowest pricing_plans.plan_rank, then the oldest, then the smallest id.';
COMMENT ON COLUMN billing.subscriptions.stripe_price_id IS 'Price of that item (plan in API versions without prices).';
COMMENT ON COLUMN billing.subscriptions.pricing_plan_id IS 'pricing_plans.id of that price; null while the price is not known.';
COMMENT ON COLUMN billing.subscriptions.items IS 'All items, the plan first: an array of objects. The view subscription_items has a row for each item. Null if the payload does not list all of them and no read has done so yet.';
COMMENT ON COLUMN billing.subscriptions.new_stripe_price_id IS 'The price that its item will change to: by an update that waits for its payment (pending_update), else by the next phase of its schedule; null if no other price is planned.';
COMMENT ON COLUMN billing.subscriptions.new_pricing_plan_id IS 'pricing_plans.id of that price; null while the price is not known.';
COMMENT ON COLUMN billing.subscriptions.new_pricing_plan_at IS 'When the price will change: the start of that phase; null while the change waits for its payment, and if none is planned.';
COMMENT ON COLUMN billing.subscriptions.payment_type IS 'Type of the payment method that will be charged, in Stripe''s order: the subscription''s default payment method, its default source, its customer''s default payment method, its customer''s default source; if none of these is known, the method that paid its last invoice.';
COMMENT ON COLUMN billing.subscriptions.payment_method_card_brand IS 'Brand of that card: visa, mastercard, amex …; null if it is not a card.';
COMMENT ON COLUMN billing.subscriptions.payment_card_number_last_four_digits IS 'Last four digits of that card, account or IBAN, or of the card behind a wallet, leading zeros kept.';
COMMENT ON COLUMN billing.subscriptions.active_discounts IS 'Coupon ids of its own and its items'' discounts, in stable order. A discount has no effect after its end: live_subscriptions omits it.';
COMMENT ON COLUMN billing.subscriptions.active_discount_ends IS 'End of each of these discounts (discount.end), at the same array position; null if none is set: duration forever, but also duration once, because Stripe removes that discount after the invoice that it reduced.';
COMMENT ON COLUMN billing.subscriptions.stripe_created_at IS 'subscription.created';
COMMENT ON COLUMN billing.subscriptions.started_at IS 'subscription.start_date';
COMMENT ON COLUMN billing.subscriptions.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.subscriptions.updated_at IS 'When a field of this row last changed, by the database''s clock.';

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

COMMENT ON TABLE billing.coupons IS 'Discounts that can be given: one row for each known Stripe coupon, as Stripe last sent it; live_coupons has it as of now. Written by the sync, except the columns marked as yours.';
COMMENT ON COLUMN billing.coupons.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.coupons.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.coupons.stripe_coupon_id IS 'coupon.id, the value in active_discount and active_discounts.';
COMMENT ON COLUMN billing.coupons.livemode IS 'coupon.livemode';
COMMENT ON COLUMN billing.coupons.name IS 'coupon.name';
COMMENT ON COLUMN billing.coupons.discount_percentage IS 'coupon.percent_off, from 0 to 100; null if an amount is taken off.';
COMMENT ON COLUMN billing.coupons.amount_off IS 'coupon.amount_off, in the smallest unit of currency; null if a percentage is taken off.';
COMMENT ON COLUMN billing.coupons.currency IS 'coupon.currency, of amount_off.';
COMMENT ON COLUMN billing.coupons.duration IS 'coupon.duration: once (the discount is used up by one invoice), repeating (for duration_in_months) or forever; unknown values are kept.';
COMMENT ON COLUMN billing.coupons.duration_in_months IS 'coupon.duration_in_months, of a repeating coupon.';
COMMENT ON COLUMN billing.coupons.redeem_by IS 'coupon.redeem_by: the last moment at which the coupon can be given; null means no end. Stripe sends no event when it passes.';
COMMENT ON COLUMN billing.coupons.max_redemptions IS 'coupon.max_redemptions: how often the coupon can be given in total; null means without limit.';
COMMENT ON COLUMN billing.coupons.times_redeemed IS 'coupon.times_redeemed: how often the coupon was given, as of its newest event or read.';
COMMENT ON COLUMN billing.coupons.valid IS 'coupon.valid as Stripe last sent it, false once the coupon is deleted. For whether it can be given now, see live_coupons.';
COMMENT ON COLUMN billing.coupons.stripe_created_at IS 'coupon.created';
COMMENT ON COLUMN billing.coupons.stripe_deleted_at IS 'When the coupon was deleted in Stripe. Discounts that were given continue.';
COMMENT ON COLUMN billing.coupons.pricing_plan_id IS 'Yours: the plan that you offer it for. Never written by the sync.';
COMMENT ON COLUMN billing.coupons.translation_key IS 'Yours: never written by the sync.';
COMMENT ON COLUMN billing.coupons.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.coupons.updated_at IS 'When a field of this row last changed, by the database''s clock.';

CREATE TABLE billing.checkout_sessions (
    id uuid PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    stripe_session_id text COLLATE "C" NOT NULL,
    livemode boolean,
    status text,
    payment_status text,
    stripe_customer_id text COLLATE "C",
    stripe_subscription_id text COLLATE "C",
    stripe_price_id text COLLATE "C",
    stripe_coupon_id text COLLATE "C",
    callback_url text,
    language text,
    workspace_id uuid,
    stripe_created_at timestamptz,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT checkout_sessions_stripe_session UNIQUE (account, stripe_session_id)
);

CREATE INDEX checkout_sessions_subscription ON billing.checkout_sessions (account, stripe_subscription_id);

COMMENT ON TABLE billing.checkout_sessions IS 'Checkouts: one row for each Stripe checkout session in an event or a read. Written by the sync only. No column contains the client secret.';
COMMENT ON COLUMN billing.checkout_sessions.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.checkout_sessions.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_session_id IS 'session.id';
COMMENT ON COLUMN billing.checkout_sessions.livemode IS 'session.livemode';
COMMENT ON COLUMN billing.checkout_sessions.status IS 'session.status: open, complete or expired; unknown values are kept. Complete does not mean paid.';
COMMENT ON COLUMN billing.checkout_sessions.payment_status IS 'session.payment_status: paid, unpaid (SEPA stays unpaid for days) or no_payment_required.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_customer_id IS 'session.customer';
COMMENT ON COLUMN billing.checkout_sessions.stripe_subscription_id IS 'session.subscription; null until the session is complete.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_price_id IS 'Price of the first line item; null until a read of Stripe''s API, because events do not contain it.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_coupon_id IS 'Coupon of the first discount whose coupon the payload contains, also that of a whole promotion code; null if there is none, or only the id of a promotion code.';
COMMENT ON COLUMN billing.checkout_sessions.callback_url IS 'session.return_url (embedded), else success_url (hosted).';
COMMENT ON COLUMN billing.checkout_sessions.language IS 'session.locale; null means automatic.';
COMMENT ON COLUMN billing.checkout_sessions.workspace_id IS 'The workspace in the metadata, else in client_reference_id if that is a UUID and the session is not of a Payment Link.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_created_at IS 'session.created';
COMMENT ON COLUMN billing.checkout_sessions.expires_at IS 'session.expires_at';
COMMENT ON COLUMN billing.checkout_sessions.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.checkout_sessions.updated_at IS 'When a field of this row last changed, by the database''s clock.';

-- The product's own data about its workspaces. The product writes it, by SQL or by the workspace API. The sync never does.
CREATE TABLE billing.workspaces (
    id uuid PRIMARY KEY,
    name text,
    key text UNIQUE,
    key_index bigint GENERATED BY DEFAULT AS IDENTITY UNIQUE,
    member_count integer CHECK (member_count >= 0),
    billing_contact_override uuid,
    created_by_user_id uuid,
    first_member_invited_at timestamptz,
    imported_from_legacy_customer_id bigint,
    imported_from_legacy_team_id bigint,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- times that JSON can show
    CONSTRAINT workspaces_times_are_dates CHECK (isfinite(created_at) AND isfinite(updated_at)
        AND isfinite(first_member_invited_at)
        AND least(created_at, updated_at, first_member_invited_at) >= '0001-01-01 00:00:00+00'
        AND greatest(created_at, updated_at, first_member_invited_at) < '9999-12-31 00:00:00+00')
);
-- the orders in which the workspace API lists
CREATE INDEX workspaces_created_at ON billing.workspaces (created_at, id);
CREATE INDEX workspaces_updated_at ON billing.workspaces (updated_at, id);
CREATE INDEX workspaces_name ON billing.workspaces (name, id);
CREATE INDEX workspaces_legacy_team ON billing.workspaces (imported_from_legacy_team_id)
    WHERE imported_from_legacy_team_id IS NOT NULL;

COMMENT ON TABLE billing.workspaces IS 'Yours: one row for each workspace that the views and the workspace API should use. The sync never writes this table, and works without any row.';
COMMENT ON COLUMN billing.workspaces.id IS 'The workspace_id in Stripe''s metadata.';
COMMENT ON COLUMN billing.workspaces.name IS 'Name of the workspace.';
COMMENT ON COLUMN billing.workspaces.key IS 'Human readable unique identifier of the workspace. The workspace API derives it from key_index.';
COMMENT ON COLUMN billing.workspaces.key_index IS 'A number that no other workspace has or had, from which the workspace API derives the key.';
COMMENT ON COLUMN billing.workspaces.member_count IS 'Number of members; null means unknown: then no limit of members is enforced.';
COMMENT ON COLUMN billing.workspaces.billing_contact_override IS 'billing_contacts.id of the payer, if that is not the customer of the current subscription.';
COMMENT ON COLUMN billing.workspaces.created_by_user_id IS 'The user who created the workspace.';
COMMENT ON COLUMN billing.workspaces.first_member_invited_at IS 'When the first member was invited.';
COMMENT ON COLUMN billing.workspaces.imported_from_legacy_customer_id IS 'Id of the customer in a legacy system from which the workspace was created.';
COMMENT ON COLUMN billing.workspaces.imported_from_legacy_team_id IS 'Id of the team in a legacy system from which the workspace was created.';
COMMENT ON COLUMN billing.workspaces.deleted_at IS 'When the workspace was deleted; null if it was not. workspace_billing does not contain deleted workspaces.';
COMMENT ON COLUMN billing.workspaces.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.workspaces.updated_at IS 'When this row last changed, as you set it.';

CREATE TABLE billing.workspace_members (
    workspace_id uuid NOT NULL REFERENCES billing.workspaces ON DELETE CASCADE,
    user_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'member')),
    legacy_customer_id bigint,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX workspace_members_user ON billing.workspace_members (user_id, workspace_id);
CREATE INDEX workspace_members_legacy_owner ON billing.workspace_members (legacy_customer_id)
    WHERE role = 'owner' AND legacy_customer_id IS NOT NULL;

COMMENT ON TABLE billing.workspace_members IS 'Yours: who may use a workspace. The workspace API shows a workspace to its members, and lets its owners change it. The number that counts against the limit members is workspaces.member_count.';
COMMENT ON COLUMN billing.workspace_members.workspace_id IS 'workspaces.id';
COMMENT ON COLUMN billing.workspace_members.user_id IS 'The user, as in the JWTs of your identity provider and in `billing-sync token create --user`.';
COMMENT ON COLUMN billing.workspace_members.role IS 'owner: may rename and delete the workspace; member: may read it and consume its limits.';
COMMENT ON COLUMN billing.workspace_members.legacy_customer_id IS 'Id of the user in a legacy system.';
COMMENT ON COLUMN billing.workspace_members.created_at IS 'When this row was first written, by the database''s clock.';

CREATE TABLE billing.workspace_avatars (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL UNIQUE REFERENCES billing.workspaces ON DELETE CASCADE,
    signed_url text NOT NULL,
    file_name text,
    storage_key text,
    created_by_user_id uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT workspace_avatars_times_are_dates CHECK (isfinite(created_at) AND isfinite(updated_at)
        AND least(created_at, updated_at) >= '0001-01-01 00:00:00+00'
        AND greatest(created_at, updated_at) < '9999-12-31 00:00:00+00')
);

COMMENT ON TABLE billing.workspace_avatars IS 'Yours: the picture of a workspace, for the workspace API, which shows it and never writes it.';
COMMENT ON COLUMN billing.workspace_avatars.id IS 'Row id.';
COMMENT ON COLUMN billing.workspace_avatars.workspace_id IS 'workspaces.id';
COMMENT ON COLUMN billing.workspace_avatars.signed_url IS 'URL at which a browser can load the picture.';
COMMENT ON COLUMN billing.workspace_avatars.file_name IS 'Name of the file.';
COMMENT ON COLUMN billing.workspace_avatars.storage_key IS 'Key of the file in your object store.';
COMMENT ON COLUMN billing.workspace_avatars.created_by_user_id IS 'The user who uploaded the picture.';
COMMENT ON COLUMN billing.workspace_avatars.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.workspace_avatars.updated_at IS 'When this row last changed, as you set it.';

CREATE TABLE billing.pricing_plan_categories (
    id text PRIMARY KEY,
    display_name text,
    translation_key text
);

COMMENT ON TABLE billing.pricing_plan_categories IS 'Yours: the categories that pricing_plans.category_id names, for the workspace API.';
COMMENT ON COLUMN billing.pricing_plan_categories.id IS 'pricing_plans.category_id';
COMMENT ON COLUMN billing.pricing_plan_categories.display_name IS 'Name for internal purposes.';
COMMENT ON COLUMN billing.pricing_plan_categories.translation_key IS 'Key of the translated name.';

-- Not columns of these tables: a lock of the product must not delay the sync, which writes their rows.
CREATE TABLE billing.row_origins (
    row_id uuid PRIMARY KEY,
    created_by_user_id uuid,
    imported_from_legacy_customer_id bigint
);

COMMENT ON TABLE billing.row_origins IS 'Yours: where a billing contact or a subscription came from, for the workspace API.';
COMMENT ON COLUMN billing.row_origins.row_id IS 'billing_contacts.id or subscriptions.id';
COMMENT ON COLUMN billing.row_origins.created_by_user_id IS 'The user who created it.';
COMMENT ON COLUMN billing.row_origins.imported_from_legacy_customer_id IS 'Id of the customer in a legacy system from which it was imported.';

-- Which event or read changed which fields. `explain` answers from it why, for example, a subscription is inactive.
CREATE TABLE billing.row_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    table_name text COLLATE "C" NOT NULL,
    row_id uuid NOT NULL,
    causes text[] COLLATE "C" NOT NULL,
    changes jsonb NOT NULL
);
CREATE INDEX row_changes_row ON billing.row_changes (row_id, id);

COMMENT ON TABLE billing.row_changes IS 'Every change of a synced row, written in the same transaction. Contains what the rows contain, personal data included.';
COMMENT ON COLUMN billing.row_changes.id IS 'Increases in the order of writing.';
COMMENT ON COLUMN billing.row_changes.changed_at IS 'When the row changed, by the database''s clock.';
COMMENT ON COLUMN billing.row_changes.table_name IS 'Name of the table, without its schema.';
COMMENT ON COLUMN billing.row_changes.row_id IS 'Id of the row in that table.';
COMMENT ON COLUMN billing.row_changes.causes IS 'The events that were processed (evt_…), read for a read of Stripe''s API, or write and the id in api_writes; empty if the row was recomputed because of another object.';
COMMENT ON COLUMN billing.row_changes.changes IS 'An object: each changed column with its value before and after. For a new row, the columns that are not null.';
