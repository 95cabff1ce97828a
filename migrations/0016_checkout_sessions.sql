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

COMMENT ON TABLE billing.checkout_sessions IS 'Checkouts: one row for each Stripe checkout session that an event or a read told of. Written by the sync only. The client secret is in no column.';
COMMENT ON COLUMN billing.checkout_sessions.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.checkout_sessions.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_session_id IS 'session.id';
COMMENT ON COLUMN billing.checkout_sessions.livemode IS 'session.livemode';
COMMENT ON COLUMN billing.checkout_sessions.status IS 'session.status: open, complete or expired; unknown values are kept. Complete is not yet paid.';
COMMENT ON COLUMN billing.checkout_sessions.payment_status IS 'session.payment_status: paid, unpaid (SEPA is for days) or no_payment_required.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_customer_id IS 'session.customer';
COMMENT ON COLUMN billing.checkout_sessions.stripe_subscription_id IS 'session.subscription; null until it is complete.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_price_id IS 'Price of the first line item; null until a read of Stripe''s API brought it, since events do not.';
COMMENT ON COLUMN billing.checkout_sessions.callback_url IS 'session.return_url (embedded), else success_url (hosted).';
COMMENT ON COLUMN billing.checkout_sessions.language IS 'session.locale; null is automatic.';
COMMENT ON COLUMN billing.checkout_sessions.workspace_id IS 'The workspace named by the metadata, else by client_reference_id where that is a UUID and the session is not of a Payment Link.';
COMMENT ON COLUMN billing.checkout_sessions.stripe_created_at IS 'session.created';
COMMENT ON COLUMN billing.checkout_sessions.expires_at IS 'session.expires_at';
COMMENT ON COLUMN billing.checkout_sessions.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.checkout_sessions.updated_at IS 'When a field of this row last changed, by the database''s clock.';
