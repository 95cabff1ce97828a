CREATE TABLE billing.limit_kinds (
    limit_key text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('renewing', 'capacity'))
);
INSERT INTO billing.limit_kinds VALUES ('members', 'capacity');

COMMENT ON TABLE billing.limit_kinds IS 'Yours: the kind of limit of each key, read when a subscription first has it. A key without a row is renewing.';
COMMENT ON COLUMN billing.limit_kinds.limit_key IS 'words, images, members …';
COMMENT ON COLUMN billing.limit_kinds.kind IS 'renewing: used is reset at each renewal, and the unused amount is carried over for one period. capacity: consumed and released, never reset.';

CREATE TABLE billing.renewal_rules (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    renewal_anchor text NOT NULL CHECK (renewal_anchor IN ('subscription_start', 'billing_cycle')),
    past_due_active boolean NOT NULL,
    halted_at timestamptz,
    halted_because text,
    CONSTRAINT renewal_rules_a_halt_has_a_reason CHECK ((halted_at IS NULL) = (halted_because IS NULL))
);
INSERT INTO billing.renewal_rules (renewal_anchor, past_due_active) VALUES ('subscription_start', true);

COMMENT ON TABLE billing.renewal_rules IS 'Rules of the renewals, for the functions that the product calls: one row, written by `serve` from its settings.';
COMMENT ON COLUMN billing.renewal_rules.singleton IS 'Always true: the table has one row.';
COMMENT ON COLUMN billing.renewal_rules.renewal_anchor IS 'BILLING_SYNC_RENEWAL_ANCHOR. subscription_start: months from the subscription''s start_date, permanently; billing_cycle: from its billing_cycle_anchor, whose change is a renewal.';
COMMENT ON COLUMN billing.renewal_rules.past_due_active IS 'BILLING_SYNC_PAST_DUE_ACTIVE: a past_due subscription counts as active.';
COMMENT ON COLUMN billing.renewal_rules.halted_at IS 'Since when renewals are halted because the clocks disagree; null while they are not halted.';
COMMENT ON COLUMN billing.renewal_rules.halted_because IS 'How the clocks disagree; null while renewals are not halted.';

CREATE TABLE billing.subscription_limits (
    subscription_id uuid NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('renewing', 'capacity')),
    -- no amount is above 10^18: sums of several of them stay within bigint
    included bigint CHECK (included BETWEEN 0 AND 1000000000000000000),
    unlimited boolean NOT NULL,
    spillover bigint NOT NULL DEFAULT 0 CHECK (spillover BETWEEN 0 AND 1000000000000000000),
    used bigint NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND 1000000000000000000),
    bonus_used bigint NOT NULL DEFAULT 0 CHECK (bonus_used >= 0),
    period_start timestamptz NOT NULL,
    renews_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscription_id, limit_key),
    CONSTRAINT subscription_limits_a_number_or_unlimited CHECK (unlimited = (included IS NULL)),
    CONSTRAINT subscription_limits_bonus_is_part_of_used CHECK (bonus_used <= used),
    CONSTRAINT subscription_limits_renews_later CHECK (renews_at > period_start),
    CONSTRAINT subscription_limits_capacity_never_renews CHECK (kind = 'renewing' OR (renews_at IS NULL AND spillover = 0))
)
-- `used` changes often and is in no index: free space on the page allows these updates without touching the indexes
WITH (fillfactor = 85);
CREATE INDEX subscription_limits_due ON billing.subscription_limits (renews_at, subscription_id) WHERE renews_at IS NOT NULL;

COMMENT ON TABLE billing.subscription_limits IS 'Balances: one row for each limit of a subscription, as of its last change. Read workspace_limits, which is as of now; change it by consume, release and grant_bonus only.';
COMMENT ON COLUMN billing.subscription_limits.subscription_id IS 'subscriptions.id';
COMMENT ON COLUMN billing.subscription_limits.limit_key IS 'words, images, members …';
COMMENT ON COLUMN billing.subscription_limits.kind IS 'renewing or capacity, as in limit_kinds.';
COMMENT ON COLUMN billing.subscription_limits.included IS 'Total of all items of the subscription per period; null if one of them is unlimited. Unchanged while a price is not known or a value is invalid.';
COMMENT ON COLUMN billing.subscription_limits.unlimited IS 'True if an item is unlimited.';
COMMENT ON COLUMN billing.subscription_limits.spillover IS 'Amount carried over from the previous period; it expires at the next renewal.';
COMMENT ON COLUMN billing.subscription_limits.used IS 'Used since period_start: first from the spillover, then from the included amount, then from the bonus.';
COMMENT ON COLUMN billing.subscription_limits.bonus_used IS 'Part of used that was taken from the bonus when it was consumed; workspace_bonus was reduced by it. A change of plan does not change it.';
COMMENT ON COLUMN billing.subscription_limits.period_start IS 'Start of the current period: the end of the last row of limit_renewals.';
COMMENT ON COLUMN billing.subscription_limits.renews_at IS 'End of the current period and start of the next one; null if there is no next one.';
COMMENT ON COLUMN billing.subscription_limits.created_at IS 'When this row was first written, by the database''s clock.';

CREATE TABLE billing.limit_renewals (
    subscription_id uuid NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    previous_period_end timestamptz,
    included bigint,
    unlimited boolean NOT NULL,
    spillover bigint NOT NULL,
    used bigint NOT NULL,
    bonus_used bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('renewed', 'inactive', 'trial_end')),
    spilled_over bigint NOT NULL CHECK (spilled_over >= 0),
    expired bigint NOT NULL CHECK (expired >= 0),
    at_anchor boolean NOT NULL,
    price_ids text[],
    quantities bigint[],
    amounts bigint[],
    renewed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    corrected_at timestamptz,
    PRIMARY KEY (subscription_id, limit_key, period_start),
    CONSTRAINT limit_renewals_end UNIQUE (subscription_id, limit_key, period_end),
    CONSTRAINT limit_renewals_go_forward CHECK (period_end > period_start),
    -- no gap and no overlap: every row except the first begins where another one ends, and no two begin at the same time
    CONSTRAINT limit_renewals_start_where_another_ends CHECK (previous_period_end = period_start),
    CONSTRAINT limit_renewals_chain FOREIGN KEY (subscription_id, limit_key, previous_period_end)
        REFERENCES billing.limit_renewals (subscription_id, limit_key, period_end) DEFERRABLE,
    CONSTRAINT limit_renewals_only_renewed_spills CHECK (outcome = 'renewed' OR spilled_over = 0)
);
CREATE UNIQUE INDEX limit_renewals_first ON billing.limit_renewals (subscription_id, limit_key) WHERE previous_period_end IS NULL;

COMMENT ON TABLE billing.limit_renewals IS 'The ledger: one row for each finished period of a limit, written together with the balance that results from it.';
COMMENT ON COLUMN billing.limit_renewals.subscription_id IS 'subscriptions.id';
COMMENT ON COLUMN billing.limit_renewals.limit_key IS 'words, images …';
COMMENT ON COLUMN billing.limit_renewals.period_start IS 'Start of the period.';
COMMENT ON COLUMN billing.limit_renewals.period_end IS 'End of the period: the renewal.';
COMMENT ON COLUMN billing.limit_renewals.previous_period_end IS 'End of the previous period, equal to period_start; null in the first row.';
COMMENT ON COLUMN billing.limit_renewals.included IS 'Total of all items just before the end; null if one was unlimited.';
COMMENT ON COLUMN billing.limit_renewals.unlimited IS 'True if an item was unlimited.';
COMMENT ON COLUMN billing.limit_renewals.spillover IS 'Amount carried over from the previous period.';
COMMENT ON COLUMN billing.limit_renewals.used IS 'Amount used in the period.';
COMMENT ON COLUMN billing.limit_renewals.bonus_used IS 'Part of used that was taken from the bonus when it was consumed.';
COMMENT ON COLUMN billing.limit_renewals.outcome IS 'renewed: the rest is carried over; inactive: the subscription was not active just before the end, so nothing is carried over; trial_end: a trial ended, so nothing is carried over.';
COMMENT ON COLUMN billing.limit_renewals.spilled_over IS 'Amount carried over to the next period: its spillover.';
COMMENT ON COLUMN billing.limit_renewals.expired IS 'Amount that was neither used nor carried over.';
COMMENT ON COLUMN billing.limit_renewals.at_anchor IS 'The end was the billing cycle anchor itself.';
COMMENT ON COLUMN billing.limit_renewals.price_ids IS 'The prices of the items in force just before the end, as in subscription_timeline; null if they were not known.';
COMMENT ON COLUMN billing.limit_renewals.quantities IS 'The quantity of each of these items.';
COMMENT ON COLUMN billing.limit_renewals.amounts IS 'What each of these items included then, null for unlimited. The array is null if that was not known; included then stayed unchanged.';
COMMENT ON COLUMN billing.limit_renewals.renewed_at IS 'When this row was written, by the database''s clock.';
COMMENT ON COLUMN billing.limit_renewals.corrected_at IS 'When a recomputation last changed the row, because an event from before its end arrived later; null if it never changed.';

CREATE TABLE billing.limit_recalculations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id uuid NOT NULL,
    since timestamptz NOT NULL
);
CREATE INDEX limit_recalculations_subscription ON billing.limit_recalculations (subscription_id, id);

COMMENT ON TABLE billing.limit_recalculations IS 'Stale marks: changes of subscriptions that their balances do not contain yet. The worker only adds rows, so it never waits for a balance that the product has locked; renew_limits removes them.';
COMMENT ON COLUMN billing.limit_recalculations.id IS 'Increases in the order of writing.';
COMMENT ON COLUMN billing.limit_recalculations.subscription_id IS 'subscriptions.id';
COMMENT ON COLUMN billing.limit_recalculations.since IS 'Earliest time affected by the change.';

CREATE TABLE billing.workspace_bonus (
    workspace_id uuid NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    amount bigint NOT NULL CHECK (amount BETWEEN 0 AND 1000000000000000000),
    PRIMARY KEY (workspace_id, limit_key)
) WITH (fillfactor = 85);

COMMENT ON TABLE billing.workspace_bonus IS 'Bonus of a workspace, in addition to its plans and independent of its subscriptions. It is used last and does not expire.';
COMMENT ON COLUMN billing.workspace_bonus.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.workspace_bonus.limit_key IS 'words, images …';
COMMENT ON COLUMN billing.workspace_bonus.amount IS 'The remaining bonus.';

CREATE TABLE billing.bonus_grants (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id uuid NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    reason text NOT NULL CHECK (btrim(reason) <> ''),
    granted_by text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX bonus_grants_workspace ON billing.bonus_grants (workspace_id, id);

COMMENT ON TABLE billing.bonus_grants IS 'Every bonus that was granted or taken back.';
COMMENT ON COLUMN billing.bonus_grants.id IS 'Increases in the order of writing.';
COMMENT ON COLUMN billing.bonus_grants.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.bonus_grants.limit_key IS 'words, images …';
COMMENT ON COLUMN billing.bonus_grants.amount IS 'The amount; negative if it was taken back.';
COMMENT ON COLUMN billing.bonus_grants.reason IS 'The reason, as given to grant_bonus.';
COMMENT ON COLUMN billing.bonus_grants.granted_by IS 'The database role that called grant_bonus.';
COMMENT ON COLUMN billing.bonus_grants.granted_at IS 'When the bonus was granted, by the database''s clock.';

CREATE TABLE billing.consumptions (
    workspace_id uuid NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL CHECK (octet_length(idempotency_key) BETWEEN 1 AND 255),
    limit_key text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    remaining bigint,
    consumed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace_id, idempotency_key)
);
CREATE INDEX consumptions_consumed_at ON billing.consumptions (consumed_at);

COMMENT ON TABLE billing.consumptions IS 'Calls of consume with an idempotency key, so that a repeated call returns the same result and changes nothing. Kept for 30 days.';
COMMENT ON COLUMN billing.consumptions.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.consumptions.idempotency_key IS 'The idempotency key from the product.';
COMMENT ON COLUMN billing.consumptions.limit_key IS 'The limit that was consumed.';
COMMENT ON COLUMN billing.consumptions.amount IS 'The amount that was consumed.';
COMMENT ON COLUMN billing.consumptions.remaining IS 'What consume returned; null means unlimited.';
COMMENT ON COLUMN billing.consumptions.consumed_at IS 'When it was consumed, by the database''s clock.';
