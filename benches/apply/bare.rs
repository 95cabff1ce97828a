//! The minimum SQL with the same final writes, on one connection: for each 500 events their mirror rows, the resulting
//! product rows and change records, and the events' own rows in the queue.

use std::time::{Duration, Instant};

use billing_sync::database::Connection;
use sqlx::AssertSqlSafe;

use super::support::run;

/// Events in one transaction.
const BATCH: i64 = 500;

/// Copies the rows that the worker wrote to tables with the same columns and indexes, and measures how long writing
/// them again takes. The queue's rows are set to pending first, so that the update is the same.
pub(crate) async fn writes(conn: &mut Connection, events: i64) -> Duration {
    prepare(conn).await;
    // as in the worker's sessions
    run(conn, "SET default_toast_compression = lz4").await;
    let began = Instant::now();
    let mut done = 0;
    while done < events {
        run(conn, "BEGIN").await;
        for statement in STATEMENTS {
            sqlx::query(AssertSqlSafe(*statement)).bind(done).bind(done + BATCH).execute(&mut *conn).await.unwrap();
        }
        run(conn, "COMMIT").await;
        done += BATCH;
    }
    began.elapsed()
}

/// The statements of one batch. The content of the rows is read from the source tables by position; these are cached.
const STATEMENTS: &[&str] = &[
    "INSERT INTO bare.stripe_objects SELECT (s.row).* FROM bare.source_objects AS s WHERE s.place >= $1 AND s.place < $2
     ON CONFLICT (account, object_type, object_id) DO UPDATE SET version = excluded.version, content = excluded.content,
        origin = excluded.origin, event_id = excluded.event_id, refs = excluded.refs, changed_at = clock_timestamp()",
    "INSERT INTO bare.billing_contacts SELECT (s.row).* FROM bare.source_contacts AS s WHERE s.place >= $1 AND s.place < $2
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email, updated_at = clock_timestamp(),
        default_payment_method = excluded.default_payment_method",
    "INSERT INTO bare.subscriptions SELECT (s.row).* FROM bare.source_subscriptions AS s
     WHERE s.place >= $1 AND s.place < $2
     ON CONFLICT (id) DO UPDATE SET stripe_status = excluded.stripe_status, updated_at = clock_timestamp(),
        payment_type = excluded.payment_type, stripe_price_id = excluded.stripe_price_id",
    "INSERT INTO bare.row_changes (table_name, row_id, causes, changes)
     SELECT table_name, row_id, causes, changes FROM bare.source_changes WHERE place >= $1 AND place < $2",
    "UPDATE bare.outbox AS o SET state = 'done', outcome = s.outcome, reason = s.reason, finished_at = clock_timestamp()
     FROM bare.source_outbox AS s
     WHERE s.place >= $1 AND s.place < $2 AND o.event_id = s.event_id AND o.created = s.created",
];

async fn prepare(conn: &mut Connection) {
    run(
        conn,
        "DROP SCHEMA IF EXISTS bare CASCADE; CREATE SCHEMA bare;
        CREATE TABLE bare.stripe_objects (LIKE billing.stripe_objects INCLUDING ALL);
        CREATE TABLE bare.billing_contacts (LIKE billing.billing_contacts INCLUDING ALL);
        CREATE TABLE bare.subscriptions (LIKE billing.subscriptions INCLUDING ALL);
        CREATE TABLE bare.row_changes (LIKE billing.row_changes INCLUDING ALL);
        CREATE TABLE bare.outbox (LIKE billing.outbox INCLUDING ALL);
        INSERT INTO bare.outbox SELECT * FROM billing.outbox;
        UPDATE bare.outbox SET state = 'pending', outcome = NULL, reason = NULL, finished_at = NULL;
        CREATE TABLE bare.source_outbox AS
            SELECT row_number() OVER (ORDER BY received_at, event_id) - 1 AS place, * FROM billing.outbox;
        CREATE TABLE bare.source_objects AS
            SELECT e.place, o AS row FROM billing.stripe_objects AS o
            JOIN bare.source_outbox AS e USING (account, object_type, object_id);
        CREATE TABLE bare.source_changes AS
            SELECT e.place, c.* FROM billing.row_changes AS c
            JOIN bare.source_outbox AS e ON e.event_id = c.causes[array_upper(c.causes, 1)];
        CREATE TABLE bare.source_contacts AS
            SELECT c.place, t AS row FROM billing.billing_contacts AS t
            JOIN (SELECT DISTINCT place, row_id FROM bare.source_changes) AS c ON c.row_id = t.id;
        CREATE TABLE bare.source_subscriptions AS
            SELECT c.place, t AS row FROM billing.subscriptions AS t
            JOIN (SELECT DISTINCT place, row_id FROM bare.source_changes) AS c ON c.row_id = t.id;",
    )
    .await;
    for table in ["objects", "contacts", "subscriptions"] {
        // only the last row of an object in a batch is written, as the worker does
        run(
            conn,
            format!(
                "DELETE FROM bare.source_{table} AS a USING bare.source_{table} AS b
                WHERE a.place / {BATCH} = b.place / {BATCH} AND a.place < b.place AND {}",
                if table == "objects" {
                    "(a.row).object_id = (b.row).object_id AND (a.row).object_type = (b.row).object_type"
                } else {
                    "(a.row).id = (b.row).id"
                }
            ),
        )
        .await;
    }
    for table in ["outbox", "objects", "changes", "contacts", "subscriptions"] {
        run(conn, format!("CREATE INDEX ON bare.source_{table} (place)")).await;
    }
    run(conn, "VACUUM ANALYZE").await;
    run(conn, "CHECKPOINT").await;
}
