-- What `billing-sync status` and `billing-sync tail` read, and no other table has: a history of some weeks, and indexes
-- by time. CREATE INDEX blocks writes to the outbox while it reads the table: some seconds for millions of rows. Stripe
-- repeats the deliveries that fail meanwhile.

-- finished events by time: rates and delays of the last minutes, and the events that were settled since a poll. An event
-- enters this index when it is settled, so storing one costs nothing more.
CREATE INDEX outbox_finished ON billing.outbox (finished_at) WHERE finished_at IS NOT NULL;
-- Rows are only added, in the order of their time, so a summary of each range of pages finds them. It costs a few bytes.
CREATE INDEX row_changes_changed ON billing.row_changes USING brin (changed_at) WITH (autosummarize = on);
-- an unfinished split has no such index; it begins again
DROP TABLE IF EXISTS billing.outbox_split;

CREATE TABLE billing.reconcile_days (
    day date NOT NULL,
    account text COLLATE "C" NOT NULL,
    completed integer NOT NULL DEFAULT 0 CHECK (completed >= 0),
    failed integer NOT NULL DEFAULT 0 CHECK (failed >= 0),
    missed bigint NOT NULL DEFAULT 0 CHECK (missed >= 0),
    unreadable bigint NOT NULL DEFAULT 0 CHECK (unreadable >= 0),
    gap_found boolean NOT NULL DEFAULT false,
    PRIMARY KEY (day, account)
);

COMMENT ON TABLE billing.reconcile_days IS 'What the comparisons with Stripe''s event list found, one row for each account and day of the last 40 days. Written with billing.reconcile_state; for `billing-sync status`.';
COMMENT ON COLUMN billing.reconcile_days.day IS 'The day (UTC), by the database''s clock.';
COMMENT ON COLUMN billing.reconcile_days.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.reconcile_days.completed IS 'Number of completed runs.';
COMMENT ON COLUMN billing.reconcile_days.failed IS 'Number of failed runs.';
COMMENT ON COLUMN billing.reconcile_days.missed IS 'Number of events that runs stored, also failed ones, because their deliveries had failed or never happened.';
COMMENT ON COLUMN billing.reconcile_days.unreadable IS 'Number of listed events that completed runs could not store; each run counts them again.';
COMMENT ON COLUMN billing.reconcile_days.gap_found IS 'True if a run of this day found events that were never compared and that Stripe no longer lists.';

CREATE TABLE billing.verify_samples (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sampled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    customers bigint NOT NULL CHECK (customers >= 0),
    failed bigint NOT NULL CHECK (failed >= 0),
    differing bigint NOT NULL CHECK (differing >= 0),
    tables text[] COLLATE "C" NOT NULL
);
CREATE INDEX verify_samples_sampled ON billing.verify_samples (sampled_at);

COMMENT ON TABLE billing.verify_samples IS 'Samples of rows that `serve` with the role reconcile compared with Stripe, of the last 40 days.';
COMMENT ON COLUMN billing.verify_samples.id IS 'Increases in the order of writing.';
COMMENT ON COLUMN billing.verify_samples.sampled_at IS 'When the sample was complete, by the database''s clock.';
COMMENT ON COLUMN billing.verify_samples.customers IS 'Number of customers that were compared.';
COMMENT ON COLUMN billing.verify_samples.failed IS 'Number of customers or lists that could not be compared.';
COMMENT ON COLUMN billing.verify_samples.differing IS 'Number of rows that differed from Stripe.';
COMMENT ON COLUMN billing.verify_samples.tables IS 'The tables of these rows, without their schema.';

CREATE TABLE billing.size_days (
    day date PRIMARY KEY,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    bytes bigint NOT NULL CHECK (bytes >= 0)
);

COMMENT ON TABLE billing.size_days IS 'Size of the schema billing, measured once a day by `serve` with the role maintenance; the last 40 days.';
COMMENT ON COLUMN billing.size_days.day IS 'The day (UTC), by the database''s clock.';
COMMENT ON COLUMN billing.size_days.measured_at IS 'When the size was measured, by the database''s clock.';
COMMENT ON COLUMN billing.size_days.bytes IS 'Bytes on disk, with indexes and large values.';
