-- Two functions of 0026 made anew: which renewals there are where an anchor comes back, and a cheaper limit_course.
--
-- An anchor that is told again after it has passed counts from then, and no longer from the time at which it was told
-- first: the months that went by another anchor in between are as they were. And what is due at the very time from which
-- the next anchor counts still comes, whichever of the two becomes known first.
--
-- Balances that the old function wrote need nothing, and none is marked, as with a changed anchor rule. Only where an anchor
-- comes back is anything another one. A closed month keeps its end, also one too many that the old function found in
-- between; what it includes and spills over is corrected as ever, when the next change marks it. The open month is that of
-- both functions, for they find the same renewals from when the anchor came back. One that was due before and that the old
-- function did not find, because the clocks were in doubt until then or it was due just then, is made up for by the next
-- change or at the end of the open month, whichever is first.
CREATE OR REPLACE FUNCTION billing.anchored_renewals(
    account text, subscription_id text, started_at timestamptz, after timestamptz, until timestamptz
) RETURNS TABLE (at timestamptz, at_anchor boolean) LANGUAGE sql STABLE ROWS 3
-- a setting keeps it from being merged into its callers, which mostly do not need it
SET search_path = pg_catalog, pg_temp AS $$
    WITH told AS (
        SELECT t.billing_cycle_anchor AS at, t.effective_from AS told_at, t.anchor_day, row_number() OVER in_turn AS place,
            -- one that comes back, as when a trial is made longer and then is not, counts again
            lag(t.billing_cycle_anchor) OVER in_turn IS DISTINCT FROM t.billing_cycle_anchor AS is_new,
            row_number() OVER (PARTITION BY t.billing_cycle_anchor ORDER BY t.effective_from, t.place, t.source) > 1 AS is_back
        FROM billing.subscription_timeline AS t
        WHERE t.account = $1 AND t.subscription_id = $2 AND t.billing_cycle_anchor IS NOT NULL
        WINDOW in_turn AS (ORDER BY t.effective_from, t.place, t.source)
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

CREATE OR REPLACE FUNCTION billing.limit_course(ids uuid[], until timestamptz) RETURNS TABLE (
    subscription_id uuid, limit_key text, workspace_id uuid, kind text, period_start timestamptz, period_end timestamptz,
    is_over boolean, is_recorded boolean, at_anchor boolean, stripe_price_id text, included bigint, spillover bigint, used bigint,
    bonus_used bigint, bonus_returned bigint, bonus bigint, outcome text, spilled_over bigint, expired bigint, follows timestamptz
) LANGUAGE sql STABLE AS $$
    WITH balance AS MATERIALIZED (
        SELECT l.subscription_id, l.limit_key, l.kind, l.included, l.spillover, l.used, l.bonus_used, l.period_start,
            s.account, s.stripe_subscription_id, s.workspace_id, s.stripe_price_id,
            coalesce(s.started_at, s.stripe_created_at) AS started_at, rules.renewal_anchor, rules.past_due_active,
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
        SELECT b.subscription_id, b.limit_key, b.workspace_id, b.kind, b.account, b.stripe_subscription_id, b.past_due_active,
            b.stripe_price_id AS present_price_id, b.has_ledger, r.period_start, r.period_end, true AS is_over, true AS is_recorded, r.at_anchor,
            r.stripe_price_id AS recorded_price_id, r.included, r.spillover, r.used, r.bonus_used
        FROM balance AS b
        JOIN billing.limit_renewals AS r
            ON r.subscription_id = b.subscription_id AND r.limit_key = b.limit_key AND r.period_end >= b.since
        UNION ALL
        -- the present one and those after it; only in the present one has anything been used
        SELECT b.subscription_id, b.limit_key, b.workspace_id, b.kind, b.account, b.stripe_subscription_id, b.past_due_active,
            b.stripe_price_id, b.has_ledger, e.period_start, e.period_end, e.period_end <= b.until, false, e.at_anchor, NULL, b.included, b.spillover,
            CASE WHEN e.period_start = b.period_start THEN b.used ELSE 0 END,
            CASE WHEN e.period_start = b.period_start THEN b.bonus_used ELSE 0 END
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
        SELECT p.*, was.status, was.payment_paused, was.ended_at, became.told AS became_told, became.stripe_price_id AS became_price_id,
            CASE WHEN p.is_over THEN was.stripe_price_id ELSE p.present_price_id END AS stripe_price_id
        FROM period AS p
        -- just before the end: a pause that began and ended meanwhile counts as it was
        LEFT JOIN LATERAL (
            SELECT t.status, t.payment_paused, t.ended_at, t.stripe_price_id
            FROM billing.subscription_timeline AS t
            WHERE p.is_over AND t.account = p.account AND t.subscription_id = p.stripe_subscription_id
                AND t.effective_from < p.period_end
            ORDER BY t.effective_from DESC, t.place DESC, t.source DESC
            LIMIT 1
        ) AS was ON true
        -- exactly at the end: such a change counts for the next period
        LEFT JOIN LATERAL (
            SELECT true AS told, t.stripe_price_id
            FROM billing.subscription_timeline AS t
            WHERE p.is_over AND t.account = p.account AND t.subscription_id = p.stripe_subscription_id
                AND t.effective_from = p.period_end
            ORDER BY t.place DESC, t.source DESC
            LIMIT 1
        ) AS became ON true
    ), priced AS (
        SELECT t.*,
            -- a recorded period keeps what its price included then, whatever the price includes now
            CASE WHEN earlier.is_known THEN earlier.included
                WHEN t.is_recorded AND t.recorded_price_id = t.stripe_price_id THEN t.included
                WHEN now_in.id IS NOT NULL AND (now_in.unlimited OR now_in.included IS NOT NULL) THEN now_in.included
                WHEN now_in.id IS NULL AND plan.is_known THEN 0
                ELSE t.included END AS included_at_end,
            CASE WHEN NOT coalesce(t.became_told, false) THEN NULL
                WHEN then_in.id IS NOT NULL THEN then_in.included
                WHEN next_plan.is_known THEN 0 END AS next_included,
            CASE WHEN NOT t.is_over THEN NULL
                WHEN NOT coalesce(billing.may_be_used(t.status, t.payment_paused, t.ended_at, t.past_due_active), false) THEN 'inactive'
                WHEN t.at_anchor AND t.status = 'trialing' THEN 'trial_end'
                ELSE 'renewed' END AS outcome
        FROM told AS t
        LEFT JOIN LATERAL (
            SELECT p.id, p.stripe_product_id IS NULL OR p.product_name IS NOT NULL AS is_known
            FROM billing.pricing_plans AS p WHERE p.account = t.account AND p.stripe_price_id = t.stripe_price_id
        ) AS plan ON true
        LEFT JOIN billing.plan_limits AS now_in ON now_in.pricing_plan_id = plan.id AND now_in.limit_key = t.limit_key
        -- a price that is not known leaves what the one before it included, whatever was thought meanwhile
        LEFT JOIN LATERAL (
            SELECT true AS is_known, CASE WHEN l.id IS NULL THEN 0 ELSE l.included END AS included
            FROM billing.subscription_timeline AS before
            JOIN billing.pricing_plans AS p ON p.account = before.account AND p.stripe_price_id = before.stripe_price_id
            LEFT JOIN billing.plan_limits AS l ON l.pricing_plan_id = p.id AND l.limit_key = t.limit_key
            WHERE now_in.id IS NULL AND plan.is_known IS NOT TRUE AND before.account = t.account
                AND before.subscription_id = t.stripe_subscription_id AND before.effective_from < t.period_end
                AND CASE WHEN l.id IS NULL THEN p.stripe_product_id IS NULL OR p.product_name IS NOT NULL
                    ELSE l.unlimited OR l.included IS NOT NULL END
            ORDER BY before.effective_from DESC, before.place DESC, before.source DESC
            LIMIT 1
        ) AS earlier ON true
        LEFT JOIN LATERAL (
            SELECT p.id, p.stripe_product_id IS NULL OR p.product_name IS NOT NULL AS is_known
            FROM billing.pricing_plans AS p WHERE p.account = t.account AND p.stripe_price_id = t.became_price_id
        ) AS next_plan ON true
        LEFT JOIN billing.plan_limits AS then_in ON then_in.pricing_plan_id = next_plan.id AND then_in.limit_key = t.limit_key
    ), rolled AS (
        SELECT p.*, billing.spilled_over(p.spillover, p.included_at_end, p.used, p.outcome = 'renewed', p.next_included) OVER in_turn AS spilled_over,
            row_number() OVER in_turn AS place
        FROM priced AS p
        WINDOW in_turn AS (PARTITION BY p.subscription_id, p.limit_key ORDER BY p.period_start)
    ), chained AS (
        SELECT r.*, lag(r.spilled_over, 1, r.spillover) OVER (PARTITION BY r.subscription_id, r.limit_key ORDER BY r.period_start) AS before
        FROM rolled AS r
    ), wanting AS (
        SELECT c.*, coalesce(pool.amount, 0) AS pool, billing.of_bonus(c.included_at_end, c.before, c.used,
            -- what a closed period was charged can be given back, and is never raised; without a workspace there is no bonus
            CASE WHEN c.is_recorded OR c.workspace_id IS NULL THEN c.bonus_used ELSE 9223372036854775807 END) AS wanted
        FROM chained AS c
        LEFT JOIN billing.workspace_bonus AS pool ON pool.workspace_id = c.workspace_id AND pool.limit_key = c.limit_key
    ), charged AS (
        -- most draw on no bonus, or on no more or less of it than before: they have no part in what the others share
        SELECT w.*, w.wanted AS charged FROM wanting AS w WHERE w.wanted = w.bonus_used
        UNION ALL
        -- all of a workspace draw on one bonus: first what is given back comes in, then each takes what those before it left
        SELECT w.*, least(w.wanted, w.bonus_used + greatest(0, w.pool
            + sum(greatest(0, w.bonus_used - w.wanted)) OVER (PARTITION BY w.workspace_id, w.limit_key)
            - sum(greatest(0, w.wanted - w.bonus_used)) OVER (PARTITION BY w.workspace_id, w.limit_key
                ORDER BY w.subscription_id, w.period_start) + greatest(0, w.wanted - w.bonus_used)))::bigint AS charged
        FROM wanting AS w
        WHERE w.wanted <> w.bonus_used
    )
    SELECT c.subscription_id, c.limit_key, c.workspace_id, c.kind, c.period_start, nullif(c.period_end, 'infinity'), c.is_over, c.is_recorded,
        c.at_anchor, c.stripe_price_id, c.included_at_end, c.before, c.used, c.charged, c.bonus_used - c.charged,
        -- as it is once the periods before have given back and taken theirs
        (c.pool + c.charged + sum(c.bonus_used - c.charged) OVER (PARTITION BY c.subscription_id, c.limit_key))::bigint, c.outcome,
        CASE WHEN c.is_over THEN c.spilled_over END,
        CASE WHEN c.is_over THEN greatest(0, coalesce(billing.available(c.included_at_end, c.before, c.used, 0), 0) - c.spilled_over) END,
        CASE WHEN c.place > 1 OR c.has_ledger THEN c.period_start END
    FROM charged AS c
$$;

COMMENT ON FUNCTION billing.limit_course(uuid[], timestamptz) IS 'What becomes of the limits of these subscriptions until that time: one row for each period that is over and not in the ledger, or is there and may be otherwise by what was learned since, and one for the period that the time is in. Reads only; bring_up writes it.';
