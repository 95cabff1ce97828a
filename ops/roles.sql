-- Who may do what in the schema billing, beside its owner, as whom the service runs. For an operator to run by psql in the
-- database of DATABASE_URL, as the owner of the schema (who may create roles) or a superuser; again after every `migrate`:
--
--     psql --set ON_ERROR_STOP=1 --file ops/roles.sql "$DATABASE_URL"
--
-- The roles cannot log in and have no password. Grant them to the roles that you log in as:
--
--     GRANT billing_product TO my_app;
--     GRANT billing_reader TO my_dashboard;
--
-- What the two have is what stands here: anything else that they were granted in the schema is taken back.
BEGIN;
-- everybody may take the lock below: better an error than a wait without an end
SET LOCAL lock_timeout = '10s';

DO $$
DECLARE
    wanted text;
BEGIN
    -- who runs it at the same time waits for us
    PERFORM pg_advisory_xact_lock(hashtext('billing-sync: ops/roles.sql'));
    FOREACH wanted IN ARRAY ARRAY['billing_reader', 'billing_product'] LOOP
        CONTINUE WHEN to_regrole(wanted) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION
            -- roles belong to the server: it was made for another of its databases just now
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA billing FROM billing_reader, billing_product;
REVOKE ALL ON ALL TABLES IN SCHEMA billing FROM billing_reader, billing_product;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA billing FROM billing_reader, billing_product;
-- functions may be called by everybody unless that is taken away
REVOKE ALL ON ALL ROUTINES IN SCHEMA billing FROM PUBLIC, billing_reader, billing_product;

-- Both read what docs/mapping.md explains: neither what Stripe sent, nor the machinery.
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
-- a view reads tables as its owner, but calls functions as whoever asks it
GRANT EXECUTE ON FUNCTION billing.subscription_rank(text, boolean), billing.limits_now(uuid),
    billing.limit_periods(uuid)
TO billing_reader, billing_product;

-- The product uses limits up,
GRANT EXECUTE ON FUNCTION billing.consume(uuid, text, bigint, text), billing.release(uuid, text, bigint),
    billing.remaining(uuid, text), billing.grant_bonus(uuid, text, bigint, text)
TO billing_product;
-- and writes what is its own: the sync never does.
GRANT INSERT, UPDATE, DELETE ON billing.workspaces, billing.limit_kinds TO billing_product;
GRANT UPDATE (display_name, tier, is_default, category_id, translation_key, trial_days, stripe_billing_portal_enabled)
ON billing.pricing_plans TO billing_product;
GRANT UPDATE (pricing_plan_id, translation_key) ON billing.coupons TO billing_product;

COMMIT;
