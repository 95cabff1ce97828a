-- The mirror: the newest known raw JSON of each Stripe object that the projection needs.
CREATE TABLE billing.stripe_objects (
    account text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C",
    version timestamptz,
    origin text CHECK (origin IN ('embedded', 'event')),
    event_id text COLLATE "C",
    content bytea,
    circuit boolean NOT NULL DEFAULT false,
    deleted_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- a plan and a price may share an id, so the type is part of the key
    PRIMARY KEY (account, object_type, object_id),
    CONSTRAINT stripe_objects_content_has_a_version CHECK (
        (content IS NULL) = (version IS NULL) AND (content IS NULL) = (origin IS NULL) AND (content IS NULL) = (event_id IS NULL)),
    CONSTRAINT stripe_objects_says_something CHECK (content IS NOT NULL OR deleted_at IS NOT NULL)
);

-- An index begins with the column that decides: with the account in front, it could pass for the key on a table without
-- statistics, and every look-up would read all objects of the account.
CREATE INDEX stripe_objects_customer ON billing.stripe_objects (customer_id, account, object_type);

COMMENT ON TABLE billing.stripe_objects IS 'The newest known raw JSON of each Stripe object that rows are made from. Everything in the synced tables can be computed again from here.';
COMMENT ON COLUMN billing.stripe_objects.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.stripe_objects.object_type IS 'Stripe''s name of the type: customer, subscription, price, plan.';
COMMENT ON COLUMN billing.stripe_objects.object_id IS 'Stripe''s id.';
COMMENT ON COLUMN billing.stripe_objects.customer_id IS 'The customer that the object belongs to, or is.';
COMMENT ON COLUMN billing.stripe_objects.version IS 'Creation time of the event that the content comes from, by Stripe''s clock: the newest one wins.';
COMMENT ON COLUMN billing.stripe_objects.origin IS 'event: the object''s own event; embedded: it travelled inside another object''s event.';
COMMENT ON COLUMN billing.stripe_objects.event_id IS 'The event that the content comes from.';
COMMENT ON COLUMN billing.stripe_objects.content IS 'The object as Stripe sent it, UTF-8 JSON; null while only its deletion is known.';
COMMENT ON COLUMN billing.stripe_objects.circuit IS 'True where the events of the last second lead back to where they began, so that the content depends on the second before and a late event may change it.';
COMMENT ON COLUMN billing.stripe_objects.deleted_at IS 'When Stripe deleted the object; the content stays.';
COMMENT ON COLUMN billing.stripe_objects.changed_at IS 'When this row last changed, by the database''s clock.';
