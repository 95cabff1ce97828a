-- The mirror learns from reads of Stripe's API too, and holds every kind of object.
ALTER TABLE billing.stripe_objects
    ADD COLUMN refs text[] COLLATE "C" NOT NULL DEFAULT '{}',
    ADD COLUMN expansion bytea,
    ADD COLUMN expansion_version timestamptz,
    ADD COLUMN expansion_stale_after timestamptz,
    ADD COLUMN missing_at timestamptz,
    ADD COLUMN revived_at timestamptz,
    DROP CONSTRAINT stripe_objects_origin_check,
    ADD CONSTRAINT stripe_objects_origin_check CHECK (origin IN ('copy', 'embedded', 'read', 'event')),
    DROP CONSTRAINT stripe_objects_content_has_a_version,
    ADD CONSTRAINT stripe_objects_content_has_a_version CHECK (
        (content IS NULL) = (version IS NULL) AND (content IS NULL) = (origin IS NULL) AND (content IS NULL) = (event_id IS NULL)),
    DROP CONSTRAINT stripe_objects_says_something,
    ADD CONSTRAINT stripe_objects_says_something CHECK (
        content IS NOT NULL OR deleted_at IS NOT NULL OR missing_at IS NOT NULL OR expansion IS NOT NULL),
    ADD CONSTRAINT stripe_objects_expansion_has_a_version CHECK ((expansion IS NULL) = (expansion_version IS NULL));

-- Who names this object? Asked for each payment method, invoice or schedule that changes.
CREATE INDEX stripe_objects_refs ON billing.stripe_objects USING gin (refs);

-- An operator asks by an id alone.
CREATE INDEX stripe_objects_id ON billing.stripe_objects (object_id);

COMMENT ON COLUMN billing.stripe_objects.object_type IS 'Stripe''s name of the type, as in its field object: customer, subscription, invoice …';
COMMENT ON COLUMN billing.stripe_objects.version IS 'By Stripe''s clock, the newest one wins: creation time of the event that the content comes from; of a read the time at which it began, less BILLING_SYNC_READ_MARGIN. A copy has the version of the object that showed it and gives way to any other content.';
COMMENT ON COLUMN billing.stripe_objects.origin IS 'event: the object''s own event; read: Stripe''s API was asked; embedded: another object showed its state; copy: another object showed it as it was at another time or in another scope, which stands only until the object itself is seen.';
COMMENT ON COLUMN billing.stripe_objects.event_id IS 'The event that the content comes from; read where Stripe''s API was asked.';
COMMENT ON COLUMN billing.stripe_objects.refs IS 'The objects that the content names, as type/id.';
COMMENT ON COLUMN billing.stripe_objects.expansion IS 'What only reads carry, as a JSON object: currency_options of a price, line_items of a checkout session, payments of an invoice, all items of a subscription. No event replaces it.';
COMMENT ON COLUMN billing.stripe_objects.expansion_version IS 'Version of the read that the expansion comes from.';
COMMENT ON COLUMN billing.stripe_objects.expansion_stale_after IS 'Version of the newest event of the object''s own, or of a copy inside another object that differed: an expansion that is older is read again where a row needs it.';
COMMENT ON COLUMN billing.stripe_objects.missing_at IS 'Version of the newest read that found nothing (404). A newer content beats it.';
COMMENT ON COLUMN billing.stripe_objects.revived_at IS 'Of types whose ids merchants choose (coupon, plan, price, product, promotion_code): when one was last made or seen anew, so that an older deletion does not count.';
