-- Which event or read changed which fields, so that `explain` can answer "why is this subscription inactive?".
CREATE TABLE billing.row_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    table_name text COLLATE "C" NOT NULL,
    row_id uuid NOT NULL,
    causes text[] COLLATE "C" NOT NULL,
    changes jsonb NOT NULL
);
CREATE INDEX row_changes_row ON billing.row_changes (row_id, id);

COMMENT ON TABLE billing.row_changes IS 'Every change of a synced row, written in the transaction that made it. Holds what the rows hold, personal data included.';
COMMENT ON COLUMN billing.row_changes.id IS 'In the order of writing.';
COMMENT ON COLUMN billing.row_changes.changed_at IS 'When, by the database''s clock.';
COMMENT ON COLUMN billing.row_changes.table_name IS 'The table, without its schema.';
COMMENT ON COLUMN billing.row_changes.row_id IS 'Its id there.';
COMMENT ON COLUMN billing.row_changes.causes IS 'The events that were being processed (evt_…), or read: Stripe''s API was asked; empty where rows were computed again because of another object.';
COMMENT ON COLUMN billing.row_changes.changes IS 'An object: each column that changed, with the value before and after. A new row lists what is not null.';
