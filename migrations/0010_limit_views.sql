-- Limits as the product reads them: as of now, and how each balance came about.
CREATE VIEW billing.workspace_limits AS
SELECT c.workspace_id, c.id AS subscription_id, l.limit_key, l.kind, c.active, l.included, l.included IS NULL AS unlimited,
    l.spillover, l.bonus, l.used, l.bonus_used, CASE WHEN c.active THEN l.available ELSE 0 END AS available, l.period_start AS period_started_at,
    l.renews_at AS limit_renewal_date, l.is_computed
FROM billing.current_subscriptions AS c
CROSS JOIN LATERAL billing.current_limits(c.id) AS l;

COMMENT ON VIEW billing.workspace_limits IS 'The limits of each workspace as of now, by its current subscription: one row for each limit whose amount is known. For a limit without a row, remaining raises the reason. Query one workspace, or a few.';
COMMENT ON COLUMN billing.workspace_limits.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.workspace_limits.subscription_id IS 'subscriptions.id of its current subscription.';
COMMENT ON COLUMN billing.workspace_limits.limit_key IS 'words, images, members …';
COMMENT ON COLUMN billing.workspace_limits.kind IS 'renewing or capacity, as in limit_kinds.';
COMMENT ON COLUMN billing.workspace_limits.active IS 'The workspace may use the subscription now.';
COMMENT ON COLUMN billing.workspace_limits.included IS 'Total of all items of the subscription, per period if the limit renews; null if one of them is unlimited. For the amount of each item, see subscription_items.';
COMMENT ON COLUMN billing.workspace_limits.unlimited IS 'True if an item is unlimited.';
COMMENT ON COLUMN billing.workspace_limits.spillover IS 'Amount carried over from the previous period; it expires at the next renewal.';
COMMENT ON COLUMN billing.workspace_limits.bonus IS 'The workspace''s bonus, including what was used of it in this period.';
COMMENT ON COLUMN billing.workspace_limits.used IS 'Used in this period: first from the spillover, then from the included amount, then from the bonus.';
COMMENT ON COLUMN billing.workspace_limits.bonus_used IS 'Part of used that was taken from the bonus when it was consumed.';
COMMENT ON COLUMN billing.workspace_limits.available IS 'Amount that can still be used: included + spillover - (used - bonus_used), never below 0, plus the rest of the bonus (bonus - bonus_used). 0 while active or is_computed is false. Null if it is active and unlimited.';
COMMENT ON COLUMN billing.workspace_limits.period_started_at IS 'When this period began.';
COMMENT ON COLUMN billing.workspace_limits.limit_renewal_date IS 'When this period ends; null if there is no further renewal, and for a capacity.';
COMMENT ON COLUMN billing.workspace_limits.is_computed IS 'False if the limit cannot be computed: then consume raises LM010, available is 0, and the other columns are as last stored.';

CREATE VIEW billing.subscription_words AS
SELECT s.id AS subscription_id, s.workspace_id, CASE WHEN s.active THEN l.available ELSE 0 END AS available_words,
    l.bonus AS bonus_words, l.renews_at AS limit_renewal_date, l.included AS pricing_plan_words, l.spillover AS spillover_words,
    l.used AS used_words
FROM billing.live_subscriptions AS s
CROSS JOIN LATERAL billing.current_limits(s.id) AS l
WHERE l.limit_key = 'words';

COMMENT ON VIEW billing.subscription_words IS 'The limit words of each subscription as of now, under its names in the product''s API. Query one subscription, or a few.';
COMMENT ON COLUMN billing.subscription_words.subscription_id IS 'subscriptions.id';
COMMENT ON COLUMN billing.subscription_words.workspace_id IS 'Its workspace.';
COMMENT ON COLUMN billing.subscription_words.available_words IS 'Amount that can still be used, as available in workspace_limits: 0 if the subscription is not active or the limit cannot be computed; null if it is active and unlimited.';
COMMENT ON COLUMN billing.subscription_words.bonus_words IS 'The workspace''s bonus, including what was used of it in this period.';
COMMENT ON COLUMN billing.subscription_words.limit_renewal_date IS 'When used_words is reset, unless the subscription ends before (end_date); null if there is no further renewal.';
COMMENT ON COLUMN billing.subscription_words.pricing_plan_words IS 'Total of all items per period; null if one of them is unlimited.';
COMMENT ON COLUMN billing.subscription_words.spillover_words IS 'Amount carried over from the previous period.';
COMMENT ON COLUMN billing.subscription_words.used_words IS 'Used since the last renewal.';

-- How a balance came about: every period of a limit as lines that add up.

CREATE FUNCTION billing.limit_history(subscription_id uuid) RETURNS TABLE (
    limit_key text, kind text, period_start timestamptz, period_end timestamptz, is_over boolean, outcome text,
    price_ids text[], quantities bigint[], amounts bigint[], included bigint, spillover bigint, used bigint, bonus_used bigint,
    spilled_over bigint, expired bigint, corrected_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH schedule AS MATERIALIZED (
        SELECT * FROM billing.limit_periods_or_stored($1, clock_timestamp())
    )
    SELECT r.limit_key, 'renewing', r.period_start, r.period_end, true, r.outcome, r.price_ids, r.quantities, r.amounts, r.included,
        r.spillover, r.used, r.bonus_used, r.spilled_over, r.expired, r.corrected_at
    FROM billing.limit_renewals AS r
    WHERE r.subscription_id = $1 AND NOT EXISTS (
        SELECT FROM schedule AS c WHERE c.limit_key = r.limit_key AND c.period_start = r.period_start)
    UNION ALL
    SELECT c.limit_key, c.kind, c.period_start, c.period_end, c.is_over, c.outcome, c.price_ids, c.quantities, c.amounts, c.included,
        c.spillover, c.used, c.bonus_used, c.spilled_over, c.expired, r.corrected_at
    FROM schedule AS c
    LEFT JOIN billing.limit_renewals AS r
        ON r.subscription_id = $1 AND r.limit_key = c.limit_key AND r.period_start = c.period_start
$$;

COMMENT ON FUNCTION billing.limit_history(uuid) IS 'All periods of the limits of a subscription as of now: the ledger, due periods that are not written yet, and the open period. If they cannot be computed: the ledger and the stored balance.';

CREATE VIEW billing.limit_statement AS
SELECT s.workspace_id, s.id AS subscription_id, s.stripe_subscription_id, p.limit_key, p.period_start, p.period_end, p.is_over,
    line.at, line.place, line.line, line.amount, line.bonus, line.stripe_price_id, line.quantity, line.reason
FROM billing.subscriptions AS s
CROSS JOIN LATERAL billing.limit_history(s.id) AS p
CROSS JOIN LATERAL (
    -- the usage of the plan, and the total of all known items
    SELECT p.used - p.bonus_used AS of_plan, coalesce((SELECT sum(a.amount) FROM unnest(p.amounts) AS a (amount)), 0) AS of_items
) AS sum
CROSS JOIN LATERAL (
    SELECT p.period_start AS at, 1 AS place, 'carried_in' AS line, p.spillover::numeric AS amount, 0::numeric AS bonus,
        NULL::text AS stripe_price_id, NULL::bigint AS quantity, NULL::text AS reason
    WHERE p.spillover > 0
    UNION ALL
    SELECT p.period_start, 2, 'included', CASE WHEN p.included IS NOT NULL THEN i.amount END, 0, i.price_id, i.quantity,
        CASE WHEN i.amount IS NULL THEN 'unlimited' END
    FROM unnest(p.price_ids, p.quantities, p.amounts) AS i (price_id, quantity, amount)
    WHERE p.amounts IS NOT NULL AND (i.amount IS NULL OR i.amount > 0)
    UNION ALL
    SELECT p.period_start, 3, 'included', p.included - sum.of_items, 0, NULL, NULL,
        CASE WHEN p.amounts IS NULL THEN 'an item or its price is not known or cannot be read, or the limit cannot be computed, so the amount before it stays'
            ELSE 'no sum is above 10^18' END
    WHERE p.included IS NOT NULL AND p.included <> sum.of_items
    UNION ALL
    SELECT p.period_start, 4, 'unlimited', greatest(0, sum.of_plan - p.spillover), 0, NULL, NULL, NULL
    WHERE p.included IS NULL
    UNION ALL
    SELECT coalesce(p.period_end, clock_timestamp()), 5, 'used', -p.used, 0, NULL, NULL, NULL
    WHERE p.used > 0
    UNION ALL
    SELECT coalesce(p.period_end, clock_timestamp()), 6, 'from_bonus', p.bonus_used, -p.bonus_used, NULL, NULL, NULL
    WHERE p.bonus_used > 0
    UNION ALL
    SELECT coalesce(p.period_end, clock_timestamp()), 7, 'beyond', sum.of_plan - p.included - p.spillover, 0, NULL, NULL,
        'used while more was included'
    WHERE sum.of_plan > p.included + p.spillover
    UNION ALL
    SELECT p.period_end, 8, 'carried_over', -p.spilled_over, 0, NULL, NULL, p.outcome
    WHERE p.is_over AND p.spilled_over > 0
    UNION ALL
    SELECT p.period_end, 9, 'lost', -CASE WHEN p.included IS NULL THEN greatest(0, p.spillover - sum.of_plan) ELSE p.expired END, 0,
        NULL, NULL, p.outcome
    WHERE p.is_over AND (p.expired > 0 OR (p.included IS NULL AND p.spillover > sum.of_plan))
    UNION ALL
    SELECT clock_timestamp(), 10, 'left', -greatest(0, coalesce(p.included, 0) + p.spillover - sum.of_plan), 0, NULL, NULL, NULL
    WHERE NOT p.is_over
    UNION ALL
    SELECT p.corrected_at, 11, 'corrected', 0, 0, NULL, NULL, 'computed again: an event about a time before the end arrived after it'
    WHERE p.corrected_at IS NOT NULL
    UNION ALL
    SELECT clock_timestamp(), 12, 'set_aside', 0, 0, NULL, NULL, 'cannot be renewed, and is retried: ' || j.last_error
    FROM billing.jobs AS j
    WHERE NOT p.is_over AND j.kind = 'renewal' AND j.account = s.account AND j.object_type = 'subscription'
        AND j.object_id = s.stripe_subscription_id
) AS line
UNION ALL
SELECT g.workspace_id, NULL, NULL, g.limit_key, NULL, NULL, NULL, g.granted_at, 0, CASE WHEN g.amount > 0 THEN 'granted' ELSE 'taken_back' END,
    0, g.amount, NULL, NULL, g.reason
FROM billing.bonus_grants AS g;

COMMENT ON VIEW billing.limit_statement IS 'How balances came about, line by line. The amounts of one period add up to 0. The bonus of all lines of a workspace and key adds up to workspace_bonus.amount, unless a subscription that used some of it has another workspace now. Order by limit_key, stripe_subscription_id, period_start, place. Query one workspace or subscription, or a few.';
COMMENT ON COLUMN billing.limit_statement.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.limit_statement.subscription_id IS 'subscriptions.id; null in lines about the bonus, which belongs to the workspace.';
COMMENT ON COLUMN billing.limit_statement.stripe_subscription_id IS 'subscription.id';
COMMENT ON COLUMN billing.limit_statement.limit_key IS 'words, images, members …';
COMMENT ON COLUMN billing.limit_statement.period_start IS 'Start of the period; null in lines about the bonus.';
COMMENT ON COLUMN billing.limit_statement.period_end IS 'End of the period; null if it has none.';
COMMENT ON COLUMN billing.limit_statement.is_over IS 'The period is over.';
COMMENT ON COLUMN billing.limit_statement.at IS 'Time of the line.';
COMMENT ON COLUMN billing.limit_statement.place IS 'Order of the lines within a period.';
COMMENT ON COLUMN billing.limit_statement.line IS 'carried_in: from the previous period. included: by one item, or (without a price) the unchanged amount. unlimited: all that was used. used: the usage. from_bonus: the part of it taken from the bonus. beyond: used while more was included. carried_over and lost: at the end. left: now. corrected: the period was recomputed. set_aside: the limit cannot be renewed, although it may be computed; see reason. granted and taken_back: the bonus.';
COMMENT ON COLUMN billing.limit_statement.amount IS 'Amount that the line adds to the period or subtracts from it; null for an item of an unlimited period.';
COMMENT ON COLUMN billing.limit_statement.bonus IS 'Amount that the line adds to the bonus or subtracts from it.';
COMMENT ON COLUMN billing.limit_statement.stripe_price_id IS 'The price of the item.';
COMMENT ON COLUMN billing.limit_statement.quantity IS 'The quantity of that item.';
COMMENT ON COLUMN billing.limit_statement.reason IS 'The outcome of the period (renewed, inactive, trial_end), the reason of a grant, or a remark.';

REVOKE ALL ON FUNCTION billing.limit_history(uuid) FROM PUBLIC;
