-- All objects of billing-sync are in one schema, so that it can share a product's database.
-- `migrate` or an administrator has created the schema already. It may belong to another role, and only its owner may
-- comment on it.
DO $$
BEGIN
    COMMENT ON SCHEMA billing IS 'billing-sync: Stripe''s billing state, kept up to date by webhooks. Read the tables billing_contacts, subscriptions and pricing_plans; the others are internal.';
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END
$$;

-- The archive: what Stripe sent, byte for byte. These wide rows are written once and read once. They are separate from
-- the narrow queue rows, so that a claim does not read payloads.
CREATE TABLE billing.events (
    event_id text COLLATE "C" NOT NULL CHECK (octet_length(event_id) BETWEEN 1 AND 255),
    created timestamptz NOT NULL,
    -- bytea, not jsonb: a \u0000 escape is valid JSON and invalid jsonb, and the content of one event must not fail the
    -- INSERT of a batch
    payload bytea,
    redacted_at timestamptz,
    -- both columns, because a key must contain the partition column; a second delivery has the same id and creation time
    PRIMARY KEY (event_id, created),
    CONSTRAINT events_have_a_payload_until_redacted CHECK ((payload IS NULL) = (redacted_at IS NOT NULL))
) PARTITION BY RANGE (created);

CREATE TABLE billing.events_default PARTITION OF billing.events DEFAULT;

COMMENT ON TABLE billing.events IS 'Archive of Stripe events as received, partitioned by month of creation. Written by the receiver and by reconcile only. Only redaction changes a row.';
COMMENT ON COLUMN billing.events.event_id IS 'Stripe''s event id (evt_…).';
COMMENT ON COLUMN billing.events.created IS 'When Stripe created the event, by Stripe''s clock. Whole seconds for snapshot events.';
COMMENT ON COLUMN billing.events.payload IS 'The request body, byte for byte, after its signature was verified. For the source reconcile: the event''s bytes in Stripe''s event list. To read it: convert_from(payload, ''UTF8''). Null after a redaction.';
COMMENT ON COLUMN billing.events.redacted_at IS 'When the payload was removed, because it contained personal data: BILLING_SYNC_REDACT_AFTER, or billing-sync redact. Null until then.';
COMMENT ON TABLE billing.events_default IS 'Events of months without a partition.';

-- The events of one customer share a lane of the queue, so that two workers rarely need the same objects.
CREATE FUNCTION billing.lane_of(customer_id text, object_id text, event_id text) RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT hashtext(coalesce(customer_id, object_id, event_id)) & 7 $$;

COMMENT ON FUNCTION billing.lane_of(text, text, text) IS 'The lane of an event: the row of billing.lanes that a worker locks while the event is in its batch.';

-- The queue: one narrow row for each event. Its CHECKs enforce the state machine (drawn in src/outbox/mod.rs).
CREATE TABLE billing.outbox (
    event_id text COLLATE "C" NOT NULL,
    created timestamptz NOT NULL,
    type text COLLATE "C" NOT NULL,
    format text NOT NULL CHECK (format IN ('snapshot', 'thin')),
    object_type text COLLATE "C",
    object_id text COLLATE "C",
    customer_id text COLLATE "C",
    account text COLLATE "C" NOT NULL DEFAULT '',
    livemode boolean,
    api_version text,
    source text NOT NULL DEFAULT 'webhook' CHECK (source IN ('webhook', 'reconcile')),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'dead')),
    outcome text CHECK (outcome IN ('applied', 'superseded', 'ignored', 'unknown')),
    reason text CHECK (reason IN (
        'livemode_mismatch', 'account_not_synced', 'unhandled_type', 'informational', 'unknown_type', 'needs_fetch',
        'superseded_by_snapshot', 'discarded', 'unknown_enum', 'unknown_customer', 'unknown_price', 'invalid_workspace_id',
        'invalid_value', 'multiple_items', 'items_truncated', 'customer_account', 'not_generated')),
    isolated boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text CHECK (octet_length(last_error) <= 2000),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (event_id, created),
    CONSTRAINT outbox_done_has_an_outcome CHECK ((state = 'done') = (outcome IS NOT NULL)),
    CONSTRAINT outbox_finished_unless_pending CHECK ((state = 'pending') = (finished_at IS NULL)),
    CONSTRAINT outbox_dead_has_an_error CHECK (state <> 'dead' OR last_error IS NOT NULL),
    CONSTRAINT outbox_inaction_has_a_reason CHECK (outcome NOT IN ('ignored', 'unknown') OR reason IS NOT NULL),
    CONSTRAINT outbox_attempts_are_isolated CHECK (attempts = 0 OR isolated)
) PARTITION BY RANGE (created);

CREATE TABLE billing.outbox_default PARTITION OF billing.outbox DEFAULT;

-- Two narrow indexes over pending rows: a claim costs the same with ten rows of history as with ten million.
CREATE INDEX outbox_pending ON billing.outbox (billing.lane_of(customer_id, object_id, event_id), run_at, event_id)
    WHERE state = 'pending' AND NOT isolated;
CREATE INDEX outbox_pending_isolated ON billing.outbox (run_at, event_id) WHERE state = 'pending' AND isolated;
CREATE INDEX outbox_dead ON billing.outbox (finished_at) WHERE state = 'dead';
-- Events ignored because of a setting. They are processed after the setting has changed.
CREATE INDEX outbox_foreign ON billing.outbox (reason, livemode, account)
    WHERE reason IN ('livemode_mismatch', 'account_not_synced');
-- The order within one second is found from the other events of the object.
CREATE INDEX outbox_object ON billing.outbox (object_id, created);

COMMENT ON TABLE billing.outbox IS 'One row for each stored event: the queue entry while it is pending, the record of its outcome afterwards. Partitioned by month of creation.';
COMMENT ON COLUMN billing.outbox.event_id IS 'Stripe''s event id; together with created the key of billing.events.';
COMMENT ON COLUMN billing.outbox.created IS 'When Stripe created the event, by Stripe''s clock.';
COMMENT ON COLUMN billing.outbox.type IS 'Event type, for example customer.subscription.updated.';
COMMENT ON COLUMN billing.outbox.format IS 'snapshot: the payload contains the object; thin: it contains only the object''s id.';
COMMENT ON COLUMN billing.outbox.object_type IS 'Type of the event''s object, as Stripe names it.';
COMMENT ON COLUMN billing.outbox.object_id IS 'Id of the event''s object; null where Stripe sends none (invoice.upcoming).';
COMMENT ON COLUMN billing.outbox.customer_id IS 'The customer that the object references, or is.';
COMMENT ON COLUMN billing.outbox.account IS 'Connected account of the event; empty for the own account.';
COMMENT ON COLUMN billing.outbox.livemode IS 'Live or test mode, from the event; null where the event does not contain it.';
COMMENT ON COLUMN billing.outbox.api_version IS 'Stripe API version of the payload; may be null.';
COMMENT ON COLUMN billing.outbox.source IS 'Where the event came from. webhook: Stripe delivered it; reconcile: it was in Stripe''s event list and had not been delivered.';
COMMENT ON COLUMN billing.outbox.state IS 'pending: to be processed at run_at; done: finished, see outcome; dead: given up after its last attempt, see last_error.';
COMMENT ON COLUMN billing.outbox.outcome IS 'Outcome of a done event. applied: it set the current state of its object; superseded: a newer state was stored already; ignored and unknown: not acted on, see reason.';
COMMENT ON COLUMN billing.outbox.reason IS 'Why the event was not acted on, or what was noticed when it was applied (and may have been fixed since). A closed list, see docs/operations.md.';
COMMENT ON COLUMN billing.outbox.isolated IS 'True after a batch with this event failed or its worker died. From then on the event is tried individually.';
COMMENT ON COLUMN billing.outbox.attempts IS 'Individual attempts so far, each counted before its work begins. Infrastructure errors (connection loss, deadlock) release the attempt.';
COMMENT ON COLUMN billing.outbox.run_at IS 'Time of the next attempt, by the database''s clock.';
COMMENT ON COLUMN billing.outbox.last_error IS 'Error of the last failed attempt; never contains event content.';
COMMENT ON COLUMN billing.outbox.received_at IS 'When the event was stored here, by the database''s clock.';
COMMENT ON COLUMN billing.outbox.finished_at IS 'When the event became done or dead, by the database''s clock.';
COMMENT ON TABLE billing.outbox_default IS 'Outbox rows of months without a partition.';

CREATE TABLE billing.lanes (
    number integer PRIMARY KEY
);
INSERT INTO billing.lanes SELECT generate_series(0, 7);

COMMENT ON TABLE billing.lanes IS 'The lanes of the queue. A worker locks the rows of the lanes from which it takes a batch.';
COMMENT ON COLUMN billing.lanes.number IS 'A result of billing.lane_of.';

-- Locks free lanes until the end of the transaction: first those whose oldest event has waited longest, until they have
-- `most` due events together. So a short queue is one batch, and all workers share a long one.
CREATE FUNCTION billing.claim_lanes(most bigint, since timestamptz) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz := clock_timestamp();
    waiting integer;
    claimed integer[] := '{}';
    events bigint := 0;
BEGIN
    FOR waiting IN
        SELECT lane.number
        FROM billing.lanes AS lane
        CROSS JOIN LATERAL (
            SELECT o.run_at FROM billing.outbox AS o
            WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = lane.number AND o.state = 'pending'
                AND NOT o.isolated AND o.run_at BETWEEN since AND now
            ORDER BY o.run_at LIMIT 1
        ) AS oldest
        ORDER BY oldest.run_at, lane.number
    LOOP
        PERFORM FROM billing.lanes AS lane WHERE lane.number = waiting FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        claimed := claimed || waiting;
        SELECT events + count(*) INTO events FROM (
            SELECT FROM billing.outbox AS o
            WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = waiting AND o.state = 'pending'
                AND NOT o.isolated AND o.run_at BETWEEN since AND now
            LIMIT most - events
        ) AS due;
        EXIT WHEN events >= most;
    END LOOP;
    RETURN claimed;
END $$;

COMMENT ON FUNCTION billing.claim_lanes(bigint, timestamptz) IS 'Locks free lanes with events that are due since that time. Called by the worker, not by the product.';

CREATE TABLE billing.worker_batches (
    batch_id uuid PRIMARY KEY,
    event_ids text[] NOT NULL,
    event_created_ats timestamptz[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT worker_batches_keys_are_pairs CHECK (cardinality(event_ids) = cardinality(event_created_ats))
);

COMMENT ON TABLE billing.worker_batches IS 'Batches in progress, recorded so that an event which kills its worker is found. A row whose events are pending and not locked belongs to a dead worker; its events are then retried individually.';
COMMENT ON COLUMN billing.worker_batches.batch_id IS 'A random id.';
COMMENT ON COLUMN billing.worker_batches.event_ids IS 'Event ids of the batch.';
COMMENT ON COLUMN billing.worker_batches.event_created_ats IS 'Creation time of each of these events, at the same array position.';
COMMENT ON COLUMN billing.worker_batches.started_at IS 'When the batch was claimed, by the database''s clock.';

-- The archive and the queue are partitioned by month of creation, so that retention can drop whole months later. Events of
-- a month without a partition go to the default partition: they are slower to drop, but never lost. The functions below
-- create the partitions of coming months, and move rows out of the default partition when their month is created.
--
-- A small default partition is moved at once, in one short transaction. Attaching a month makes PostgreSQL read the whole
-- default partition under an exclusive lock, so a large one is *split* instead:
-- - a copy of it (billing.events_split, billing.outbox_split), partitioned by the missing months, is filled in small steps;
-- - a trigger applies concurrent writes to the copy;
-- - the copy replaces the default partition under a lock that is held for an instant.
-- Readers see every row once at any time, and a crash leaves the default partition unchanged.
--
-- A migration that changes columns of events or outbox first runs DROP TABLE IF EXISTS billing.events_split,
-- billing.outbox_split: an unfinished split then begins again.

CREATE INDEX events_default_created ON billing.events_default (created);
CREATE INDEX outbox_default_created ON billing.outbox_default (created);

CREATE FUNCTION billing.missing_months(parent text, months_ahead integer) RETURNS SETOF timestamp
LANGUAGE plpgsql
AS $$
DECLARE
    this_month CONSTANT timestamp := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC');
    month timestamp;
    is_needed boolean;
BEGIN
    FOR ahead IN -12..months_ahead LOOP
        month := this_month + ahead * interval '1 month';
        CONTINUE WHEN to_regclass(format('billing.%I', parent || to_char(month, '_YYYY_MM'))) IS NOT NULL;
        is_needed := ahead >= 0;
        IF NOT is_needed THEN
            EXECUTE format(
                'SELECT EXISTS (SELECT FROM billing.%I WHERE created >= $1 AND created < $2)', parent || '_default')
            INTO is_needed
            USING month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC';
        END IF;
        IF is_needed THEN
            RETURN NEXT month;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION billing.missing_months(text, integer) IS 'Months of billing.events or billing.outbox that need a partition and have none: this month, the given number of months ahead, and each of the last twelve months with rows in the default partition.';

CREATE FUNCTION billing.create_partitions(parent text, months_ahead integer) RETURNS integer
LANGUAGE plpgsql
-- sessions that queue behind one of these locks must not wait long
SET lock_timeout = '2s'
AS $$
DECLARE
    rest CONSTANT text := parent || '_default';
    partition text;
    month timestamp;
    starts_at timestamptz;
    ends_at timestamptz;
    made integer := 0;
BEGIN
    IF to_regclass(format('billing.%I', parent || '_split')) IS NOT NULL
        OR NOT EXISTS (SELECT FROM billing.missing_months(parent, months_ahead)) THEN
        RETURN 0;
    END IF;
    -- one process at a time; reads and writes continue
    EXECUTE format('LOCK TABLE ONLY billing.%I IN SHARE UPDATE EXCLUSIVE MODE', parent);
    IF to_regclass(format('billing.%I', parent || '_split')) IS NOT NULL THEN
        RETURN 0;
    END IF;
    IF pg_table_size(format('billing.%I', rest)) > 16 * 1024 * 1024 THEN
        PERFORM billing.begin_split(parent, array_agg(missing))
        FROM billing.missing_months(parent, months_ahead) AS missing;
        RETURN 0;
    END IF;
    EXECUTE format('LOCK TABLE billing.%I IN ACCESS EXCLUSIVE MODE', rest);
    FOR month IN SELECT billing.missing_months(parent, months_ahead) LOOP
        partition := parent || to_char(month, '_YYYY_MM');
        starts_at := month AT TIME ZONE 'UTC';
        ends_at := (month + interval '1 month') AT TIME ZONE 'UTC';
        EXECUTE format('CREATE TABLE billing.%I (LIKE billing.%I INCLUDING ALL)', partition, parent);
        EXECUTE format('COMMENT ON TABLE billing.%I IS %L', partition,
            format('Month %s of billing.%s.', to_char(month, 'YYYY-MM'), parent));
        EXECUTE format('
            WITH moved AS (DELETE FROM billing.%I WHERE created >= $1 AND created < $2 RETURNING *)
            INSERT INTO billing.%I SELECT * FROM moved', rest, partition)
        USING starts_at, ends_at;
        EXECUTE format('ALTER TABLE billing.%I ATTACH PARTITION billing.%I FOR VALUES FROM (%L) TO (%L)',
            parent, partition, starts_at, ends_at);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

COMMENT ON FUNCTION billing.create_partitions(text, integer) IS 'Creates the missing months of billing.events or billing.outbox and moves their rows out of the default partition; returns how many it created. If the default partition is large, it only begins a split, which `serve` with the role maintenance finishes in small steps.';

CREATE FUNCTION billing.create_partitions(months_ahead integer) RETURNS integer
LANGUAGE sql
AS $$
    SELECT billing.create_partitions('events', months_ahead) + billing.create_partitions('outbox', months_ahead)
$$;

COMMENT ON FUNCTION billing.create_partitions(integer) IS 'Creates the missing partitions of billing.events and billing.outbox for this month and the given number of months ahead; returns how many tables it created. Safe to call at any time from any number of processes.';

CREATE FUNCTION billing.mirror_into_split() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    split CONSTANT text := regexp_replace(TG_TABLE_NAME, '_default$', '_split');
BEGIN
    -- the split was dropped by hand, and its trigger was not
    IF to_regclass(format('billing.%I', split)) IS NULL THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        EXECUTE format('DELETE FROM billing.%I WHERE event_id = $1 AND created = $2', split)
        USING OLD.event_id, OLD.created;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        EXECUTE format('INSERT INTO billing.%I SELECT ($1).*', split) USING NEW;
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION billing.mirror_into_split() IS 'Trigger of a default partition that is being split: also writes each change to the copy.';

CREATE FUNCTION billing.begin_split(parent text, months timestamp[]) RETURNS void
LANGUAGE plpgsql
SET lock_timeout = '2s'
AS $$
DECLARE
    split CONSTANT text := parent || '_split';
    rest CONSTANT text := parent || '_default';
    month timestamp;
    partition text;
    span text;
    others text := pg_get_partition_constraintdef(format('billing.%I', rest)::regclass);
BEGIN
    EXECUTE format('CREATE TABLE billing.%I (LIKE billing.%I INCLUDING ALL) PARTITION BY RANGE (created)', split, parent);
    EXECUTE format('COMMENT ON TABLE billing.%I IS %L', split,
        format('Copy of billing.%s while it is being split by month. May be dropped: the split then begins again.', rest));
    -- With these CHECKs, PostgreSQL need not read the whole table when the copy is attached.
    EXECUTE format('CREATE TABLE billing.%I PARTITION OF billing.%I DEFAULT', split || '_default', split);
    IF others <> '' THEN
        EXECUTE format('ALTER TABLE billing.%I ADD CONSTRAINT split_others CHECK (%s)', split || '_default', others);
    END IF;
    EXECUTE format('CREATE INDEX ON billing.%I (created)', split || '_default');
    FOREACH month IN ARRAY months LOOP
        partition := parent || to_char(month, '_YYYY_MM');
        span := format('created >= %L AND created < %L',
            month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        EXECUTE format('CREATE TABLE billing.%I PARTITION OF billing.%I FOR VALUES FROM (%L) TO (%L)', partition, split,
            month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        EXECUTE format('COMMENT ON TABLE billing.%I IS %L', partition,
            format('Month %s of billing.%s.', to_char(month, 'YYYY-MM'), parent));
        EXECUTE format('ALTER TABLE billing.%I ADD CONSTRAINT split_span CHECK (%s)', partition, span);
        EXECUTE format('ALTER TABLE billing.%I ADD CONSTRAINT %I CHECK (NOT (%s))',
            split || '_default', 'split_not' || to_char(month, '_YYYY_MM'), span);
    END LOOP;
    EXECUTE format('CREATE OR REPLACE TRIGGER mirror_into_split AFTER INSERT OR UPDATE OR DELETE ON billing.%I
        FOR EACH ROW EXECUTE FUNCTION billing.mirror_into_split()', rest);
END
$$;

COMMENT ON FUNCTION billing.begin_split(text, timestamp[]) IS 'Begins to split the default partition of billing.events or billing.outbox: creates the empty copy and the trigger that applies changes to it.';

CREATE FUNCTION billing.copy_into_split(
    parent text, split oid, after_event_id text, after_created timestamptz, page_size integer,
    OUT last_event_id text, OUT last_created timestamptz, OUT seen bigint, OUT skipped bigint)
LANGUAGE plpgsql
SET lock_timeout = '2s'
AS $$
BEGIN
    IF to_regclass(format('billing.%I', parent || '_split')) IS DISTINCT FROM split::regclass THEN
        RETURN; -- another process has finished this split
    END IF;
    -- A worker locks a row before it changes it. So no worker changes a row, and its copy, while this statement copies it.
    -- Rows that a worker has locked are skipped, and copied by the next pass.
    EXECUTE format('
        WITH page AS MATERIALIZED (
            SELECT event_id, created FROM billing.%1$I
            WHERE (event_id, created) > ($1, $2)
            ORDER BY event_id, created
            LIMIT $3
        ), missing AS MATERIALIZED (
            SELECT event_id, created FROM page
            WHERE NOT EXISTS (
                SELECT FROM billing.%2$I AS copy WHERE copy.event_id = page.event_id AND copy.created = page.created)
        ), held AS MATERIALIZED (
            SELECT original.* FROM billing.%1$I AS original JOIN missing USING (event_id, created)
            FOR UPDATE OF original SKIP LOCKED
        ), copied AS (
            INSERT INTO billing.%2$I SELECT * FROM held ON CONFLICT DO NOTHING
        )
        SELECT last.event_id, last.created, (SELECT count(*) FROM page),
            (SELECT count(*) FROM missing) - (SELECT count(*) FROM held)
        FROM (SELECT) AS always_one_row
        LEFT JOIN (SELECT event_id, created FROM page ORDER BY event_id DESC, created DESC LIMIT 1) AS last ON true',
        parent || '_default', parent || '_split')
    INTO last_event_id, last_created, seen, skipped
    USING after_event_id, after_created, page_size;
END
$$;

COMMENT ON FUNCTION billing.copy_into_split(text, oid, text, timestamptz, integer) IS 'One step of a split: copies the next rows of the default partition after the given key. skipped: rows that were locked, to be copied by another pass. All null if this split is finished.';

CREATE FUNCTION billing.finish_split(parent text, split oid, copied_before xid8) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '2s'
AS $$
DECLARE
    rest CONSTANT text := parent || '_default';
    part record;
    made integer := 0;
BEGIN
    IF to_regclass(format('billing.%I', parent || '_split')) IS DISTINCT FROM split::regclass THEN
        RETURN 0; -- another process has finished this split
    END IF;
    -- A snapshot that is older than the copy would not see the copied rows.
    IF EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND age(backend_xmin) > age(copied_before::xid)
    ) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('LOCK TABLE ONLY billing.%I IN ACCESS EXCLUSIVE MODE', parent);
    EXECUTE format('LOCK TABLE billing.%I IN ACCESS EXCLUSIVE MODE', rest);
    IF to_regclass(format('billing.%I', parent || '_split')) IS DISTINCT FROM split::regclass THEN
        RETURN 0;
    END IF;
    EXECUTE format('ALTER TABLE billing.%I DETACH PARTITION billing.%I', parent, rest);
    EXECUTE format('DROP TABLE billing.%I', rest);
    FOR part IN
        SELECT partition.oid, partition.relname AS name, pg_get_expr(partition.relpartbound, partition.oid) AS bound
        FROM pg_inherits JOIN pg_class AS partition ON partition.oid = inhrelid
        WHERE inhparent = split
        ORDER BY pg_get_expr(partition.relpartbound, partition.oid) <> 'DEFAULT', partition.relname
    LOOP
        EXECUTE format('ALTER TABLE billing.%I DETACH PARTITION billing.%I', parent || '_split', part.name);
        IF part.bound = 'DEFAULT' THEN
            EXECUTE format('ALTER TABLE billing.%I RENAME TO %I', part.name, rest);
            EXECUTE format('COMMENT ON TABLE billing.%I IS %L', rest,
                format('Rows of billing.%s of months without a partition.', parent));
            part.name := rest;
        ELSE
            made := made + 1;
        END IF;
        EXECUTE format('ALTER TABLE billing.%I ATTACH PARTITION billing.%I %s', parent, part.name, part.bound);
    END LOOP;
    -- a CHECK that remained after its month would reject events
    FOR part IN
        SELECT conrelid::regclass AS name, conname AS condition FROM pg_constraint
        WHERE conname LIKE 'split\_%' AND conrelid IN (
            SELECT inhrelid FROM pg_inherits WHERE inhparent = format('billing.%I', parent)::regclass)
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', part.name, part.condition);
    END LOOP;
    EXECUTE format('DROP TABLE billing.%I', parent || '_split');
    RETURN made;
END
$$;

COMMENT ON FUNCTION billing.finish_split(text, oid, xid8) IS 'Replaces a default partition with its complete copy, under an exclusive lock that is held for an instant; returns how many months it created. Null while a transaction is open that began before the copy was complete (copied_before).';

SELECT billing.create_partitions(3);
