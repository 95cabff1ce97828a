//! Retention: what is removed, what stays, and what is still right without what was removed.

use std::time::Duration;

use billing_sync::base::clock;
use billing_sync::database::Pool;
use billing_sync::maintenance::retention::{self, Done, History};
use billing_sync::outbox::partitions::Parent;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use time::{Date, OffsetDateTime, Time};

use crate::cli::{code, run, words};
use crate::support::app::TestApp;
use crate::support::cluster::number;
use crate::support::events::{START, customer, event, subscription, update, with};

const RETENTION: Duration = Duration::from_hours(90 * 24);

/// The first day of the month that began this many months ago.
pub(crate) fn month_ago(months: i32) -> Date {
    let mut first = clock::now().replace_day(1).unwrap().date();
    for _ in 0..months {
        first = first.previous_day().unwrap().replace_day(1).unwrap();
    }
    first
}

/// An event about a customer of its own, on the 15th of a month.
pub(crate) fn dated(id: &str, months_ago: i32) -> Value {
    let created = month_ago(months_ago).with_time(Time::MIDNIGHT).assume_utc() + time::Duration::days(14);
    let created = created.min(clock::now()).unix_timestamp();
    event(id, "customer.created", created - START, &customer(&format!("cus_{id}"), "Ada"), None)
}

/// Creates the months of the stored events, so that they are in partitions of their own.
pub(crate) async fn create_months(pool: &Pool) {
    sqlx::query("SELECT billing.create_partitions(3)").execute(pool).await.unwrap();
}

async fn prune(pool: &Pool) -> Vec<Done> {
    let mut conn = pool.acquire().await.unwrap();
    let plan = retention::plan(&mut conn, RETENTION).await.unwrap();
    let mut done = Vec::new();
    retention::remove(&mut conn, &plan, |step| done.push(step)).await.unwrap();
    done
}

/// The ids in both tables, which must be the same.
async fn stored(pool: &Pool) -> Vec<String> {
    let of = |table: &str| format!("SELECT event_id FROM billing.{table} ORDER BY event_id");
    let archived: Vec<String> = sqlx::query_scalar(AssertSqlSafe(of("events"))).fetch_all(pool).await.unwrap();
    let queued: Vec<String> = sqlx::query_scalar(AssertSqlSafe(of("outbox"))).fetch_all(pool).await.unwrap();
    assert_eq!(archived, queued);
    archived
}

#[tokio::test]
async fn whole_months_are_dropped_and_one_with_a_dead_event_is_kept() {
    let app = TestApp::start().await;
    let events = [dated("evt_a8", 8), dated("evt_b7", 7), dated("evt_c6", 6), dated("evt_d1", 1), dated("evt_e0", 0)];
    app.deliver_and_drain(&events).await;
    create_months(&app.pool).await;
    app.execute(
        "UPDATE billing.outbox SET state = 'dead', outcome = NULL, last_error = 'a cause' WHERE event_id = 'evt_b7'",
    )
    .await;
    let done = prune(&app.pool).await;
    let dropped = |months| [Parent::Outbox, Parent::Events].map(|parent| Done::Dropped(parent, month_ago(months)));
    let [eight, six] = [dropped(8), dropped(6)];
    assert_eq!([done[0].clone(), done[1].clone()], eight);
    assert!(matches!(&done[2], Done::Kept(month) if month.has_dead && !month.has_pending), "{done:?}");
    assert_eq!([done[3].clone(), done[4].clone()], six);
    assert_eq!(stored(&app.pool).await, ["evt_b7", "evt_d1", "evt_e0"]);

    let output = run(&["outbox", "prune", "--dry-run"], &[("DATABASE_URL", &app.database.url)]);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(text.contains("dead events, see billing-sync outbox list --state dead with a retention of"), "{text}");
    app.execute("UPDATE billing.outbox SET state = 'pending', finished_at = NULL WHERE event_id = 'evt_b7'").await;
    assert!(matches!(prune(&app.pool).await[..], [Done::Kept(ref month)] if month.has_pending), "pending");
    app.drain().await;
    let output = run(&["outbox", "prune", "--json"], &[("DATABASE_URL", &app.database.url)]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[2]["summary"]["dropped_partitions"]), (3, &json!(2)), "{text}");
    assert_eq!(stored(&app.pool).await, ["evt_d1", "evt_e0"]);
    app.finish().await;
}

/// The clock of the database may run ahead. Stripe's clock, in the events, must agree that the time has passed.
#[tokio::test]
async fn nothing_is_removed_without_newer_events_or_while_the_clocks_disagree() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[dated("evt_a9", 9), dated("evt_b8", 8)]).await;
    create_months(&app.pool).await;
    assert_eq!(prune(&app.pool).await, [], "the newest event is only a month younger");
    app.deliver_and_drain(&[dated("evt_c0", 0)]).await;
    app.execute("UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = 'a clock'").await;
    assert_eq!(prune(&app.pool).await, [], "renewals are halted");
    app.execute("UPDATE billing.renewal_rules SET halted_at = NULL, halted_because = NULL").await;
    assert_eq!(prune(&app.pool).await.len(), 4);
    assert_eq!(stored(&app.pool).await, ["evt_c0"]);
    app.finish().await;
}

/// Each session that reads the table would queue behind a lock that is waited for.
#[tokio::test]
async fn a_month_in_use_is_left_to_the_next_round() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[dated("evt_a9", 9), dated("evt_b0", 0)]).await;
    create_months(&app.pool).await;
    let mut reader = app.pool.acquire().await.unwrap();
    let mut transaction = reader.begin().await.unwrap();
    sqlx::query("SELECT FROM billing.outbox LIMIT 1").execute(&mut *transaction).await.unwrap();
    let before = std::time::Instant::now();
    assert_eq!(prune(&app.pool).await, [Done::Busy(Parent::Outbox, month_ago(9))]);
    assert!(before.elapsed() < Duration::from_secs(5), "it waits for {:?}", before.elapsed());
    transaction.rollback().await.unwrap();
    drop(reader);
    assert_eq!(stored(&app.pool).await.len(), 2);
    assert_eq!(prune(&app.pool).await.len(), 2);
    app.finish().await;
}

/// An event of a month without a partition, dated long ago.
#[tokio::test]
async fn events_in_the_default_partition_expire_too() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[dated("evt_a30", 30), dated("evt_b29", 29), dated("evt_c0", 0)]).await;
    create_months(&app.pool).await;
    app.execute(
        "UPDATE billing.outbox SET state = 'dead', outcome = NULL, last_error = 'a cause' WHERE event_id = 'evt_b29'",
    )
    .await;
    assert_eq!(prune(&app.pool).await, [Done::DeletedEvents(1)]);
    assert_eq!(stored(&app.pool).await, ["evt_b29", "evt_c0"]);
    app.finish().await;
}

#[tokio::test]
async fn the_histories_lose_their_oldest_rows() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[dated("evt_a0", 0)]).await;
    app.execute(
        "TRUNCATE billing.row_changes;
        INSERT INTO billing.row_changes (changed_at, table_name, row_id, causes, changes)
        SELECT clock_timestamp() - days * interval '1 day', 'subscriptions', md5('s')::uuid, '{}', '{}'
        FROM (VALUES (400), (300), (10), (200), (0)) AS change (days);
        INSERT INTO billing.reads (account, object_type, object_id, version, outcome, cause, read_at)
        SELECT '', 'customer', 'cus', now(), 'applied', 'fetch', clock_timestamp() - days * interval '1 day'
        FROM unnest(ARRAY[400, 300, 200, 30, 0]) AS read (days)",
    )
    .await;
    let done = prune(&app.pool).await;
    // the third change is young, so the fourth one stays beside it: no row is missing between two others
    assert_eq!(done, [Done::DeletedRows(History::RowChanges, 2), Done::DeletedRows(History::Reads, 3)]);
    assert_eq!(number(&app.pool, "SELECT count(*) FROM billing.row_changes").await, 3);
    assert_eq!(number(&app.pool, "SELECT count(*) FROM billing.reads").await, 2);
    app.finish().await;
}

/// The laws of order and of rebuilding hold without the archive: the mirror has the newest content.
#[tokio::test]
async fn rows_order_and_rebuild_do_not_need_what_was_removed() {
    let app = TestApp::start().await;
    let active = subscription("sub_1", "cus_1");
    let paused = with(&active, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    let marked = with(&paused, json!({ "description": "marked" }));
    let first = event("evt_c", "customer.created", 0, &customer("cus_1", "Ada"), None);
    let second = event("evt_s", "customer.subscription.created", 1, &active, None);
    app.deliver_and_drain(&[
        first.clone(),
        second.clone(),
        update("evt_p", "customer.subscription.updated", 9, &active, &paused),
        dated("evt_now", 0),
    ])
    .await;
    create_months(&app.pool).await;
    let rows = app.rows().await;
    prune(&app.pool).await;
    assert_eq!(stored(&app.pool).await, ["evt_now"]);
    assert_eq!(app.rows().await, rows, "rows do not depend on the archive");
    // a second delivery of a removed event is stored again, but changes nothing
    app.deliver_and_drain(&[first, second]).await;
    assert_eq!(app.fate("evt_s").await, "done superseded -");
    assert_eq!(app.rows().await, rows, "a repeated delivery");
    // a late event of the same second, which follows the state that the mirror still has
    app.deliver_and_drain(&[update("evt_m", "customer.subscription.updated", 9, &paused, &marked)]).await;
    assert_eq!(app.fate("evt_m").await, "done applied -");
    let output = run(&["rebuild"], &[("DATABASE_URL", &app.database.url)]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(app.rows().await, rows, "rebuild");
    let paused: OffsetDateTime =
        sqlx::query_scalar("SELECT version FROM billing.stripe_objects WHERE object_id = 'sub_1'")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(paused.unix_timestamp(), START + 9);
    app.finish().await;
}

#[test]
fn a_retention_shorter_than_stripes_list_is_refused() {
    let output = run(&["outbox", "prune", "--retention", "34d"], &[("DATABASE_URL", "postgres://localhost/none")]);
    let text = words(&output.stderr);
    assert!(code(&output) == 2 && text.contains("a duration from 35d to 36500d"), "{text}");
}
