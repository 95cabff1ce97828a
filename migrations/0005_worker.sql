-- Row locks are the only coordination between workers.
CREATE TABLE billing.locks (
    key text COLLATE "C" PRIMARY KEY
);

COMMENT ON TABLE billing.locks IS 'One row for each Stripe object that was ever merged. Workers lock these rows, in sorted order, before they read or write anything about the object. Rows are never deleted.';
COMMENT ON COLUMN billing.locks.key IS 'account/type/id of the Stripe object.';

CREATE TABLE billing.lanes (
    number integer PRIMARY KEY
);
INSERT INTO billing.lanes SELECT generate_series(0, 7);

COMMENT ON TABLE billing.lanes IS 'The lanes of the queue. A worker locks the rows of those from which it takes a batch.';
COMMENT ON COLUMN billing.lanes.number IS 'A result of billing.lane_of.';

-- Locks free lanes until the end of the transaction: those whose oldest event has waited longest, until they have `most`
-- due events together. So a short queue is one batch, and a long one is shared by all workers.
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
            WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = lane.number AND o.state = 'pending' AND NOT o.alone AND o.run_at BETWEEN since AND now
            ORDER BY o.run_at LIMIT 1
        ) AS oldest
        ORDER BY oldest.run_at, lane.number
    LOOP
        PERFORM FROM billing.lanes AS lane WHERE lane.number = waiting FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        claimed := claimed || waiting;
        SELECT events + count(*) INTO events FROM (
            SELECT FROM billing.outbox AS o
            WHERE billing.lane_of(o.customer_id, o.object_id, o.event_id) = waiting AND o.state = 'pending' AND NOT o.alone AND o.run_at BETWEEN since AND now
            LIMIT most - events
        ) AS due;
        EXIT WHEN events >= most;
    END LOOP;
    RETURN claimed;
END $$;

COMMENT ON FUNCTION billing.claim_lanes(bigint, timestamptz) IS 'Locks free lanes with events that are due since that time, for a worker; not for the product.';

CREATE TABLE billing.worker_batches (
    batch_id uuid PRIMARY KEY,
    event_ids text[] NOT NULL,
    createds timestamptz[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT worker_batches_keys_are_pairs CHECK (cardinality(event_ids) = cardinality(createds))
);

COMMENT ON TABLE billing.worker_batches IS 'Batches at work, noted so that an event which kills its worker is found out. A note whose outbox rows are pending and locked by nobody was left by a dead worker; its events are then tried one by one.';
COMMENT ON COLUMN billing.worker_batches.batch_id IS 'A random id.';
COMMENT ON COLUMN billing.worker_batches.event_ids IS 'Event ids of the batch.';
COMMENT ON COLUMN billing.worker_batches.createds IS 'Creation time of each of those events, at the same place.';
COMMENT ON COLUMN billing.worker_batches.started_at IS 'When the batch was claimed, by the database''s clock.';
