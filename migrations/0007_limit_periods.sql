-- The periods of limits over time: functions that only read. docs/limits.md follows one month through them.

-- The calendar. Every time is computed from the anchor, never from the previous time, so that the 31st returns after
-- February. A month is added AT TIME ZONE 'UTC' both ways, because timestamptz + interval depends on the session.
CREATE FUNCTION billing.renewal_at(anchor timestamptz, months integer, day integer DEFAULT NULL) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN day IS NULL THEN (anchor AT TIME ZONE 'UTC' + months * interval '1 month') AT TIME ZONE 'UTC'
        ELSE (
            date_trunc('month', anchor AT TIME ZONE 'UTC') + months * interval '1 month'
            + (least(day, extract(day FROM date_trunc('month', anchor AT TIME ZONE 'UTC') + (months + 1) * interval '1 month'
                - interval '1 day')::integer) - 1) * interval '1 day'
            + (anchor AT TIME ZONE 'UTC')::time
        ) AT TIME ZONE 'UTC'
    END;

COMMENT ON FUNCTION billing.renewal_at(timestamptz, integer, integer) IS 'The anchor plus this many months in UTC, or the last day of a month that is too short. The argument day (1 to 31) replaces the day of the anchor.';

CREATE FUNCTION billing.months_apart(a timestamptz, b timestamptz) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (12 * (date_part('year', b AT TIME ZONE 'UTC') - date_part('year', a AT TIME ZONE 'UTC'))
        + date_part('month', b AT TIME ZONE 'UTC') - date_part('month', a AT TIME ZONE 'UTC'))::integer;

COMMENT ON FUNCTION billing.months_apart(timestamptz, timestamptz) IS 'Number of calendar months from a to b, in UTC.';

CREATE FUNCTION billing.renewals_until(anchor timestamptz, until timestamptz, day integer DEFAULT NULL) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- the renewal in the month of until has either come by then, or the one of the previous month was the last
    RETURN billing.months_apart(anchor, until)
        - (billing.renewal_at(anchor, billing.months_apart(anchor, until), day) > until)::integer;

COMMENT ON FUNCTION billing.renewals_until(timestamptz, timestamptz, integer) IS 'The greatest number of months whose renewal_at is at or before that time; negative before the anchor.';

CREATE FUNCTION billing.next_renewal(anchor timestamptz, after timestamptz, day integer DEFAULT NULL) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN billing.renewal_at(anchor, billing.renewals_until(anchor, after, day) + 1, day);

COMMENT ON FUNCTION billing.next_renewal(timestamptz, timestamptz, integer) IS 'The first renewal_at strictly after that time: at the instant of a renewal, the next one.';

CREATE FUNCTION billing.included_by(account text, price_ids text[], quantities bigint[], limit_key text) RETURNS TABLE (
    is_known boolean, is_unreadable boolean, unlimited boolean, included bigint, amounts bigint[]
) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT coalesce(bool_or(l.unlimited), false) OR (
            $2 IS NOT NULL
            AND NOT coalesce(bool_or(p.id IS NULL OR (l.included IS NULL AND l.id IS NOT NULL)), false)
            -- a product that is not known yet may contain the limit, unless another item contains it already
            AND (coalesce(bool_or(l.id IS NOT NULL), false)
                OR NOT coalesce(bool_or(p.stripe_product_id IS NOT NULL AND p.product_name IS NULL), false))),
        coalesce(bool_or(l.included IS NULL AND NOT l.unlimited), false),
        coalesce(bool_or(l.unlimited), false),
        CASE WHEN NOT coalesce(bool_or(l.unlimited), false) THEN least(1000000000000000000, coalesce(sum(item.amount), 0))::bigint END,
        coalesce(array_agg(item.amount ORDER BY i.place), '{}')
    FROM unnest($2, $3) WITH ORDINALITY AS i (price_id, quantity, place)
    LEFT JOIN billing.pricing_plans AS p ON p.account = $1 AND p.stripe_price_id = i.price_id
    LEFT JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id AND l.limit_key = $4
    CROSS JOIN LATERAL (
        -- as numeric, because the product of two large numbers may exceed bigint
        SELECT CASE
            WHEN l.unlimited THEN NULL
            WHEN l.per_unit > 0 THEN least(1000000000000000000, coalesce(l.included, 0) + i.quantity::numeric * l.per_unit)::bigint
            ELSE coalesce(l.included, 0) END AS amount
    ) AS item
$$;

COMMENT ON FUNCTION billing.included_by(text, text[], bigint[], text) IS 'What items of these prices and quantities include of a limit: their total, at most 10^18, and the amount of each (null means unlimited). is_known: all prices are known and valid, or one of them is unlimited. is_unreadable: a value in Stripe is invalid.';

-- What is carried over at the end of a period: state function of the aggregate below.
CREATE FUNCTION billing.spillover_step(state bigint, spillover bigint, included bigint, used bigint, renewed boolean, next_included bigint)
    RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    -- included is null if it is unlimited: then nothing is carried over. A null next_included is no cap
    IF NOT renewed OR included IS NULL THEN
        RETURN 0;
    END IF;
    RETURN least(next_included, greatest(0, included - greatest(0, used - coalesce(state, spillover))));
END
$$;

COMMENT ON FUNCTION billing.spillover_step(bigint, bigint, bigint, bigint, boolean, bigint) IS 'Rest of included at the end of a period, with the spillover used up first: least(included, greatest(0, included + spillover - used)), at most next_included, and 0 if the period did not end in a renewal. The spillover is state, else the argument.';

CREATE AGGREGATE billing.spilled_over(spillover bigint, included bigint, used bigint, renewed boolean, next_included bigint) (
    SFUNC = billing.spillover_step, STYPE = bigint, PARALLEL = SAFE
);

COMMENT ON AGGREGATE billing.spilled_over(bigint, bigint, bigint, boolean, bigint) IS 'billing.spillover_step over consecutive periods: the amount carried over from each is the spillover of the next. Only the spillover of the first period is read.';

CREATE FUNCTION billing.left_of_plan(included bigint, spillover bigint, used bigint, bonus_used bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- every amount is at most 10^18, so no sum of these exceeds bigint
    RETURN CASE WHEN included IS NOT NULL THEN greatest(0, included + spillover - (used - bonus_used)) END;

COMMENT ON FUNCTION billing.left_of_plan(bigint, bigint, bigint, bigint) IS 'Amount that can still be used without the bonus: included + spillover - (used - bonus_used), never below 0; null if included is null, which means unlimited.';

CREATE FUNCTION billing.subscription_is_active(stripe_status text, payment_paused boolean, ended_at timestamptz, past_due_active boolean)
    RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN NOT payment_paused AND ended_at IS NULL
        AND (stripe_status IN ('active', 'trialing') OR (stripe_status = 'past_due' AND past_due_active));

COMMENT ON FUNCTION billing.subscription_is_active(text, boolean, timestamptz, boolean) IS 'True if a subscription of that status is active: the same rule as for subscriptions.active.';

-- An anchor that is reported again after it has passed counts from the second report: the months by another anchor in
-- between stay unchanged. A renewal that is due at the same time from which the next anchor counts still happens, whichever
-- of the two becomes known first.
CREATE FUNCTION billing.anchored_renewals(
    account text, subscription_id text, started_at timestamptz, after timestamptz, until timestamptz
) RETURNS TABLE (at timestamptz, at_anchor boolean) LANGUAGE sql STABLE ROWS 3
-- a setting prevents inlining into the callers, which mostly do not need the result
SET search_path = pg_catalog, pg_temp AS $$
    WITH reported AS (
        SELECT t.billing_cycle_anchor AS at, t.effective_from AS reported_at, t.anchor_day, row_number() OVER in_turn AS place,
            -- an anchor that returns counts again, as when a longer trial is shortened again
            lag(t.billing_cycle_anchor) OVER in_turn IS DISTINCT FROM t.billing_cycle_anchor AS is_new,
            row_number() OVER (PARTITION BY t.billing_cycle_anchor ORDER BY t.stated_at, t.tie_break, t.source) > 1 AS is_back
        FROM billing.subscription_timeline AS t
        WHERE t.account = $1 AND t.subscription_id = $2 AND t.billing_cycle_anchor IS NOT NULL
        WINDOW in_turn AS (ORDER BY t.stated_at, t.tie_break, t.source)
    ), anchor AS (
        SELECT t.at, CASE WHEN t.is_back THEN t.reported_at ELSE least(t.reported_at, t.at) END AS counts_from, t.place,
            -- the day stays with its anchor: a payload without it changes nothing
            (SELECT d.anchor_day FROM reported AS d WHERE d.at = t.at AND d.anchor_day IS NOT NULL ORDER BY d.place DESC LIMIT 1) AS day
        FROM reported AS t
        WHERE t.is_new
    ), span AS (
        -- an anchor counts from its report, or from itself if the report was late; the first one also counts for all times before
        SELECT a.at, a.day, a.place, CASE
            WHEN row_number() OVER in_turn = 1 THEN '-infinity' ELSE max(a.counts_from) OVER in_turn
        END AS starts
        FROM (
            SELECT * FROM anchor
            UNION ALL
            SELECT started_at, started_at, 0, NULL WHERE NOT EXISTS (SELECT FROM anchor)
        ) AS a
        WINDOW in_turn AS (ORDER BY a.place)
    ), bounded AS (
        SELECT span.*, lead(starts, 1, 'infinity') OVER (ORDER BY place) AS ends FROM span
    )
    SELECT found.at, bool_or(found.at_anchor)
    FROM bounded AS b
    CROSS JOIN LATERAL (
        -- until its anchor the months continue: from the last anchor that was reached while it counted, else from the start
        SELECT base.at, base.day FROM (
            SELECT older.at, older.day, older.place FROM bounded AS older WHERE older.place < b.place AND older.at <= older.ends
            UNION ALL
            SELECT started_at, NULL, 0
        ) AS base
        ORDER BY base.place DESC LIMIT 1
    ) AS before
    CROSS JOIN LATERAL (
        -- one for each calendar month; each span may begin and end within it
        SELECT billing.renewal_at(before.at, months, before.day) AS at, false AS at_anchor
        FROM generate_series(
            billing.months_apart(before.at, greatest(after, b.starts)), billing.months_apart(before.at, least(until, b.at))
        ) AS months
        WHERE billing.renewal_at(before.at, months, before.day) < b.at
        UNION ALL
        SELECT b.at, true
        UNION ALL
        SELECT billing.renewal_at(b.at, months, b.day), false
        FROM generate_series(
            billing.months_apart(b.at, greatest(after, b.at)), billing.months_apart(b.at, least(until, b.ends))
        ) AS months
        WHERE billing.renewal_at(b.at, months, b.day) > b.at
    ) AS found
    -- at the time from which the next anchor counts, a renewal that is due then still happens
    WHERE found.at > after AND found.at <= until AND found.at >= b.starts AND found.at <= b.ends
    GROUP BY found.at
$$;

COMMENT ON FUNCTION billing.anchored_renewals(text, text, timestamptz, timestamptz, timestamptz) IS 'When the limits of a subscription renew, after one time and until another, by the billing cycle anchors in its timeline. at_anchor: the renewal is at an anchor.';

CREATE FUNCTION billing.renewals_between(
    renewal_anchor text, account text, subscription_id text, started_at timestamptz, after timestamptz, until timestamptz
) RETURNS TABLE (at timestamptz, at_anchor boolean) LANGUAGE sql STABLE AS $$
    SELECT r.at, false
    FROM (
        -- for each calendar month. OFFSET 0: computed once, compared twice
        SELECT billing.renewal_at(started_at, months) AS at
        FROM generate_series(billing.months_apart(started_at, after), billing.months_apart(started_at, until)) AS months
        WHERE renewal_anchor = 'subscription_start'
        OFFSET 0
    ) AS r
    WHERE r.at > after AND r.at <= until
    UNION ALL
    SELECT r.at, r.at_anchor FROM billing.anchored_renewals(account, subscription_id, started_at, after, until) AS r
    WHERE renewal_anchor = 'billing_cycle'
$$;

COMMENT ON FUNCTION billing.renewals_between(text, text, text, timestamptz, timestamptz, timestamptz) IS 'When the limits of a subscription renew, after one time and until another, by the given rule.';

CREATE FUNCTION billing.periods_from(
    renewal_anchor text, account text, subscription_id text, started_at timestamptz, opened timestamptz, until timestamptz,
    ends_at timestamptz
) RETURNS TABLE (period_start timestamptz, period_end timestamptz, at_anchor boolean) LANGUAGE sql STABLE AS $$
    SELECT p.period_start, CASE WHEN p.period_end <= ends_at THEN p.period_end ELSE 'infinity' END, p.at_anchor AND p.period_end <= ends_at
    FROM (
        SELECT greatest(opened, r.before) AS period_start, r.at AS period_end, false AS at_anchor
        FROM (
            -- one for each calendar month. OFFSET 0: each is computed once
            SELECT billing.renewal_at(started_at, months - 1) AS before, billing.renewal_at(started_at, months) AS at
            FROM generate_series(billing.months_apart(started_at, opened),
                billing.months_apart(started_at, greatest(opened, until)) + 1) AS months
            WHERE renewal_anchor = 'subscription_start'
            OFFSET 0
        ) AS r
        WHERE r.at > opened
        UNION ALL
        SELECT r.*
        FROM (
            SELECT lag(a.at, 1, opened) OVER (ORDER BY a.at), a.at, a.at_anchor
            FROM billing.anchored_renewals(account, subscription_id, started_at, opened, greatest(opened, until) + interval '63 days') AS a
        ) AS r
        WHERE renewal_anchor = 'billing_cycle'
    ) AS p
    WHERE p.period_start = opened OR (p.period_start <= until AND p.period_start <= ends_at)
$$;

COMMENT ON FUNCTION billing.periods_from(text, text, text, timestamptz, timestamptz, timestamptz, timestamptz) IS 'The periods of a limit, from the one that began at opened to the one that contains until. The last period before ends_at has no renewal: its end is infinity.';

CREATE FUNCTION billing.included_before(account text, subscription_id text, limit_key text, before timestamptz) RETURNS TABLE (
    status text, payment_paused boolean, ended_at timestamptz, price_ids text[], quantities bigint[], is_known boolean,
    is_earlier boolean, included bigint, amounts bigint[], next_included bigint
) LANGUAGE sql STABLE ROWS 1
-- a setting prevents inlining into the caller, which rarely needs the result
SET search_path = pg_catalog, pg_temp AS $$
    SELECT was.status, was.payment_paused, was.ended_at, was.price_ids, was.quantities, has.is_known OR earlier.is_known IS TRUE,
        earlier.is_known IS TRUE, CASE WHEN earlier.is_known THEN earlier.included ELSE has.included END,
        CASE WHEN earlier.is_known THEN NULL ELSE has.amounts END, CASE WHEN next.is_known THEN next.included END
    FROM (SELECT) AS always_one_row
    LEFT JOIN LATERAL billing.in_force($1, $2, $4) AS was ON true
    CROSS JOIN LATERAL billing.included_by($1, was.price_ids, was.quantities, $3) AS has
    -- while a price is not known, the amount included before it stays, whatever was computed meanwhile
    LEFT JOIN LATERAL (
        SELECT h.is_known, h.included
        FROM billing.subscription_timeline AS t
        CROSS JOIN LATERAL billing.included_by(t.account, t.price_ids, t.quantities, $3) AS h
        WHERE NOT has.is_known AND NOT has.is_unreadable AND t.account = $1 AND t.subscription_id = $2
            AND t.effective_from < $4 AND h.is_known
        ORDER BY t.stated_at DESC, t.tie_break DESC, t.source DESC
        LIMIT 1
    ) AS earlier ON true
    -- a change at that instant counts for the next period
    LEFT JOIN LATERAL billing.in_force($1, $2, $4 + interval '1 microsecond') AS became ON became.effective_from = $4
    LEFT JOIN LATERAL billing.included_by($1, became.price_ids, became.quantities, $3) AS next ON became.effective_from = $4
$$;

COMMENT ON FUNCTION billing.included_before(text, text, text, timestamptz) IS 'State of a subscription just before that time, and what its items included of a limit. is_earlier: a price is not known, so the amount included before it stays. next_included: the amount from that time on, if it changed at that instant.';

CREATE FUNCTION billing.limit_periods(ids uuid[], until timestamptz) RETURNS TABLE (
    subscription_id uuid, limit_key text, kind text, period_start timestamptz, period_end timestamptz, is_over boolean,
    is_recorded boolean, at_anchor boolean, price_ids text[], quantities bigint[], amounts bigint[], included bigint,
    spillover bigint, used bigint, bonus_used bigint, outcome text, spilled_over bigint, expired bigint, previous_period_end timestamptz
) LANGUAGE sql STABLE AS $$
    WITH balance AS MATERIALIZED (
        SELECT l.subscription_id, l.limit_key, l.kind, l.included AS open_included, l.spillover AS open_spillover,
            l.used AS open_used, l.bonus_used AS open_bonus_used, l.period_start AS open_start, s.account,
            s.stripe_subscription_id, coalesce(s.started_at, s.stripe_created_at) AS started_at, rules.renewal_anchor,
            rules.past_due_active,
            -- a subscription that ended exactly at a renewal has had it, whichever became known first
            CASE WHEN l.kind <> 'renewing' THEN '-infinity'
                WHEN s.stripe_status IN ('canceled', 'incomplete_expired') THEN coalesce(s.end_date, l.period_start)
                ELSE 'infinity' END AS ends_at,
            CASE WHEN rules.halted_at IS NULL THEN limit_periods.until ELSE '-infinity' END AS until,
            (SELECT min(c.since) FROM billing.limit_recalculations AS c WHERE c.subscription_id = l.subscription_id) AS since,
            (SELECT r.period_end FROM billing.limit_renewals AS r WHERE r.subscription_id = l.subscription_id
                AND r.limit_key = l.limit_key AND r.period_end = l.period_start) IS NOT NULL AS has_ledger,
            newest.effective_from AS newest_from, newest.status, newest.payment_paused, newest.ended_at, newest.price_ids,
            newest.quantities, has.is_known, has.is_unreadable, has.included, has.amounts
        FROM unnest(ids) AS wanted (id)
        JOIN billing.subscription_limits AS l ON l.subscription_id = wanted.id
        JOIN billing.subscriptions AS s ON s.id = l.subscription_id
        -- LIMIT 1 changes only the plan: without statistics the planner expects hundreds of rows
        CROSS JOIN (SELECT * FROM billing.renewal_rules LIMIT 1) AS rules
        LEFT JOIN LATERAL billing.in_force(s.account, s.stripe_subscription_id, 'infinity') AS newest ON true
        CROSS JOIN LATERAL billing.included_by(s.account, newest.price_ids, newest.quantities, l.limit_key) AS has
    ), period AS (
        -- periods in the ledger that may have changed
        SELECT b.*, r.period_start, r.period_end, true AS is_over, true AS is_recorded, r.at_anchor, r.included AS stored_included,
            r.spillover, r.used, r.bonus_used, r.price_ids AS recorded_price_ids, r.quantities AS recorded_quantities,
            r.amounts AS recorded_amounts
        FROM balance AS b
        JOIN billing.limit_renewals AS r
            ON r.subscription_id = b.subscription_id AND r.limit_key = b.limit_key AND r.period_end >= b.since
        UNION ALL
        -- the current period and those after it; only the current one has usage
        SELECT b.*, e.period_start, e.period_end, e.period_end <= b.until, false, e.at_anchor, b.open_included, b.open_spillover,
            CASE WHEN e.period_start = b.open_start THEN b.open_used ELSE 0 END,
            CASE WHEN e.period_start = b.open_start THEN b.open_bonus_used ELSE 0 END, NULL, NULL, NULL
        FROM balance AS b
        CROSS JOIN LATERAL billing.periods_from(b.renewal_anchor, b.account, b.stripe_subscription_id, b.started_at,
            b.open_start, b.until, b.ends_at) AS e
    ), sold AS (
        SELECT p.subscription_id, p.limit_key, p.kind, p.past_due_active, p.has_ledger, p.period_start, p.period_end, p.is_over,
            p.is_recorded, p.at_anchor, p.stored_included, p.spillover, p.used, p.bonus_used, p.recorded_amounts,
            p.is_recorded AND p.recorded_price_ids = was.price_ids AND p.recorded_quantities = was.quantities AS is_same, was.*
        FROM period AS p
        CROSS JOIN LATERAL (
            -- the current state was in force just before the end if it took effect before that: nearly always true
            SELECT coalesce((NOT p.is_over OR p.newest_from < p.period_end) AND (p.is_known OR p.is_unreadable), false) AS so
        ) AS is_unchanged
        CROSS JOIN LATERAL (
            SELECT p.status, p.payment_paused, p.ended_at, p.price_ids, p.quantities, p.is_known, false AS is_earlier, p.included,
                p.amounts, NULL::bigint AS next_included
            WHERE is_unchanged.so
            UNION ALL
            SELECT b.status, b.payment_paused, b.ended_at, b.price_ids, b.quantities, b.is_known, b.is_earlier, b.included,
                b.amounts, b.next_included
            FROM billing.included_before(p.account, p.stripe_subscription_id, p.limit_key,
                CASE WHEN p.is_over THEN p.period_end ELSE 'infinity' END) AS b
            WHERE NOT is_unchanged.so
        ) AS was
    ), priced AS (
        SELECT s.subscription_id, s.limit_key, s.kind, s.period_start, s.period_end, s.is_over, s.is_recorded, s.at_anchor,
            s.price_ids, s.quantities, s.spillover, s.used, s.bonus_used, s.has_ledger, s.next_included,
            CASE WHEN NOT s.is_over THEN NULL
                WHEN NOT coalesce(billing.subscription_is_active(s.status, s.payment_paused, s.ended_at, s.past_due_active), false) THEN 'inactive'
                WHEN s.at_anchor AND s.status = 'trialing' THEN 'trial_end'
                ELSE 'renewed' END AS outcome,
            -- a recorded period keeps what its items included then, independent of what they include now
            CASE WHEN s.is_known AND (s.is_earlier OR s.is_same IS NOT TRUE) THEN s.included ELSE s.stored_included END AS included,
            CASE WHEN s.is_earlier THEN NULL WHEN s.is_same THEN s.recorded_amounts WHEN s.is_known THEN s.amounts END AS amounts
        FROM sold AS s
    ), rolled AS (
        SELECT p.*, row_number() OVER periods_before AS place,
            coalesce(billing.spilled_over(p.spillover, p.included, p.used - p.bonus_used, p.outcome = 'renewed', p.next_included)
                OVER periods_before, p.spillover) AS carried_in
        FROM priced AS p
        WINDOW periods_before AS (PARTITION BY p.subscription_id, p.limit_key ORDER BY p.period_start
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    SELECT r.subscription_id, r.limit_key, r.kind, r.period_start, nullif(r.period_end, 'infinity'), r.is_over, r.is_recorded,
        r.at_anchor, r.price_ids, r.quantities, r.amounts, r.included, r.carried_in, r.used, r.bonus_used, r.outcome,
        carried.over,
        CASE WHEN r.is_over THEN
            greatest(0, coalesce(billing.left_of_plan(r.included, r.carried_in, r.used, r.bonus_used), 0) - carried.over) END,
        CASE WHEN r.place > 1 OR r.has_ledger THEN r.period_start END
    FROM rolled AS r
    CROSS JOIN LATERAL (
        SELECT CASE WHEN r.is_over THEN
            billing.spillover_step(r.carried_in, 0, r.included, r.used - r.bonus_used, r.outcome = 'renewed', r.next_included) END AS over
        OFFSET 0
    ) AS carried
$$;

COMMENT ON FUNCTION billing.limit_periods(uuid[], timestamptz) IS 'The periods of the limits of these subscriptions until that time: one row for each finished period that is not in the ledger, or is in the ledger and may have changed, and one for the period that contains that time. used and bonus_used are inputs and never change. Reads only; renew_limits writes the result.';
