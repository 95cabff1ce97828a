-- Checkout links: what the API keeps of each payment link in Stripe that it creates.
CREATE TABLE billing.checkout_links (
    id uuid PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    stripe_payment_link_id text COLLATE "C",
    url text,
    name text,
    is_enabled boolean,
    -- json keeps the text as it is: the order of the fields, and the digits of numbers
    request json NOT NULL,
    created_by text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT checkout_links_stripe_payment_link UNIQUE (account, stripe_payment_link_id),
    CONSTRAINT checkout_links_are_created_whole CHECK (
        (stripe_payment_link_id IS NULL) = (url IS NULL) AND (stripe_payment_link_id IS NULL) = (is_enabled IS NULL))
);

COMMENT ON TABLE billing.checkout_links IS 'Checkout links that the API created: one row for each payment link in Stripe. Written in the transaction that begins the change in api_writes, and completed in the transaction that completes it; deleted if Stripe refuses the change.';
COMMENT ON COLUMN billing.checkout_links.id IS 'Row id: that of the line in api_writes, also in the metadata of the payment link (billing_sync_write).';
COMMENT ON COLUMN billing.checkout_links.account IS 'Connected account; empty for the account itself.';
COMMENT ON COLUMN billing.checkout_links.stripe_payment_link_id IS 'Stripe''s id of the payment link; null until Stripe has created it.';
COMMENT ON COLUMN billing.checkout_links.url IS 'URL at which customers buy; null until Stripe has created the payment link.';
COMMENT ON COLUMN billing.checkout_links.name IS 'Names of what is sold; null if none has a name.';
COMMENT ON COLUMN billing.checkout_links.is_enabled IS 'Whether customers can visit the link, as the API left it at Stripe; null until Stripe has created the payment link.';
COMMENT ON COLUMN billing.checkout_links.request IS 'Body of the request, as it was sent. Contains what Stripe has no field for: contract periods, the URL of the back button.';
COMMENT ON COLUMN billing.checkout_links.created_by IS 'Who asked for it: token:<id> or user:<uuid>.';
COMMENT ON COLUMN billing.checkout_links.created_at IS 'When it was asked for, by the database''s clock.';

COMMENT ON COLUMN billing.api_tokens.scopes IS 'What the token permits: workspaces:read, workspaces:write, workspaces:admin, checkout-link:write.';
