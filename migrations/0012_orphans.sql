-- Orphans: live subscriptions whose price or customer is not known yet, and contacts without a workspace. All users
-- (`doctor --orphans`, the metric, the product) read one view, so that they agree. The view must be fast with millions of
-- rows, because every scrape of /metrics counts it: each part starts from the few rows that may be orphans.
CREATE INDEX subscriptions_unplaced ON billing.subscriptions (billing_contact_id)
    WHERE workspace_id IS NULL AND stripe_status NOT IN ('canceled', 'incomplete_expired') AND inactive_reason IS DISTINCT FROM 'ended';
CREATE INDEX subscriptions_unpriced ON billing.subscriptions (id)
    WHERE pricing_plan_id IS NULL AND stripe_status NOT IN ('canceled', 'incomplete_expired') AND inactive_reason IS DISTINCT FROM 'ended';

-- No index finds rows that do not exist, and a join of a million subscriptions with a million contacts takes longer than a
-- scrape may. So triggers record the missing contacts: they also run for the writes of another release during a rollout.
CREATE TABLE billing.missing_contacts (
    billing_contact_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.missing_contacts IS 'Customers that subscriptions reference and that have no row in billing_contacts, for the view orphans. Maintained by triggers.';
COMMENT ON COLUMN billing.missing_contacts.billing_contact_id IS 'The id of the future row in billing_contacts.';
COMMENT ON COLUMN billing.missing_contacts.created_at IS 'Since when the contact is missing, by the database''s clock.';

-- A customer is locked (billing.locks) while its rows are written, so no other transaction inserts the contact meanwhile.
CREATE FUNCTION billing.add_missing_contacts() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO billing.missing_contacts (billing_contact_id)
    SELECT DISTINCT s.billing_contact_id FROM made AS s
    -- under Accounts v2 an account replaces the customer, and has no contact
    LEFT JOIN LATERAL (
        SELECT true AS is_there FROM billing.billing_contacts AS c WHERE c.id = s.billing_contact_id OFFSET 0
    ) AS known ON true
    WHERE s.stripe_customer_id NOT LIKE 'acct\_%' AND known.is_there IS NULL
    ORDER BY s.billing_contact_id
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION billing.add_missing_contacts() IS 'Trigger: adds the missing contacts of new subscriptions.';

CREATE FUNCTION billing.remove_missing_contacts() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM billing.missing_contacts AS u USING made AS c WHERE u.billing_contact_id = c.id;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION billing.remove_missing_contacts() IS 'Trigger: removes new contacts from missing_contacts.';

-- a row that INSERT … ON CONFLICT updates is not in the transition table
CREATE TRIGGER add_missing_contacts AFTER INSERT ON billing.subscriptions
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION billing.add_missing_contacts();
CREATE TRIGGER remove_missing_contacts AFTER INSERT ON billing.billing_contacts
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION billing.remove_missing_contacts();

CREATE VIEW billing.orphans AS
WITH live AS NOT MATERIALIZED (
    -- an ended subscription needs nothing
    SELECT s.id, s.account, s.stripe_customer_id, s.stripe_subscription_id, s.billing_contact_id, s.workspace_id,
        s.stripe_price_id, s.pricing_plan_id
    FROM billing.subscriptions AS s
    WHERE s.stripe_status NOT IN ('canceled', 'incomplete_expired') AND s.inactive_reason IS DISTINCT FROM 'ended'
), incomplete AS NOT MATERIALIZED (
    SELECT 'contact_without_workspace' AS kind, c.id, c.account, c.stripe_customer_id,
        NULL::text COLLATE "C" AS stripe_subscription_id, 'workspace' AS missing_type, NULL::text COLLATE "C" AS missing_id
    FROM (SELECT DISTINCT s.billing_contact_id FROM live AS s WHERE s.workspace_id IS NULL) AS unplaced
    -- OFFSET 0 changes only the plan: contacts are looked up one by one, in the order of the index, so that a query with a
    -- LIMIT stops early, even if all customers are orphans
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
    FROM billing.missing_contacts AS u
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
FROM incomplete AS a;

COMMENT ON VIEW billing.orphans IS 'Rows with a missing reference: live subscriptions without a known price or customer, and contacts of live subscriptions without a workspace. A row disappears when the missing object arrives.';
COMMENT ON COLUMN billing.orphans.kind IS 'contact_without_workspace: neither the contact nor any of its live subscriptions has a workspace; subscription_without_price: it has no price, or one that is not known yet; subscription_without_customer: its customer has no row in billing_contacts. Deleted contacts and ended subscriptions are not orphans.';
COMMENT ON COLUMN billing.orphans.id IS 'billing_contacts.id of a contact, else subscriptions.id.';
COMMENT ON COLUMN billing.orphans.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.orphans.stripe_customer_id IS 'The customer.';
COMMENT ON COLUMN billing.orphans.stripe_subscription_id IS 'The subscription; null for a contact.';
COMMENT ON COLUMN billing.orphans.missing_type IS 'The missing object: workspace, price or customer.';
COMMENT ON COLUMN billing.orphans.missing_id IS 'Id of the missing object in Stripe; null if no id is known.';
COMMENT ON COLUMN billing.orphans.read_state IS 'State of the read of the missing object. queued: a fetch is queued; not_found: Stripe answered that it does not exist or was deleted; not_queued: there was no API key, and rebuild queues it once there is one. Null if no id is known.';
