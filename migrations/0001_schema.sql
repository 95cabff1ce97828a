-- Everything of billing-sync lives in one schema, so that it can share a product's database.
-- The migrator may have made it already, for its own table.
CREATE SCHEMA IF NOT EXISTS billing;

COMMENT ON SCHEMA billing IS 'billing-sync: Stripe''s billing state, kept in step by webhooks. Read the tables billing_contacts, subscriptions and pricing_plans; the others are the machinery.';
