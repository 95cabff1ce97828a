-- Row locks are the only coordination between workers.
CREATE TABLE billing.locks (
    key text COLLATE "C" PRIMARY KEY
);

COMMENT ON TABLE billing.locks IS 'One row for each Stripe object that was ever merged. Workers lock these rows, in sorted order, before they read or write anything about the object. Rows are never deleted.';
COMMENT ON COLUMN billing.locks.key IS 'account/type/id of the Stripe object.';

-- The mirror: the newest known raw JSON of each Stripe object that the projection needs, from events and from reads of
-- Stripe's API.
CREATE TABLE billing.stripe_objects (
    account text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C",
    version timestamptz,
    origin text CHECK (origin IN ('copy', 'embedded', 'read', 'event')),
    event_id text COLLATE "C",
    content bytea,
    refs text[] COLLATE "C" NOT NULL DEFAULT '{}',
    circuit boolean NOT NULL DEFAULT false,
    expansion bytea,
    expansion_version timestamptz,
    expansion_stale_after timestamptz,
    deleted_at timestamptz,
    missing_at timestamptz,
    revived_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- a plan and a price may share an id, so the type is part of the key
    PRIMARY KEY (account, object_type, object_id),
    CONSTRAINT stripe_objects_content_has_a_version CHECK (
        (content IS NULL) = (version IS NULL) AND (content IS NULL) = (origin IS NULL) AND (content IS NULL) = (event_id IS NULL)),
    CONSTRAINT stripe_objects_says_something CHECK (
        content IS NOT NULL OR deleted_at IS NOT NULL OR missing_at IS NOT NULL OR expansion IS NOT NULL),
    CONSTRAINT stripe_objects_expansion_has_a_version CHECK ((expansion IS NULL) = (expansion_version IS NULL))
);

-- An index begins with the column that decides: with the account in front, it could pass for the key on a table without
-- statistics, and every look-up would read all objects of the account.
CREATE INDEX stripe_objects_customer ON billing.stripe_objects (customer_id, account, object_type);
-- Who names this object? Asked for each object that changes. New entries of a GIN index wait in a list that every look-up
-- reads to its end: with 4 MB of it, as a backfill makes in seconds, a look-up takes milliseconds and a page seconds.
CREATE INDEX stripe_objects_refs ON billing.stripe_objects USING gin (refs) WITH (fastupdate = off);
-- An operator asks by an id alone.
CREATE INDEX stripe_objects_id ON billing.stripe_objects (object_id);

COMMENT ON TABLE billing.stripe_objects IS 'The newest known raw JSON of each Stripe object that rows are made from. Everything in the synced tables can be computed again from here.';
COMMENT ON COLUMN billing.stripe_objects.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.stripe_objects.object_type IS 'Stripe''s name of the type, as in its field object: customer, subscription, invoice …';
COMMENT ON COLUMN billing.stripe_objects.object_id IS 'Stripe''s id.';
COMMENT ON COLUMN billing.stripe_objects.customer_id IS 'The customer that the object belongs to, or is.';
COMMENT ON COLUMN billing.stripe_objects.version IS 'By Stripe''s clock, the newest one wins: creation time of the event that the content comes from; of a read the time at which it began, less BILLING_SYNC_READ_MARGIN. A copy has the version of the object that showed it and gives way to any other content.';
COMMENT ON COLUMN billing.stripe_objects.origin IS 'event: the object''s own event; read: Stripe''s API was asked; embedded: another object showed its state; copy: another object showed it as it was at another time or in another scope, which stands only until the object itself is seen.';
COMMENT ON COLUMN billing.stripe_objects.event_id IS 'The event that the content comes from; read where Stripe''s API was asked.';
COMMENT ON COLUMN billing.stripe_objects.content IS 'The object as Stripe sent it, UTF-8 JSON; null while only its deletion is known.';
COMMENT ON COLUMN billing.stripe_objects.refs IS 'The objects that the content names, as type/id.';
COMMENT ON COLUMN billing.stripe_objects.circuit IS 'True where the events of the last second lead back to where they began, so that the content depends on the second before and a late event may change it.';
COMMENT ON COLUMN billing.stripe_objects.expansion IS 'What only reads carry, as a JSON object: currency_options of a price, line_items of a checkout session, payments of an invoice, all items of a subscription. No event replaces it.';
COMMENT ON COLUMN billing.stripe_objects.expansion_version IS 'Version of the read that the expansion comes from.';
COMMENT ON COLUMN billing.stripe_objects.expansion_stale_after IS 'Version of the newest event of the object''s own, or of a copy inside another object that differed: an expansion that is older is read again where a row needs it.';
COMMENT ON COLUMN billing.stripe_objects.deleted_at IS 'When Stripe deleted the object; the content stays.';
COMMENT ON COLUMN billing.stripe_objects.missing_at IS 'Version of the newest read that found nothing (404). A newer content beats it.';
COMMENT ON COLUMN billing.stripe_objects.revived_at IS 'Of types whose ids merchants choose (coupon, plan, price, product, promotion_code): when one was last made or seen anew, so that an older deletion does not count.';
COMMENT ON COLUMN billing.stripe_objects.changed_at IS 'When this row last changed, by the database''s clock.';

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

-- Our own account by its id. Events of an organization's endpoint name it in `context`; it is ours all the same.
CREATE TABLE billing.own_accounts (
    account_id text COLLATE "C" PRIMARY KEY CHECK (octet_length(account_id) BETWEEN 1 AND 255),
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.own_accounts IS 'Ids of our own account: of BILLING_SYNC_OWN_ACCOUNT, and of the API key once nothing contradicts it. An event that names one of them is our own, and its account is stored as the empty text.';
COMMENT ON COLUMN billing.own_accounts.account_id IS 'Stripe''s id (acct_…).';
COMMENT ON COLUMN billing.own_accounts.noted_at IS 'When it became known, by the database''s clock.';

-- Processes that process events, each with the settings by which it decides which events are ours.
CREATE TABLE billing.worker_processes (
    process_id uuid PRIMARY KEY,
    name text NOT NULL,
    livemode boolean NOT NULL,
    accounts text[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.worker_processes IS 'Processes with the role worker. Two that are active at a time must have the same settings: what the one ignores, the other one processes.';
COMMENT ON COLUMN billing.worker_processes.process_id IS 'Made at its start.';
COMMENT ON COLUMN billing.worker_processes.name IS 'Process id and address, for the operator.';
COMMENT ON COLUMN billing.worker_processes.livemode IS 'BILLING_SYNC_LIVEMODE of this process.';
COMMENT ON COLUMN billing.worker_processes.accounts IS 'BILLING_SYNC_ACCOUNTS of this process, sorted.';
COMMENT ON COLUMN billing.worker_processes.started_at IS 'First heartbeat, by the database''s clock.';
COMMENT ON COLUMN billing.worker_processes.seen_at IS 'Last heartbeat, by the database''s clock.';
