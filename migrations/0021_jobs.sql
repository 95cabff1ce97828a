-- What is to be done about an object: ask Stripe, or compute its rows again. One row for each object and kind, however
-- often it was asked for.
CREATE TABLE billing.jobs (
    kind text NOT NULL CHECK (kind IN ('fetch', 'confirm', 'reproject', 'renewal')),
    account text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    generation bigint NOT NULL DEFAULT 1,
    later_than timestamptz,
    position text COLLATE "C",
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text CHECK (octet_length(last_error) <= 2000),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, account, object_type, object_id),
    CONSTRAINT jobs_confirm_has_a_second CHECK (kind <> 'confirm' OR later_than IS NOT NULL),
    CONSTRAINT jobs_position_is_of_a_reproject CHECK (kind = 'reproject' OR position IS NULL)
);
CREATE INDEX jobs_due ON billing.jobs (kind, run_at);

COMMENT ON TABLE billing.jobs IS 'What is to be done about a Stripe object. A job at work is leased: its run_at lies ahead. One that was asked for again meanwhile stays.';
COMMENT ON COLUMN billing.jobs.kind IS 'fetch: ask Stripe''s API for it; confirm: ask too, because the order of its events could not be told, with the lowest priority; reproject: compute the rows that depend on it again; renewal: renew the limits of a subscription that was set aside because that failed.';
COMMENT ON COLUMN billing.jobs.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.jobs.object_type IS 'Stripe''s name of the type.';
COMMENT ON COLUMN billing.jobs.object_id IS 'Stripe''s id.';
COMMENT ON COLUMN billing.jobs.generation IS 'Grows with each demand. A job is done only in the generation that was served.';
COMMENT ON COLUMN billing.jobs.later_than IS 'Done only by a read whose version is later than this, by Stripe''s clock.';
COMMENT ON COLUMN billing.jobs.position IS 'Of a reproject with many dependants: the last customer whose turn it was.';
COMMENT ON COLUMN billing.jobs.attempts IS 'Failed tries and the one at work.';
COMMENT ON COLUMN billing.jobs.run_at IS 'When it is due; ahead while somebody works on it.';
COMMENT ON COLUMN billing.jobs.last_error IS 'What the last failed try said; never content.';
COMMENT ON COLUMN billing.jobs.created_at IS 'When it was first asked for.';

-- Trials that should be over are looked for every minute.
CREATE INDEX subscriptions_trial ON billing.subscriptions (trial_ends_at) WHERE is_trial;

-- Every read that was made, for `explain`.
CREATE TABLE billing.reads (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    version timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('applied', 'superseded', 'missing')),
    cause text NOT NULL CHECK (cause IN ('fetch', 'confirm')),
    request_id text,
    read_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX reads_object ON billing.reads (object_id, read_at);

COMMENT ON TABLE billing.reads IS 'Reads of Stripe''s API that answered, one row for each job that they served.';
COMMENT ON COLUMN billing.reads.id IS 'In the order of writing.';
COMMENT ON COLUMN billing.reads.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.reads.object_type IS 'Stripe''s name of the type.';
COMMENT ON COLUMN billing.reads.object_id IS 'Stripe''s id.';
COMMENT ON COLUMN billing.reads.version IS 'By Stripe''s clock: when it began, less the margin.';
COMMENT ON COLUMN billing.reads.outcome IS 'applied: it was the newest word on the object; superseded: something newer stood already; missing: Stripe knows no such object.';
COMMENT ON COLUMN billing.reads.cause IS 'The kind of job.';
COMMENT ON COLUMN billing.reads.request_id IS 'Stripe''s id of the request, for its support and its log.';
COMMENT ON COLUMN billing.reads.read_at IS 'When it was stored, by the database''s clock.';
