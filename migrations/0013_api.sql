-- What the workspace API stores for itself, and the functions that it calls.
CREATE TABLE billing.api_tokens (
    id text COLLATE "C" PRIMARY KEY,
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
    scopes text[] COLLATE "C" NOT NULL CHECK (cardinality(scopes) > 0),
    user_id uuid,
    note text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);

COMMENT ON TABLE billing.api_tokens IS 'Tokens for the workspace API, created by `billing-sync token create`.';
COMMENT ON COLUMN billing.api_tokens.id IS 'The public part of the token: bs_<id>_<secret>.';
COMMENT ON COLUMN billing.api_tokens.secret_sha256 IS 'SHA-256 of the secret part. The secret itself is stored nowhere.';
COMMENT ON COLUMN billing.api_tokens.scopes IS 'What the token permits: workspaces:read, workspaces:write, workspaces:admin.';
COMMENT ON COLUMN billing.api_tokens.user_id IS 'The user who counts as logged in; null for a service.';
COMMENT ON COLUMN billing.api_tokens.note IS 'What the token is for, as given when it was created.';
COMMENT ON COLUMN billing.api_tokens.created_at IS 'When the token was created, by the database''s clock.';
COMMENT ON COLUMN billing.api_tokens.expires_at IS 'From this time on the token is refused; null: never.';
COMMENT ON COLUMN billing.api_tokens.revoked_at IS 'When the token was revoked; null if it was not.';
COMMENT ON COLUMN billing.api_tokens.last_used_at IS 'When the token was last used, to the minute.';

CREATE TABLE billing.api_requests (
    principal text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL CHECK (octet_length(idempotency_key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    status integer,
    location text,
    body text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (principal, idempotency_key),
    CONSTRAINT api_requests_are_answered_whole CHECK ((status IS NULL) = (body IS NULL))
);
CREATE INDEX api_requests_created_at ON billing.api_requests (created_at);

COMMENT ON TABLE billing.api_requests IS 'Successful POST requests with an Idempotency-Key and their answers, so that a repeated request gets the same answer and changes nothing. Written in the transaction of the request. Kept for 24 hours.';
COMMENT ON COLUMN billing.api_requests.principal IS 'Who sent the request: token:<id> or user:<uuid>.';
COMMENT ON COLUMN billing.api_requests.idempotency_key IS 'The header Idempotency-Key.';
COMMENT ON COLUMN billing.api_requests.fingerprint IS 'SHA-256 of method, path and body.';
COMMENT ON COLUMN billing.api_requests.status IS 'Status code of the answer; null only until the transaction of the request ends.';
COMMENT ON COLUMN billing.api_requests.location IS 'Header Location of the answer; null if it has none.';
COMMENT ON COLUMN billing.api_requests.body IS 'Body of the answer, byte for byte.';
COMMENT ON COLUMN billing.api_requests.created_at IS 'When the request began, by the database''s clock.';

-- Runs as its owner, so that the role of the API needs no access to the queue.
CREATE FUNCTION billing.freshness(account text, customer_id text) RETURNS TABLE (as_of timestamptz, pending bigint)
    LANGUAGE plpgsql STABLE ROWS 1 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    -- with many partitions, planning takes longer than the search
    SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    -- a GET must not take longer because the queue is long
    most CONSTANT bigint := 1000;
    in_lane bigint;
    isolated bigint;
    dead bigint;
    of_customer bigint;
BEGIN
    SELECT r.compared_until INTO as_of FROM billing.reconcile_state AS r WHERE r.account = freshness.account;
    IF freshness.customer_id IS NOT NULL THEN
        SELECT count(*), count(*) FILTER (WHERE o.customer_id = freshness.customer_id AND o.account = freshness.account)
        INTO in_lane, of_customer
        FROM (
            SELECT o.customer_id, o.account FROM billing.outbox AS o
            WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = billing.lane_of(freshness.customer_id, NULL, NULL)
                AND o.state = 'pending' AND NOT o.isolated
            LIMIT most
        ) AS o;
        pending := of_customer;
        SELECT count(*), count(*) FILTER (WHERE o.customer_id = freshness.customer_id AND o.account = freshness.account)
        INTO isolated, of_customer
        FROM (
            SELECT o.customer_id, o.account FROM billing.outbox AS o WHERE o.state = 'pending' AND o.isolated LIMIT most
        ) AS o;
        pending := pending + of_customer;
        SELECT count(*), count(*) FILTER (WHERE o.customer_id = freshness.customer_id AND o.account = freshness.account)
        INTO dead, of_customer
        FROM (SELECT o.customer_id, o.account FROM billing.outbox AS o WHERE o.state = 'dead' LIMIT most) AS o;
        pending := pending + of_customer;
        IF greatest(in_lane, isolated, dead) >= most THEN
            pending := NULL;
        END IF;
    END IF;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION billing.freshness(text, text) IS 'How fresh the rows of a customer are. as_of: the events of the account up to this time were compared with Stripe''s list; null before the first comparison. pending: stored events of the customer that are not applied yet (pending or dead); null without a customer, or if too many events wait to count them quickly.';

REVOKE ALL ON FUNCTION billing.freshness(text, text) FROM PUBLIC;

-- Runs as its owner, because it reads the timeline.
CREATE FUNCTION billing.next_limit_renewal(subscription_id uuid) RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.at
    FROM billing.subscriptions AS s
    CROSS JOIN billing.renewal_rules AS rule
    CROSS JOIN LATERAL billing.renewals_between(rule.renewal_anchor, s.account, s.stripe_subscription_id, s.started_at,
        now(), now() + interval '32 days') AS r
    WHERE s.id = $1 AND s.stripe_status NOT IN ('canceled', 'incomplete_expired')
        AND (s.end_date IS NULL OR s.end_date > r.at)
    ORDER BY r.at LIMIT 1
$$;

COMMENT ON FUNCTION billing.next_limit_renewal(uuid) IS 'When the limits of a subscription renew next by the rule of the renewals, also if it has no limit; null if it ends before.';

-- Search within names needs the extension pg_trgm. Without it the search works and reads every row, so a missing extension
-- or privilege is no error.
CREATE FUNCTION billing.create_workspaces_search() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    extension_schema name;
BEGIN
    SELECT n.nspname INTO extension_schema
    FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm';
    IF extension_schema IS NULL THEN
        BEGIN
            CREATE EXTENSION pg_trgm SCHEMA public;
            extension_schema := 'public';
        EXCEPTION
            WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR undefined_object
                OR invalid_schema_name OR unique_violation OR duplicate_object THEN
                RETURN false;
        END;
    END IF;
    -- without it, its operator class cannot be named
    IF NOT has_schema_privilege(extension_schema, 'USAGE') THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE INDEX IF NOT EXISTS workspaces_search ON billing.workspaces
        USING gin (name %1$I.gin_trgm_ops, key %1$I.gin_trgm_ops, (id::text) %1$I.gin_trgm_ops)', extension_schema);
    RETURN true;
END
$$;

COMMENT ON FUNCTION billing.create_workspaces_search() IS 'Creates the index for the search of the workspace API, and the extension pg_trgm that it needs. Returns false if this role may not create the extension, or the server does not have it. Run by the migration; run it again as the owner once the extension exists.';

SELECT billing.create_workspaces_search();

REVOKE ALL ON FUNCTION billing.next_limit_renewal(uuid), billing.create_workspaces_search() FROM PUBLIC;
