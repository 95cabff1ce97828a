-- Retention: what is older than BILLING_SYNC_RETENTION is removed. The archive and the queue lose whole months, which costs
-- nothing but an instant under a lock; the histories lose their oldest rows.

-- The limit is the beginning of a month, so that everything reaches back equally far.
CREATE FUNCTION billing.retention_cutoff(retention interval) RETURNS timestamptz
LANGUAGE plpgsql
AS $$
DECLARE
    month timestamp := date_trunc('month', (clock_timestamp() - retention) AT TIME ZONE 'UTC');
    newest timestamptz;
BEGIN
    -- while the clocks disagree, nothing shows which one is right
    IF EXISTS (SELECT FROM billing.renewal_rules WHERE halted_at IS NOT NULL) THEN
        RETURN NULL;
    END IF;
    -- Events are as old as Stripe's clock says, too. So a clock of the database that runs ahead removes nothing.
    SELECT max(latest.created) INTO newest
    FROM (
        SELECT created FROM billing.outbox WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1000
    ) AS latest;
    -- null without any event
    RETURN CASE WHEN newest IS NOT NULL THEN
        least(month, date_trunc('month', (newest - retention) AT TIME ZONE 'UTC')) AT TIME ZONE 'UTC' END;
END
$$;

COMMENT ON FUNCTION billing.retention_cutoff(interval) IS 'What is older than this time is removed: the beginning of the last month all of which is older than the retention, by the database''s clock and by Stripe''s. Null if nothing is to be removed.';

CREATE FUNCTION billing.unfinished_events(month date, OUT pending boolean, OUT dead boolean)
LANGUAGE plpgsql
AS $$
DECLARE
    starts_at CONSTANT timestamptz := month::timestamp AT TIME ZONE 'UTC';
    ends_at CONSTANT timestamptz := (month + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    -- each condition is that of an index
    pending := EXISTS (SELECT FROM billing.outbox
            WHERE state = 'pending' AND NOT isolated AND created >= starts_at AND created < ends_at)
        OR EXISTS (SELECT FROM billing.outbox
            WHERE state = 'pending' AND isolated AND created >= starts_at AND created < ends_at);
    dead := EXISTS (SELECT FROM billing.outbox WHERE state = 'dead' AND created >= starts_at AND created < ends_at);
END
$$;

COMMENT ON FUNCTION billing.unfinished_events(date) IS 'Whether a month has pending or dead events, in its partition or in the default partition.';

CREATE FUNCTION billing.expired_months(cutoff timestamptz) RETURNS TABLE (month date, pending boolean, dead boolean)
LANGUAGE sql
AS $$
    SELECT expired.month, unfinished.pending, unfinished.dead
    FROM (
        SELECT DISTINCT to_date(right(child.relname, 7), 'YYYY_MM') AS month
        FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhparent IN ('billing.events'::regclass, 'billing.outbox'::regclass) AND child.relname ~ '_\d{4}_\d{2}$'
    ) AS expired
    CROSS JOIN LATERAL billing.unfinished_events(expired.month) AS unfinished
    WHERE expired.month < (cutoff AT TIME ZONE 'UTC')::date
    ORDER BY expired.month
$$;

COMMENT ON FUNCTION billing.expired_months(timestamptz) IS 'The months before the cutoff that still have a partition of billing.outbox or billing.events, and whether pending or dead events keep it.';

CREATE FUNCTION billing.drop_month(parent text, month date) RETURNS boolean
LANGUAGE plpgsql
-- All sessions queue behind this lock. It is shorter than deadlock_timeout, so this session gives up first.
SET lock_timeout = '500ms'
AS $$
DECLARE
    partition CONSTANT text := parent || to_char(month, '_YYYY_MM');
BEGIN
    EXECUTE format('LOCK TABLE ONLY billing.%I IN ACCESS EXCLUSIVE MODE', parent);
    -- a partition of a split that is not finished has such a name, too
    IF NOT EXISTS (
        SELECT FROM pg_inherits
        WHERE inhparent = format('billing.%I', parent)::regclass AND inhrelid = to_regclass(format('billing.%I', partition))
    ) THEN
        RETURN false;
    END IF;
    -- the rows of the queue first: they need their payloads
    IF EXISTS (SELECT FROM billing.unfinished_events(month) AS unfinished WHERE unfinished.pending OR unfinished.dead)
        OR (parent = 'events' AND to_regclass(format('billing.%I', 'outbox' || to_char(month, '_YYYY_MM'))) IS NOT NULL) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE billing.%I', partition);
    RETURN true;
END
$$;

COMMENT ON FUNCTION billing.drop_month(text, date) IS 'Drops a month of billing.outbox without pending and dead events, or a month of billing.events whose month of billing.outbox is gone. True if it did. Fails if it does not get the lock in half a second.';

-- Redaction: personal data is removed earlier than the retention does it, for one customer (`billing-sync redact`) or for
-- all (BILLING_SYNC_REDACT_AFTER). Events keep their row in the outbox, so counts and deduplication stay right.
CREATE TABLE billing.redacted_customers (
    account text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    redacted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account, customer_id)
);

COMMENT ON TABLE billing.redacted_customers IS 'Customers whose personal data was removed by `billing-sync redact`. Later events and reads of them are stored without personal data, too.';
COMMENT ON COLUMN billing.redacted_customers.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.redacted_customers.customer_id IS 'customer.id';
COMMENT ON COLUMN billing.redacted_customers.redacted_at IS 'When it was first redacted, by the database''s clock.';

CREATE TABLE billing.redaction_state (
    is_the_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_row),
    events_until timestamptz NOT NULL DEFAULT '-infinity',
    customers_until timestamptz NOT NULL DEFAULT '-infinity',
    changes_until bigint NOT NULL DEFAULT 0
);
INSERT INTO billing.redaction_state DEFAULT VALUES;

COMMENT ON TABLE billing.redaction_state IS 'How far redaction has come; one row.';
COMMENT ON COLUMN billing.redaction_state.is_the_only_row IS 'Always true.';
COMMENT ON COLUMN billing.redaction_state.events_until IS 'Events that were finished until then are redacted, if BILLING_SYNC_REDACT_AFTER is set.';
COMMENT ON COLUMN billing.redaction_state.customers_until IS 'Events of redacted customers that were finished until then are redacted.';
COMMENT ON COLUMN billing.redaction_state.changes_until IS 'Rows of row_changes up to this id are redacted, if BILLING_SYNC_REDACT_AFTER is set.';

CREATE FUNCTION billing.personal_columns() RETURNS text[] LANGUAGE sql IMMUTABLE
AS $$
    SELECT ARRAY['name', 'email', 'address_line1', 'address_line2', 'city', 'postal_code', 'state', 'country',
        'default_payment_method_card_brand', 'default_payment_card_number_last_four_digits', 'payment_method_card_brand',
        'payment_card_number_last_four_digits', 'callback_url', 'language']
$$;

COMMENT ON FUNCTION billing.personal_columns() IS 'Columns of synced tables with data about a person.';

CREATE FUNCTION billing.without_personal_values(changes jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
AS $$
    SELECT coalesce(jsonb_object_agg(field.key, CASE
        WHEN field.key <> ALL (billing.personal_columns()) THEN field.value
        ELSE (
            SELECT jsonb_agg(CASE side.value WHEN 'null' THEN side.value ELSE '"[redacted]"' END ORDER BY side.ordinality)
            FROM jsonb_array_elements(field.value) WITH ORDINALITY AS side
        )
    END), '{}')
    FROM jsonb_each(changes) AS field
$$;

COMMENT ON FUNCTION billing.without_personal_values(jsonb) IS 'The same changes of a row, without the values of personal columns.';
