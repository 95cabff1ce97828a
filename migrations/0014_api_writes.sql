-- The ledger of the changes that the workspace API makes at Stripe. A line is committed before its request is sent, and
-- names the idempotency key of every attempt: so a change that was interrupted is completed, and made once.
CREATE TABLE billing.api_writes (
    id uuid PRIMARY KEY,
    principal text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL CHECK (operation IN ('customer.create', 'customer.update',
        'checkout_session.create', 'payment_link.create', 'payment_link.update', 'subscription.cancel')),
    account text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    workspace_id uuid,
    object_type text COLLATE "C" NOT NULL,
    object_id text COLLATE "C",
    path text COLLATE "C" NOT NULL,
    form text,
    previous_id uuid REFERENCES billing.api_writes,
    replaces text COLLATE "C",
    follow_up_due boolean NOT NULL DEFAULT false,
    state text COLLATE "C" NOT NULL DEFAULT 'begun' CHECK (state IN ('begun', 'sent', 'done', 'refused', 'unknown')),
    key_number integer NOT NULL DEFAULT 1 CHECK (key_number > 0),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    known_version timestamptz,
    known_event_id text COLLATE "C",
    last_error text CHECK (octet_length(last_error) <= 2000),
    is_error_saved boolean NOT NULL DEFAULT false,
    stripe_request_id text COLLATE "C",
    stripe_status integer,
    resolved_by text,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_sent_at timestamptz,
    leased_until timestamptz,
    retry_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '10 seconds',
    finished_at timestamptz,
    CONSTRAINT api_writes_are_finished_or_open CHECK ((state IN ('begun', 'sent')) = (finished_at IS NULL)),
    CONSTRAINT api_writes_begun_are_not_sent CHECK (state <> 'begun' OR first_sent_at IS NULL),
    CONSTRAINT api_writes_open_have_a_form CHECK (finished_at IS NOT NULL OR form IS NOT NULL),
    CONSTRAINT api_writes_failed_have_an_error CHECK (state NOT IN ('refused', 'unknown') OR last_error IS NOT NULL)
);
-- two writers of one target go one after the other
CREATE UNIQUE INDEX api_writes_open_target ON billing.api_writes (account, target) WHERE state IN ('begun', 'sent');
CREATE INDEX api_writes_due ON billing.api_writes (retry_at) WHERE state IN ('begun', 'sent');
CREATE INDEX api_writes_unknown ON billing.api_writes (finished_at) WHERE state = 'unknown';
CREATE INDEX api_writes_follow_up ON billing.api_writes (account, object_id) WHERE follow_up_due;
CREATE INDEX api_writes_object ON billing.api_writes (object_id, begun_at);
CREATE INDEX api_writes_finished ON billing.api_writes (finished_at) WHERE state IN ('done', 'refused');
CREATE INDEX api_writes_previous ON billing.api_writes (previous_id) WHERE previous_id IS NOT NULL;

COMMENT ON TABLE billing.api_writes IS 'The ledger of changes at Stripe that the workspace API makes: one line for each request to Stripe. Never contains a client secret. Lines that are done or refused are deleted after 30 days.';
COMMENT ON COLUMN billing.api_writes.id IS 'Part of the idempotency key at Stripe, and of metadata of new objects (billing_sync_write).';
COMMENT ON COLUMN billing.api_writes.principal IS 'Who asked for it: token:<id> or user:<uuid>; billing-sync for a step that follows from an earlier one.';
COMMENT ON COLUMN billing.api_writes.operation IS 'What is changed.';
COMMENT ON COLUMN billing.api_writes.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.api_writes.target IS 'The object or workspace to which the change belongs, as type/id. Only one line of a target is open at a time.';
COMMENT ON COLUMN billing.api_writes.workspace_id IS 'The workspace for which it is made; null if there is none.';
COMMENT ON COLUMN billing.api_writes.object_type IS 'Stripe''s type of the object that is changed or created.';
COMMENT ON COLUMN billing.api_writes.object_id IS 'Stripe''s id of that object; null until it is created.';
COMMENT ON COLUMN billing.api_writes.path IS 'Path of the request, without v1.';
COMMENT ON COLUMN billing.api_writes.form IS 'Form of the request, the same for every attempt. Contains personal data; null one day after the line was finished.';
COMMENT ON COLUMN billing.api_writes.previous_id IS 'The line from which this one follows.';
COMMENT ON COLUMN billing.api_writes.replaces IS 'The subscription that ends once the new checkout session is complete.';
COMMENT ON COLUMN billing.api_writes.follow_up_due IS 'Another line follows from this one, and does not exist yet.';
COMMENT ON COLUMN billing.api_writes.state IS 'begun: not sent yet; sent: sent, perhaps without an answer, repeated until the outcome is known; done: Stripe made the change; refused: Stripe did not; unknown: the outcome cannot be found any more, an operator decides (`billing-sync writes resolve`).';
COMMENT ON COLUMN billing.api_writes.key_number IS 'The idempotency key at Stripe is billing-sync-<id>-<key_number>. It rises only after a look at Stripe has shown that nothing was changed.';
COMMENT ON COLUMN billing.api_writes.attempts IS 'Number of times that a process began to send it.';
COMMENT ON COLUMN billing.api_writes.known_version IS 'Version of the object in the mirror before it was first sent: that content is older than the answer.';
COMMENT ON COLUMN billing.api_writes.known_event_id IS 'The event of that content, or another word for its source.';
COMMENT ON COLUMN billing.api_writes.last_error IS 'Error of the last attempt; never contains Stripe''s text.';
COMMENT ON COLUMN billing.api_writes.is_error_saved IS 'Stripe has saved its error under the key, and would repeat it: before the next attempt, the object is read.';
COMMENT ON COLUMN billing.api_writes.stripe_request_id IS 'Stripe''s id of the last answered request.';
COMMENT ON COLUMN billing.api_writes.stripe_status IS 'HTTP status of the last answer of Stripe.';
COMMENT ON COLUMN billing.api_writes.resolved_by IS 'Why an operator resolved it, as given to `billing-sync writes resolve`.';
COMMENT ON COLUMN billing.api_writes.begun_at IS 'When it was asked for, by the database''s clock.';
COMMENT ON COLUMN billing.api_writes.first_sent_at IS 'When it was first sent with the present key. Stripe keeps a key for 24 hours.';
COMMENT ON COLUMN billing.api_writes.leased_until IS 'Until then, one process is sending it.';
COMMENT ON COLUMN billing.api_writes.retry_at IS 'When an open line is tried again.';
COMMENT ON COLUMN billing.api_writes.finished_at IS 'When it was done, refused or found to be unknown.';

ALTER TABLE billing.api_requests
    -- the key is stored before its line
    ADD COLUMN write_id uuid REFERENCES billing.api_writes ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    DROP CONSTRAINT api_requests_are_answered_whole,
    ADD CONSTRAINT api_requests_are_answered_whole CHECK ((status IS NULL) = (body IS NULL));
DROP INDEX billing.api_requests_created_at;
CREATE INDEX api_requests_created_at ON billing.api_requests (created_at) WHERE write_id IS NULL;
CREATE INDEX api_requests_write ON billing.api_requests (write_id) WHERE write_id IS NOT NULL;

COMMENT ON TABLE billing.api_requests IS 'POST requests with an Idempotency-Key and their answers, so that a repeated request gets the same answer and changes nothing. Written in the transaction of the request. Kept for 24 hours; with a line in api_writes as long as that.';
COMMENT ON COLUMN billing.api_requests.status IS 'Status code of the answer; null until the request is answered.';
COMMENT ON COLUMN billing.api_requests.write_id IS 'The change at Stripe that the request makes; null if it makes none.';
