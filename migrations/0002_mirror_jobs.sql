-- Row locks are the only coordination between workers.
CREATE TABLE billing.locks (
    key text COLLATE "C" PRIMARY KEY
);

COMMENT ON TABLE billing.locks IS 'One row for each Stripe object that was ever merged. Workers lock these rows, in sorted order, before they read or write any data of the object. Rows are never deleted.';
COMMENT ON COLUMN billing.locks.key IS 'account/type/id of the Stripe object.';

-- The mirror: the newest known raw JSON of each Stripe object that the projection needs, from events and from reads of
-- Stripe's API.
CREATE TABLE billing.stripe_objects (
    account text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C",
    version timestamptz,
    origin text CHECK (origin IN ('copy', 'embedded', 'read', 'write', 'event')),
    event_id text COLLATE "C",
    content bytea,
    refs text[] COLLATE "C" NOT NULL DEFAULT '{}',
    depends_on_previous_second boolean NOT NULL DEFAULT false,
    expansion bytea,
    expansion_version timestamptz,
    expansion_stale_after timestamptz,
    deleted_at timestamptz,
    not_found_at timestamptz,
    recreated_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- a plan and a price may share an id, so the type is part of the key
    PRIMARY KEY (account, object_type, object_id),
    CONSTRAINT stripe_objects_content_has_a_version CHECK (
        (content IS NULL) = (version IS NULL) AND (content IS NULL) = (origin IS NULL) AND (content IS NULL) = (event_id IS NULL)),
    CONSTRAINT stripe_objects_says_something CHECK (
        content IS NOT NULL OR deleted_at IS NOT NULL OR not_found_at IS NOT NULL OR expansion IS NOT NULL),
    CONSTRAINT stripe_objects_expansion_has_a_version CHECK ((expansion IS NULL) = (expansion_version IS NULL))
);

-- The most selective column comes first. With the account first, the planner could use this index like the key on a table
-- without statistics, and every lookup would read all objects of the account.
CREATE INDEX stripe_objects_customer ON billing.stripe_objects (customer_id, account, object_type);
-- For the objects that reference a changed object. With fastupdate, new entries of a GIN index go to a pending list that
-- every lookup reads whole. A backfill fills 4 MB of it in seconds; a lookup then takes milliseconds, and a page seconds.
CREATE INDEX stripe_objects_refs ON billing.stripe_objects USING gin (refs) WITH (fastupdate = off);
-- An operator searches by id only.
CREATE INDEX stripe_objects_id ON billing.stripe_objects (object_id);

COMMENT ON TABLE billing.stripe_objects IS 'The newest known raw JSON of each Stripe object from which rows are derived. The synced tables can be recomputed from it and the facts.';
COMMENT ON COLUMN billing.stripe_objects.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.stripe_objects.object_type IS 'Stripe''s name of the type, as in its field object: customer, subscription, invoice …';
COMMENT ON COLUMN billing.stripe_objects.object_id IS 'Stripe''s id.';
COMMENT ON COLUMN billing.stripe_objects.customer_id IS 'The customer that the object belongs to, or is.';
COMMENT ON COLUMN billing.stripe_objects.version IS 'By Stripe''s clock; the newest version wins. For an event: its creation time. For a read: when it began, less BILLING_SYNC_READ_MARGIN. For the answer to a write: when the write began. A copy has the version of the object that contained it, and any other content replaces it.';
COMMENT ON COLUMN billing.stripe_objects.origin IS 'event: the object''s own event; write: the answer to a write of the workspace API; read: a read of Stripe''s API; embedded: another object contained its current state; copy: another object contained it as of another time or in another scope, valid only until the object itself arrives.';
COMMENT ON COLUMN billing.stripe_objects.event_id IS 'The event that the content comes from; read if it comes from a read of Stripe''s API; write and the id in api_writes if it is the answer to a write.';
COMMENT ON COLUMN billing.stripe_objects.content IS 'The object as Stripe sent it, UTF-8 JSON; null while no content is known.';
COMMENT ON COLUMN billing.stripe_objects.refs IS 'The objects that the content references, as type/id.';
COMMENT ON COLUMN billing.stripe_objects.depends_on_previous_second IS 'True if the events of the last second form a circuit: they end in the state in which they began. The content then depends on the second before, and a late event may change it.';
COMMENT ON COLUMN billing.stripe_objects.expansion IS 'What only reads contain, as a JSON object: currency_options of a price, line_items of a checkout session, payments of an invoice, all items of a subscription. No event replaces it.';
COMMENT ON COLUMN billing.stripe_objects.expansion_version IS 'Version of the read that the expansion comes from.';
COMMENT ON COLUMN billing.stripe_objects.expansion_stale_after IS 'Version of the newest own event, or of a differing copy inside another object. An older expansion is read again if a row needs it.';
COMMENT ON COLUMN billing.stripe_objects.deleted_at IS 'When Stripe deleted the object; the content stays.';
COMMENT ON COLUMN billing.stripe_objects.not_found_at IS 'Version of the newest read that was answered with 404. A newer content overrides it.';
COMMENT ON COLUMN billing.stripe_objects.recreated_at IS 'For types whose ids merchants choose (coupon, plan, price, product, promotion_code): when the object was last created or seen again. An older deletion does not count.';
COMMENT ON COLUMN billing.stripe_objects.changed_at IS 'When this row last changed, by the database''s clock.';

-- Work for an object: read it from Stripe, or recompute its rows. One row for each object and kind, however often it was
-- requested.
CREATE TABLE billing.jobs (
    kind text NOT NULL CHECK (kind IN ('fetch', 'confirm', 'reproject', 'renewal')),
    account text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    generation bigint NOT NULL DEFAULT 1,
    newer_than timestamptz,
    cursor text COLLATE "C",
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text CHECK (octet_length(last_error) <= 2000),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, account, object_type, object_id),
    CONSTRAINT jobs_confirm_has_a_second CHECK (kind <> 'confirm' OR newer_than IS NOT NULL),
    CONSTRAINT jobs_cursor_is_of_a_reproject CHECK (kind = 'reproject' OR cursor IS NULL)
);
CREATE INDEX jobs_due ON billing.jobs (kind, run_at);

COMMENT ON TABLE billing.jobs IS 'Pending work for a Stripe object. A running job is leased: its run_at is in the future. A job that was requested again meanwhile stays.';
COMMENT ON COLUMN billing.jobs.kind IS 'fetch: read it from Stripe''s API; confirm: the same with the lowest priority, because the order of its events is ambiguous; reproject: recompute the rows that depend on it; renewal: renew the limits of a subscription that was set aside because its renewal failed.';
COMMENT ON COLUMN billing.jobs.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.jobs.object_type IS 'Stripe''s name of the type.';
COMMENT ON COLUMN billing.jobs.object_id IS 'Stripe''s id.';
COMMENT ON COLUMN billing.jobs.generation IS 'Increases with each request. A job is completed only in the generation that was claimed.';
COMMENT ON COLUMN billing.jobs.newer_than IS 'Only a read with a newer version completes the job. By Stripe''s clock.';
COMMENT ON COLUMN billing.jobs.cursor IS 'For a reproject with many dependent rows: the last customer done.';
COMMENT ON COLUMN billing.jobs.attempts IS 'Failed attempts and the running one.';
COMMENT ON COLUMN billing.jobs.run_at IS 'When the job is due; the end of the lease while a worker runs it.';
COMMENT ON COLUMN billing.jobs.last_error IS 'Error of the last failed attempt; never contains content.';
COMMENT ON COLUMN billing.jobs.created_at IS 'When the job was first requested.';

-- Every answered read, for `explain`.
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

COMMENT ON TABLE billing.reads IS 'Reads that Stripe''s API answered, one row for each job that they completed.';
COMMENT ON COLUMN billing.reads.id IS 'Increases in the order of writing.';
COMMENT ON COLUMN billing.reads.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.reads.object_type IS 'Stripe''s name of the type.';
COMMENT ON COLUMN billing.reads.object_id IS 'Stripe''s id.';
COMMENT ON COLUMN billing.reads.version IS 'When the read began, by Stripe''s clock, less the staleness margin.';
COMMENT ON COLUMN billing.reads.outcome IS 'applied: it set the current state of the object; superseded: a newer state was stored already; missing: Stripe has no such object.';
COMMENT ON COLUMN billing.reads.cause IS 'The kind of the job.';
COMMENT ON COLUMN billing.reads.request_id IS 'Stripe''s id of the request, for Stripe''s support and request log.';
COMMENT ON COLUMN billing.reads.read_at IS 'When the result was stored, by the database''s clock.';

-- The ids of the own account. Events of an organization's endpoint contain the id in `context`.
CREATE TABLE billing.own_accounts (
    account_id text COLLATE "C" PRIMARY KEY CHECK (octet_length(account_id) BETWEEN 1 AND 255),
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.own_accounts IS 'Ids of the own account: from BILLING_SYNC_OWN_ACCOUNT, and from the API key once it is verified. An event with one of these ids belongs to the own account, and its account is stored as the empty text.';
COMMENT ON COLUMN billing.own_accounts.account_id IS 'Stripe''s id (acct_…).';
COMMENT ON COLUMN billing.own_accounts.noted_at IS 'When the id was stored, by the database''s clock.';

-- Running processes, each with the settings that must be the same in all of them.
CREATE TABLE billing.running_processes (
    process_id uuid PRIMARY KEY,
    name text NOT NULL,
    settings text[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.running_processes IS 'Processes with the roles worker, renewals or maintenance, or with the key for writes. Those that run at the same time must have the same settings: otherwise one ignores, undoes or removes what another processes, computes or keeps.';
COMMENT ON COLUMN billing.running_processes.process_id IS 'Random id, created when the process starts.';
COMMENT ON COLUMN billing.running_processes.name IS 'Process id and address, for the operator.';
COMMENT ON COLUMN billing.running_processes.settings IS 'The settings that its roles use and that must be the same, as NAME=value. None is a secret.';
COMMENT ON COLUMN billing.running_processes.started_at IS 'First heartbeat, by the database''s clock.';
COMMENT ON COLUMN billing.running_processes.heartbeat_at IS 'Last heartbeat, by the database''s clock.';
