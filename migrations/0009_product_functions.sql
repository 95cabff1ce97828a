-- Functions for the product, to call in its own transactions and in any language, and their helpers. The product's
-- functions run as their owner with a fixed search path, and need a grant (ops/roles.sql).
CREATE FUNCTION billing.limits_are_stale(subscription_id uuid, now_at timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM billing.limit_recalculations AS c WHERE c.subscription_id = $1)
        OR EXISTS (SELECT FROM billing.subscription_limits AS b WHERE b.subscription_id = $1 AND b.renews_at <= $2)
$$;

COMMENT ON FUNCTION billing.limits_are_stale(uuid, timestamptz) IS 'True if a renewal of the subscription is due, or if it has a stale mark.';

CREATE FUNCTION billing.limit_periods_or_stored(subscription_id uuid, until timestamptz) RETURNS TABLE (
    limit_key text, kind text, period_start timestamptz, period_end timestamptz, is_over boolean, outcome text,
    price_ids text[], quantities bigint[], amounts bigint[], included bigint, spillover bigint, used bigint, bonus_used bigint,
    spilled_over bigint, expired bigint, is_stored boolean
) LANGUAGE plpgsql STABLE ROWS 3 AS $$
#variable_conflict use_column
BEGIN
    BEGIN
        RETURN QUERY
        SELECT c.limit_key, c.kind, c.period_start, c.period_end, c.is_over, c.outcome, c.price_ids, c.quantities, c.amounts,
            c.included, c.spillover, c.used, c.bonus_used, c.spilled_over, c.expired, false
        FROM billing.limit_periods(ARRAY[limit_periods_or_stored.subscription_id], limit_periods_or_stored.until) AS c
        -- sorted, so that all rows are computed before the first one is returned
        ORDER BY c.limit_key, c.period_start;
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        -- infrastructure errors, as in renew_limits_isolated
        IF left(SQLSTATE, 2) IN ('08', '40', '42', '53', '55', '57', '58') THEN
            RAISE;
        END IF;
    END;
    RETURN QUERY
    SELECT b.limit_key, b.kind, b.period_start, b.renews_at, false, NULL::text, NULL::text[], NULL::bigint[], NULL::bigint[],
        b.included, b.spillover, b.used, b.bonus_used, NULL::bigint, NULL::bigint, true
    FROM billing.subscription_limits AS b
    WHERE b.subscription_id = limit_periods_or_stored.subscription_id;
END
$$;

COMMENT ON FUNCTION billing.limit_periods_or_stored(uuid, timestamptz) IS 'limit_periods of one subscription. If that fails, the stored balances as its open periods, so that a view of many subscriptions works for the others. Infrastructure errors are raised.';

CREATE FUNCTION billing.current_limits(subscription_id uuid) RETURNS TABLE (
    limit_key text, kind text, included bigint, spillover bigint, bonus bigint, used bigint, bonus_used bigint,
    available bigint, period_start timestamptz, renews_at timestamptz, is_computed boolean
) LANGUAGE plpgsql STABLE ROWS 3 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    now_at CONSTANT timestamptz := clock_timestamp();
BEGIN
    IF billing.limits_are_stale(current_limits.subscription_id, now_at) THEN
        RETURN QUERY
        SELECT c.limit_key, c.kind, c.included, c.spillover, c.bonus_used + coalesce(w.amount, 0), c.used, c.bonus_used,
            -- consume fails if the balance cannot be computed
            CASE WHEN c.is_stored THEN 0
                ELSE billing.left_of_plan(c.included, c.spillover, c.used, c.bonus_used) + coalesce(w.amount, 0) END,
            c.period_start, c.period_end, NOT c.is_stored
        FROM billing.limit_periods_or_stored(current_limits.subscription_id, now_at) AS c
        JOIN billing.subscriptions AS s ON s.id = current_limits.subscription_id
        LEFT JOIN billing.workspace_bonus AS w ON w.workspace_id = s.workspace_id AND w.limit_key = c.limit_key
        WHERE NOT c.is_over;
    ELSE
        RETURN QUERY
        SELECT b.limit_key, b.kind, b.included, b.spillover, b.bonus_used + coalesce(w.amount, 0), b.used, b.bonus_used,
            billing.left_of_plan(b.included, b.spillover, b.used, b.bonus_used) + coalesce(w.amount, 0),
            b.period_start, b.renews_at, true
        FROM billing.subscription_limits AS b
        JOIN billing.subscriptions AS s ON s.id = b.subscription_id
        LEFT JOIN billing.workspace_bonus AS w ON w.workspace_id = s.workspace_id AND w.limit_key = b.limit_key
        WHERE b.subscription_id = current_limits.subscription_id;
    END IF;
END
$$;

COMMENT ON FUNCTION billing.current_limits(uuid) IS 'The limits of a subscription as of now: due renewals count as done, although nothing is written. available is the amount if the subscription were active; included and available are null if unlimited. If the limits cannot be computed, is_computed is false, available is 0, and the rest is as last stored.';

CREATE FUNCTION billing.refuse_without_subscription(workspace_id uuid) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    RAISE EXCEPTION 'workspace % has no subscription', workspace_id USING ERRCODE = 'LM003',
        -- null if a subscription has become known in this moment
        DETAIL = coalesce((SELECT s.inactive_reason FROM billing.workspace_state($1) AS s), 'no_subscription'),
        HINT = 'Subscriptions name their workspace in their metadata in Stripe, as workspace_id.';
END
$$;

COMMENT ON FUNCTION billing.refuse_without_subscription(uuid) IS 'Raises LM003 (DETAIL: the inactive_reason of workspace_state).';

CREATE FUNCTION billing.active_subscription(workspace_id uuid) RETURNS uuid LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    current record;
BEGIN
    SELECT s.id, s.active, s.inactive_reason INTO current FROM billing.current_subscriptions AS s
    WHERE s.workspace_id = active_subscription.workspace_id;
    IF NOT FOUND THEN
        PERFORM billing.refuse_without_subscription(active_subscription.workspace_id);
    ELSIF NOT current.active THEN
        RAISE EXCEPTION 'the subscription of workspace % is not active: %', active_subscription.workspace_id,
            current.inactive_reason USING ERRCODE = 'LM002', DETAIL = current.inactive_reason;
    END IF;
    RETURN current.id;
END
$$;

COMMENT ON FUNCTION billing.active_subscription(uuid) IS 'subscriptions.id of the workspace''s current subscription. Raises LM002 if it is not active, LM003 if there is none.';

CREATE FUNCTION billing.refuse_missing_limit(workspace_id uuid, subscription_id uuid, limit_key text) RETURNS void
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    items record;
BEGIN
    SELECT has.is_known, has.is_unreadable, s.stripe_status IN ('canceled', 'incomplete_expired') AS is_over, of_items.* INTO items
    FROM billing.subscriptions AS s
    LEFT JOIN LATERAL billing.in_force(s.account, s.stripe_subscription_id, 'infinity') AS newest ON true
    CROSS JOIN LATERAL billing.included_by(s.account, newest.price_ids, newest.quantities, refuse_missing_limit.limit_key) AS has
    CROSS JOIN LATERAL (
        SELECT count(*) AS limits, string_agg(coalesce(l.invalid_value, format('price %s: limit_%s', p.stripe_price_id, l.limit_key)),
            ', ' ORDER BY p.stripe_price_id) FILTER (WHERE l.included IS NULL AND NOT l.unlimited) AS invalid_values
        FROM billing.pricing_plans AS p
        JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id AND l.limit_key = refuse_missing_limit.limit_key
        WHERE p.account = s.account AND p.stripe_price_id = ANY (newest.price_ids)
    ) AS of_items
    WHERE s.id = refuse_missing_limit.subscription_id;
    IF items.is_unreadable AND NOT items.is_known THEN
        RAISE EXCEPTION 'the limit % of workspace % cannot be read: %', quote_literal(refuse_missing_limit.limit_key),
            refuse_missing_limit.workspace_id, items.invalid_values USING ERRCODE = 'LM009', DETAIL = items.invalid_values,
            HINT = 'Set the value in the metadata in Stripe to a whole number, or to unlimited.';
    ELSIF NOT items.is_known OR (items.limits > 0 AND NOT items.is_over) THEN
        RAISE EXCEPTION 'it is not known yet whether workspace % has a limit %, or how much it includes',
            refuse_missing_limit.workspace_id, quote_literal(refuse_missing_limit.limit_key) USING ERRCODE = 'LM008',
            HINT = CASE WHEN items.is_known THEN 'Its balance has not been created yet.'
                ELSE 'An item of its subscription, a price or a product has not been read from Stripe yet.' END || ' Call again later.';
    END IF;
    RAISE EXCEPTION 'workspace % has no limit %', refuse_missing_limit.workspace_id,
        quote_literal(refuse_missing_limit.limit_key) USING ERRCODE = 'LM004', HINT = format(
            'Limits are metadata of the price or product in Stripe: limit_%s = 10000, or unlimited.', refuse_missing_limit.limit_key);
END
$$;

COMMENT ON FUNCTION billing.refuse_missing_limit(uuid, uuid, text) IS 'Raises why the subscription has no balance of that limit: LM004 no item has such a limit, LM008 not known yet because an item, price or product is not known or the balance is not created, LM009 a value cannot be read.';

CREATE FUNCTION billing.refuse_limits_not_computed(subscription_id uuid) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    stripe_id CONSTANT text := (SELECT s.stripe_subscription_id FROM billing.subscriptions AS s WHERE s.id = $1);
BEGIN
    RAISE EXCEPTION 'the limits of subscription % cannot be computed', stripe_id USING ERRCODE = 'LM010', DETAIL = stripe_id,
        HINT = '`billing-sync renew` prints the error. The renewal is retried with increasing delay.';
END
$$;

COMMENT ON FUNCTION billing.refuse_limits_not_computed(uuid) IS 'Raises LM010 (DETAIL: the Stripe id of the subscription).';

CREATE FUNCTION billing.lock_and_renew_limits(subscription_id uuid) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    now_at timestamptz;
BEGIN
    PERFORM FROM billing.subscription_limits AS b
    WHERE b.subscription_id = lock_and_renew_limits.subscription_id ORDER BY b.limit_key FOR UPDATE;
    -- read after the lock, because the wait may have been long
    now_at := clock_timestamp();
    IF billing.limits_are_stale(lock_and_renew_limits.subscription_id, now_at) THEN
        BEGIN
            PERFORM FROM billing.renew_limits(ARRAY[lock_and_renew_limits.subscription_id], now_at);
        EXCEPTION WHEN OTHERS THEN
            -- infrastructure errors, as in renew_limits_isolated
            IF left(SQLSTATE, 2) IN ('08', '40', '42', '53', '55', '57', '58') THEN
                RAISE;
            END IF;
            PERFORM billing.refuse_limits_not_computed(lock_and_renew_limits.subscription_id);
        END;
    END IF;
END
$$;

COMMENT ON FUNCTION billing.lock_and_renew_limits(uuid) IS 'Locks the balances of a subscription until the end of the transaction, and renews them if they are stale. Raises LM010 if they cannot be computed or written; infrastructure errors are raised unchanged.';

CREATE FUNCTION billing.consume_locked(workspace_id uuid, limit_key text, amount bigint) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    current_id CONSTANT uuid := billing.active_subscription(consume_locked.workspace_id);
    balance record;
    pool bigint;
    from_bonus bigint;
    available bigint;
BEGIN
    PERFORM billing.lock_and_renew_limits(current_id);
    SELECT b.included, b.spillover, b.used, b.bonus_used, b.renews_at INTO balance FROM billing.subscription_limits AS b
    WHERE b.subscription_id = current_id AND b.limit_key = consume_locked.limit_key;
    IF NOT FOUND THEN
        PERFORM billing.refuse_missing_limit(consume_locked.workspace_id, current_id, consume_locked.limit_key);
    END IF;

    -- null if the plan is unlimited: then nothing is taken from the bonus
    from_bonus := greatest(0, consume_locked.amount - coalesce(
        billing.left_of_plan(balance.included, balance.spillover, balance.used, balance.bonus_used), consume_locked.amount));
    IF from_bonus = 0 THEN
        SELECT w.amount INTO pool FROM billing.workspace_bonus AS w
        WHERE w.workspace_id = consume_locked.workspace_id AND w.limit_key = consume_locked.limit_key;
    ELSE
        SELECT w.amount INTO pool FROM billing.workspace_bonus AS w
        WHERE w.workspace_id = consume_locked.workspace_id AND w.limit_key = consume_locked.limit_key FOR UPDATE;
    END IF;
    pool := coalesce(pool, 0);
    available := billing.left_of_plan(balance.included, balance.spillover, balance.used, balance.bonus_used) + pool;
    IF available < consume_locked.amount THEN
        RAISE EXCEPTION '% are used up for workspace %: % were asked for, % are left', consume_locked.limit_key,
            consume_locked.workspace_id, consume_locked.amount, available
            USING ERRCODE = 'LM001', DETAIL = available::text, HINT = coalesce('They renew at '
                || to_char(balance.renews_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'They do not renew.');
    ELSIF balance.used > 1000000000000000000 - consume_locked.amount THEN
        RAISE EXCEPTION '% of % would be used by workspace % in one period: at most 10^18 can be',
            balance.used::numeric + consume_locked.amount, consume_locked.limit_key, consume_locked.workspace_id
            USING ERRCODE = 'LM007', DETAIL = (1000000000000000000 - balance.used)::text;
    END IF;
    UPDATE billing.subscription_limits AS b SET used = b.used + consume_locked.amount, bonus_used = b.bonus_used + from_bonus
    WHERE b.subscription_id = current_id AND b.limit_key = consume_locked.limit_key;
    IF from_bonus > 0 THEN
        UPDATE billing.workspace_bonus AS w SET amount = w.amount - from_bonus
        WHERE w.workspace_id = consume_locked.workspace_id AND w.limit_key = consume_locked.limit_key;
    END IF;
    RETURN available - consume_locked.amount;
END
$$;

COMMENT ON FUNCTION billing.consume_locked(uuid, text, bigint) IS 'The slow path of consume: renews what is due first, takes what the plan does not cover from the bonus, and raises the reason if the amount is not available.';

CREATE FUNCTION billing.consume(workspace_id uuid, limit_key text, amount bigint, idempotency_key text DEFAULT NULL)
    RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    earlier record;
    answer bigint;
BEGIN
    IF consume.workspace_id IS NULL OR consume.limit_key IS NULL THEN
        RAISE EXCEPTION 'workspace_id and limit_key must not be null' USING ERRCODE = 'invalid_parameter_value';
    ELSIF consume.amount IS NULL OR consume.amount <= 0 THEN
        RAISE EXCEPTION 'amount must be above zero, not %', coalesce(consume.amount::text, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF consume.idempotency_key IS NOT NULL THEN
        IF octet_length(consume.idempotency_key) NOT BETWEEN 1 AND 255 THEN
            RAISE EXCEPTION 'an idempotency key has 1 to 255 bytes, not %', octet_length(consume.idempotency_key)
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        INSERT INTO billing.consumptions (workspace_id, idempotency_key, limit_key, amount)
        VALUES (consume.workspace_id, consume.idempotency_key, consume.limit_key, consume.amount)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            SELECT c.limit_key, c.amount, c.remaining INTO STRICT earlier FROM billing.consumptions AS c
            WHERE c.workspace_id = consume.workspace_id AND c.idempotency_key = consume.idempotency_key;
            IF (earlier.limit_key, earlier.amount) IS DISTINCT FROM (consume.limit_key, consume.amount) THEN
                RAISE EXCEPTION 'the idempotency key % was used for another call', quote_literal(consume.idempotency_key)
                    USING ERRCODE = 'LM005', DETAIL = format('That was for %s of %s.', earlier.amount, earlier.limit_key),
                        HINT = 'Use a new key for each thing that is consumed.';
            END IF;
            RETURN earlier.remaining;
        END IF;
    END IF;

    -- the fast path, one statement: nearly always no renewal is due and the plan covers the amount
    BEGIN
        UPDATE billing.subscription_limits AS b SET used = b.used + consume.amount
        FROM billing.current_subscriptions AS s
        WHERE s.workspace_id = consume.workspace_id AND s.active AND b.subscription_id = s.id AND b.limit_key = consume.limit_key
            AND (b.included IS NULL OR consume.amount - b.spillover <= b.included - (b.used - b.bonus_used))
            AND b.used <= 1000000000000000000 - consume.amount
            AND (b.renews_at IS NULL OR b.renews_at > clock_timestamp())
            AND NOT EXISTS (SELECT FROM billing.limit_recalculations AS c WHERE c.subscription_id = b.subscription_id)
        RETURNING billing.left_of_plan(b.included, b.spillover, b.used, b.bonus_used) + coalesce(
            (SELECT w.amount FROM billing.workspace_bonus AS w
            WHERE w.workspace_id = s.workspace_id AND w.limit_key = b.limit_key), 0) INTO answer;
        IF NOT FOUND THEN
            RAISE SQLSTATE 'LM000';
        END IF;
    EXCEPTION
        -- An UPDATE that waited for a row and then found its conditions false keeps the row locked. The exception releases
        -- the lock: otherwise the slow path, which locks all balances in order, could deadlock with another fast path
        WHEN SQLSTATE 'LM000' THEN
            answer := billing.consume_locked(consume.workspace_id, consume.limit_key, consume.amount);
    END;
    IF consume.idempotency_key IS NOT NULL THEN
        UPDATE billing.consumptions AS c SET remaining = answer
        WHERE c.workspace_id = consume.workspace_id AND c.idempotency_key = consume.idempotency_key;
    END IF;
    RETURN answer;
END
$$;

COMMENT ON FUNCTION billing.consume(uuid, text, bigint, text) IS 'Consumes this amount of a limit of the workspace''s current subscription, all or nothing, and returns what remains; null means unlimited. A call that repeats an idempotency key changes nothing and returns the same. Raises LM001 used up (DETAIL: what is left), LM002 not active (DETAIL: the inactive_reason), LM003 no subscription (DETAIL: the inactive_reason of workspace_state), LM004 no such limit, LM005 idempotency key used for another call, LM007 more than 10^18 would be used in one period, LM008 not known yet whether there is such a limit, LM009 a value in Stripe cannot be read (DETAIL: the value), LM010 the limits cannot be computed, 22023 invalid argument. Locks the balance until the end of the transaction.';

CREATE FUNCTION billing.release(workspace_id uuid, limit_key text, amount bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    current_id uuid;
    balance record;
    returned bigint;
BEGIN
    IF release.workspace_id IS NULL OR release.limit_key IS NULL THEN
        RAISE EXCEPTION 'workspace_id and limit_key must not be null' USING ERRCODE = 'invalid_parameter_value';
    ELSIF release.amount IS NULL OR release.amount <= 0 THEN
        RAISE EXCEPTION 'amount must be above zero, not %', coalesce(release.amount::text, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT s.id INTO current_id FROM billing.current_subscriptions AS s WHERE s.workspace_id = release.workspace_id;
    IF NOT FOUND THEN
        PERFORM billing.refuse_without_subscription(release.workspace_id);
    END IF;
    PERFORM billing.lock_and_renew_limits(current_id);
    SELECT b.kind, b.used, b.bonus_used INTO balance FROM billing.subscription_limits AS b
    WHERE b.subscription_id = current_id AND b.limit_key = release.limit_key;
    IF NOT FOUND THEN
        PERFORM billing.refuse_missing_limit(release.workspace_id, current_id, release.limit_key);
    ELSIF balance.kind <> 'capacity' THEN
        RAISE EXCEPTION '% renew and cannot be given back', release.limit_key USING ERRCODE = 'LM006',
            HINT = 'Grant a bonus instead; a key that is a capacity has a row in billing.limit_kinds before its first balance.';
    ELSIF balance.used < release.amount THEN
        RAISE EXCEPTION 'only % of % are taken: % cannot be given back', balance.used, release.limit_key, release.amount
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- the bonus was used last and is returned first. What exceeds the maximum of a bonus is lost
    returned := least(release.amount, balance.bonus_used);
    UPDATE billing.subscription_limits AS b SET used = b.used - release.amount, bonus_used = b.bonus_used - returned
    WHERE b.subscription_id = current_id AND b.limit_key = release.limit_key;
    -- the subscription may have come from another workspace with its usage; this workspace may then have no bonus yet
    INSERT INTO billing.workspace_bonus AS w (workspace_id, limit_key, amount)
    SELECT release.workspace_id, release.limit_key, returned WHERE returned > 0
    ON CONFLICT (workspace_id, limit_key) DO UPDATE SET amount = least(1000000000000000000, w.amount + excluded.amount);
    RETURN (SELECT l.available FROM billing.current_limits(current_id) AS l WHERE l.limit_key = release.limit_key);
END
$$;

COMMENT ON FUNCTION billing.release(uuid, text, bigint) IS 'Releases this amount of a capacity (a member who left) and returns what remains; null means unlimited. Raises LM003 no subscription (DETAIL: the inactive_reason of workspace_state), LM004 no such limit, LM006 a limit that renews, LM008 not known yet whether there is such a limit, LM009 a value in Stripe cannot be read (DETAIL: the value), LM010 the limits cannot be computed, 22023 invalid argument or more than was taken. Also works while the subscription is inactive. Bonus that was used is returned to the bonus of this workspace, even if the subscription had another workspace when it used it.';

CREATE FUNCTION billing.remaining(workspace_id uuid, limit_key text) RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    current_id uuid;
    balance record;
BEGIN
    IF remaining.workspace_id IS NULL OR remaining.limit_key IS NULL THEN
        RAISE EXCEPTION 'workspace_id and limit_key must not be null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    current_id := billing.active_subscription(remaining.workspace_id);
    SELECT l.available, l.is_computed INTO balance FROM billing.current_limits(current_id) AS l
    WHERE l.limit_key = remaining.limit_key;
    IF NOT FOUND THEN
        PERFORM billing.refuse_missing_limit(remaining.workspace_id, current_id, remaining.limit_key);
    ELSIF NOT balance.is_computed THEN
        PERFORM billing.refuse_limits_not_computed(current_id);
    END IF;
    RETURN balance.available;
END
$$;

COMMENT ON FUNCTION billing.remaining(uuid, text) IS 'The amount that consume could take now: null means unlimited, 0 that nothing is left. If it could take nothing for another reason, raises the same code as consume: LM002 not active (DETAIL: the inactive_reason), LM003 no subscription (DETAIL: the inactive_reason of workspace_state), LM004 no such limit, LM008 not known yet, LM009 a value in Stripe cannot be read (DETAIL: the value), LM010 cannot be computed, 22023 invalid argument. Writes and locks nothing.';

CREATE FUNCTION billing.grant_bonus(workspace_id uuid, limit_key text, amount bigint, reason text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    answer bigint;
BEGIN
    IF grant_bonus.workspace_id IS NULL OR grant_bonus.limit_key IS NULL OR coalesce(grant_bonus.amount, 0) = 0
        OR btrim(coalesce(grant_bonus.reason, '')) = '' THEN
        RAISE EXCEPTION 'a bonus needs a workspace, a limit key, an amount other than zero and a reason'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- lock the balances before the bonus, as consume does. Otherwise a transaction that grants and then consumes could
    -- deadlock with one that only consumes
    PERFORM FROM billing.subscription_limits AS b
    JOIN billing.current_subscriptions AS s ON s.id = b.subscription_id
    WHERE s.workspace_id = grant_bonus.workspace_id ORDER BY b.limit_key FOR UPDATE OF b;
    INSERT INTO billing.workspace_bonus (workspace_id, limit_key, amount)
    VALUES (grant_bonus.workspace_id, grant_bonus.limit_key, 0) ON CONFLICT DO NOTHING;
    UPDATE billing.workspace_bonus AS w SET amount = w.amount + grant_bonus.amount
    WHERE w.workspace_id = grant_bonus.workspace_id AND w.limit_key = grant_bonus.limit_key
        -- as numeric, because the amount may be any bigint
        AND w.amount::numeric + grant_bonus.amount BETWEEN 0 AND 1000000000000000000
    RETURNING w.amount INTO answer;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the % bonus of workspace % cannot be changed by %', grant_bonus.limit_key, grant_bonus.workspace_id,
            grant_bonus.amount USING ERRCODE = CASE WHEN grant_bonus.amount > 0 THEN 'LM007' ELSE '22023' END,
            DETAIL = (SELECT format('%s are left.', w.amount) FROM billing.workspace_bonus AS w
                WHERE w.workspace_id = grant_bonus.workspace_id AND w.limit_key = grant_bonus.limit_key),
            HINT = 'No more can be taken back than is left, and no bonus is above 10^18.';
    END IF;
    INSERT INTO billing.bonus_grants (workspace_id, limit_key, amount, reason, granted_by)
    VALUES (grant_bonus.workspace_id, grant_bonus.limit_key, grant_bonus.amount, grant_bonus.reason, session_user);
    RETURN answer;
END
$$;

COMMENT ON FUNCTION billing.grant_bonus(uuid, text, bigint, text) IS 'Adds to a workspace''s bonus, or with a negative amount takes back what is left of it, and returns the remaining bonus. Every call is kept in bonus_grants. Raises LM007 if the bonus would exceed 10^18, 22023 if an argument is missing or more is taken back than is left.';

-- by default PUBLIC may call functions
REVOKE ALL ON FUNCTION billing.limits_are_stale(uuid, timestamptz), billing.limit_periods_or_stored(uuid, timestamptz),
    billing.current_limits(uuid), billing.active_subscription(uuid), billing.refuse_without_subscription(uuid),
    billing.refuse_missing_limit(uuid, uuid, text), billing.refuse_limits_not_computed(uuid), billing.lock_and_renew_limits(uuid),
    billing.consume_locked(uuid, text, bigint), billing.consume(uuid, text, bigint, text), billing.release(uuid, text, bigint),
    billing.remaining(uuid, text), billing.grant_bonus(uuid, text, bigint, text) FROM PUBLIC;
