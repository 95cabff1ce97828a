CREATE TABLE billing.limit_kinds (
    limit_key text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('renewing', 'capacity'))
);
INSERT INTO billing.limit_kinds VALUES ('members', 'capacity');

COMMENT ON TABLE billing.limit_kinds IS 'Yours: what kind of limit a key is, read when a subscription first has it. A key without a row is renewing.';
COMMENT ON COLUMN billing.limit_kinds.limit_key IS 'words, images, members …';
COMMENT ON COLUMN billing.limit_kinds.kind IS 'renewing: what was used is forgotten at each renewal, and what was not spills over for one month. capacity: taken and given back, never reset.';

CREATE TABLE billing.renewal_rules (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    renewal_anchor text NOT NULL CHECK (renewal_anchor IN ('subscription_start', 'billing_cycle')),
    past_due_active boolean NOT NULL,
    halted_at timestamptz,
    halted_because text,
    CONSTRAINT renewal_rules_a_halt_has_a_reason CHECK ((halted_at IS NULL) = (halted_because IS NULL))
);
INSERT INTO billing.renewal_rules (renewal_anchor, past_due_active) VALUES ('subscription_start', true);

COMMENT ON TABLE billing.renewal_rules IS 'By which rules limits are renewed, for the functions that the product calls: one row, written by `serve` from its settings.';
COMMENT ON COLUMN billing.renewal_rules.one IS 'There is one row.';
COMMENT ON COLUMN billing.renewal_rules.renewal_anchor IS 'BILLING_SYNC_RENEWAL_ANCHOR: subscription_start, months from the subscription''s start_date for ever; billing_cycle, from its billing_cycle_anchor, a change of which is a renewal.';
COMMENT ON COLUMN billing.renewal_rules.past_due_active IS 'BILLING_SYNC_PAST_DUE_ACTIVE: a subscription whose payment is retried counts as active.';
COMMENT ON COLUMN billing.renewal_rules.halted_at IS 'Since when nothing is renewed, because the clocks disagree; null while all is well.';
COMMENT ON COLUMN billing.renewal_rules.halted_because IS 'What is wrong with the clocks.';

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
-- `used` changes all the time and is in no index: room on the page keeps these updates off the indexes
WITH (fillfactor = 85);
CREATE INDEX subscription_limits_due ON billing.subscription_limits (renews_at, subscription_id) WHERE renews_at IS NOT NULL;

COMMENT ON TABLE billing.subscription_limits IS 'Balances: one row for each limit of a subscription, as of its last change. Read workspace_limits, which is as of now; change it by consume, release and grant_bonus only.';
COMMENT ON COLUMN billing.subscription_limits.subscription_id IS 'subscriptions.id';
COMMENT ON COLUMN billing.subscription_limits.limit_key IS 'words, images, members …';
COMMENT ON COLUMN billing.subscription_limits.kind IS 'renewing or capacity, as in limit_kinds.';
COMMENT ON COLUMN billing.subscription_limits.included IS 'What all items of the subscription include together each period; null where one of them is unlimited. Where a price is not known, or a value cannot be read, it stays as it was.';
COMMENT ON COLUMN billing.subscription_limits.unlimited IS 'An item sets no limit.';
COMMENT ON COLUMN billing.subscription_limits.spillover IS 'What was left of the month before; it expires at the next renewal.';
COMMENT ON COLUMN billing.subscription_limits.used IS 'Used since period_start: first of the spillover, then of what is included, then of the bonus.';
COMMENT ON COLUMN billing.subscription_limits.bonus_used IS 'How much of that was taken from the bonus when it was used; workspace_bonus is less by as much. A change of plan never changes it.';
COMMENT ON COLUMN billing.subscription_limits.period_start IS 'When the present period began: where the last row of limit_renewals ended.';
COMMENT ON COLUMN billing.subscription_limits.renews_at IS 'When it ends and the next one begins; null where none will.';
COMMENT ON COLUMN billing.subscription_limits.created_at IS 'When this row was written, by the database''s clock.';

CREATE TABLE billing.limit_renewals (
    subscription_id uuid NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    follows timestamptz,
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
    -- no gap and no overlap: every row but the first begins where another one ends, and no two begin at one time
    CONSTRAINT limit_renewals_start_where_another_ends CHECK (follows = period_start),
    CONSTRAINT limit_renewals_chain FOREIGN KEY (subscription_id, limit_key, follows)
        REFERENCES billing.limit_renewals (subscription_id, limit_key, period_end) DEFERRABLE,
    CONSTRAINT limit_renewals_only_renewed_spills CHECK (outcome = 'renewed' OR spilled_over = 0)
);
CREATE UNIQUE INDEX limit_renewals_first ON billing.limit_renewals (subscription_id, limit_key) WHERE follows IS NULL;

COMMENT ON TABLE billing.limit_renewals IS 'The ledger: one row for each period of a limit that is over, written together with the balance that follows from it.';
COMMENT ON COLUMN billing.limit_renewals.subscription_id IS 'subscriptions.id';
COMMENT ON COLUMN billing.limit_renewals.limit_key IS 'words, images …';
COMMENT ON COLUMN billing.limit_renewals.period_start IS 'When the period began.';
COMMENT ON COLUMN billing.limit_renewals.period_end IS 'When it ended: the renewal.';
COMMENT ON COLUMN billing.limit_renewals.follows IS 'The end of the period before, which is period_start; null in the first row.';
COMMENT ON COLUMN billing.limit_renewals.included IS 'What all items included together just before the end; null where one was unlimited.';
COMMENT ON COLUMN billing.limit_renewals.unlimited IS 'An item set no limit.';
COMMENT ON COLUMN billing.limit_renewals.spillover IS 'What had been left of the period before.';
COMMENT ON COLUMN billing.limit_renewals.used IS 'What was used in the period.';
COMMENT ON COLUMN billing.limit_renewals.bonus_used IS 'How much of that was taken from the bonus when it was used.';
COMMENT ON COLUMN billing.limit_renewals.outcome IS 'renewed; inactive: the subscription was not active just before the end, so nothing spills over; trial_end: a trial ended, which spills nothing over.';
COMMENT ON COLUMN billing.limit_renewals.spilled_over IS 'What the next period has besides what its plan includes.';
COMMENT ON COLUMN billing.limit_renewals.expired IS 'What was neither used nor spilled over.';
COMMENT ON COLUMN billing.limit_renewals.at_anchor IS 'The end was the billing cycle anchor itself.';
COMMENT ON COLUMN billing.limit_renewals.price_ids IS 'The prices of the items in force just before the end, as in subscription_timeline; null where they were not known.';
COMMENT ON COLUMN billing.limit_renewals.quantities IS 'The quantity of each of these items.';
COMMENT ON COLUMN billing.limit_renewals.amounts IS 'What each of these items included then, null for unlimited; no array where that was not known and included stayed as it was.';
COMMENT ON COLUMN billing.limit_renewals.renewed_at IS 'When this row was written, by the database''s clock.';
COMMENT ON COLUMN billing.limit_renewals.corrected_at IS 'When it was last computed anew and came out otherwise, because an event of before its end came later; null where that never happened.';

CREATE TABLE billing.limit_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id uuid NOT NULL,
    since timestamptz NOT NULL
);
CREATE INDEX limit_changes_subscription ON billing.limit_changes (subscription_id, id);

COMMENT ON TABLE billing.limit_changes IS 'What the worker found out about subscriptions and their balances do not know yet. It only adds rows, so it never waits for a balance that the product holds; whoever brings the balance up removes them.';
COMMENT ON COLUMN billing.limit_changes.id IS 'In the order of writing.';
COMMENT ON COLUMN billing.limit_changes.subscription_id IS 'subscriptions.id';
COMMENT ON COLUMN billing.limit_changes.since IS 'Nothing before this time has changed.';

CREATE TABLE billing.workspace_bonus (
    workspace_id uuid NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    amount bigint NOT NULL CHECK (amount BETWEEN 0 AND 1000000000000000000),
    PRIMARY KEY (workspace_id, limit_key)
) WITH (fillfactor = 85);

COMMENT ON TABLE billing.workspace_bonus IS 'What workspaces have beyond their plans, whatever they subscribe to. It is used last and does not expire.';
COMMENT ON COLUMN billing.workspace_bonus.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.workspace_bonus.limit_key IS 'words, images …';
COMMENT ON COLUMN billing.workspace_bonus.amount IS 'What is left of it.';

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

COMMENT ON TABLE billing.bonus_grants IS 'Every bonus that was ever granted or taken back.';
COMMENT ON COLUMN billing.bonus_grants.id IS 'In the order of writing.';
COMMENT ON COLUMN billing.bonus_grants.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.bonus_grants.limit_key IS 'words, images …';
COMMENT ON COLUMN billing.bonus_grants.amount IS 'How much; below zero where it was taken back.';
COMMENT ON COLUMN billing.bonus_grants.reason IS 'Why, in the words of who granted it.';
COMMENT ON COLUMN billing.bonus_grants.granted_by IS 'The database role that asked for it.';
COMMENT ON COLUMN billing.bonus_grants.granted_at IS 'When, by the database''s clock.';

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

COMMENT ON TABLE billing.consumptions IS 'Calls of consume that named an idempotency key, so that a repeated one is answered and does nothing. Kept for 30 days.';
COMMENT ON COLUMN billing.consumptions.workspace_id IS 'The workspace.';
COMMENT ON COLUMN billing.consumptions.idempotency_key IS 'The key that the product named.';
COMMENT ON COLUMN billing.consumptions.limit_key IS 'What was consumed.';
COMMENT ON COLUMN billing.consumptions.amount IS 'How much.';
COMMENT ON COLUMN billing.consumptions.remaining IS 'What was answered; null is unlimited.';
COMMENT ON COLUMN billing.consumptions.consumed_at IS 'When, by the database''s clock.';
