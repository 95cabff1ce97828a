-- Months are made ahead, so that retention can drop whole months later. Events far in the past or future, or
-- of a month that nobody made in time, go to the default partitions: they are slower to drop and never lost.
CREATE FUNCTION billing.create_partitions(months_ahead integer) RETURNS integer
LANGUAGE plpgsql
-- the parent is locked for an instant; a receiver that waits behind it must not wait long
SET lock_timeout = '2s'
AS $$
DECLARE
    this_month CONSTANT timestamp := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC');
    parent text;
    starts_at timestamp;
    partition text;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['events', 'outbox'] LOOP
        FOR ahead IN 0..months_ahead LOOP
            starts_at := this_month + ahead * interval '1 month';
            partition := format('%s_%s', parent, to_char(starts_at, 'YYYY_MM'));
            CONTINUE WHEN to_regclass(format('billing.%I', partition)) IS NOT NULL;
            BEGIN
                EXECUTE format(
                    'CREATE TABLE billing.%I PARTITION OF billing.%I FOR VALUES FROM (%L) TO (%L)',
                    partition, parent, starts_at AT TIME ZONE 'UTC', (starts_at + interval '1 month') AT TIME ZONE 'UTC');
                EXECUTE format('COMMENT ON TABLE billing.%I IS %L', partition,
                    format('Month %s of billing.%s.', to_char(starts_at, 'YYYY-MM'), parent));
                made := made + 1;
            EXCEPTION
                WHEN duplicate_table OR unique_violation THEN NULL; -- another process made it just now
                WHEN check_violation THEN
                    RAISE WARNING 'billing.% already holds rows of %: that month stays in the default partition', parent, to_char(starts_at, 'YYYY-MM');
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

COMMENT ON FUNCTION billing.create_partitions(integer) IS 'Makes the partitions of billing.events and billing.outbox for this month and the given number of months ahead; returns how many tables it made. Safe to call at any time from any number of processes.';

SELECT billing.create_partitions(3);
