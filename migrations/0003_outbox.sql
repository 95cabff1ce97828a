-- The events of one customer share a lane of the queue, so that two workers hardly ever meet at the same objects.
CREATE FUNCTION billing.lane_of(customer_id text, object_id text, event_id text) RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT hashtext(coalesce(customer_id, object_id, event_id)) & 7 $$;

COMMENT ON FUNCTION billing.lane_of(text, text, text) IS 'Which row of billing.lanes a worker holds while it has an event in a batch.';

-- The queue: one narrow row for each event. Its CHECKs are the state machine (docs/architecture.md has the picture).
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
    source text NOT NULL DEFAULT 'webhook' CHECK (source IN ('webhook')),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'dead')),
    outcome text CHECK (outcome IN ('applied', 'superseded', 'ignored', 'unknown')),
    reason text CHECK (reason IN (
        'foreign_livemode', 'foreign_account', 'unhandled_type', 'informational', 'unknown_type', 'needs_fetch',
        'has_snapshot', 'discarded', 'unknown_enum', 'unknown_customer', 'unknown_price', 'bad_workspace_id',
        'unreadable_value', 'several_items', 'more_items', 'customer_account', 'not_generated')),
    alone boolean NOT NULL DEFAULT false,
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
    CONSTRAINT outbox_attempts_are_alone CHECK (attempts = 0 OR alone)
) PARTITION BY RANGE (created);

CREATE TABLE billing.outbox_default PARTITION OF billing.outbox DEFAULT;

-- Two narrow indexes over what is pending: a claim costs the same with ten rows of history and with ten million.
CREATE INDEX outbox_pending ON billing.outbox (billing.lane_of(customer_id, object_id, event_id), run_at, event_id)
    WHERE state = 'pending' AND NOT alone;
CREATE INDEX outbox_pending_alone ON billing.outbox (run_at, event_id) WHERE state = 'pending' AND alone;
CREATE INDEX outbox_dead ON billing.outbox (finished_at) WHERE state = 'dead';
-- Ignored because of a setting, until the setting is another one.
CREATE INDEX outbox_foreign ON billing.outbox (reason, livemode, account) WHERE reason IN ('foreign_livemode', 'foreign_account');
-- Ties within one second are decided from the other events of the object.
CREATE INDEX outbox_object ON billing.outbox (object_id, created);

COMMENT ON TABLE billing.outbox IS 'One row for each stored event: the queue while it is pending, the record of what became of it afterwards. Partitioned by month of creation.';
COMMENT ON COLUMN billing.outbox.event_id IS 'Stripe''s event id; with created the key of billing.events.';
COMMENT ON COLUMN billing.outbox.created IS 'When Stripe made the event, by Stripe''s clock.';
COMMENT ON COLUMN billing.outbox.type IS 'Event type, for example customer.subscription.updated.';
COMMENT ON COLUMN billing.outbox.format IS 'snapshot: the payload carries the object; thin: it only names it.';
COMMENT ON COLUMN billing.outbox.object_type IS 'Stripe''s name of the type of the object that the event is about.';
COMMENT ON COLUMN billing.outbox.object_id IS 'Id of that object; null where Stripe sends none (invoice.upcoming).';
COMMENT ON COLUMN billing.outbox.customer_id IS 'The customer that the object names, or is.';
COMMENT ON COLUMN billing.outbox.account IS 'Account that made the event; empty for our own.';
COMMENT ON COLUMN billing.outbox.livemode IS 'Live or test mode, as the event says; null where it does not.';
COMMENT ON COLUMN billing.outbox.api_version IS 'Stripe API version in which the payload is rendered; may be null.';
COMMENT ON COLUMN billing.outbox.source IS 'How the event came here.';
COMMENT ON COLUMN billing.outbox.state IS 'pending: to be processed at run_at; done: finished, see outcome; dead: parked after its last attempt, see last_error.';
COMMENT ON COLUMN billing.outbox.outcome IS 'Of a done event. applied: when it was settled, it was the newest word on its object; superseded: something newer stood already; ignored and unknown: not acted on, see reason.';
COMMENT ON COLUMN billing.outbox.reason IS 'Why it was not acted on, or what was noticed when it was applied (and may be mended since). A closed list, see docs/operations.md.';
COMMENT ON COLUMN billing.outbox.alone IS 'True once a batch with this event failed or its worker died: from then on the event is tried by itself.';
COMMENT ON COLUMN billing.outbox.attempts IS 'Single tries so far, each counted before its work begins; failures that are not the event''s fault (connection loss, deadlock) are taken back.';
COMMENT ON COLUMN billing.outbox.run_at IS 'Not to be tried before this time, by the database''s clock.';
COMMENT ON COLUMN billing.outbox.last_error IS 'What the last failed try said; never contains event content.';
COMMENT ON COLUMN billing.outbox.received_at IS 'When the event was stored here, by the database''s clock.';
COMMENT ON COLUMN billing.outbox.finished_at IS 'When it became done or dead, by the database''s clock.';
COMMENT ON TABLE billing.outbox_default IS 'Outbox rows of months that have no partition of their own.';
