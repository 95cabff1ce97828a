//! The receiver through its real door, against a real PostgreSQL.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use billing_sync::clock;
use billing_sync::config::receiver::ReceiverConfig;
use billing_sync::metrics::instance::Instance;
use billing_sync::receiver::signature::{self, WebhookSecret};
use billing_sync::receiver::{PATH, Receiver};
use prometheus::{Registry, TextEncoder};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::client::{Client, Reply, post};
use crate::support::cluster::{self, TestDatabase};

const SECRET: &str = "whsec_of_the_test";

struct App {
    addr: SocketAddr,
    database: TestDatabase,
    /// The test's own connections; the receiver has others.
    pool: PgPool,
    registry: Registry,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

fn config() -> ReceiverConfig {
    ReceiverConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        secrets: vec![WebhookSecret::new(SECRET).unwrap()],
        body_limit: 1024 * 1024,
        header_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        max_connections: 512,
        queue_capacity: 1024,
        store_timeout: Duration::from_secs(5),
    }
}

async fn app() -> App {
    app_with(config()).await
}

async fn app_with(config: ReceiverConfig) -> App {
    let database = cluster::database().await;
    let registry = Registry::new();
    let metrics = Arc::new(Instance::new(&registry).unwrap());
    let own = PgPoolOptions::new().max_connections(4).connect_lazy_with(database.options.clone());
    let receiver = Receiver::bind(&config, own, metrics).await.unwrap();
    let addr = receiver.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(receiver.run(shutdown.clone()));
    let pool = PgPoolOptions::new().max_connections(4).connect_with(database.options.clone()).await.unwrap();
    App { addr, database, pool, registry, shutdown, server }
}

impl App {
    async fn send(&self, request: &[u8]) -> Reply {
        let mut client = Client::connect(self.addr).await;
        client.send(request).await;
        client.reply().await.expect("an answer")
    }

    async fn deliver(&self, body: &[u8]) -> Reply {
        self.send(&signed(body)).await
    }

    async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&self.pool).await.unwrap()
    }

    async fn payload(&self, id: &str) -> Vec<u8> {
        let query = "SELECT payload FROM billing.events WHERE event_id = $1";
        sqlx::query_scalar(query).bind(id).fetch_one(&self.pool).await.unwrap()
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    fn outcomes(&self, outcome: &str) -> u64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let series = format!("billing_sync_webhook_requests_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    }

    /// Stops taking connections to this database, or takes them again.
    async fn database_is_there(&self, there: bool) {
        let name = self.database.options.get_database().unwrap().to_owned();
        let mut conn = PgConnection::connect_with(&self.database.options.clone().database("postgres")).await.unwrap();
        let sql = format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS {there};
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND NOT {there}"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(Duration::from_secs(10), self.server).await.expect("the receiver ends").unwrap();
    }
}

fn now() -> i64 {
    clock::now().unix_timestamp()
}

fn sign(body: &[u8]) -> String {
    signature::sign(&WebhookSecret::new(SECRET).unwrap(), now(), body)
}

fn signed(body: &[u8]) -> Vec<u8> {
    post(PATH, &sign(body), body)
}

fn event(id: &str, members: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"{id}","object":"event","type":"customer.updated","created":1700000000,"livemode":false,
        "data":{{"object":{{"id":"cus_1","object":"customer"{members}}}}}}}"#
    )
    .into_bytes()
}

/// Waits until so many statements of the receiver wait for a lock.
async fn blocked_statements(app: &App, at_least: i64) {
    let query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())";
    for _ in 0..500 {
        if sqlx::query_scalar::<_, i64>(query).fetch_one(&app.pool).await.unwrap() >= at_least {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("no statement waits");
}

#[tokio::test]
async fn an_event_is_stored_with_its_envelope_before_it_is_acknowledged() {
    let app = app().await;
    let body = event("evt_1", "");
    let reply = app.deliver(&body).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "stored\n"));
    assert_eq!(app.payload("evt_1").await, body);
    let row: (String, String, String, String, String, bool, String, String) = sqlx::query_as(
        "SELECT type, format, object_type, object_id, customer_id, livemode, source, state FROM billing.outbox",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    let expected = ("customer.updated", "snapshot", "customer", "cus_1", "cus_1", false, "webhook", "pending");
    assert_eq!((&*row.0, &*row.1, &*row.2, &*row.3, &*row.4, row.5, &*row.6, &*row.7), expected);
    app.stop().await;
}

#[tokio::test]
async fn a_thin_event_is_stored() {
    let app = app().await;
    let body = br#"{"id":"evt_thin","object":"v2.core.event","type":"v1.customer.updated","context":"acct_1",
        "created":"2025-03-04T05:06:07.123456789Z","related_object":{"id":"cus_1","type":"customer"}}"#;
    assert_eq!(app.deliver(body).await.text, "stored\n");
    assert_eq!(app.deliver(body).await.text, "already known\n");
    let stored: (String, String) =
        sqlx::query_as("SELECT format, account FROM billing.outbox").fetch_one(&app.pool).await.unwrap();
    assert_eq!(stored, ("thin".into(), "acct_1".into()));
    app.stop().await;
}

#[tokio::test]
async fn a_second_delivery_is_acknowledged_and_not_queued() {
    let app = app().await;
    let (first, again) = (event("evt_1", ""), event("evt_1", r#","pending_webhooks":7"#));
    assert_eq!(app.deliver(&first).await.text, "stored\n");
    let reply = app.deliver(&again).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "already known\n"));
    assert_eq!((app.count("billing.events").await, app.count("billing.outbox").await), (1, 1));
    assert_eq!(app.payload("evt_1").await, first);
    assert_eq!((app.outcomes("stored"), app.outcomes("duplicate")), (1, 1));
    app.stop().await;
}

#[tokio::test]
async fn of_concurrent_deliveries_exactly_one_is_stored() {
    let app = Arc::new(app().await);
    let mut posts = JoinSet::new();
    for number in 0..60 {
        let app = app.clone();
        posts.spawn(async move { app.deliver(&event(&format!("evt_{}", number % 3), "")).await });
    }
    let replies = posts.join_all().await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(replies.iter().filter(|reply| reply.text == "stored\n").count(), 3);
    assert_eq!(app.count("billing.outbox").await, 3);
}

#[tokio::test]
async fn during_a_rotation_either_secret_is_accepted() {
    let secrets = ["whsec_new", "whsec_old"].map(|secret| WebhookSecret::new(secret).unwrap());
    let app = app_with(ReceiverConfig { secrets: secrets.to_vec(), ..config() }).await;
    for (number, secret) in secrets.iter().enumerate() {
        let body = event(&format!("evt_{number}"), "");
        assert_eq!(app.send(&post(PATH, &signature::sign(secret, now(), &body), &body)).await.status, 200);
    }
    assert_eq!(app.deliver(&event("evt_9", "")).await.status, 400);
    app.stop().await;
}

#[tokio::test]
async fn several_signature_lines_count_as_one_list() {
    let app = app().await;
    let body = event("evt_1", "");
    let lines = sign(&body).replace(",v1=", "\r\nStripe-Signature: v1=00\r\nStripe-Signature: v1=");
    assert_eq!(app.send(&post(PATH, &lines, &body)).await.status, 200);
    let contradicting = format!("{}\r\nStripe-Signature: t=5", sign(&body));
    assert_eq!(app.send(&post(PATH, &contradicting, &body)).await.status, 400);
    app.stop().await;
}

#[tokio::test]
async fn a_refusal_says_which_check_failed_and_repeats_nothing() {
    let app = app().await;
    let body = event("evt_1", "");
    let stale = signature::sign(&WebhookSecret::new(SECRET).unwrap(), now() - 400, &body);
    let no_header = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes();
    for (request, part, outcome) in [
        (no_header, "header is missing", "bad_signature"),
        (post(PATH, "t=5,v1=evil", &body), "no v1 signature", "bad_signature"),
        (post(PATH, &sign(b"other"), &body), "STRIPE_WEBHOOK_SECRET", "bad_signature"),
        (post(PATH, &stale, &body), "clock", "stale"),
        (signed(b"evil"), "not a JSON object", "malformed"),
        (signed(br#"{"object":"event","id":"evil\u0000","type":"t","created":1700000000}"#), "event's id", "malformed"),
    ] {
        let before = app.outcomes(outcome);
        let reply = app.send(&request).await;
        assert_eq!((reply.status, reply.header("content-type")), (400, Some("text/plain; charset=utf-8")));
        assert!(reply.text.contains(part) && !reply.text.contains("evil"), "{}", reply.text);
        assert_eq!(app.outcomes(outcome), before + 1);
    }
    assert_eq!(app.count("billing.events").await, 0);
    app.stop().await;
}

#[tokio::test]
async fn other_paths_and_methods_are_turned_away() {
    let app = app().await;
    let body = event("evt_1", "");
    assert_eq!(app.send(&post("/", &sign(&body), &body)).await.status, 404);
    assert_eq!(app.send(&post("/webhooks/stripe/", &sign(&body), &body)).await.status, 404);
    let reply = app.send(format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    assert_eq!(app.send(b"nonsense\r\n\r\n").await.status, 400);
    assert_eq!((app.outcomes("not_found"), app.outcomes("method_not_allowed")), (2, 1));
    app.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_announced_or_streamed() {
    let app = app_with(ReceiverConfig { body_limit: 2000, ..config() }).await;
    let just_fits = event("evt_1", &format!(r#","x":"{}""#, "x".repeat(2000 - event("evt_1", r#","x":"""#).len())));
    assert_eq!((just_fits.len(), app.deliver(&just_fits).await.status), (2000, 200));
    let announced = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2001\r\n\r\n");
    let reply =
        timeout(Duration::from_secs(1), app.send(announced.as_bytes())).await.expect("before any of it is sent");
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    assert_eq!(app.deliver(&vec![b'x'; 4_000_000]).await.status, 413);
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    let streamed =
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(50));
    assert_eq!(app.send(streamed.as_bytes()).await.status, 413);
    assert_eq!(app.outcomes("too_large"), 3);
    app.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_one_body() {
    let app = app().await;
    let body = event("evt_1", "");
    let (left, right) = body.split_at(30);
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nStripe-Signature: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        sign(&body)
    );
    let mut request = head.into_bytes();
    for part in [left, right] {
        request.extend(format!("{:x}\r\n", part.len()).bytes().chain(part.iter().copied()).chain(*b"\r\n"));
    }
    request.extend(b"0\r\n\r\n");
    assert_eq!(app.send(&request).await.status, 200);
    assert_eq!(app.payload("evt_1").await, body);
    app.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_and_a_slow_head_is_closed() {
    let short = Duration::from_millis(300);
    let app = app_with(ReceiverConfig { body_timeout: short, header_timeout: short, ..config() }).await;
    let body = event("evt_1", "");
    let reply = app.send(&signed(&body)[..200]).await;
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    for head in ["", "POST / HTTP/1.1\r\nHost:"] {
        let mut client = Client::connect(app.addr).await;
        client.send(head.as_bytes()).await;
        let reply = timeout(Duration::from_secs(3), client.reply()).await.expect("the connection is closed");
        assert_eq!(reply.filter(|reply| reply.status == 200), None);
    }
    assert_eq!(app.outcomes("slow"), 1);
    app.stop().await;
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let app = app().await;
    let mut client = Client::connect(app.addr).await;
    client.send(&post("/elsewhere", "", b"small")).await;
    assert_eq!(client.reply().await.unwrap().status, 404);
    for number in 0..3 {
        client.send(&signed(&event(&format!("evt_{number}"), ""))).await;
        assert_eq!(client.reply().await.unwrap().status, 200);
    }
    // two at once: the second answer comes after the first
    client.send(&[signed(&event("evt_8", "")), signed(&event("evt_9", ""))].concat()).await;
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert_eq!(app.count("billing.outbox").await, 5);
    app.stop().await;
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let app = app_with(ReceiverConfig { max_connections: 1, ..config() }).await;
    let mut first = Client::connect(app.addr).await;
    first.send(&signed(&event("evt_1", ""))).await;
    assert_eq!(first.reply().await.unwrap().status, 200);
    let mut second = Client::connect(app.addr).await;
    second.send(&signed(&event("evt_2", ""))).await;
    assert!(timeout(Duration::from_millis(300), second.reply()).await.is_err());
    drop(first);
    assert_eq!(second.reply().await.unwrap().status, 200);
    app.stop().await;
}

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
async fn a_slow_database_is_answered_503_in_time_and_a_full_queue_at_once() {
    let limits = ReceiverConfig { store_timeout: Duration::from_millis(700), queue_capacity: 1, ..config() };
    let app = Arc::new(app_with(limits).await);
    let mut lock = app.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE billing.events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let spawn = |id: &'static str| {
        let app = app.clone();
        tokio::spawn(async move { app.deliver(&event(id, "")).await })
    };
    let in_flight = spawn("evt_1");
    blocked_statements(&app, 1).await;
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
async fn a_flood_without_signatures_writes_nothing_and_hinders_nobody() {
    let app = Arc::new(app_with(ReceiverConfig { queue_capacity: 1, ..config() }).await);
    let mut flood = JoinSet::new();
    for _ in 0..20 {
        let app = app.clone();
        flood.spawn(async move {
            let mut client = Client::connect(app.addr).await;
            for _ in 0..20 {
                client.send(&post(PATH, "t=1,v1=00", &event("evt_flood", ""))).await;
                assert_eq!(client.reply().await.unwrap().status, 400);
            }
        });
    }
    assert_eq!(app.deliver(&event("evt_1", "")).await.status, 200);
    flood.join_all().await;
    assert_eq!((app.count("billing.events").await, app.outcomes("bad_signature")), (1, 400));
}

#[tokio::test]
async fn odd_payloads_are_kept_byte_for_byte() {
    let app = Arc::new(app().await);
    let deep = format!(r#","deep":{}{}"#, "[".repeat(10_000), "]".repeat(10_000));
    let mut posts = JoinSet::new();
    let odd = [r#","nul":"\u0000""#, r#","lone":"\ud800","\udfff":1"#, r#","n":1e999999"#, r#","a":1,"a":2"#, &deep];
    for (number, members) in odd.into_iter().chain([r#","broken":"~""#]).enumerate() {
        let id = format!("evt_{number}");
        let body: Vec<u8> =
            event(&id, members).into_iter().map(|byte| if byte == b'~' { 0xff } else { byte }).collect();
        let app = app.clone();
        // together, so that they share INSERTs
        posts.spawn(async move {
            assert_eq!(app.deliver(&body).await.status, 200);
            assert_eq!(app.payload(&id).await, body);
        });
    }
    posts.join_all().await;
    assert_eq!(app.count("billing.outbox").await, 6);
}

#[tokio::test]
async fn an_event_that_the_database_refuses_does_not_cost_its_neighbours() {
    let app = Arc::new(app().await);
    app.execute("ALTER TABLE billing.outbox ADD CHECK (event_id <> 'evt_bad')").await;
    let mut lock = app.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE billing.events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let spawn = |id: &'static str| {
        let app = app.clone();
        tokio::spawn(async move { app.deliver(&event(id, "")).await.status })
    };
    let first = spawn("evt_0");
    blocked_statements(&app, 1).await;
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
    let pool = PgPoolOptions::new().connect_lazy_with(app.database.options.clone());
    let metrics = Arc::new(Instance::new(&Registry::new()).unwrap());
    let other = Receiver::bind(&config(), pool, metrics).await.unwrap();
    let addresses = [app.addr, other.local_addr().unwrap()];
    let other = tokio::spawn(other.run(app.shutdown.clone()));
    let mut posts = JoinSet::new();
    for number in 0..300 {
        // one meets them upwards, the other downwards
        for (addr, number) in addresses.into_iter().zip([number, 299 - number]) {
            posts.spawn(async move {
                let mut client = Client::connect(addr).await;
                client.send(&signed(&event(&format!("evt_{number}"), ""))).await;
                client.reply().await.unwrap().text
            });
        }
    }
    let replies = posts.join_all().await;
    assert_eq!(replies.iter().filter(|text| *text == "stored\n").count(), 300);
    assert_eq!(replies.iter().filter(|text| *text == "already known\n").count(), 300);
    assert_eq!(app.outcomes("unavailable"), 0);
    app.stop().await;
    other.await.unwrap();
}

#[tokio::test]
async fn a_commit_is_durable_even_where_the_database_says_otherwise() {
    let app = app().await;
    let name = app.database.options.get_database().unwrap().to_owned();
    sqlx::raw_sql(AssertSqlSafe(format!("ALTER DATABASE {name} SET synchronous_commit = off")))
        .execute(&app.pool)
        .await
        .unwrap();
    // deferred: it runs as the last thing before the commit, with the setting that the commit will use
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
    // and the control: the session's own setting is off, before and after
    let mut conn = PgConnection::connect_with(&app.database.options).await.unwrap();
    let setting: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut conn).await.unwrap();
    assert_eq!(setting, "off");
    app.stop().await;
}

#[tokio::test]
async fn the_workers_are_woken_after_a_commit_and_not_for_a_duplicate() {
    let app = app().await;
    let mut listener = PgListener::connect_with(&app.pool).await.unwrap();
    listener.listen("billing_sync_outbox").await.unwrap();
    app.deliver(&event("evt_1", "")).await;
    timeout(Duration::from_secs(5), listener.recv()).await.expect("a notification").unwrap();
    app.deliver(&event("evt_1", "")).await;
    assert!(timeout(Duration::from_millis(300), listener.recv()).await.is_err());
    app.stop().await;
}

#[tokio::test]
async fn a_graceful_shutdown_answers_what_is_in_flight_and_closes_what_is_idle() {
    let app = app().await;
    let mut idle = Client::connect(app.addr).await;
    idle.send(&signed(&event("evt_0", ""))).await;
    assert_eq!(idle.reply().await.unwrap().status, 200);
    let mut lock = app.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE billing.events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let mut in_flight = Client::connect(app.addr).await;
    in_flight.send(&signed(&event("evt_1", ""))).await;
    blocked_statements(&app, 1).await;
    let mut half_sent = Client::connect(app.addr).await;
    let request = signed(&event("evt_2", ""));
    half_sent.send(&request[..request.len() - 5]).await;
    sleep(Duration::from_millis(100)).await;
    app.shutdown.cancel();
    assert_eq!(timeout(Duration::from_secs(1), idle.reply()).await.expect("closed at once"), None);
    half_sent.send(&request[request.len() - 5..]).await;
    lock.rollback().await.unwrap();
    assert_eq!(in_flight.reply().await.unwrap().status, 200);
    assert_eq!(half_sent.reply().await.unwrap().status, 200);
    assert_eq!(app.count("billing.outbox").await, 3);
    let addr = app.addr;
    app.stop().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn without_a_secret_it_does_not_start() {
    let pool = PgPoolOptions::new().connect_lazy_with(sqlx::postgres::PgConnectOptions::new_without_pgpass());
    let metrics = Arc::new(Instance::new(&Registry::new()).unwrap());
    let error = Receiver::bind(&ReceiverConfig { secrets: Vec::new(), ..config() }, pool, metrics).await.unwrap_err();
    assert!(error.to_string().contains("STRIPE_WEBHOOK_SECRET"));
}
