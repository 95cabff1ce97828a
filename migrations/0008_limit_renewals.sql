-- Functions that write balances. Lock order of all: the balances of one subscription by key, then bonuses by workspace and
-- key.

CREATE FUNCTION billing.limit_first_known_at(subscription billing.subscriptions, limit_key text) RETURNS timestamptz
    LANGUAGE sql STABLE AS $$
    -- a limit that was added to the plan long after the start of the subscription counts from then
    SELECT min(greatest(t.effective_from,
        CASE WHEN l.created_at > subscription.created_at + interval '1 day' THEN l.created_at END))
    FROM billing.subscription_timeline AS t
    JOIN billing.pricing_plans AS p ON p.account = t.account AND p.stripe_price_id = ANY (t.price_ids)
    JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id AND l.limit_key = limit_first_known_at.limit_key
    WHERE t.account = subscription.account AND t.subscription_id = subscription.stripe_subscription_id
$$;

COMMENT ON FUNCTION billing.limit_first_known_at(billing.subscriptions, text) IS 'The first time at which the subscription had a limit of that key, by its timeline.';

-- plpgsql keeps the plan for the session; a function in SQL would be planned for every batch, which takes 6 ms
CREATE FUNCTION billing.create_limits(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH missing AS (
        SELECT s.id, had.limit_key, coalesce(k.kind, 'renewing') AS kind, has.is_known,
            CASE WHEN has.is_known THEN has.unlimited ELSE before.unlimited END AS unlimited,
            CASE WHEN has.is_known THEN has.included ELSE before.included END AS included,
            s.account, s.stripe_subscription_id, coalesce(s.started_at, s.stripe_created_at) AS started_at,
            rules.renewal_anchor, billing.limit_first_known_at(s.as_row, had.limit_key) AS since
        FROM (SELECT DISTINCT id FROM unnest(ids) AS given (id)) AS wanted
        -- OFFSET 0 and LIMIT 1 change only the plan: one lookup by key for each row, whatever the statistics
        CROSS JOIN LATERAL (
            SELECT s AS as_row, s.* FROM billing.subscriptions AS s
            WHERE s.id = wanted.id AND s.stripe_status NOT IN ('canceled', 'incomplete_expired') OFFSET 0
        ) AS s
        CROSS JOIN LATERAL (
            -- of all its current and earlier items, so that it does not matter when their events arrived
            SELECT DISTINCT l.limit_key
            FROM (
                SELECT DISTINCT price.id FROM billing.subscription_timeline AS t CROSS JOIN unnest(t.price_ids) AS price (id)
                WHERE t.account = s.account AND t.subscription_id = s.stripe_subscription_id
            ) AS price
            CROSS JOIN LATERAL (
                SELECT p.id FROM billing.pricing_plans AS p
                WHERE p.account = s.account AND p.stripe_price_id = price.id OFFSET 0
            ) AS p
            CROSS JOIN LATERAL (
                SELECT l.limit_key FROM billing.plan_limits AS l
                WHERE l.pricing_plan_id = p.id AND (l.unlimited OR l.included IS NOT NULL) OFFSET 0
            ) AS l
        ) AS had
        LEFT JOIN LATERAL billing.in_force(s.account, s.stripe_subscription_id, 'infinity') AS is_now ON true
        CROSS JOIN LATERAL billing.included_by(s.account, is_now.price_ids, is_now.quantities, had.limit_key) AS has
        -- while a price is not known or a value cannot be read, the last known amount counts
        LEFT JOIN LATERAL (
            SELECT h.unlimited, h.included
            FROM billing.subscription_timeline AS t
            CROSS JOIN LATERAL billing.included_by(t.account, t.price_ids, t.quantities, had.limit_key) AS h
            WHERE NOT has.is_known AND t.account = s.account AND t.subscription_id = s.stripe_subscription_id
                AND h.is_known AND (h.unlimited OR h.included > 0)
            ORDER BY t.stated_at DESC, t.tie_break DESC, t.source DESC
            LIMIT 1
        ) AS before ON true
        LEFT JOIN LATERAL (
            SELECT k.kind FROM billing.limit_kinds AS k WHERE k.limit_key = had.limit_key LIMIT 1
        ) AS k ON true
        CROSS JOIN (SELECT r.renewal_anchor FROM billing.renewal_rules AS r LIMIT 1) AS rules
        -- not NOT EXISTS, which would be planned as a join
        WHERE (SELECT true FROM billing.subscription_limits AS b
            WHERE b.subscription_id = s.id AND b.limit_key = had.limit_key) IS NULL
            -- an amount that was never known is not 0: consume then raises why it is not known
            AND (has.is_known OR before.unlimited IS NOT NULL)
    ), placed AS (
        SELECT l.*, coalesce(
            (SELECT max(r.at) FROM billing.renewals_between(l.renewal_anchor, l.account, l.stripe_subscription_id,
                l.started_at, greatest(l.started_at, l.since - interval '63 days'), l.since) AS r),
            l.started_at, l.since, clock_timestamp()) AS period_start
        FROM missing AS l
    ), created AS (
        INSERT INTO billing.subscription_limits (subscription_id, limit_key, kind, included, unlimited, period_start, renews_at)
        SELECT p.id, p.limit_key, p.kind, p.included, p.unlimited, p.period_start, CASE WHEN p.kind = 'renewing' THEN
            (SELECT min(r.at) FROM billing.renewals_between(p.renewal_anchor, p.account, p.stripe_subscription_id,
                p.started_at, p.period_start, p.period_start + interval '63 days') AS r)
            END
        FROM placed AS p
        ORDER BY p.id, p.limit_key
    )
    -- the amount of an earlier item stays in force: limit_periods finds it
    INSERT INTO billing.limit_recalculations (subscription_id, since)
    SELECT p.id, clock_timestamp() FROM placed AS p WHERE NOT p.is_known;
END
$$;

COMMENT ON FUNCTION billing.create_limits(uuid[]) IS 'Creates the missing balances of these subscriptions, one for each limit of their current and earlier items whose amount is or was known, in the period in which the limit was first known. The worker calls it with the locks of their customers held. Nothing else adds balances, so it never waits for a lock.';

CREATE FUNCTION billing.try_create_limits(ids uuid[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        -- the product may hold a lock on its own table for any time
        LOCK TABLE billing.limit_kinds IN ACCESS SHARE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    PERFORM billing.create_limits(ids);
    RETURN true;
END
$$;

COMMENT ON FUNCTION billing.try_create_limits(uuid[]) IS 'Calls create_limits, unless another session has locked the table limit_kinds: then it returns false and writes nothing. Never waits.';

CREATE FUNCTION billing.prepend_limit_periods(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ledger record;
BEGIN
    FOR ledger IN
        SELECT b.subscription_id, b.limit_key, b.included, b.unlimited, opened.at AS opened, had.since, s.account,
            s.stripe_subscription_id, coalesce(s.started_at, s.stripe_created_at) AS started_at, rules.renewal_anchor
        FROM unnest(ids) AS wanted (id)
        JOIN billing.subscription_limits AS b ON b.subscription_id = wanted.id
        JOIN billing.subscriptions AS s ON s.id = b.subscription_id
        CROSS JOIN (SELECT * FROM billing.renewal_rules LIMIT 1) AS rules
        CROSS JOIN LATERAL (
            SELECT coalesce((SELECT r.period_start FROM billing.limit_renewals AS r
                WHERE r.subscription_id = b.subscription_id AND r.limit_key = b.limit_key AND r.previous_period_end IS NULL),
                b.period_start) AS at
        ) AS opened
        CROSS JOIN LATERAL (SELECT billing.limit_first_known_at(s, b.limit_key) AS since) AS had
        WHERE b.kind = 'renewing'
            AND EXISTS (
                SELECT FROM billing.limit_recalculations AS c WHERE c.subscription_id = b.subscription_id AND c.since < opened.at)
            AND had.since < opened.at
    LOOP
        -- the new rows are inserted before the first row, which then refers to the last of them
        SET CONSTRAINTS billing.limit_renewals_chain DEFERRED;
        UPDATE billing.limit_renewals AS r SET previous_period_end = r.period_start
        WHERE r.subscription_id = ledger.subscription_id AND r.limit_key = ledger.limit_key AND r.previous_period_end IS NULL;
        WITH ends AS (
            SELECT r.at, bool_or(r.at_anchor) AS at_anchor
            FROM (
                SELECT * FROM billing.renewals_between(ledger.renewal_anchor, ledger.account, ledger.stripe_subscription_id,
                    ledger.started_at, greatest(ledger.started_at, ledger.since - interval '63 days'), ledger.opened)
                UNION ALL
                SELECT ledger.opened, false
            ) AS r
            GROUP BY r.at
        ), periods AS (
            SELECT lag(e.at, 1, ledger.started_at) OVER (ORDER BY e.at) AS period_start, e.at AS period_end, e.at_anchor
            FROM ends AS e
        )
        INSERT INTO billing.limit_renewals (subscription_id, limit_key, period_start, period_end, previous_period_end, included, unlimited,
            spillover, used, bonus_used, outcome, spilled_over, expired, at_anchor)
        SELECT ledger.subscription_id, ledger.limit_key, p.period_start, p.period_end,
            lag(p.period_end) OVER (ORDER BY p.period_start), ledger.included, ledger.unlimited, 0, 0, 0, 'inactive', 0, 0,
            p.at_anchor
        FROM periods AS p
        WHERE p.period_end > ledger.since AND p.period_start < p.period_end;
        SET CONSTRAINTS billing.limit_renewals_chain IMMEDIATE;
    END LOOP;
END
$$;

COMMENT ON FUNCTION billing.prepend_limit_periods(uuid[]) IS 'Adds the periods before the first known one to the ledger, if an event from the time before it arrived later. The rows are written empty; limit_periods then computes them like any other period that may have changed.';

CREATE FUNCTION billing.renew_limits(ids uuid[], until timestamptz) RETURNS TABLE (
    outcome text, limit_key text, renewals bigint, corrections bigint, spilled_over numeric, expired numeric,
    delays double precision[]
) LANGUAGE plpgsql
-- planned for each call: a plan that was made while the ledger was empty would stay for the life of the connection
SET plan_cache_mode = force_custom_plan SET jit = off
-- each row is looked up by its key; the estimates for a period schedule are too inaccurate for the planner to choose
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    -- marks that are added while this runs are left for the next call: prepend_limit_periods may not have seen them
    marks CONSTANT bigint[] := ARRAY(SELECT c.id FROM billing.limit_recalculations AS c WHERE c.subscription_id = ANY (ids));
BEGIN
    IF marks <> '{}' THEN
        PERFORM billing.prepend_limit_periods(ids);
    END IF;
    RETURN QUERY
    WITH schedule AS MATERIALIZED (
        SELECT * FROM billing.limit_periods(ids, renew_limits.until)
    ), known AS (
        DELETE FROM billing.limit_recalculations AS c WHERE c.id = ANY (marks)
    ), written AS (
        INSERT INTO billing.limit_renewals (subscription_id, limit_key, period_start, period_end, previous_period_end, included, unlimited,
            spillover, used, bonus_used, outcome, spilled_over, expired, at_anchor, price_ids, quantities, amounts)
        SELECT c.subscription_id, c.limit_key, c.period_start, c.period_end, c.previous_period_end,
            c.included, c.included IS NULL, c.spillover, c.used, c.bonus_used, c.outcome, c.spilled_over, c.expired, c.at_anchor,
            c.price_ids, c.quantities, c.amounts
        FROM schedule AS c
        WHERE c.is_over AND NOT c.is_recorded
        ORDER BY c.subscription_id, c.limit_key, c.period_start
        RETURNING limit_renewals.outcome, limit_renewals.limit_key, limit_renewals.spilled_over, limit_renewals.expired,
            extract(epoch FROM limit_renewals.renewed_at - limit_renewals.period_end)::double precision AS delay
    ), corrected AS (
        UPDATE billing.limit_renewals AS r
        SET included = c.included, unlimited = c.included IS NULL, spillover = c.spillover, outcome = c.outcome,
            spilled_over = c.spilled_over, expired = c.expired, price_ids = c.price_ids, quantities = c.quantities,
            amounts = c.amounts, corrected_at = clock_timestamp()
        FROM schedule AS c
        WHERE c.is_recorded AND r.subscription_id = c.subscription_id AND r.limit_key = c.limit_key
            AND r.period_start = c.period_start
            AND (r.included, r.spillover, r.outcome, r.spilled_over, r.expired, r.price_ids, r.quantities)
                IS DISTINCT FROM (c.included, c.spillover, c.outcome, c.spilled_over, c.expired, c.price_ids, c.quantities)
        RETURNING r.outcome, r.limit_key
    ), balanced AS (
        UPDATE billing.subscription_limits AS b
        SET included = c.included, unlimited = c.included IS NULL, spillover = c.spillover, used = c.used,
            bonus_used = c.bonus_used, period_start = c.period_start, renews_at = c.period_end
        FROM schedule AS c
        WHERE NOT c.is_over AND b.subscription_id = c.subscription_id AND b.limit_key = c.limit_key
            AND (b.included, b.spillover, b.used, b.bonus_used, b.period_start, b.renews_at)
                IS DISTINCT FROM (c.included, c.spillover, c.used, c.bonus_used, c.period_start, c.period_end)
    )
    SELECT done.outcome, done.limit_key, count(*) FILTER (WHERE NOT done.again), count(*) FILTER (WHERE done.again),
        coalesce(sum(done.spilled_over), 0), coalesce(sum(done.expired), 0), array_agg(done.delay) FILTER (WHERE NOT done.again)
    FROM (
        SELECT w.*, false AS again FROM written AS w
        UNION ALL
        SELECT c.outcome, c.limit_key, NULL, NULL, NULL, true FROM corrected AS c
    ) AS done
    GROUP BY done.outcome, done.limit_key;
END
$$;

COMMENT ON FUNCTION billing.renew_limits(uuid[], timestamptz) IS 'Renews the limits of these subscriptions until that time and applies their stale marks: writes what limit_periods returns. The caller holds the locks of their balances. Never changes the bonus. Returns the number of renewals and corrections for each outcome and key.';

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

COMMENT ON FUNCTION billing.set_aside_renewal(uuid, text) IS 'Sets aside a subscription whose limits could not be renewed, with the reason.';

CREATE FUNCTION billing.renew_limits_isolated(ids uuid[], until timestamptz) RETURNS TABLE (
    outcome text, limit_key text, renewals bigint, corrections bigint, spilled_over numeric, expired numeric,
    delays double precision[]
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
        -- no row is returned before renew_limits has ended, so that a failure returns none
        RETURN QUERY SELECT * FROM billing.renew_limits(ids, renew_limits_isolated.until);
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, at_constraint = CONSTRAINT_NAME, at_table = TABLE_NAME;
        -- conflicts, exhausted resources, shutdowns and a wrong schema would fail every subscription
        IF left(code, 2) IN ('08', '40', '42', '53', '55', '57', '58') THEN
            RAISE;
        END IF;
    END;
    IF half > 0 THEN
        RETURN QUERY SELECT * FROM billing.renew_limits_isolated(ids[:half], renew_limits_isolated.until);
        RETURN QUERY SELECT * FROM billing.renew_limits_isolated(ids[half + 1:], renew_limits_isolated.until);
        RETURN;
    END IF;
    -- the code and the names only: the message may contain personal data
    PERFORM billing.set_aside_renewal(ids[1], concat(
        'database error ', code, ' at ' || nullif(at_constraint, ''), ' of ' || nullif(at_table, '')));
END
$$;

COMMENT ON FUNCTION billing.renew_limits_isolated(uuid[], timestamptz) IS 'Calls renew_limits for all; a subscription that fails is set aside with its reason, as a job of the kind renewal, and the others are renewed. Infrastructure errors (lock, connection, resources) are raised.';

CREATE FUNCTION billing.claim_limits(due_until timestamptz, at_most integer) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    candidates uuid[];
    mine uuid[] := '{}';
    -- subscriptions that are set aside are retried individually
    tried uuid[] := billing.set_aside_renewals();
BEGIN
    -- None of these statements waits. A subscription of which the product or another scheduler has locked a balance is left
    -- for the next round, and the next candidates are tried: however many are locked, all others are claimed.
    LOOP
        candidates := ARRAY(
            SELECT due.subscription_id FROM (
                SELECT b.subscription_id FROM billing.subscription_limits AS b
                WHERE b.renews_at <= due_until AND b.subscription_id <> ALL (tried)
                ORDER BY b.renews_at, b.subscription_id LIMIT at_most FOR UPDATE SKIP LOCKED
            ) AS due
            UNION
            SELECT changed.subscription_id FROM (
                SELECT c.subscription_id FROM billing.limit_recalculations AS c
                WHERE c.subscription_id <> ALL (tried)
                    -- each subscription once, however many marks it has
                    AND c.id = (SELECT first.id FROM billing.limit_recalculations AS first
                        WHERE first.subscription_id = c.subscription_id ORDER BY first.id LIMIT 1)
                ORDER BY c.id LIMIT at_most
            ) AS changed
        );
        EXIT WHEN candidates = '{}';
        mine := mine || ARRAY(
            SELECT locked.subscription_id FROM (
                SELECT b.subscription_id FROM billing.subscription_limits AS b
                WHERE b.subscription_id = ANY (candidates)
                ORDER BY b.subscription_id, b.limit_key FOR UPDATE SKIP LOCKED
            ) AS locked
            GROUP BY locked.subscription_id
            HAVING count(*) = (SELECT count(*) FROM billing.subscription_limits AS b WHERE b.subscription_id = locked.subscription_id)
        );
        -- marks of subscriptions without balances have no effect
        DELETE FROM billing.limit_recalculations AS c WHERE c.id IN (
            SELECT idle.id FROM billing.limit_recalculations AS idle
            WHERE idle.subscription_id = ANY (candidates)
                AND NOT EXISTS (SELECT FROM billing.subscription_limits AS b WHERE b.subscription_id = idle.subscription_id)
            FOR UPDATE SKIP LOCKED);
        EXIT WHEN cardinality(mine) >= at_most;
        tried := tried || candidates;
    END LOOP;
    RETURN mine;
END
$$;

COMMENT ON FUNCTION billing.claim_limits(timestamptz, integer) IS 'Locks the balances of subscriptions that renew until that time or have a stale mark, and returns the subscriptions whose balances it could all lock. Skips locked ones.';

-- by default PUBLIC may call functions
REVOKE ALL ON FUNCTION billing.create_limits(uuid[]), billing.try_create_limits(uuid[]), billing.prepend_limit_periods(uuid[]),
    billing.renew_limits(uuid[], timestamptz), billing.renew_limits_isolated(uuid[], timestamptz), billing.set_aside_renewals(),
    billing.set_aside_renewal(uuid, text), billing.claim_limits(timestamptz, integer) FROM PUBLIC;
