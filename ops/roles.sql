-- Rights in the schema billing for roles other than its owner, as which the service runs. The operator runs this file by
-- psql in the database of DATABASE_URL, as the owner of the schema (with the right to create roles) or a superuser, and
-- again after every `migrate`:
--
--     psql --set ON_ERROR_STOP=1 --file ops/roles.sql "$DATABASE_URL"
--
-- The two roles cannot log in and have no password. Grant them to your login roles:
--
--     GRANT billing_product TO my_app;
--     GRANT billing_reader TO my_dashboard;
--
-- The two roles have exactly the rights below: any other right in the schema is revoked.
BEGIN;
-- any session may hold the lock below, so an error is better than an endless wait
SET LOCAL lock_timeout = '10s';

DO $$
DECLARE
    wanted text;
BEGIN
    -- a concurrent run waits here
    PERFORM pg_advisory_xact_lock(hashtext('billing-sync: ops/roles.sql'));
    FOREACH wanted IN ARRAY ARRAY['billing_reader', 'billing_product'] LOOP
        CONTINUE WHEN to_regrole(wanted) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION
            -- roles belong to the server: a run in another of its databases has just created it
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA billing FROM billing_reader, billing_product;
REVOKE ALL ON ALL TABLES IN SCHEMA billing FROM billing_reader, billing_product;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA billing FROM billing_reader, billing_product;
-- PUBLIC may call functions unless that is revoked
REVOKE ALL ON ALL ROUTINES IN SCHEMA billing FROM PUBLIC, billing_reader, billing_product;

-- Both read the product tables (docs/tables.md), but neither Stripe's payloads nor internal tables.
GRANT USAGE ON SCHEMA billing TO billing_reader, billing_product;
GRANT SELECT ON
    billing.workspace_billing, billing.live_subscriptions, billing.live_billing_contacts, billing.live_coupons,
    billing.plans, billing.subscription_items,
    billing.current_subscriptions, billing.workspace_limits, billing.subscription_words,
    billing.limit_statement,
    billing.subscriptions, billing.billing_contacts, billing.pricing_plans, billing.plan_limits, billing.coupons,
    billing.checkout_sessions, billing.workspaces, billing.orphans,
    billing.limit_kinds, billing.subscription_limits, billing.limit_renewals, billing.workspace_bonus, billing.bonus_grants
TO billing_reader, billing_product;
-- a view reads tables as its owner, but calls functions as the querying role
GRANT EXECUTE ON FUNCTION billing.subscription_rank(text, boolean), billing.current_limits(uuid),
    billing.limit_history(uuid)
TO billing_reader, billing_product;

-- The product consumes limits,
GRANT EXECUTE ON FUNCTION billing.consume(uuid, text, bigint, text), billing.release(uuid, text, bigint),
    billing.remaining(uuid, text), billing.grant_bonus(uuid, text, bigint, text)
TO billing_product;
-- and writes its own columns, which the sync never writes.
GRANT INSERT, UPDATE, DELETE ON billing.workspaces, billing.limit_kinds TO billing_product;
GRANT UPDATE (display_name, tier, is_default, category_id, translation_key, trial_days, stripe_billing_portal_enabled)
ON billing.pricing_plans TO billing_product;
GRANT UPDATE (pricing_plan_id, translation_key) ON billing.coupons TO billing_product;

COMMIT;
