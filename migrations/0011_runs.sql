-- Where a backfill stands, so that one that was killed goes on where it was, and what it could not read.
CREATE TABLE billing.backfill_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    abandoned_at timestamptz,
    created_after timestamptz,
    stripe_account text COLLATE "C",
    livemode boolean,
    began timestamptz,
    stage text NOT NULL DEFAULT 'listing' CHECK (stage IN ('listing', 'asking', 'projecting', 'fetching')),
    owner uuid NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT backfill_runs_account_has_a_mode CHECK ((stripe_account IS NULL) = (livemode IS NULL)),
    CONSTRAINT backfill_runs_end_once CHECK (finished_at IS NULL OR abandoned_at IS NULL)
);
-- one at a time: whoever begins a second one is told of the first
CREATE UNIQUE INDEX backfill_runs_open ON billing.backfill_runs ((true)) WHERE finished_at IS NULL AND abandoned_at IS NULL;

COMMENT ON TABLE billing.backfill_runs IS 'One row for each `billing-sync backfill` of everything. One that is neither finished nor abandoned can be gone on with.';
COMMENT ON COLUMN billing.backfill_runs.id IS 'In the order of starting.';
COMMENT ON COLUMN billing.backfill_runs.started_at IS 'When it was started, by the database''s clock.';
COMMENT ON COLUMN billing.backfill_runs.finished_at IS 'When it reached its end; null while it has not.';
COMMENT ON COLUMN billing.backfill_runs.abandoned_at IS 'When it was given up for a new one (--restart).';
COMMENT ON COLUMN billing.backfill_runs.created_after IS 'It reads what was created in Stripe at this time or later; null: everything.';
COMMENT ON COLUMN billing.backfill_runs.stripe_account IS 'The account of the key, as Stripe names it; null where the key does not tell.';
COMMENT ON COLUMN billing.backfill_runs.livemode IS 'The mode of the key; null where it does not tell, or not the account.';
COMMENT ON COLUMN billing.backfill_runs.began IS 'Version of its first page, by Stripe''s clock less the margin: what no page named is older than this.';
COMMENT ON COLUMN billing.backfill_runs.stage IS 'What it is at: listing pages, asking for what no page named, projecting all rows, fetching what they lack.';
COMMENT ON COLUMN billing.backfill_runs.owner IS 'The process that does it. A process that finds another name here stops.';
COMMENT ON COLUMN billing.backfill_runs.seen_at IS 'Last sign of life of the owner.';

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

COMMENT ON TABLE billing.backfill_ranges IS 'The lists that a backfill reads, each in ranges of creation times that are read side by side, and how far each has come.';
COMMENT ON COLUMN billing.backfill_ranges.id IS 'In the order in which they were split off.';
COMMENT ON COLUMN billing.backfill_ranges.run_id IS 'The backfill.';
COMMENT ON COLUMN billing.backfill_ranges.account IS 'The connected account; empty for our own.';
COMMENT ON COLUMN billing.backfill_ranges.list IS 'Which list of Stripe''s.';
COMMENT ON COLUMN billing.backfill_ranges.created_from IS 'First second of the range, as Unix time; null: no bound.';
COMMENT ON COLUMN billing.backfill_ranges.created_until IS 'The second after its last; null: no bound.';
COMMENT ON COLUMN billing.backfill_ranges.after_id IS 'The last object that is stored: the next page begins after it.';
COMMENT ON COLUMN billing.backfill_ranges.after_created IS 'When that one was created, as Unix time.';
COMMENT ON COLUMN billing.backfill_ranges.pages IS 'Pages stored so far.';
COMMENT ON COLUMN billing.backfill_ranges.objects IS 'Objects stored so far.';
COMMENT ON COLUMN billing.backfill_ranges.changes IS 'Rows of the product''s tables that changed by that.';
COMMENT ON COLUMN billing.backfill_ranges.done IS 'Its last page is stored.';
COMMENT ON COLUMN billing.backfill_ranges.error IS 'Why it could not go on; null while it can.';

CREATE TABLE billing.backfill_failures (
    run_id bigint NOT NULL REFERENCES billing.backfill_runs ON DELETE CASCADE,
    account text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    error text NOT NULL CHECK (octet_length(error) <= 2000),
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, account, object_type, object_id)
);

COMMENT ON TABLE billing.backfill_failures IS 'Objects that a backfill could not store. It went on without them.';
COMMENT ON COLUMN billing.backfill_failures.run_id IS 'The backfill.';
COMMENT ON COLUMN billing.backfill_failures.account IS 'The connected account; empty for our own.';
COMMENT ON COLUMN billing.backfill_failures.object_type IS 'Its type, by Stripe''s name.';
COMMENT ON COLUMN billing.backfill_failures.object_id IS 'Its id; where it has none, the page and the place on it.';
COMMENT ON COLUMN billing.backfill_failures.error IS 'Why, without anything of its content.';
COMMENT ON COLUMN billing.backfill_failures.failed_at IS 'When, by the database''s clock.';

-- How far the events that Stripe has were compared with those that are stored here.
CREATE TABLE billing.watermarks (
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
    compared bigint NOT NULL DEFAULT 0,
    inserted bigint NOT NULL DEFAULT 0,
    missed bigint NOT NULL DEFAULT 0,
    unreadable bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT watermarks_gap_has_two_ends CHECK (
        (gap_since IS NULL) = (gap_until IS NULL) AND (gap_since IS NULL OR gap_since < gap_until)),
    CONSTRAINT watermarks_account_has_a_mode CHECK ((stripe_account IS NULL) = (livemode IS NULL)),
    CONSTRAINT watermarks_failures_have_an_error CHECK ((failures > 0) = (last_error IS NOT NULL)),
    CONSTRAINT watermarks_counts_are_parts CHECK (
        missed >= 0 AND unreadable >= 0 AND missed <= inserted AND inserted + unreadable <= compared)
);

COMMENT ON TABLE billing.watermarks IS 'One row for each account whose events are compared with Stripe''s list, by `serve` with the role reconcile and by `billing-sync reconcile`. The row of an account that is not synced any more may be deleted.';
COMMENT ON COLUMN billing.watermarks.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.watermarks.compared_until IS 'By Stripe''s clock: every event created up to here was compared. Moves only when a listing has come to its end, and never back; null until the first one has.';
COMMENT ON COLUMN billing.watermarks.gap_since IS 'Events created from here to gap_until were never compared, for Stripe no longer listed them: what they told has to be read by a backfill. Null where there is no such gap.';
COMMENT ON COLUMN billing.watermarks.gap_until IS 'The end of that gap.';
COMMENT ON COLUMN billing.watermarks.stripe_account IS 'Of the account itself: the id that Stripe names it by, noted when the key was proven to be of the account of the stored events. It vouches for the key where all of those are too old to be looked up.';
COMMENT ON COLUMN billing.watermarks.livemode IS 'The mode of that key; null where stripe_account is.';
COMMENT ON COLUMN billing.watermarks.leased_until IS 'Until then nobody else begins: somebody is at it, or it has failed and waits. By the database''s clock.';
COMMENT ON COLUMN billing.watermarks.started_at IS 'When the last run began, by the database''s clock.';
COMMENT ON COLUMN billing.watermarks.finished_at IS 'When a run last came to its end, by the database''s clock.';
COMMENT ON COLUMN billing.watermarks.failures IS 'Runs that failed since then.';
COMMENT ON COLUMN billing.watermarks.last_error IS 'What the last of those said; never content.';
COMMENT ON COLUMN billing.watermarks.compared IS 'Of the last run that came to its end: events that Stripe listed.';
COMMENT ON COLUMN billing.watermarks.inserted IS 'Of that run: those that were not stored before.';
COMMENT ON COLUMN billing.watermarks.missed IS 'Of that run: those of them that had been delivered in vain, or not at all (see billing_sync_reconcile_missed_events_total).';
COMMENT ON COLUMN billing.watermarks.unreadable IS 'Of that run: those that could not be stored; the log names them.';
COMMENT ON COLUMN billing.watermarks.created_at IS 'When the account was first looked at, by the database''s clock.';

-- Where a rebuild stands, so that one that was killed goes on where it was.
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

COMMENT ON TABLE billing.rebuild_runs IS 'One row for each `billing-sync rebuild` of everything. One without finished_at is gone on with by the next.';
COMMENT ON COLUMN billing.rebuild_runs.id IS 'In the order of starting.';
COMMENT ON COLUMN billing.rebuild_runs.started_at IS 'When it was started, by the database''s clock.';
COMMENT ON COLUMN billing.rebuild_runs.finished_at IS 'When it reached its end; null while it has not.';
COMMENT ON COLUMN billing.rebuild_runs.stage IS 'What it is at: customers with their subscriptions, then others (plans, coupons, checkout sessions).';
COMMENT ON COLUMN billing.rebuild_runs.account IS 'Account of the last object that is done.';
COMMENT ON COLUMN billing.rebuild_runs.position IS 'The last object that is done in this stage: an id, in the stage others type/id.';
COMMENT ON COLUMN billing.rebuild_runs.objects IS 'Objects done so far.';
COMMENT ON COLUMN billing.rebuild_runs.changes IS 'Rows changed so far.';
