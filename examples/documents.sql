-- The product's own table, which the examples write. Run this once, as the role of your product:
--
--     psql --set ON_ERROR_STOP=1 --file examples/documents.sql "$DATABASE_URL"
CREATE TABLE IF NOT EXISTS documents (
    workspace_id uuid NOT NULL,
    -- made once for each document, before the first attempt to store it, so that a second attempt finds the row
    id uuid NOT NULL,
    words bigint NOT NULL,
    PRIMARY KEY (workspace_id, id)
);
