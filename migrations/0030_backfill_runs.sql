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
