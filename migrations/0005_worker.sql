-- Row locks are the only coordination between workers.
CREATE TABLE billing.locks (
    key text COLLATE "C" PRIMARY KEY
);

COMMENT ON TABLE billing.locks IS 'One row for each Stripe object that was ever merged. Workers lock these rows, in sorted order, before they read or write anything about the object. Rows are never deleted.';
COMMENT ON COLUMN billing.locks.key IS 'account/type/id of the Stripe object.';

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
