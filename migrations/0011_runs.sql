-- Progress of a backfill, so that it resumes after a crash, and the objects that it could not store.
CREATE TABLE billing.backfill_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    abandoned_at timestamptz,
    created_after timestamptz,
    stripe_account text COLLATE "C",
    livemode boolean,
    first_page_version timestamptz,
    stage text NOT NULL DEFAULT 'listing' CHECK (stage IN ('listing', 'sweeping', 'projecting', 'fetching')),
    owner uuid NOT NULL,
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT backfill_runs_account_has_a_mode CHECK ((stripe_account IS NULL) = (livemode IS NULL)),
    CONSTRAINT backfill_runs_end_once CHECK (finished_at IS NULL OR abandoned_at IS NULL)
);
-- one unfinished run at a time: a second one is refused with a reference to the first
CREATE UNIQUE INDEX backfill_runs_open ON billing.backfill_runs ((true)) WHERE finished_at IS NULL AND abandoned_at IS NULL;

COMMENT ON TABLE billing.backfill_runs IS 'One row for each full `billing-sync backfill`. A run that is neither finished nor abandoned can be resumed.';
COMMENT ON COLUMN billing.backfill_runs.id IS 'Increases in the order of starting.';
COMMENT ON COLUMN billing.backfill_runs.started_at IS 'When the run was started, by the database''s clock.';
COMMENT ON COLUMN billing.backfill_runs.finished_at IS 'When the run was finished; null while it is not.';
COMMENT ON COLUMN billing.backfill_runs.abandoned_at IS 'When the run was abandoned for a new one (--restart).';
COMMENT ON COLUMN billing.backfill_runs.created_after IS 'The run reads objects created in Stripe at this time or later; null: all objects.';
COMMENT ON COLUMN billing.backfill_runs.stripe_account IS 'Stripe''s id of the key''s account; null if it cannot be determined.';
COMMENT ON COLUMN billing.backfill_runs.livemode IS 'The mode of the key; null if the mode or the account cannot be determined.';
COMMENT ON COLUMN billing.backfill_runs.first_page_version IS 'Version of the first page, by Stripe''s clock less the staleness margin. Unlisted objects have an older version.';
COMMENT ON COLUMN billing.backfill_runs.stage IS 'Current stage. listing: reading pages; sweeping: fetching unlisted objects; projecting: rebuilding all rows; fetching: fetching missing objects.';
COMMENT ON COLUMN billing.backfill_runs.owner IS 'The process that owns the run. A process that finds another owner has lost the lease and stops.';
COMMENT ON COLUMN billing.backfill_runs.heartbeat_at IS 'Last heartbeat of the owner, by the database''s clock.';

CREATE TABLE billing.backfill_ranges (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id bigint NOT NULL REFERENCES billing.backfill_runs ON DELETE CASCADE,
    account text COLLATE "C" NOT NULL,
    list text NOT NULL CHECK (list IN ('products', 'prices', 'plans', 'coupons', 'customers', 'subscriptions', 'sessions', 'invoices',
        'disputes', 'payments')),
    created_from bigint,
    created_until bigint,
    after_id text COLLATE "C",
    after_created bigint,
    pages bigint NOT NULL DEFAULT 0 CHECK (pages >= 0),
    objects bigint NOT NULL DEFAULT 0 CHECK (objects >= 0),
    changes bigint NOT NULL DEFAULT 0 CHECK (changes >= 0),
    done boolean NOT NULL DEFAULT false,
    error text CHECK (octet_length(error) <= 2000)
);
CREATE INDEX backfill_ranges_run ON billing.backfill_ranges (run_id, id);

COMMENT ON TABLE billing.backfill_ranges IS 'The lists that a backfill reads, each in ranges of creation times that are read concurrently, with the progress of each range.';
COMMENT ON COLUMN billing.backfill_ranges.id IS 'Increases in the order in which ranges were split off.';
COMMENT ON COLUMN billing.backfill_ranges.run_id IS 'The backfill.';
COMMENT ON COLUMN billing.backfill_ranges.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.backfill_ranges.list IS 'Name of Stripe''s list.';
COMMENT ON COLUMN billing.backfill_ranges.created_from IS 'First second of the range, as Unix time; null: no bound.';
COMMENT ON COLUMN billing.backfill_ranges.created_until IS 'The second after the last one of the range; null: no bound.';
COMMENT ON COLUMN billing.backfill_ranges.after_id IS 'The last stored object: the next page begins after it.';
COMMENT ON COLUMN billing.backfill_ranges.after_created IS 'When that object was created, as Unix time.';
COMMENT ON COLUMN billing.backfill_ranges.pages IS 'Pages stored so far.';
COMMENT ON COLUMN billing.backfill_ranges.objects IS 'Objects stored so far.';
COMMENT ON COLUMN billing.backfill_ranges.changes IS 'Rows of the product''s tables that these objects changed.';
COMMENT ON COLUMN billing.backfill_ranges.done IS 'The last page of the range is stored.';
COMMENT ON COLUMN billing.backfill_ranges.error IS 'Why the range cannot be continued; null while it can.';

CREATE TABLE billing.backfill_failures (
    run_id bigint NOT NULL REFERENCES billing.backfill_runs ON DELETE CASCADE,
    account text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    error text NOT NULL CHECK (octet_length(error) <= 2000),
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, account, object_type, object_id)
);

COMMENT ON TABLE billing.backfill_failures IS 'Objects that a backfill could not store. It continued without them.';
COMMENT ON COLUMN billing.backfill_failures.run_id IS 'The backfill.';
COMMENT ON COLUMN billing.backfill_failures.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.backfill_failures.object_type IS 'Type of the object, as Stripe names it.';
COMMENT ON COLUMN billing.backfill_failures.object_id IS 'Id of the object; if it has none, the page and its position on it.';
COMMENT ON COLUMN billing.backfill_failures.error IS 'Why it could not be stored; contains nothing of its content.';
COMMENT ON COLUMN billing.backfill_failures.failed_at IS 'When it failed, by the database''s clock.';

-- How far the stored events were compared with Stripe's event list.
CREATE TABLE billing.reconcile_state (
    account text COLLATE "C" PRIMARY KEY,
    compared_until timestamptz,
    gap_since timestamptz,
    gap_until timestamptz,
    stripe_account text COLLATE "C",
    livemode boolean,
    leased_until timestamptz,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_error text CHECK (octet_length(last_error) <= 2000),
    last_compared bigint NOT NULL DEFAULT 0,
    last_inserted bigint NOT NULL DEFAULT 0,
    last_missed bigint NOT NULL DEFAULT 0,
    last_unreadable bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT reconcile_state_gap_has_two_ends CHECK (
        (gap_since IS NULL) = (gap_until IS NULL) AND (gap_since IS NULL OR gap_since < gap_until)),
    CONSTRAINT reconcile_state_account_has_a_mode CHECK ((stripe_account IS NULL) = (livemode IS NULL)),
    CONSTRAINT reconcile_state_failures_have_an_error CHECK ((failures > 0) = (last_error IS NOT NULL)),
    CONSTRAINT reconcile_state_counts_are_parts CHECK (
        last_missed >= 0 AND last_unreadable >= 0 AND last_missed <= last_inserted AND last_inserted + last_unreadable <= last_compared)
);

COMMENT ON TABLE billing.reconcile_state IS 'Watermark, lease and last run of each account whose events are compared with Stripe''s event list, by `serve` with the role reconcile and by `billing-sync reconcile`. The row of an account that is no longer synced may be deleted.';
COMMENT ON COLUMN billing.reconcile_state.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.reconcile_state.compared_until IS 'The watermark, by Stripe''s clock: every event created up to this time was compared. Moves forward only, after a complete listing; null until the first one.';
COMMENT ON COLUMN billing.reconcile_state.gap_since IS 'Events created from this time to gap_until were never compared, because Stripe no longer listed them. A backfill must read their data. Null if there is no gap.';
COMMENT ON COLUMN billing.reconcile_state.gap_until IS 'The end of that gap.';
COMMENT ON COLUMN billing.reconcile_state.stripe_account IS 'For the account itself: its Stripe id, stored when the key was last verified against the stored events. It verifies the key when all stored events are too old to be fetched.';
COMMENT ON COLUMN billing.reconcile_state.livemode IS 'The mode of that key; null if stripe_account is null.';
COMMENT ON COLUMN billing.reconcile_state.leased_until IS 'End of the lease: until then no other process starts a run, because one is running, or has failed and waits. By the database''s clock.';
COMMENT ON COLUMN billing.reconcile_state.started_at IS 'When the last run was started, by the database''s clock.';
COMMENT ON COLUMN billing.reconcile_state.finished_at IS 'When a run was last completed, by the database''s clock.';
COMMENT ON COLUMN billing.reconcile_state.failures IS 'Failed runs since the last completed one.';
COMMENT ON COLUMN billing.reconcile_state.last_error IS 'Error of the last failed run; never contains content.';
COMMENT ON COLUMN billing.reconcile_state.last_compared IS 'Number of events that Stripe listed in the last completed run.';
COMMENT ON COLUMN billing.reconcile_state.last_inserted IS 'Number of those events that were not stored before.';
COMMENT ON COLUMN billing.reconcile_state.last_missed IS 'Number of inserted events whose deliveries had failed or never happened (see billing_sync_reconcile_missed_events_total).';
COMMENT ON COLUMN billing.reconcile_state.last_unreadable IS 'Number of listed events that could not be stored; the log names them.';
COMMENT ON COLUMN billing.reconcile_state.created_at IS 'When the account was first compared, by the database''s clock.';

-- Progress of a rebuild, so that it resumes after a crash.
CREATE TABLE billing.rebuild_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    stage text NOT NULL DEFAULT 'customers' CHECK (stage IN ('customers', 'others')),
    account text COLLATE "C" NOT NULL DEFAULT '',
    position text COLLATE "C" NOT NULL DEFAULT '',
    objects bigint NOT NULL DEFAULT 0,
    changes bigint NOT NULL DEFAULT 0
);

COMMENT ON TABLE billing.rebuild_runs IS 'One row for each full `billing-sync rebuild`. The next rebuild resumes a run without finished_at.';
COMMENT ON COLUMN billing.rebuild_runs.id IS 'Increases in the order of starting.';
COMMENT ON COLUMN billing.rebuild_runs.started_at IS 'When the run was started, by the database''s clock.';
COMMENT ON COLUMN billing.rebuild_runs.finished_at IS 'When the run was finished; null while it is not.';
COMMENT ON COLUMN billing.rebuild_runs.stage IS 'Current stage: customers with their subscriptions, then others (plans, coupons, checkout sessions).';
COMMENT ON COLUMN billing.rebuild_runs.account IS 'Account of the last object done.';
COMMENT ON COLUMN billing.rebuild_runs.position IS 'The last object done in this stage: an id, in the stage others type/id.';
COMMENT ON COLUMN billing.rebuild_runs.objects IS 'Objects done so far.';
COMMENT ON COLUMN billing.rebuild_runs.changes IS 'Rows changed so far.';
