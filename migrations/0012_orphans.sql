-- What stands alone: a live subscription whose price or customer nobody has told yet, a contact that no workspace is named
-- for. One view for all who ask (`doctor --orphans`, the metric, the product), so that they cannot disagree. It has to be
-- cheap among millions, since every scrape of /metrics counts it: each of its parts begins at the few that may be orphans.
CREATE INDEX subscriptions_unplaced ON billing.subscriptions (billing_contact_id)
    WHERE workspace_id IS NULL AND stripe_status NOT IN ('canceled', 'incomplete_expired') AND inactive_reason IS DISTINCT FROM 'ended';
CREATE INDEX subscriptions_unpriced ON billing.subscriptions (id)
    WHERE pricing_plan_id IS NULL AND stripe_status NOT IN ('canceled', 'incomplete_expired') AND inactive_reason IS DISTINCT FROM 'ended';

-- No index can say that a row is not there, and comparing a million subscriptions with a million contacts takes longer than
-- a scrape may. So those that are not there are written down, by triggers: a release that knows nothing of this table,
-- working beside a newer one, keeps it too.
CREATE TABLE billing.unknown_customers (
    billing_contact_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.unknown_customers IS 'Customers whom subscriptions name and who have no row in billing_contacts, for the view orphans. Kept by triggers.';
COMMENT ON COLUMN billing.unknown_customers.billing_contact_id IS 'The id that the row in billing_contacts will have.';
COMMENT ON COLUMN billing.unknown_customers.created_at IS 'Since when, by the database''s clock.';

-- A customer is locked (billing.locks) while its rows are written, so nobody makes the one row while another looks for it.
CREATE FUNCTION billing.note_unknown_customers() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO billing.unknown_customers (billing_contact_id)
    SELECT DISTINCT s.billing_contact_id FROM made AS s
    -- under Accounts v2 an account stands in the customer's place, and has no contact
    LEFT JOIN LATERAL (
        SELECT true AS is_there FROM billing.billing_contacts AS c WHERE c.id = s.billing_contact_id OFFSET 0
    ) AS known ON true
    WHERE s.stripe_customer_id NOT LIKE 'acct\_%' AND known.is_there IS NULL
    ORDER BY s.billing_contact_id
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION billing.note_unknown_customers() IS 'Trigger: new subscriptions whose customer has no contact yet.';

CREATE FUNCTION billing.forget_unknown_customers() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM billing.unknown_customers AS u USING made AS c WHERE u.billing_contact_id = c.id;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION billing.forget_unknown_customers() IS 'Trigger: new contacts are known from now on.';

-- a row that is updated by INSERT … ON CONFLICT is not among those that were made
CREATE TRIGGER note_unknown_customers AFTER INSERT ON billing.subscriptions
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION billing.note_unknown_customers();
CREATE TRIGGER forget_unknown_customers AFTER INSERT ON billing.billing_contacts
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION billing.forget_unknown_customers();

CREATE VIEW billing.orphans AS
WITH live AS NOT MATERIALIZED (
    -- one that has ended needs nothing any more
    SELECT s.id, s.account, s.stripe_customer_id, s.stripe_subscription_id, s.billing_contact_id, s.workspace_id,
        s.stripe_price_id, s.pricing_plan_id
    FROM billing.subscriptions AS s
    WHERE s.stripe_status NOT IN ('canceled', 'incomplete_expired') AND s.inactive_reason IS DISTINCT FROM 'ended'
), alone AS NOT MATERIALIZED (
    SELECT 'contact_without_workspace' AS kind, c.id, c.account, c.stripe_customer_id,
        NULL::text COLLATE "C" AS stripe_subscription_id, 'workspace' AS missing_type, NULL::text COLLATE "C" AS missing_id
    FROM (SELECT DISTINCT s.billing_contact_id FROM live AS s WHERE s.workspace_id IS NULL) AS unplaced
    -- OFFSET 0 changes nothing but the plan: contacts are looked up one by one, in the order of the index, so that whoever
    -- counts up to a limit stops there, also where all customers are orphans
    CROSS JOIN LATERAL (
        SELECT c.id, c.account, c.stripe_customer_id
        FROM billing.billing_contacts AS c
        WHERE c.id = unplaced.billing_contact_id AND c.workspace_id IS NULL AND c.stripe_deleted_at IS NULL
            AND NOT EXISTS (SELECT FROM live AS s WHERE s.billing_contact_id = c.id AND s.workspace_id IS NOT NULL)
        OFFSET 0
    ) AS c
    UNION ALL
    SELECT 'subscription_without_price', s.id, s.account, s.stripe_customer_id, s.stripe_subscription_id, 'price',
        s.stripe_price_id
    FROM live AS s
    WHERE s.pricing_plan_id IS NULL
    UNION ALL
    SELECT 'subscription_without_customer', s.id, s.account, s.stripe_customer_id, s.stripe_subscription_id, 'customer',
        s.stripe_customer_id
    FROM billing.unknown_customers AS u
    CROSS JOIN LATERAL (SELECT s.* FROM live AS s WHERE s.billing_contact_id = u.billing_contact_id OFFSET 0) AS s
)
SELECT a.kind, a.id, a.account, a.stripe_customer_id, a.stripe_subscription_id, a.missing_type, a.missing_id,
    CASE WHEN a.missing_id IS NOT NULL THEN coalesce(
        (SELECT 'queued' FROM billing.jobs AS j WHERE j.kind = 'fetch' AND j.account = a.account
            AND j.object_type = a.missing_type AND j.object_id = a.missing_id),
        (SELECT 'not_found' FROM billing.stripe_objects AS o WHERE o.account = a.account
            AND o.object_type = a.missing_type AND o.object_id = a.missing_id AND o.content IS NULL),
        'not_queued')
    END AS read_state
FROM alone AS a;

COMMENT ON VIEW billing.orphans IS 'What lacks something that it needs: live subscriptions without a known price or customer, and contacts of live subscriptions for whom no workspace is named. A row goes away by itself once the missing piece is there.';
COMMENT ON COLUMN billing.orphans.kind IS 'contact_without_workspace: neither the contact nor any of its live subscriptions names a workspace; subscription_without_price: it names no price, or one that nobody has told yet; subscription_without_customer: its customer has no row in billing_contacts. Deleted contacts and ended subscriptions are never among them.';
COMMENT ON COLUMN billing.orphans.id IS 'billing_contacts.id of a contact, else subscriptions.id.';
COMMENT ON COLUMN billing.orphans.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.orphans.stripe_customer_id IS 'The customer.';
COMMENT ON COLUMN billing.orphans.stripe_subscription_id IS 'The subscription; null of a contact.';
COMMENT ON COLUMN billing.orphans.missing_type IS 'What is missing: workspace, price or customer.';
COMMENT ON COLUMN billing.orphans.missing_id IS 'Its id in Stripe; null where nothing names one.';
COMMENT ON COLUMN billing.orphans.read_state IS 'Whether Stripe''s API will be asked for it: queued; not_found (Stripe answered that there is no such object, or that it was deleted); not_queued (there was no API key: rebuild asks once there is one). Null where there is no id to ask for.';
