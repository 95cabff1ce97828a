-- Isolation: a subscription whose limits cannot be computed is set aside, and all others are renewed.
CREATE FUNCTION billing.set_aside_renewals() RETURNS uuid[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY(
        SELECT s.id FROM billing.jobs AS j
        JOIN billing.subscriptions AS s ON s.account = j.account AND s.stripe_subscription_id = j.object_id
        WHERE j.kind = 'renewal')
$$;

COMMENT ON FUNCTION billing.set_aside_renewals() IS 'The subscriptions whose limits could not be renewed. No batch contains them: each is retried individually by its job of the kind renewal.';

CREATE FUNCTION billing.set_aside_renewal(subscription_id uuid, reason text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO billing.jobs AS j (kind, account, object_type, object_id, attempts, run_at, last_error)
    SELECT 'renewal', s.account, 'subscription', s.stripe_subscription_id, 1, clock_timestamp() + interval '5 s', left(reason, 500)
    FROM billing.subscriptions AS s WHERE s.id = $1
    ON CONFLICT (kind, account, object_type, object_id) DO UPDATE SET last_error = excluded.last_error
$$;

COMMENT ON FUNCTION billing.set_aside_renewal(uuid, text) IS 'Sets a subscription aside, whose limits could not be renewed for that reason.';

CREATE FUNCTION billing.bring_up_isolated(ids uuid[], until timestamptz) RETURNS TABLE (
    outcome text, limit_key text, renewals bigint, corrections bigint, spilled_over numeric, expired numeric,
    latenesses double precision[]
) LANGUAGE plpgsql AS $$
DECLARE
    half CONSTANT integer := cardinality(ids) / 2;
    code text;
    at_constraint text;
    at_table text;
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN;
    END IF;
    BEGIN
        -- no row is passed on before bring_up has ended, so that a failure leaves none behind
        RETURN QUERY SELECT * FROM billing.bring_up(ids, bring_up_isolated.until);
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, at_constraint = CONSTRAINT_NAME, at_table = TABLE_NAME;
        -- conflicts, exhausted resources, shutdowns and a wrong schema would fail every subscription alike
        IF left(code, 2) IN ('08', '40', '42', '53', '55', '57', '58') THEN
            RAISE;
        END IF;
    END;
    IF half > 0 THEN
        RETURN QUERY SELECT * FROM billing.bring_up_isolated(ids[:half], bring_up_isolated.until);
        RETURN QUERY SELECT * FROM billing.bring_up_isolated(ids[half + 1:], bring_up_isolated.until);
        RETURN;
    END IF;
    -- the code and the names only: the message may contain personal data
    PERFORM billing.set_aside_renewal(ids[1], concat(
        'database error ', code, ' at ' || nullif(at_constraint, ''), ' of ' || nullif(at_table, '')));
END
$$;

COMMENT ON FUNCTION billing.bring_up_isolated(uuid[], timestamptz) IS 'bring_up, where a subscription that fails is set aside with its reason, as a job of the kind renewal, and the others are brought up. Failures that are no fault of a subscription (lock, connection, resources) are raised.';

CREATE FUNCTION billing.try_begin_limits(ids uuid[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        -- the product may lock its own table for as long as it likes
        LOCK TABLE billing.limit_kinds IN ACCESS SHARE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    PERFORM billing.begin_limits(ids);
    RETURN true;
END
$$;

COMMENT ON FUNCTION billing.try_begin_limits(uuid[]) IS 'begin_limits, unless another session holds the table limit_kinds: then false, and nothing is written. Never waits.';

REVOKE ALL ON FUNCTION billing.set_aside_renewals(), billing.set_aside_renewal(uuid, text), billing.try_begin_limits(uuid[]), billing.bring_up_isolated(uuid[], timestamptz) FROM PUBLIC;
