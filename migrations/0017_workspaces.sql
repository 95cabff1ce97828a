-- What the product tells us about its workspaces. The sync reads it in views only, and never writes it.
CREATE TABLE billing.workspaces (
    id uuid PRIMARY KEY,
    name text,
    key text UNIQUE,
    member_count integer CHECK (member_count >= 0),
    billing_contact_override uuid,
    created_by_user_id uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE billing.workspaces IS 'Yours: one row for each workspace that you want the views to know. The sync never writes it, and needs no row here to work.';
COMMENT ON COLUMN billing.workspaces.id IS 'The id that metadata in Stripe name as workspace_id.';
COMMENT ON COLUMN billing.workspaces.name IS 'Name of the workspace.';
COMMENT ON COLUMN billing.workspaces.key IS 'Human readable unique identifier of the workspace.';
COMMENT ON COLUMN billing.workspaces.member_count IS 'How many members it has; null is unknown, and then no plan''s limit of members is enforced.';
COMMENT ON COLUMN billing.workspaces.billing_contact_override IS 'billing_contacts.id of who pays, where that is not the customer of the current subscription.';
COMMENT ON COLUMN billing.workspaces.created_by_user_id IS 'Who made it.';
COMMENT ON COLUMN billing.workspaces.created_at IS 'When this row was first written, by the database''s clock.';
COMMENT ON COLUMN billing.workspaces.updated_at IS 'When this row last changed, as you set it.';
