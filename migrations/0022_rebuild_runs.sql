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
