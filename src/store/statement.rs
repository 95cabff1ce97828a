//! The statements that write and lock synced rows, generated for each table from its list of columns.
//!
//! Rows are passed as one JSON array and take their types from the table itself. An unchanged row is not written, so
//! `updated_at` is the time of the last real change. A changed row is recorded in `row_changes` with its causes by the
//! same statement, whose snapshot contains the old row.

/// The statement that upserts rows of a table by id.
///
/// `$1`: the rows; `$2`, `$3`, `$4`: ids of rows, their causes, separated by spaces, and their changes to record if
/// they are new. Returns the written rows, with the changes of those that are not new.
macro_rules! upsert {
    ($table:literal: $first:ident $(, $column:ident)*) => {
        concat!(
            "-- store.save_", $table, "
            WITH incoming AS MATERIALIZED (
                SELECT * FROM json_populate_recordset(NULL::billing.", $table, ", $1::text::json)
            ), old AS MATERIALIZED (
                SELECT t.id, to_jsonb(t) AS row FROM incoming
                CROSS JOIN LATERAL (SELECT * FROM billing.", $table, " AS t WHERE t.id = incoming.id OFFSET 0) AS t
            ), written AS (
                INSERT INTO billing.", $table, " AS t (", stringify!($first), $(", ", stringify!($column),)* ")
                SELECT ", stringify!($first), $(", ", stringify!($column),)* " FROM incoming ORDER BY id
                ON CONFLICT (id) DO UPDATE SET
                    ", stringify!($first), " = excluded.", stringify!($first),
                    $(", ", stringify!($column), " = excluded.", stringify!($column),)* ",
                    updated_at = clock_timestamp()
                WHERE (t.", stringify!($first), $(", t.", stringify!($column),)* ")
                    IS DISTINCT FROM (excluded.", stringify!($first), $(", excluded.", stringify!($column),)* ")
                RETURNING t.id
            ), noted AS (
                INSERT INTO billing.row_changes (table_name, row_id, causes, changes)
                SELECT '", $table, "', written.id, coalesce(string_to_array(nullif(cause.causes, ''), ' '), '{}'),
                    coalesce(changed.fields, cause.as_new::jsonb)
                FROM written
                LEFT JOIN unnest($2::uuid[], $3::text[], $4::text[]) AS cause (id, causes, as_new) USING (id)
                LEFT JOIN old USING (id)
                LEFT JOIN incoming ON incoming.id = old.id
                LEFT JOIN LATERAL (
                    SELECT coalesce(jsonb_object_agg(field.key, jsonb_build_array(old.row -> field.key, field.value)),
                        '{}') AS fields
                    FROM jsonb_each(to_jsonb(incoming)) AS field (key, value)
                    -- columns that the product writes in this row meanwhile are not recorded
                    WHERE field.key IN ('", stringify!($first), "'", $(", '", stringify!($column), "'",)* ")
                        AND field.value IS DISTINCT FROM coalesce(old.row -> field.key, 'null')
                ) AS changed ON old.id IS NOT NULL
                RETURNING row_id, changes
            )
            SELECT noted.row_id, CASE WHEN old.id IS NOT NULL THEN noted.changes::text END AS changes
            FROM noted LEFT JOIN old ON old.id = noted.row_id
            ORDER BY noted.row_id"
        )
    };
}

/// The statement that locks rows of a table by id, and returns the ids of the rows that another session has locked.
macro_rules! held {
    ($table:literal) => {
        concat!(
            "-- store.held_",
            $table,
            "
            WITH free AS MATERIALIZED (
                SELECT t.id FROM billing.",
            $table,
            " AS t WHERE t.id = ANY($1) ORDER BY t.id FOR UPDATE SKIP LOCKED
            )
            SELECT t.id FROM billing.",
            $table,
            " AS t WHERE t.id = ANY($1) AND t.id NOT IN (SELECT free.id FROM free)"
        )
    };
}

pub(super) use {held, upsert};
