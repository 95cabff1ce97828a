-- What becomes of limits over time: functions that read. docs/limits.md follows one month through them.

-- What is carried over at the end of a period: state function of the aggregate below.
CREATE FUNCTION billing.spill(state bigint, spillover bigint, included bigint, used bigint, renewed boolean, next_included bigint)
    RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    -- included is null where it is unlimited: nothing of that is carried over. A null next_included caps nothing
    IF NOT renewed OR included IS NULL THEN
        RETURN 0;
    END IF;
    RETURN least(next_included, greatest(0, included - greatest(0, used - coalesce(state, spillover))));
END
$$;

COMMENT ON FUNCTION billing.spill(bigint, bigint, bigint, bigint, boolean, bigint) IS 'What is left of included once the spillover was used up before it: least(included, greatest(0, included + spillover - used)), at most next_included, and 0 where the period did not end in a renewal. The spillover is state, else the argument.';

CREATE AGGREGATE billing.spilled_over(spillover bigint, included bigint, used bigint, renewed boolean, next_included bigint) (
    SFUNC = billing.spill, STYPE = bigint, PARALLEL = SAFE
);

COMMENT ON AGGREGATE billing.spilled_over(bigint, bigint, bigint, boolean, bigint) IS 'billing.spill over consecutive periods: what is carried over from each is the spillover of the next. Only the spillover of the first one is read.';

CREATE FUNCTION billing.left_of_plan(included bigint, spillover bigint, used bigint, bonus_used bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- every amount is at most 10^18, so no sum of these leaves bigint
    RETURN CASE WHEN included IS NOT NULL THEN greatest(0, included + spillover - (used - bonus_used)) END;

COMMENT ON FUNCTION billing.left_of_plan(bigint, bigint, bigint, bigint) IS 'What can still be used without the bonus: included + spillover less what was used and not taken from the bonus, never below 0; null where included is, which is unlimited.';

CREATE FUNCTION billing.may_be_used(stripe_status text, payment_paused boolean, ended_at timestamptz, past_due_active boolean)
    RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN NOT payment_paused AND ended_at IS NULL
        AND (stripe_status IN ('active', 'trialing') OR (stripe_status = 'past_due' AND past_due_active));

COMMENT ON FUNCTION billing.may_be_used(text, boolean, timestamptz, boolean) IS 'Whether a subscription of that status is active: the same rule as for subscriptions.active.';

-- An anchor that is reported again after it has passed counts from then: the months that went by another anchor in between
-- are as they were. What is due at the very time from which the next anchor counts still comes, whichever of the two
-- becomes known first.
CREATE FUNCTION billing.anchored_renewals(
    account text, subscription_id text, started_at timestamptz, after timestamptz, until timestamptz
) RETURNS TABLE (at timestamptz, at_anchor boolean) LANGUAGE sql STABLE ROWS 3
-- a setting keeps it from being merged into its callers, which mostly do not need it
SET search_path = pg_catalog, pg_temp AS $$
    WITH told AS (
        SELECT t.billing_cycle_anchor AS at, t.effective_from AS told_at, t.anchor_day, row_number() OVER in_turn AS place,
            -- one that comes back, as when a trial is made longer and then is not, counts again
            lag(t.billing_cycle_anchor) OVER in_turn IS DISTINCT FROM t.billing_cycle_anchor AS is_new,
            row_number() OVER (PARTITION BY t.billing_cycle_anchor ORDER BY t.stated_at, t.place, t.source) > 1 AS is_back
        FROM billing.subscription_timeline AS t
        WHERE t.account = $1 AND t.subscription_id = $2 AND t.billing_cycle_anchor IS NOT NULL
        WINDOW in_turn AS (ORDER BY t.stated_at, t.place, t.source)
    ), anchor AS (
        SELECT t.at, CASE WHEN t.is_back THEN t.told_at ELSE least(t.told_at, t.at) END AS counts_from, t.place,
            -- kept with its anchor: a payload that lacks it changes nothing
            (SELECT d.anchor_day FROM told AS d WHERE d.at = t.at AND d.anchor_day IS NOT NULL ORDER BY d.place DESC LIMIT 1) AS day
        FROM told AS t
        WHERE t.is_new
    ), span AS (
        -- an anchor counts from when it was told, or from itself where it was told late; the first one counts for all before
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
        -- until its anchor the months go on as before: from the anchor that was reached while it counted, else from the start
        SELECT base.at, base.day FROM (
            SELECT older.at, older.day, older.place FROM bounded AS older WHERE older.place < b.place AND older.at <= older.ends
            UNION ALL
            SELECT started_at, NULL, 0
        ) AS base
        ORDER BY base.place DESC LIMIT 1
    ) AS before
    CROSS JOIN LATERAL (
        SELECT billing.renewal_at(before.at, months, before.day) AS at, false AS at_anchor
        FROM generate_series(
            billing.renewals_until(before.at, greatest(after, b.starts), before.day),
            billing.renewals_until(before.at, least(until, b.at), before.day)
        ) AS months
        WHERE billing.renewal_at(before.at, months, before.day) < b.at
        UNION ALL
        SELECT b.at, true
        UNION ALL
        SELECT billing.renewal_at(b.at, months, b.day), false
        FROM generate_series(
            billing.renewals_until(b.at, greatest(after, b.at), b.day),
            billing.renewals_until(b.at, least(until, b.ends), b.day)
        ) AS months
        WHERE billing.renewal_at(b.at, months, b.day) > b.at
    ) AS found
    -- at the very time from which the next one counts, what was due until then still comes
    WHERE found.at > after AND found.at <= until AND found.at >= b.starts AND found.at <= b.ends
    GROUP BY found.at
$$;

COMMENT ON FUNCTION billing.anchored_renewals(text, text, timestamptz, timestamptz, timestamptz) IS 'When the limits of a subscription renew, after one time and until another, by the billing cycle anchors in its timeline; at_anchor: the renewal is an anchor itself.';

CREATE FUNCTION billing.renewals_between(
    renewal_anchor text, account text, subscription_id text, started_at timestamptz, after timestamptz, until timestamptz
) RETURNS TABLE (at timestamptz, at_anchor boolean) LANGUAGE sql STABLE AS $$
    SELECT billing.renewal_at(started_at, months), false
    FROM generate_series(billing.renewals_until(started_at, after) + 1, billing.renewals_until(started_at, until)) AS months
    WHERE renewal_anchor = 'subscription_start'
    UNION ALL
    SELECT r.at, r.at_anchor FROM billing.anchored_renewals(account, subscription_id, started_at, after, until) AS r
    WHERE renewal_anchor = 'billing_cycle'
$$;

COMMENT ON FUNCTION billing.renewals_between(text, text, text, timestamptz, timestamptz, timestamptz) IS 'When the limits of a subscription renew, after one time and until another, by the rule that is given.';

CREATE FUNCTION billing.limit_course(ids uuid[], until timestamptz) RETURNS TABLE (
    subscription_id uuid, limit_key text, kind text, period_start timestamptz, period_end timestamptz, is_over boolean,
    is_recorded boolean, at_anchor boolean, price_ids text[], quantities bigint[], amounts bigint[], included bigint,
    spillover bigint, used bigint, bonus_used bigint, outcome text, spilled_over bigint, expired bigint, follows timestamptz
) LANGUAGE sql STABLE AS $$
    WITH balance AS MATERIALIZED (
        SELECT l.subscription_id, l.limit_key, l.kind, l.included, l.spillover, l.used, l.bonus_used, l.period_start,
            s.account, s.stripe_subscription_id, coalesce(s.started_at, s.stripe_created_at) AS started_at,
            rules.renewal_anchor, rules.past_due_active,
            -- one that ended exactly at a renewal has had it, whichever became known first
            CASE WHEN s.stripe_status IN ('canceled', 'incomplete_expired') THEN coalesce(s.end_date, l.period_start)
                ELSE 'infinity' END AS ends_at,
            CASE WHEN rules.halted_at IS NULL THEN limit_course.until ELSE '-infinity' END AS until,
            (SELECT min(c.since) FROM billing.limit_changes AS c WHERE c.subscription_id = l.subscription_id) AS since,
            (SELECT r.period_end FROM billing.limit_renewals AS r WHERE r.subscription_id = l.subscription_id
                AND r.limit_key = l.limit_key AND r.period_end = l.period_start) IS NOT NULL AS has_ledger
        FROM unnest(ids) AS wanted (id)
        JOIN billing.subscription_limits AS l ON l.subscription_id = wanted.id
        JOIN billing.subscriptions AS s ON s.id = l.subscription_id
        -- LIMIT 1 changes nothing but the plan: without statistics a table counts as hundreds of rows
        CROSS JOIN (SELECT * FROM billing.renewal_rules LIMIT 1) AS rules
    ), period AS (
        -- what is in the ledger already, and was perhaps otherwise
        SELECT b.subscription_id, b.limit_key, b.kind, b.account, b.stripe_subscription_id, b.past_due_active, b.has_ledger,
            r.period_start, r.period_end, true AS is_over, true AS is_recorded, r.at_anchor, r.included, r.spillover, r.used,
            r.bonus_used, r.price_ids AS recorded_price_ids, r.quantities AS recorded_quantities, r.amounts AS recorded_amounts
        FROM balance AS b
        JOIN billing.limit_renewals AS r
            ON r.subscription_id = b.subscription_id AND r.limit_key = b.limit_key AND r.period_end >= b.since
        UNION ALL
        -- the present one and those after it; only in the present one has anything been used
        SELECT b.subscription_id, b.limit_key, b.kind, b.account, b.stripe_subscription_id, b.past_due_active, b.has_ledger,
            e.period_start, e.period_end, e.period_end <= b.until, false, e.at_anchor, b.included, b.spillover,
            CASE WHEN e.period_start = b.period_start THEN b.used ELSE 0 END,
            CASE WHEN e.period_start = b.period_start THEN b.bonus_used ELSE 0 END, NULL, NULL, NULL
        FROM balance AS b
        CROSS JOIN LATERAL (
            SELECT lag(ends.at, 1, b.period_start) OVER (ORDER BY ends.at) AS period_start, ends.at AS period_end, ends.at_anchor
            FROM (
                SELECT r.at, r.at_anchor
                FROM billing.renewals_between(b.renewal_anchor, b.account, b.stripe_subscription_id, b.started_at,
                    b.period_start, greatest(b.until, b.period_start) + interval '63 days') AS r
                WHERE b.kind = 'renewing' AND r.at <= b.ends_at
                UNION ALL
                SELECT 'infinity', false
            ) AS ends
        ) AS e
        WHERE e.period_start <= b.until OR e.period_start = b.period_start
    ), told AS (
        SELECT p.*, was.price_ids, was.quantities, next.is_known AS next_is_known, next.included AS next_included,
            has.is_known, has.included AS has_included, has.amounts AS has_amounts, earlier.is_known AS earlier_is_known,
            earlier.included AS earlier_included,
            CASE WHEN NOT p.is_over THEN NULL
                WHEN NOT coalesce(billing.may_be_used(was.status, was.payment_paused, was.ended_at, p.past_due_active), false) THEN 'inactive'
                WHEN p.at_anchor AND was.status = 'trialing' THEN 'trial_end'
                ELSE 'renewed' END AS outcome
        FROM period AS p
        -- at the end, that instant included; in the open period: now
        LEFT JOIN LATERAL billing.in_force(p.account, p.stripe_subscription_id,
            CASE WHEN p.is_over THEN p.period_end + interval '1 microsecond' ELSE 'infinity' END) AS became ON true
        -- just before the end: a change at that very instant counts for the next period
        LEFT JOIN LATERAL (
            SELECT became.status, became.payment_paused, became.ended_at, became.price_ids, became.quantities
            WHERE NOT p.is_over OR became.effective_from < p.period_end
            UNION ALL
            SELECT b.status, b.payment_paused, b.ended_at, b.price_ids, b.quantities
            FROM billing.in_force(p.account, p.stripe_subscription_id, p.period_end) AS b
            WHERE p.is_over AND became.effective_from = p.period_end
        ) AS was ON true
        CROSS JOIN LATERAL billing.included_by(p.account, was.price_ids, was.quantities, p.limit_key) AS has
        LEFT JOIN LATERAL (
            SELECT n.is_known, n.included
            FROM billing.included_by(p.account, became.price_ids, became.quantities, p.limit_key) AS n
            WHERE p.is_over AND became.effective_from = p.period_end
        ) AS next ON true
        -- a price that is not known leaves what was included before it, whatever was thought meanwhile
        LEFT JOIN LATERAL (
            SELECT h.is_known, h.included
            FROM billing.subscription_timeline AS t
            CROSS JOIN LATERAL billing.included_by(t.account, t.price_ids, t.quantities, p.limit_key) AS h
            WHERE NOT has.is_known AND NOT has.is_unreadable AND t.account = p.account
                AND t.subscription_id = p.stripe_subscription_id AND t.effective_from < p.period_end AND h.is_known
            ORDER BY t.stated_at DESC, t.place DESC, t.source DESC
            LIMIT 1
        ) AS earlier ON true
    ), priced AS (
        SELECT t.subscription_id, t.limit_key, t.kind, t.period_start, t.period_end, t.is_over, t.is_recorded, t.at_anchor,
            t.price_ids, t.quantities, t.spillover, t.used, t.bonus_used, t.has_ledger, t.outcome,
            CASE WHEN t.next_is_known THEN t.next_included END AS next_included,
            -- a recorded period keeps what its items included then, whatever they include now
            CASE WHEN t.earlier_is_known THEN t.earlier_included
                WHEN is_same.so THEN t.included
                WHEN t.is_known THEN t.has_included
                ELSE t.included END AS included,
            CASE WHEN t.earlier_is_known THEN NULL WHEN is_same.so THEN t.recorded_amounts WHEN t.is_known THEN t.has_amounts END AS amounts
        FROM told AS t
        CROSS JOIN LATERAL (
            SELECT t.is_recorded AND t.recorded_price_ids = t.price_ids AND t.recorded_quantities = t.quantities AS so
        ) AS is_same
    ), rolled AS (
        SELECT p.*, row_number() OVER in_turn AS place,
            billing.spilled_over(p.spillover, p.included, p.used - p.bonus_used, p.outcome = 'renewed', p.next_included)
                OVER in_turn AS spilled_over
        FROM priced AS p
        WINDOW in_turn AS (PARTITION BY p.subscription_id, p.limit_key ORDER BY p.period_start)
    ), chained AS (
        SELECT r.*, lag(r.spilled_over, 1, r.spillover) OVER (PARTITION BY r.subscription_id, r.limit_key ORDER BY r.period_start) AS before
        FROM rolled AS r
    )
    SELECT c.subscription_id, c.limit_key, c.kind, c.period_start, nullif(c.period_end, 'infinity'), c.is_over, c.is_recorded,
        c.at_anchor, c.price_ids, c.quantities, c.amounts, c.included, c.before, c.used, c.bonus_used, c.outcome,
        CASE WHEN c.is_over THEN c.spilled_over END,
        CASE WHEN c.is_over THEN
            greatest(0, coalesce(billing.left_of_plan(c.included, c.before, c.used, c.bonus_used), 0) - c.spilled_over) END,
        CASE WHEN c.place > 1 OR c.has_ledger THEN c.period_start END
    FROM chained AS c
$$;

COMMENT ON FUNCTION billing.limit_course(uuid[], timestamptz) IS 'What becomes of the limits of these subscriptions until that time: one row for each period that is over and not in the ledger, or is there and may be otherwise by what was learned since, and one for the period that the time is in. What was used, and what of it was taken from the bonus, is given and never changed. Reads only; bring_up writes it.';
