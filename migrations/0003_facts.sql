-- Facts: what the newest content of an object does not contain. They are collected from every event and read, superseded
-- ones included. Rows only add information, so that the order of arrival does not matter.
CREATE TABLE billing.charge_facts (
    account text COLLATE "C" NOT NULL,
    charge_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C",
    payment_intent_id text COLLATE "C",
    charged_at timestamptz,
    first_seen_at timestamptz NOT NULL,
    sepa boolean NOT NULL DEFAULT false,
    failed boolean NOT NULL DEFAULT false,
    succeeded boolean NOT NULL DEFAULT false,
    PRIMARY KEY (account, charge_id)
);
CREATE INDEX charge_facts_payment_intent ON billing.charge_facts (payment_intent_id, account);
CREATE INDEX charge_facts_customer ON billing.charge_facts (customer_id, account) WHERE sepa;

COMMENT ON TABLE billing.charge_facts IS 'What is known of each charge, from all events and reads that contain it. A known value stays.';
COMMENT ON COLUMN billing.charge_facts.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.charge_facts.charge_id IS 'charge.id';
COMMENT ON COLUMN billing.charge_facts.customer_id IS 'charge.customer';
COMMENT ON COLUMN billing.charge_facts.payment_intent_id IS 'charge.payment_intent';
COMMENT ON COLUMN billing.charge_facts.charged_at IS 'charge.created; null while the charge is known from a payment intent only.';
COMMENT ON COLUMN billing.charge_facts.first_seen_at IS 'Time of the earliest event or read that contains the charge. Used in place of charged_at while that is unknown; never earlier than charged_at.';
COMMENT ON COLUMN billing.charge_facts.sepa IS 'An event or read showed that the charge is a SEPA direct debit.';
COMMENT ON COLUMN billing.charge_facts.failed IS 'An event or read showed the charge as failed.';
COMMENT ON COLUMN billing.charge_facts.succeeded IS 'An event or read showed the charge as succeeded, with an amount above zero.';

CREATE TABLE billing.payment_facts (
    account text COLLATE "C" NOT NULL,
    invoice_id text COLLATE "C" NOT NULL,
    payment_type text NOT NULL CHECK (payment_type IN ('payment_intent', 'charge')),
    payment_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (account, invoice_id, payment_type, payment_id)
);
CREATE INDEX payment_facts_payment ON billing.payment_facts (payment_id, payment_type, account);

COMMENT ON TABLE billing.payment_facts IS 'Which payment intents and charges belong to which invoice. Since 2025-03-31.basil only invoice payments contain it.';
COMMENT ON COLUMN billing.payment_facts.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.payment_facts.invoice_id IS 'The invoice.';
COMMENT ON COLUMN billing.payment_facts.payment_type IS 'payment_intent or charge.';
COMMENT ON COLUMN billing.payment_facts.payment_id IS 'Id of that payment intent or charge.';

CREATE TABLE billing.invoice_facts (
    account text COLLATE "C" NOT NULL,
    invoice_id text COLLATE "C" NOT NULL,
    subscription_id text COLLATE "C",
    paid_at timestamptz,
    PRIMARY KEY (account, invoice_id)
);
CREATE INDEX invoice_facts_subscription ON billing.invoice_facts (subscription_id, account);

COMMENT ON TABLE billing.invoice_facts IS 'What is known of each invoice, from all events and reads that contain it. A known value stays.';
COMMENT ON COLUMN billing.invoice_facts.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.invoice_facts.invoice_id IS 'invoice.id';
COMMENT ON COLUMN billing.invoice_facts.subscription_id IS 'The subscription that the invoice bills; null if none is known.';
COMMENT ON COLUMN billing.invoice_facts.paid_at IS 'Earliest known time at which the invoice was paid with money: with an amount above zero, by a payment record, or out of band (paid while an amount was due); null while it is not paid.';

CREATE TABLE billing.dispute_facts (
    account text COLLATE "C" NOT NULL,
    dispute_id text COLLATE "C" NOT NULL,
    charge_id text COLLATE "C" NOT NULL,
    disputed_at timestamptz NOT NULL,
    won boolean NOT NULL DEFAULT false,
    PRIMARY KEY (account, dispute_id)
);
CREATE INDEX dispute_facts_charge ON billing.dispute_facts (charge_id, account);

COMMENT ON TABLE billing.dispute_facts IS 'Disputes of charges.';
COMMENT ON COLUMN billing.dispute_facts.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.dispute_facts.dispute_id IS 'dispute.id';
COMMENT ON COLUMN billing.dispute_facts.charge_id IS 'dispute.charge';
COMMENT ON COLUMN billing.dispute_facts.disputed_at IS 'dispute.created';
COMMENT ON COLUMN billing.dispute_facts.won IS 'An event or read showed the dispute as won: the money stays.';

CREATE TABLE billing.trial_facts (
    account text COLLATE "C" NOT NULL,
    subscription_id text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    PRIMARY KEY (account, subscription_id)
);

COMMENT ON TABLE billing.trial_facts IS 'Subscriptions that ever had a trial.';
COMMENT ON COLUMN billing.trial_facts.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.trial_facts.subscription_id IS 'subscription.id';
COMMENT ON COLUMN billing.trial_facts.started_at IS 'Earliest trial_start in any event or read of the subscription.';

CREATE TABLE billing.subscription_timeline (
    account text COLLATE "C" NOT NULL,
    subscription_id text COLLATE "C" NOT NULL,
    stated_at timestamptz NOT NULL,
    source text COLLATE "C" NOT NULL,
    tie_break smallint NOT NULL DEFAULT 0,
    effective_from timestamptz NOT NULL,
    may_be_scheduled boolean NOT NULL DEFAULT false,
    status text NOT NULL,
    payment_paused boolean NOT NULL,
    ended_at timestamptz,
    price_ids text[],
    quantities bigint[],
    start_date timestamptz,
    billing_cycle_anchor timestamptz,
    anchor_day integer CHECK (anchor_day BETWEEN 1 AND 31),
    PRIMARY KEY (account, subscription_id, stated_at, source),
    CONSTRAINT subscription_timeline_items_are_pairs
        CHECK ((price_ids IS NULL) = (quantities IS NULL) AND cardinality(price_ids) = cardinality(quantities))
);

COMMENT ON TABLE billing.subscription_timeline IS 'What each event and read reported about a subscription, and since when it counts. Rows are only added, so late events complete the history. billing.in_force reads it.';
COMMENT ON COLUMN billing.subscription_timeline.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.subscription_timeline.subscription_id IS 'subscription.id';
COMMENT ON COLUMN billing.subscription_timeline.stated_at IS 'Creation time of the event, or version of the read. The row with the latest one is the newest report.';
COMMENT ON COLUMN billing.subscription_timeline.source IS 'The event''s id, or read.';
COMMENT ON COLUMN billing.subscription_timeline.tie_break IS 'Order of the rows of one second: the highest value is the last. 1: the event that was found to be the last of several; -1: a read; 0: all others.';
COMMENT ON COLUMN billing.subscription_timeline.effective_from IS 'Since when the row counts: the boundary that the event is about, if the event names one, else stated_at (docs/limits.md).';
COMMENT ON COLUMN billing.subscription_timeline.may_be_scheduled IS 'The event changed items and names no boundary. It then counts from the schedule phase that begins with these items, if one is known (phase_facts).';
COMMENT ON COLUMN billing.subscription_timeline.status IS 'subscription.status';
COMMENT ON COLUMN billing.subscription_timeline.payment_paused IS 'pause_collection was set.';
COMMENT ON COLUMN billing.subscription_timeline.ended_at IS 'subscription.ended_at';
COMMENT ON COLUMN billing.subscription_timeline.price_ids IS 'The price of each item, sorted by price and quantity; null if the payload does not list all items.';
COMMENT ON COLUMN billing.subscription_timeline.quantities IS 'The quantity of each of these items; 0 for a metered item.';
COMMENT ON COLUMN billing.subscription_timeline.start_date IS 'subscription.start_date';
COMMENT ON COLUMN billing.subscription_timeline.billing_cycle_anchor IS 'subscription.billing_cycle_anchor';
COMMENT ON COLUMN billing.subscription_timeline.anchor_day IS 'subscription.billing_cycle_anchor_config.day_of_month; null if not set.';

CREATE TABLE billing.phase_facts (
    account text COLLATE "C" NOT NULL,
    subscription_id text COLLATE "C" NOT NULL,
    starts_at timestamptz NOT NULL,
    price_ids text[] NOT NULL,
    quantities bigint[] NOT NULL,
    PRIMARY KEY (account, subscription_id, starts_at, price_ids, quantities)
);

COMMENT ON TABLE billing.phase_facts IS 'Phases of schedules: when a subscription changes to which items. Contains every phase of any event or read.';
COMMENT ON COLUMN billing.phase_facts.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.phase_facts.subscription_id IS 'schedule.subscription, else schedule.released_subscription.';
COMMENT ON COLUMN billing.phase_facts.starts_at IS 'phase.start_date';
COMMENT ON COLUMN billing.phase_facts.price_ids IS 'The price of each item, sorted by price and quantity.';
COMMENT ON COLUMN billing.phase_facts.quantities IS 'The quantity of each of these items; null if not set.';

CREATE FUNCTION billing.scheduled_at(account text, subscription_id text, stated_at timestamptz, price_ids text[], quantities bigint[])
    RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT phase.starts_at
    FROM billing.phase_facts AS phase
    WHERE phase.account = $1 AND phase.subscription_id = $2 AND phase.price_ids = $4
        AND NOT EXISTS (SELECT FROM unnest(phase.quantities, $5) AS item (planned, actual) WHERE item.planned <> item.actual)
        -- Stripe reports a phase within minutes of its start, and a late event keeps its creation time. So what is stated more
        -- than an hour after the start is another change. Phases stay known after their schedule was released
        AND phase.starts_at > $3 - interval '1 hour'
        -- only the last phase that began can have caused the change
        AND phase.starts_at = (SELECT max(last.starts_at) FROM billing.phase_facts AS last
            WHERE last.account = $1 AND last.subscription_id = $2 AND last.starts_at <= $3)
    LIMIT 1
$$;

COMMENT ON FUNCTION billing.scheduled_at(text, text, timestamptz, text[], bigint[]) IS 'Start of the phase that brought these items: the last phase of any known schedule that began by then, if it began less than an hour before and has exactly these items; otherwise null.';

CREATE FUNCTION billing.in_force(account text, subscription_id text, before timestamptz) RETURNS TABLE (
    effective_from timestamptz, status text, payment_paused boolean, ended_at timestamptz, price_ids text[], quantities bigint[]
) LANGUAGE sql STABLE ROWS 1 AS $$
    -- the newest report overrides older ones, even if those count from a later time
    SELECT t.effective_from, t.status, t.payment_paused, t.ended_at, t.price_ids, t.quantities
    FROM billing.subscription_timeline AS t
    WHERE t.account = $1 AND t.subscription_id = $2 AND t.effective_from < $3
    ORDER BY t.stated_at DESC, t.tie_break DESC, t.source DESC
    LIMIT 1
$$;

COMMENT ON FUNCTION billing.in_force(text, text, timestamptz) IS 'State of a subscription just before that time: the newest report that took effect before it. At infinity: its current state.';
