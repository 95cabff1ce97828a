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
    active_discount text,
    active_discount_ends_at timestamptz,
    workspace_id uuid,
    stripe_created_at timestamptz,
    stripe_deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT billing_contacts_stripe_customer UNIQUE (account, stripe_customer_id),
    CONSTRAINT billing_contacts_discount_end_needs_a_discount CHECK (active_discount IS NOT NULL OR active_discount_ends_at IS NULL)
);

COMMENT ON TABLE billing.billing_contacts IS 'Who pays: one row for each Stripe customer. Written by the sync only.';
COMMENT ON COLUMN billing.billing_contacts.id IS 'Row id, a UUIDv5 of account and Stripe id: a rebuild gives the same.';
COMMENT ON COLUMN billing.billing_contacts.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.billing_contacts.stripe_customer_id IS 'customer.id';
COMMENT ON COLUMN billing.billing_contacts.livemode IS 'customer.livemode';
COMMENT ON COLUMN billing.billing_contacts.name IS 'customer.name, as Stripe has it, null included.';
COMMENT ON COLUMN billing.billing_contacts.email IS 'customer.email, as Stripe has it, null included.';
COMMENT ON COLUMN billing.billing_contacts.address_line1 IS 'customer.address.line1; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.address_line2 IS 'customer.address.line2; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.city IS 'customer.address.city; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.postal_code IS 'customer.address.postal_code; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.state IS 'customer.address.state; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.country IS 'customer.address.country, two letters; empty is null.';
COMMENT ON COLUMN billing.billing_contacts.active_discount IS 'Coupon id of the customer''s own discount; null means none. It has no effect any more once active_discount_ends_at has passed.';
COMMENT ON COLUMN billing.billing_contacts.active_discount_ends_at IS 'End of that discount (discount.end); null where none is set: duration forever, but also duration once, whose discount Stripe takes away after the invoice that it reduced.';
COMMENT ON COLUMN billing.billing_contacts.workspace_id IS 'The workspace that customer.metadata names (workspace_id or workspaceId); used by subscriptions that name none.';
COMMENT ON COLUMN billing.billing_contacts.stripe_created_at IS 'customer.created';
COMMENT ON COLUMN billing.billing_contacts.stripe_deleted_at IS 'When the customer was deleted in Stripe. The row stays, with its last content and without its discount.';
COMMENT ON COLUMN billing.billing_contacts.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.billing_contacts.updated_at IS 'When a field of this row last changed, by the database''s clock.';
