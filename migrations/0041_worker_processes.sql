-- Processes that process events, each with the settings by which it decides which events are ours.
CREATE TABLE billing.worker_processes (
    process_id uuid PRIMARY KEY,
    name text NOT NULL,
    livemode boolean NOT NULL,
    accounts text[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.worker_processes IS 'Processes with the role worker. Two that are active at a time must have the same settings: what the one ignores, the other one processes.';
COMMENT ON COLUMN billing.worker_processes.process_id IS 'Made at its start.';
COMMENT ON COLUMN billing.worker_processes.name IS 'Process id and address, for the operator.';
COMMENT ON COLUMN billing.worker_processes.livemode IS 'BILLING_SYNC_LIVEMODE of this process.';
COMMENT ON COLUMN billing.worker_processes.accounts IS 'BILLING_SYNC_ACCOUNTS of this process, sorted.';
COMMENT ON COLUMN billing.worker_processes.started_at IS 'First heartbeat, by the database''s clock.';
COMMENT ON COLUMN billing.worker_processes.seen_at IS 'Last heartbeat, by the database''s clock.';
