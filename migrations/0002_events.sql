-- The archive: what Stripe sent, byte for byte. Wide rows that are written once and read once, apart from
-- the narrow queue row, so that claiming never drags payloads through memory.
CREATE TABLE billing.events (
    event_id text COLLATE "C" NOT NULL CHECK (octet_length(event_id) BETWEEN 1 AND 255),
    created timestamptz NOT NULL,
    -- bytes and not jsonb: a \u0000 escape is legal JSON and illegal jsonb, and no event's content may fail the
    -- INSERT that carries its neighbours
    payload bytea NOT NULL,
    -- a second delivery has the same id and the same creation time, so both can be the key of partitions
    PRIMARY KEY (event_id, created)
) PARTITION BY RANGE (created);

CREATE TABLE billing.events_default PARTITION OF billing.events DEFAULT;

COMMENT ON TABLE billing.events IS 'Archive of Stripe events as they were received, partitioned by month of creation. Written by the receiver only, never updated.';
COMMENT ON COLUMN billing.events.event_id IS 'Stripe''s event id (evt_…).';
COMMENT ON COLUMN billing.events.created IS 'When Stripe made the event, by Stripe''s clock. Whole seconds for snapshot events.';
COMMENT ON COLUMN billing.events.payload IS 'The request body, byte for byte; its signature was valid. To read it: convert_from(payload, ''UTF8'').';
COMMENT ON TABLE billing.events_default IS 'Events of months that have no partition of their own.';
