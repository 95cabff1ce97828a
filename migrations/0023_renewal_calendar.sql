-- The one calendar. Every time is computed from the anchor itself, never from the time before it, so that the 31st comes
-- back after February. A month is added AT TIME ZONE 'UTC' both ways: bare timestamptz + interval depends on the session.
CREATE FUNCTION billing.renewal_at(anchor timestamptz, months integer, day integer DEFAULT NULL) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN day IS NULL THEN (anchor AT TIME ZONE 'UTC' + months * interval '1 month') AT TIME ZONE 'UTC'
        ELSE (
            date_trunc('month', anchor AT TIME ZONE 'UTC') + months * interval '1 month'
            + (least(day, extract(day FROM date_trunc('month', anchor AT TIME ZONE 'UTC') + (months + 1) * interval '1 month'
                - interval '1 day')::integer) - 1) * interval '1 day'
            + (anchor AT TIME ZONE 'UTC')::time
        ) AT TIME ZONE 'UTC'
    END;

COMMENT ON FUNCTION billing.renewal_at(timestamptz, integer, integer) IS 'The anchor plus this many months in UTC, on the last day of a month that is too short for its day. A given day (1 to 31) stands for the day of the anchor.';

CREATE FUNCTION billing.months_apart(a timestamptz, b timestamptz) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (12 * (date_part('year', b AT TIME ZONE 'UTC') - date_part('year', a AT TIME ZONE 'UTC'))
        + date_part('month', b AT TIME ZONE 'UTC') - date_part('month', a AT TIME ZONE 'UTC'))::integer;

COMMENT ON FUNCTION billing.months_apart(timestamptz, timestamptz) IS 'From the calendar month of a to that of b, in UTC.';

CREATE FUNCTION billing.renewals_until(anchor timestamptz, until timestamptz, day integer DEFAULT NULL) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- the renewal of the month of until has either come by then, or the one before it was the last
    RETURN billing.months_apart(anchor, until)
        - (billing.renewal_at(anchor, billing.months_apart(anchor, until), day) > until)::integer;

COMMENT ON FUNCTION billing.renewals_until(timestamptz, timestamptz, integer) IS 'The greatest number of months whose renewal_at is at or before that time; negative before the anchor.';

CREATE FUNCTION billing.next_renewal(anchor timestamptz, after timestamptz, day integer DEFAULT NULL) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN billing.renewal_at(anchor, billing.renewals_until(anchor, after, day) + 1, day);

COMMENT ON FUNCTION billing.next_renewal(timestamptz, timestamptz, integer) IS 'The first renewal_at strictly after that time: at the very instant of a renewal it is the one that follows.';
