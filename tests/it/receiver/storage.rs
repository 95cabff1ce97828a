//! Between the queue and the database: group commit, durability, failure.

use std::sync::Arc;
use std::time::Duration;

use billing_sync::config::receiver::ReceiverConfig;
use billing_sync::database::{self, Connection, Idle, Pool, Session};
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::receiver::Receiver;
use prometheus::Registry;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{app, app_with, config, event, signed};
use crate::support::client::Client;

#[tokio::test]
async fn without_a_database_the_answer_is_503_until_it_is_back() {
    let app = app_with(ReceiverConfig { store_timeout: Duration::from_millis(500), ..config() }).await;
    assert_eq!(app.deliver(&event("evt_1", "")).await.status, 200);
    app.database_is_there(false).await;
    let reply = app.deliver(&event("evt_2", "")).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    app.database_is_there(true).await;
    assert_eq!(app.deliver(&event("evt_2", "")).await.status, 200);
    assert_eq!(app.count("billing.outbox").await, 2);
    assert_eq!(app.outcomes("unavailable"), 1);
    app.stop().await;
}

#[tokio::test]
async fn an_event_is_stored_after_its_connections_were_lost() {
    let app = app().await;
    let (session, limit, unchecked) = (Session::BACKGROUND, Duration::from_secs(2), Duration::from_hours(1));
    let pool = database::pool_with(&app.database.options, session, 2, limit, Idle::Kept, unchecked);
    // both connections of the pool are open
    let both = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    drop(both);
    let metrics = Arc::new(ProcessMetrics::new(&Registry::new()).unwrap());
    let receiver = Receiver::bind(&config(), pool.clone(), metrics).await.unwrap();
    let addr = receiver.local_addr().unwrap();
    let receiver = tokio::spawn(receiver.run(app.shutdown.clone()));
    while pool.num_idle() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let mut conn = Connection::from(sqlx::PgConnection::connect_with(&app.database.options).await.unwrap());
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let end = AssertSqlSafe(format!("SELECT count(pg_terminate_backend(pid)) {others}"));
    assert!(sqlx::query_scalar::<_, i64>(end).fetch_one(&mut conn).await.unwrap() >= 2);
    let left = format!("SELECT count(*) {others}");
    while sqlx::query_scalar::<_, i64>(AssertSqlSafe(left.clone())).fetch_one(&mut conn).await.unwrap() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let mut client = Client::connect(addr).await;
    client.send(&signed(&event("evt_1", ""))).await;
    assert_eq!(client.reply().await.unwrap().text, "stored\n");
    app.stop().await;
    receiver.await.unwrap();
}

#[tokio::test]
async fn a_slow_database_gets_503_in_time_and_a_full_queue_at_once() {
    let limits = ReceiverConfig { store_timeout: Duration::from_millis(700), queue_capacity: 1, ..config() };
    let app = Arc::new(app_with(limits).await);
    let lock = app.lock_events().await;
    let spawn = |id: &'static str| {
        let app = app.clone();
        tokio::spawn(async move { app.deliver(&event(id, "")).await })
    };
    let in_flight = spawn("evt_1");
    app.a_statement_waits().await;
    let queued = spawn("evt_2");
    sleep(Duration::from_millis(100)).await;
    let busy = timeout(Duration::from_millis(200), app.deliver(&event("evt_3", ""))).await.expect("at once");
    assert_eq!((busy.status, busy.header("retry-after"), app.outcomes("busy")), (503, Some("5"), 1));
    assert_eq!(in_flight.await.unwrap().status, 503);
    assert_eq!(queued.await.unwrap().status, 503);
    lock.rollback().await.unwrap();
    for id in ["evt_1", "evt_2", "evt_3"] {
        assert_eq!(app.deliver(&event(id, "")).await.status, 200);
    }
    assert_eq!(app.count("billing.outbox").await, 3);
}

#[tokio::test]
async fn an_event_that_the_database_refuses_fails_no_neighbour() {
    let app = Arc::new(app().await);
    app.execute("ALTER TABLE billing.outbox ADD CHECK (event_id <> 'evt_bad')").await;
    let lock = app.lock_events().await;
    let spawn = |id: &'static str| {
        let app = app.clone();
        tokio::spawn(async move { app.deliver(&event(id, "")).await.status })
    };
    let first = spawn("evt_0");
    app.a_statement_waits().await;
    let gathered = ["evt_a", "evt_bad", "evt_c"].map(spawn);
    sleep(Duration::from_millis(200)).await;
    lock.rollback().await.unwrap();
    assert_eq!(first.await.unwrap(), 200);
    let mut statuses = Vec::new();
    for post in gathered {
        statuses.push(post.await.unwrap());
    }
    assert_eq!(statuses, [200, 503, 200]);
    assert_eq!((app.count("billing.outbox").await, app.count("billing.events").await), (3, 3));
    assert_eq!(app.outcomes("refused"), 1);
}

#[tokio::test]
async fn events_that_gather_share_one_insert() {
    let app = Arc::new(app().await);
    app.execute(
        "CREATE TABLE statements (n serial);
         CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO statements DEFAULT VALUES; PERFORM pg_sleep(0.02); RETURN NULL; END';
         CREATE TRIGGER count AFTER INSERT ON billing.outbox EXECUTE FUNCTION count_statement()",
    )
    .await;
    let mut posts = JoinSet::new();
    for number in 0..200 {
        let app = app.clone();
        posts.spawn(async move { app.deliver(&event(&format!("evt_{number}"), "")).await.status });
    }
    assert!(posts.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!(app.count("billing.outbox").await, 200);
    let statements = app.count("statements").await;
    assert!(statements < 50, "{statements} statements for 200 events");
}

#[tokio::test]
async fn two_receivers_with_the_same_events_do_not_deadlock() {
    let app = app().await;
    // slow rows, so that two statements run at the same time
    app.execute(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END';
         CREATE TRIGGER dawdle BEFORE INSERT ON billing.events_default FOR EACH ROW EXECUTE FUNCTION dawdle()",
    )
    .await;
    let pool = Pool::from(PgPoolOptions::new().connect_lazy_with(app.database.options.clone()));
    let metrics = Arc::new(ProcessMetrics::new(&Registry::new()).unwrap());
    let other = Receiver::bind(&config(), pool, metrics).await.unwrap();
    let addresses = [app.addr, other.local_addr().unwrap()];
    let other = tokio::spawn(other.run(app.shutdown.clone()));
    let mut posts = JoinSet::new();
    for number in 0..100 {
        // one receiver inserts them in ascending order, the other in descending order
        for (addr, number) in addresses.into_iter().zip([number, 99 - number]) {
            posts.spawn(async move {
                let mut client = Client::connect(addr).await;
                client.send(&signed(&event(&format!("evt_{number}"), ""))).await;
                client.reply().await.unwrap().text
            });
        }
    }
    let replies = posts.join_all().await;
    assert_eq!(replies.iter().filter(|text| *text == "stored\n").count(), 100);
    assert_eq!(replies.iter().filter(|text| *text == "already known\n").count(), 100);
    assert_eq!(app.outcomes("unavailable"), 0);
    app.stop().await;
    other.await.unwrap();
}

#[tokio::test]
async fn a_commit_is_durable_despite_the_database_default() {
    let app = app().await;
    let name = app.database.options.get_database().unwrap().to_owned();
    sqlx::raw_sql(AssertSqlSafe(format!("ALTER DATABASE {name} SET synchronous_commit = off")))
        .execute(&app.pool)
        .await
        .unwrap();
    // deferred, so it runs last before the commit, with the setting of the commit
    app.execute(
        "CREATE TABLE seen (setting text, lsn pg_lsn);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
             INSERT INTO seen VALUES (current_setting(''synchronous_commit''), pg_current_wal_insert_lsn());
             RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER see AFTER INSERT ON billing.outbox_default DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION see()",
    )
    .await;
    assert_eq!(app.deliver(&event("evt_1", "")).await.status, 200);
    let durable: (String, bool) = sqlx::query_as("SELECT setting, pg_current_wal_flush_lsn() > lsn FROM seen")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(durable, ("on".into(), true));
    // as a control, the session's own setting is off before and after
    let mut conn = Connection::from(sqlx::PgConnection::connect_with(&app.database.options).await.unwrap());
    let setting: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut conn).await.unwrap();
    assert_eq!(setting, "off");
    app.stop().await;
}

#[tokio::test]
async fn the_workers_are_woken_after_a_commit_and_not_for_a_duplicate() {
    let app = app().await;
    let mut listener = app.pool.listener().await.unwrap();
    listener.listen("billing_sync_outbox").await.unwrap();
    app.deliver(&event("evt_1", "")).await;
    timeout(Duration::from_secs(5), listener.recv()).await.expect("a notification").unwrap();
    app.deliver(&event("evt_1", "")).await;
    assert!(timeout(Duration::from_millis(300), listener.recv()).await.is_err());
    app.stop().await;
}
