-- Who names an object is asked for each object that changes. New entries of a GIN index wait in a list that every look-up
-- reads to its end: with 4 MB of it, as a backfill makes in seconds, a look-up takes milliseconds and a page seconds.
ALTER INDEX billing.stripe_objects_refs SET (fastupdate = off);
SELECT gin_clean_pending_list('billing.stripe_objects_refs'::regclass);
