-- Stores a document and consumes its words in one transaction: both, or neither. For psql:
--
--     psql --set workspace=550e8400-e29b-41d4-a716-446655440000 --set words=250 \
--         --set document=0f3d1c52-6a58-4e0b-9d37-5f9a2b8c4e10 --file examples/sql/consume.sql "$DATABASE_URL"
--
-- After 40001, 40P01 or a lost connection, run it again with the same document: it is stored and counted once.
\set ON_ERROR_STOP on
-- show the SQLSTATE of an error, and its DETAIL
\set VERBOSITY verbose
BEGIN;
INSERT INTO documents (workspace_id, id, words) VALUES (:'workspace', :'document', :'words') ON CONFLICT DO NOTHING;
-- last, because it locks the balance until the commit. Null means unlimited
SELECT billing.consume(:'workspace', 'words', :'words', :'document') AS remaining;
COMMIT;
