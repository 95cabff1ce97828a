-- Rights in the schema billing for roles other than its owner, as which the service runs. The operator runs this file by
-- psql in the database of DATABASE_URL, as the owner of the schema (with the right to create roles) or a superuser, and
-- again after every `migrate`:
--
--     psql --set ON_ERROR_STOP=1 --file ops/roles.sql "$DATABASE_URL"
--
-- The roles cannot log in and have no password. Grant them to your login roles:
--
--     GRANT billing_product TO my_app;
--     GRANT billing_reader TO my_dashboard;
--     GRANT billing_api TO the_login_of_serve;
--
-- The sessions of the workspace API change to billing_api if their login is a member of it. A process that serves only
-- the API may log in as a member of billing_api and of no other role.
--
-- The roles have exactly the rights below: any other right in the schema is revoked. `serve` refuses to start the API
-- without one of those of billing_api: src/database/role.rs has the same list.
BEGIN;
-- any session may hold the lock below, so an error is better than an endless wait
SET LOCAL lock_timeout = '10s';

DO $$
DECLARE
    wanted text;
BEGIN
    -- a concurrent run waits here
    PERFORM pg_advisory_xact_lock(hashtext('billing-sync: ops/roles.sql'));
    FOREACH wanted IN ARRAY ARRAY['billing_reader', 'billing_product', 'billing_api'] LOOP
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

REVOKE ALL ON SCHEMA billing FROM billing_reader, billing_product, billing_api;
REVOKE ALL ON ALL TABLES IN SCHEMA billing FROM billing_reader, billing_product, billing_api;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA billing FROM billing_reader, billing_product, billing_api;
-- PUBLIC may call functions unless that is revoked
REVOKE ALL ON ALL ROUTINES IN SCHEMA billing FROM PUBLIC, billing_reader, billing_product, billing_api;

-- Both read the product tables (docs/tables.md), but neither Stripe's payloads nor internal tables.
GRANT USAGE ON SCHEMA billing TO billing_reader, billing_product, billing_api;
GRANT SELECT ON
    billing.workspace_billing, billing.live_subscriptions, billing.live_billing_contacts, billing.live_coupons,
    billing.plans, billing.subscription_items,
    billing.current_subscriptions, billing.workspace_limits, billing.subscription_words,
    billing.limit_statement,
    billing.subscriptions, billing.billing_contacts, billing.pricing_plans, billing.plan_limits, billing.coupons,
    billing.checkout_sessions, billing.workspaces, billing.workspace_members, billing.workspace_avatars,
    billing.pricing_plan_categories, billing.row_origins, billing.orphans,
    billing.limit_kinds, billing.subscription_limits, billing.limit_renewals, billing.workspace_bonus, billing.bonus_grants
TO billing_reader, billing_product;
-- a view reads tables as its owner, but calls functions as the querying role
GRANT EXECUTE ON FUNCTION billing.subscription_rank(text, boolean), billing.current_limits(uuid),
    billing.limit_history(uuid)
TO billing_reader, billing_product;
GRANT EXECUTE ON FUNCTION billing.workspace_state(uuid) TO billing_reader, billing_product;

-- The product consumes limits,
GRANT EXECUTE ON FUNCTION billing.consume(uuid, text, bigint, text), billing.release(uuid, text, bigint),
    billing.remaining(uuid, text), billing.grant_bonus(uuid, text, bigint, text)
TO billing_product;
-- and writes its own columns, which the sync never writes.
GRANT INSERT, UPDATE, DELETE ON billing.workspaces, billing.workspace_members, billing.workspace_avatars,
    billing.pricing_plan_categories, billing.row_origins, billing.limit_kinds TO billing_product;
GRANT UPDATE (display_name, tier, is_default, category_id, translation_key, trial_days, stripe_billing_portal_enabled,
    imported_from_legacy_id)
ON billing.pricing_plans TO billing_product;
GRANT UPDATE (pricing_plan_id, translation_key) ON billing.coupons TO billing_product;

-- The workspace API reads what it shows,
GRANT SELECT ON
    billing.workspace_billing, billing.live_subscriptions, billing.live_billing_contacts, billing.plans,
    billing.subscriptions, billing.billing_contacts, billing.pricing_plans, billing.coupons, billing.live_coupons,
    billing.checkout_sessions, billing.row_changes, billing.workspaces, billing.workspace_members,
    billing.workspace_avatars, billing.pricing_plan_categories, billing.row_origins
TO billing_api;
GRANT EXECUTE ON FUNCTION billing.subscription_rank(text, boolean), billing.current_limits(uuid),
    billing.next_limit_renewal(uuid), billing.freshness(text, text)
TO billing_api;
-- consumes limits,
GRANT EXECUTE ON FUNCTION billing.consume(uuid, text, bigint, text), billing.release(uuid, text, bigint) TO billing_api;
-- creates, renames and deletes workspaces,
GRANT INSERT (id, name, key, key_index, created_by_user_id), UPDATE (name, updated_at, deleted_at)
ON billing.workspaces TO billing_api;
GRANT INSERT (workspace_id, user_id, role, legacy_customer_id, created_at) ON billing.workspace_members TO billing_api;
GRANT UPDATE ON SEQUENCE billing.workspaces_key_index_seq TO billing_api;
-- checks tokens and repeated requests,
GRANT SELECT (id, secret_sha256, scopes, user_id, expires_at, revoked_at, last_used_at), UPDATE (last_used_at)
ON billing.api_tokens TO billing_api;
GRANT SELECT, INSERT (principal, idempotency_key, fingerprint, write_id),
    UPDATE (fingerprint, write_id, status, location, body, created_at), DELETE
ON billing.api_requests TO billing_api;
-- begins changes at Stripe, which sessions of the owner send and complete,
GRANT INSERT (id, principal, operation, account, target, workspace_id, object_type, object_id, path, form, previous_id,
    replaces, follow_up_due)
ON billing.api_writes TO billing_api;
GRANT SELECT, INSERT (id, account, name, request, created_by) ON billing.checkout_links TO billing_api;
-- and is ready if all migrations are applied.
GRANT SELECT ON billing.schema_migrations TO billing_api;

COMMIT;
