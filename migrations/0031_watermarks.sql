-- How far the events that Stripe has were compared with those that are stored here.
CREATE TABLE billing.watermarks (
    account text COLLATE "C" PRIMARY KEY,
    compared_until timestamptz,
    gap_since timestamptz,
    gap_until timestamptz,
    stripe_account text COLLATE "C",
    livemode boolean,
    leased_until timestamptz,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_error text CHECK (octet_length(last_error) <= 2000),
    compared bigint NOT NULL DEFAULT 0,
    inserted bigint NOT NULL DEFAULT 0,
    missed bigint NOT NULL DEFAULT 0,
    unreadable bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT watermarks_gap_has_two_ends CHECK (
        (gap_since IS NULL) = (gap_until IS NULL) AND (gap_since IS NULL OR gap_since < gap_until)),
    CONSTRAINT watermarks_account_has_a_mode CHECK ((stripe_account IS NULL) = (livemode IS NULL)),
    CONSTRAINT watermarks_failures_have_an_error CHECK ((failures > 0) = (last_error IS NOT NULL)),
    CONSTRAINT watermarks_counts_are_parts CHECK (
        missed >= 0 AND unreadable >= 0 AND missed <= inserted AND inserted + unreadable <= compared)
);

COMMENT ON TABLE billing.watermarks IS 'One row for each account whose events are compared with Stripe''s list, by `serve` with the role reconcile and by `billing-sync reconcile`. The row of an account that is not synced any more may be deleted.';
COMMENT ON COLUMN billing.watermarks.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.watermarks.compared_until IS 'By Stripe''s clock: every event created up to here was compared. Moves only when a listing has come to its end, and never back; null until the first one has.';
COMMENT ON COLUMN billing.watermarks.gap_since IS 'Events created from here to gap_until were never compared, for Stripe no longer listed them: what they told has to be read by a backfill. Null where there is no such gap.';
COMMENT ON COLUMN billing.watermarks.gap_until IS 'The end of that gap.';
COMMENT ON COLUMN billing.watermarks.stripe_account IS 'Of the account itself: the id that Stripe names it by, noted when the key was proven to be of the account of the stored events. It vouches for the key where all of those are too old to be looked up.';
COMMENT ON COLUMN billing.watermarks.livemode IS 'The mode of that key; null where stripe_account is.';
COMMENT ON COLUMN billing.watermarks.leased_until IS 'Until then nobody else begins: somebody is at it, or it has failed and waits. By the database''s clock.';
COMMENT ON COLUMN billing.watermarks.started_at IS 'When the last run began, by the database''s clock.';
COMMENT ON COLUMN billing.watermarks.finished_at IS 'When a run last came to its end, by the database''s clock.';
COMMENT ON COLUMN billing.watermarks.failures IS 'Runs that failed since then.';
COMMENT ON COLUMN billing.watermarks.last_error IS 'What the last of those said; never content.';
COMMENT ON COLUMN billing.watermarks.compared IS 'Of the last run that came to its end: events that Stripe listed.';
COMMENT ON COLUMN billing.watermarks.inserted IS 'Of that run: those that were not stored before.';
COMMENT ON COLUMN billing.watermarks.missed IS 'Of that run: those of them that had been delivered in vain, or not at all (see billing_sync_reconcile_missed_events_total).';
COMMENT ON COLUMN billing.watermarks.unreadable IS 'Of that run: those that could not be stored; the log names them.';
COMMENT ON COLUMN billing.watermarks.created_at IS 'When the account was first looked at, by the database''s clock.';

-- NOT VALID spares a look at every row: what was allowed before still is.
ALTER TABLE billing.outbox
    DROP CONSTRAINT outbox_source_check,
    ADD CONSTRAINT outbox_source_check CHECK (source IN ('webhook', 'reconcile')) NOT VALID;
COMMENT ON COLUMN billing.outbox.source IS 'How the event came here. webhook: Stripe delivered it; reconcile: it was in Stripe''s list of events and had not been delivered.';
COMMENT ON TABLE billing.events IS 'Archive of Stripe events as they were received, partitioned by month of creation. Written by the receiver and by reconcile only, never updated.';
COMMENT ON COLUMN billing.events.payload IS 'The request body, byte for byte, whose signature was valid; of an event with the source reconcile the bytes that stand for it in Stripe''s list. To read it: convert_from(payload, ''UTF8'').';
