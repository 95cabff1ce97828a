-- Everything of billing-sync lives in one schema, so that it can share a product's database.
-- `migrate` has made it already, for its own table, or an administrator has: then it may belong to another role, and
-- only its owner may comment on it.
DO $$
BEGIN
    COMMENT ON SCHEMA billing IS 'billing-sync: Stripe''s billing state, kept in step by webhooks. Read the tables billing_contacts, subscriptions and pricing_plans; the others are the machinery.';
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END
$$;
