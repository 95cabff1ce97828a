-- Why an operator discarded an event, and who: a record of its own, because the columns would make every row of the hot
-- table billing.outbox wider, and because it must outlive the retention.
CREATE TABLE billing.discards (
    event_id text COLLATE "C" NOT NULL CHECK (octet_length(event_id) BETWEEN 1 AND 255),
    created timestamptz NOT NULL,
    discarded_at timestamptz NOT NULL,
    discarded_by text NOT NULL CHECK (char_length(discarded_by) BETWEEN 1 AND 100),
    database_role text NOT NULL,
    reason text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 500),
    -- with the time, so that a second discard of an event that was made dead again keeps the first one
    PRIMARY KEY (event_id, created, discarded_at)
);

COMMENT ON TABLE billing.discards IS 'Events that an operator discarded (billing-sync outbox discard), one row for each discard. Kept after the retention has removed the event; contains no content of events.';
COMMENT ON COLUMN billing.discards.event_id IS 'Stripe''s event id; together with created the key of billing.outbox.';
COMMENT ON COLUMN billing.discards.created IS 'When Stripe created the event, by Stripe''s clock.';
COMMENT ON COLUMN billing.discards.discarded_at IS 'When it was discarded, by the database''s clock: finished_at of the event in billing.outbox.';
COMMENT ON COLUMN billing.discards.discarded_by IS 'Who discarded it: the argument --by, or else the login name of the operating system user who ran the command.';
COMMENT ON COLUMN billing.discards.database_role IS 'The role as which the command logged in to the database.';
COMMENT ON COLUMN billing.discards.reason IS 'Why, in the words of the operator, without personal data.';
