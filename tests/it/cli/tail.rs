//! `tail`, which follows events, through the real binary. The law: each event is shown exactly once for each time it is
//! finished, whatever the order of the commits.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use billing_sync::database::Connection;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _};

use super::{binary, migrated, store};
use crate::support::app::TestApp;
use crate::support::events::{customer, event, subscription, update, with};

/// Longer than any poll takes on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running `tail`. Its output is read by threads, because a full pipe would block it.
struct Tail {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Tail {
    fn start(url: &str, arguments: &[&str]) -> Self {
        let mut child = binary(&[&["tail"], arguments].concat(), &[("DATABASE_URL", url)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = read(child.stdout.take().unwrap());
        let errors = read(child.stderr.take().unwrap());
        Self { child, lines, errors }
    }

    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(TIMEOUT).expect("no further line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The ids of the next events.
    fn ids(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next()["event_id"].as_str().unwrap().to_owned()).collect()
    }

    /// Ends it as Ctrl-C does; returns what it still printed.
    fn interrupt(mut self) -> Vec<String> {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.lines.iter().collect()
    }
}

fn read(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

async fn execute(conn: &mut Connection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

/// Settles pending events as a worker does.
async fn settle(conn: &mut Connection, pattern: &str) {
    let sql = "UPDATE billing.outbox SET state = 'done', outcome = 'applied', finished_at = clock_timestamp()
        WHERE state = 'pending' AND event_id LIKE $1";
    sqlx::query(sql).bind(pattern).execute(conn).await.unwrap();
}

#[tokio::test]
async fn an_event_is_shown_with_its_changes_and_without_personal_data() {
    let app = TestApp::start().await;
    let active = subscription("sub_1", "cus_1");
    let paused = with(&active, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    app.deliver_and_drain(&[
        event("evt_c", "customer.created", 0, &customer("cus_1", "Ada"), None),
        event("evt_s", "customer.subscription.created", 1, &active, None),
    ])
    .await;
    let text = Tail::start(&app.database.url, &["-n", "100"]);
    let tail = Tail::start(&app.database.url, &["-n", "1", "--json"]);
    assert_eq!(tail.ids(1).len(), 1);
    app.deliver_and_drain(&[update("evt_p", "customer.subscription.updated", 9, &active, &paused)]).await;
    let shown = tail.next();
    assert_eq!(
        (&shown["event_id"], &shown["outcome"], &shown["step"]),
        (&json!("evt_p"), &json!("applied"), &json!("event"))
    );
    let changes = shown["changes"].as_array().unwrap();
    assert_eq!(changes[0]["changes"]["payment_paused"], json!([false, true]), "{shown}");
    assert_eq!((&changes[0]["table"], &changes[0]["causes"]), (&json!("subscriptions"), &json!(["evt_p"])));
    assert_eq!(tail.interrupt(), Vec::<String>::new());
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.contains("payment_paused: false -> true")) {
        lines.push(text.lines.recv_timeout(TIMEOUT).expect("no further line"));
    }
    lines.extend(text.interrupt());
    let all = lines.join("\n");
    assert!(all.contains("customer.created of cus_1: applied") && all.contains("email: changed"), "{all}");
    assert!(!all.contains("Ada") && !all.contains("billing@example.com") && !all.contains("Berlin"), "{all}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{all}");
    app.finish().await;
}

#[tokio::test]
async fn events_that_commit_late_or_together_are_shown_once() {
    let (database, mut conn) = migrated().await;
    let mut other = Connection::from(sqlx::PgConnection::connect(&database.url).await.unwrap());
    for event_id in ["evt_before", "evt_late", "evt_2", "evt_3"] {
        store(&mut conn, event_id, "pending").await;
    }
    settle(&mut conn, "evt_before").await;
    // finished before the start, committed after it
    store(&mut conn, "evt_open", "pending").await;
    let mut open = Connection::from(sqlx::PgConnection::connect(&database.url).await.unwrap());
    let mut open_at_start = open.begin().await.unwrap();
    settle(&mut open_at_start, "evt_open").await;
    let tail = Tail::start(&database.url, &["-n", "1", "--json"]);
    assert_eq!(tail.ids(1), ["evt_before"]);

    let mut late = other.begin().await.unwrap();
    settle(&mut late, "evt_late").await;
    for event_id in ["evt_2", "evt_3"] {
        // several polls pass while the older transaction is open
        settle(&mut conn, event_id).await;
        assert_eq!(tail.ids(1), [event_id]);
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    late.commit().await.unwrap();
    assert_eq!(tail.ids(1), ["evt_late"]);
    open_at_start.commit().await.unwrap();
    assert_eq!(tail.ids(1), ["evt_open"]);
    // more than a page in one statement, all with one time
    execute(
        &mut conn,
        "INSERT INTO billing.outbox (event_id, created, type, format, state, outcome, finished_at)
        SELECT 'evt_m' || number, clock_timestamp(), 'customer.updated', 'snapshot', 'done', 'applied', now()
        FROM generate_series(1, 2500) AS number",
    )
    .await;
    let mut many = tail.ids(2500);
    many.sort();
    many.dedup();
    assert_eq!(many.len(), 2500);
    assert_eq!(tail.interrupt(), Vec::<String>::new());
}

/// Transactions that settle events at once.
const TRANSACTIONS: u64 = 24;

#[tokio::test]
async fn each_event_of_concurrent_transactions_is_shown_once() {
    let (database, mut conn) = migrated().await;
    for transaction in 0..TRANSACTIONS {
        for number in 0..3 {
            store(&mut conn, &format!("evt_{transaction}_{number}"), "pending").await;
        }
    }
    let tail = Tail::start(&database.url, &["-n", "0", "--json"]);
    let mut running = Vec::new();
    for transaction in 0..TRANSACTIONS {
        let url = database.url.clone();
        running.push(tokio::spawn(async move {
            let mut conn = Connection::from(sqlx::PgConnection::connect(&url).await.unwrap());
            let mut rng = fastrand::Rng::with_seed(transaction);
            let mut pause = async || tokio::time::sleep(Duration::from_millis(rng.u64(0..1500))).await;
            pause().await;
            let mut open = conn.begin().await.unwrap();
            for number in 0..3 {
                settle(&mut open, &format!("evt\\_{transaction}\\_{number}")).await;
                pause().await;
            }
            // a rolled back transaction finished nothing
            if transaction % 5 == 4 { open.rollback().await.unwrap() } else { open.commit().await.unwrap() }
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // its session is ended in the middle: it reconnects
    execute(
        &mut conn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'billing-sync'",
    )
    .await;
    for one in running {
        one.await.unwrap();
    }
    let committed = (0..TRANSACTIONS).filter(|transaction| transaction % 5 != 4).count() * 3;
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for id in tail.ids(committed) {
        *shown.entry(id).or_default() += 1;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let errors: Vec<String> = tail.errors.try_iter().collect();
    let rest = tail.interrupt();
    assert!(shown.values().all(|times| *times == 1) && shown.len() == committed, "{shown:?}");
    assert_eq!(rest, Vec::<String>::new());
    let errors = errors.join(" ");
    assert!(errors.contains("lost, trying again") && errors.contains("connected to the database again"), "{errors}");
}

#[tokio::test]
async fn a_retried_event_is_shown_again() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_1", "dead").await;
    let tail = Tail::start(&database.url, &["--json"]);
    let first = tail.next();
    assert_eq!((&first["state"], &first["last_error"]), (&json!("dead"), &json!("a cause")));
    execute(&mut conn, "UPDATE billing.outbox SET state = 'pending', finished_at = NULL").await;
    settle(&mut conn, "evt_1").await;
    assert_eq!(tail.next()["state"], "done");
    assert_eq!(tail.interrupt(), Vec::<String>::new());
}

#[tokio::test]
async fn waiting_events_are_reported_together() {
    let (database, mut conn) = migrated().await;
    for event_id in ["evt_1", "evt_2", "evt_3"] {
        store(&mut conn, event_id, "pending").await;
    }
    execute(
        &mut conn,
        "UPDATE billing.outbox SET received_at = received_at - interval '2 min' WHERE event_id <> 'evt_3';
        UPDATE billing.outbox SET received_at = received_at - interval '1 min' WHERE event_id = 'evt_2'",
    )
    .await;
    let tail = Tail::start(&database.url, &["--json"]);
    let waiting = tail.next();
    assert_eq!(
        (&waiting["step"], &waiting["events"], &waiting["event_id"]),
        (&json!("waiting"), &json!(2), &json!("evt_2"))
    );
    assert_eq!((&waiting["attempts"], &waiting["last_error"]), (&json!(3), &json!("a cause")));
    assert_eq!(tail.interrupt(), Vec::<String>::new());
}

const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

#[tokio::test]
async fn only_events_of_the_customer_or_the_workspace_are_shown() {
    let app = TestApp::start().await;
    let of = |id: &str, workspace: Option<&str>| {
        with(
            &customer(id, "Ada"),
            json!({ "metadata": workspace.map_or(json!({}), |one| json!({ "workspace_id": one })) }),
        )
    };
    let (mine, others) = (of("cus_1", Some(WORKSPACE)), of("cus_2", None));
    app.deliver_and_drain(&[
        event("evt_1", "customer.created", 0, &mine, None),
        event("evt_2", "customer.created", 0, &others, None),
    ])
    .await;
    let of_customer = Tail::start(&app.database.url, &["--customer", "cus_1", "--json"]);
    let of_workspace = Tail::start(&app.database.url, &["--workspace", WORKSPACE, "--json"]);
    assert_eq!((of_customer.ids(1), of_workspace.ids(1)), (vec!["evt_1".to_owned()], vec!["evt_1".to_owned()]));
    app.deliver_and_drain(&[
        event("evt_3", "customer.subscription.created", 1, &subscription("sub_2", "cus_2"), None),
        event("evt_4", "customer.subscription.created", 1, &subscription("sub_1", "cus_1"), None),
    ])
    .await;
    assert_eq!((of_customer.ids(1), of_workspace.ids(1)), (vec!["evt_4".to_owned()], vec!["evt_4".to_owned()]));
    // the event that takes the customer out of the workspace belongs to it, the next one does not
    let gone = of("cus_1", None);
    app.deliver_and_drain(&[update("evt_5", "customer.updated", 5, &mine, &gone)]).await;
    assert_eq!((of_customer.ids(1), of_workspace.ids(1)), (vec!["evt_5".to_owned()], vec!["evt_5".to_owned()]));
    let renamed = with(&gone, json!({ "name": "Bea" }));
    app.deliver_and_drain(&[update("evt_6", "customer.updated", 6, &gone, &renamed)]).await;
    assert_eq!(of_customer.ids(1), ["evt_6"]);
    assert_eq!(of_customer.interrupt(), Vec::<String>::new());
    assert_eq!(of_workspace.interrupt(), Vec::<String>::new());
    app.finish().await;
}

#[tokio::test]
async fn a_closed_pipe_ends_it() {
    let (database, mut conn) = migrated().await;
    let mut child =
        binary(&["tail", "-n", "0"], &[("DATABASE_URL", &database.url)]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    for number in 0.. {
        store(&mut conn, &format!("evt_{number}"), "done").await;
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            return;
        }
        assert!(number < 300, "it does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
