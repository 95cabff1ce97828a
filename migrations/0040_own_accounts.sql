-- Our own account by its id. Events of an organization's endpoint name it in `context`; it is ours all the same.
CREATE TABLE billing.own_accounts (
    account_id text COLLATE "C" PRIMARY KEY CHECK (octet_length(account_id) BETWEEN 1 AND 255),
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.own_accounts IS 'Ids of our own account: of BILLING_SYNC_OWN_ACCOUNT, and of the API key once nothing contradicts it. An event that names one of them is our own, and its account is stored as the empty text.';
COMMENT ON COLUMN billing.own_accounts.account_id IS 'Stripe''s id (acct_…).';
COMMENT ON COLUMN billing.own_accounts.noted_at IS 'When it became known, by the database''s clock.';
