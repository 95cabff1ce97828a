//! Settings that select events (mode and accounts): ignored events are processed after the setting changes, and
//! processes with contradicting settings are reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use billing_sync::config::sync::SyncConfig;
use billing_sync::database::Connection;
use billing_sync::outbox::processes::{self, Contradiction};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::time::sleep;
use uuid::Uuid;

use crate::cli::{code, run, words};
use crate::support::app::{TestApp, sync_config};
use crate::support::cluster;
use crate::support::events::{customer, event, with};
use crate::support::process::Server;

fn created(number: usize, fields: Value) -> Value {
    let customer = customer(&format!("cus_{number}"), "Ada");
    with(&event(&format!("evt_{number}"), "customer.created", 0, &customer, None), fields)
}

impl TestApp {
    /// Drains like a process started with these settings.
    async fn drain_with(&mut self, change: impl FnOnce(&mut SyncConfig)) {
        let mut sync = sync_config();
        change(&mut sync);
        self.context.sync = sync;
        self.context.watch = Arc::default();
        self.drain().await;
    }

    async fn fates(&self) -> Vec<String> {
        let query = "SELECT concat_ws(' ', event_id, state, outcome, reason) FROM billing.outbox ORDER BY event_id";
        sqlx::query_scalar(query).fetch_all(&self.pool).await.unwrap()
    }
}

#[tokio::test]
async fn ignored_events_are_processed_after_the_setting_changes() {
    let mut app = TestApp::start().await;
    let events = [
        created(1, json!({ "livemode": false })),
        created(2, json!({ "livemode": true })),
        created(3, json!({ "livemode": false, "account": "acct_new" })),
        created(4, json!({ "livemode": true, "account": "acct_new" })),
        created(5, json!({ "livemode": true, "account": "acct_known" })),
        created(6, json!({ "livemode": true, "context": "org_1/acct_other" })),
    ];
    for event in &events {
        app.deliver(event).await;
    }
    app.drain_with(|_| {}).await;
    let (mode, account) = ("done ignored livemode_mismatch", "done ignored account_not_synced");
    let done = "done applied";
    let all = |fates: [&str; 6]| -> Vec<String> {
        fates.iter().enumerate().map(|(number, fate)| format!("evt_{} {fate}", number + 1)).collect()
    };
    assert_eq!(app.fates().await, all([done, mode, account, mode, mode, mode]));
    app.drain_with(|sync| sync.livemode = true).await;
    assert_eq!(app.fates().await, all([done, done, account, account, done, account]));
    app.drain_with(|sync| {
        sync.livemode = true;
        sync.accounts.insert("acct_new".to_owned());
    })
    .await;
    // the test event of that account is now ignored because of the mode
    assert_eq!(app.fates().await, all([done, done, mode, done, done, account]));
    let contacts =
        "SELECT string_agg(stripe_customer_id, ' ' ORDER BY stripe_customer_id) FROM billing.billing_contacts";
    assert_eq!(app.text(contacts).await.as_deref(), Some("cus_1 cus_2 cus_4 cus_5"));
    // the same settings again change nothing
    let finished = "SELECT max(finished_at)::text FROM billing.outbox";
    let before = app.text(finished).await;
    app.drain_with(|sync| sync.livemode = true).await;
    assert_eq!(app.text(finished).await, before);
    app.finish().await;
}

#[tokio::test]
async fn active_processes_with_other_settings_are_reported() {
    let app = TestApp::start().await;
    let mut conn = app.pool.acquire().await.unwrap();
    let settings = |of: &[&str]| of.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let (of_test, of_live) = (settings(&["LIVEMODE=false", "RETENTION=90d"]), settings(&["LIVEMODE=true"]));
    let (test, live, other) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    assert_eq!(processes::heartbeat(&mut conn, test, &of_test).await.unwrap(), []);
    // a restart with the other setting looks the same, and is no contradiction
    assert_eq!(processes::heartbeat(&mut conn, live, &of_live).await.unwrap(), []);
    assert_eq!(processes::contradicting(&mut conn).await.unwrap(), []);
    let found = processes::heartbeat(&mut conn, test, &of_test).await.unwrap();
    let texts = |found: &[Contradiction]| -> Vec<String> {
        found.iter().map(|one| format!("{} {}", one.theirs, one.ours)).collect()
    };
    assert_eq!(texts(&found), ["LIVEMODE=true LIVEMODE=false"]);
    let found = processes::heartbeat(&mut conn, live, &of_live).await.unwrap();
    assert_eq!(texts(&found), ["LIVEMODE=false LIVEMODE=true"]);
    let found = processes::contradicting(&mut conn).await.unwrap();
    let mut differing: Vec<&[String]> = found.iter().map(|process| process.settings.as_slice()).collect();
    differing.sort_unstable();
    assert_eq!(differing, [["LIVEMODE=false"], ["LIVEMODE=true"]], "a setting of one process only is no difference");
    // a process without heartbeats has ended
    sqlx::query(
        "UPDATE billing.running_processes SET heartbeat_at = heartbeat_at - interval '31 s' WHERE process_id = $1",
    )
    .bind(live)
    .execute(&mut conn)
    .await
    .unwrap();
    assert_eq!(processes::contradicting(&mut conn).await.unwrap(), []);
    assert_eq!(processes::heartbeat(&mut conn, test, &of_test).await.unwrap(), []);
    processes::heartbeat(&mut conn, other, &settings(&["LIVEMODE=false", "RETENTION=35d"])).await.unwrap();
    let found = processes::heartbeat(&mut conn, test, &of_test).await.unwrap();
    assert_eq!(texts(&found), ["RETENTION=35d RETENTION=90d"]);
    let found = processes::contradicting(&mut conn).await.unwrap();
    let retentions: Vec<&str> = found.iter().flat_map(|process| &process.settings).map(String::as_str).collect();
    assert!(retentions.len() == 2 && retentions.iter().all(|setting| setting.starts_with("RETENTION=")), "{found:?}");
    drop(conn);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_with_other_retentions_or_rules_are_reported_whatever_their_roles() {
    let database = cluster::database().await;
    let doctor = || {
        let output = run(&["doctor"], &[("DATABASE_URL", &database.url), ("STRIPE_WEBHOOK_SECRET", "whsec_x")]);
        (code(&output), words(&output.stdout))
    };
    let worker = Server::start(&database, "receiver,worker", &[]).await;
    let mut renewals = Server::start(&database, "renewals", &[("BILLING_SYNC_PAST_DUE_ACTIVE", "false")]).await;
    let named = "another process uses this database with other settings; give all processes the same";
    let line = renewals.log_line(named).await;
    assert_eq!(line["setting"], "BILLING_SYNC_PAST_DUE_ACTIVE=false");
    assert_eq!(line["other.setting"], "BILLING_SYNC_PAST_DUE_ACTIVE=true");
    let (status, report) = doctor();
    assert!(
        status == 0 && report.contains("warn settings processes with different settings use this database"),
        "{report}"
    );
    for value in ["true", "false"] {
        assert!(report.contains(&format!("has BILLING_SYNC_PAST_DUE_ACTIVE={value}")), "{report}");
    }
    // a shorter retention removes data, so that is a failure
    let long = Server::start(&database, "maintenance", &[]).await;
    let mut short = Server::start(&database, "maintenance", &[("BILLING_SYNC_RETENTION", "35d")]).await;
    assert_eq!(short.log_line(named).await["other.setting"], "BILLING_SYNC_RETENTION=90d");
    let (status, report) = doctor();
    let expected =
        "FAIL settings processes with different settings use this database, and the shorter time removes data:";
    assert!(status == 1 && report.contains(expected) && report.contains("has BILLING_SYNC_RETENTION=35d"), "{report}");
    for server in [worker, renewals, long, short] {
        server.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_of_different_modes_warn_and_share_the_events() {
    let database = cluster::database().await;
    let mut live = Server::start(&database, "receiver,worker", &[("BILLING_SYNC_LIVEMODE", "true")]).await;
    let mut test = Server::start(&database, "receiver,worker", &[("BILLING_SYNC_LIVEMODE", "false")]).await;
    for number in 0..20 {
        let event = created(number, json!({ "livemode": number % 2 == 0 }));
        assert_eq!(live.deliver(&event).await, Some(200));
    }
    let named = "another process uses this database with other settings; give all processes the same";
    assert_eq!(live.log_line(named).await["other.setting"], "BILLING_SYNC_LIVEMODE=false");
    assert_eq!(test.log_line(named).await["other.setting"], "BILLING_SYNC_LIVEMODE=true");
    let doctor = run(&["doctor"], &[("DATABASE_URL", &database.url), ("STRIPE_WEBHOOK_SECRET", "whsec_x")]);
    let report = words(&doctor.stdout);
    assert!(report.contains("warn settings processes with different settings use this database"), "{report}");
    let mut conn = Connection::from(sqlx::PgConnection::connect_with(&database.options).await.unwrap());
    let began = Instant::now();
    let applied = "SELECT count(*) FROM billing.outbox WHERE outcome = 'applied'";
    while sqlx::query_scalar::<_, i64>(applied).fetch_one(&mut conn).await.unwrap() < 20 {
        assert!(began.elapsed() < Duration::from_mins(2), "an event stays ignored");
        sleep(Duration::from_millis(200)).await;
    }
    live.kill().await;
    test.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_event_of_the_other_mode_is_logged() {
    let database = cluster::database().await;
    let mut server = Server::start(&database, "receiver,worker", &[]).await;
    assert_eq!(server.deliver(&created(1, json!({ "livemode": true }))).await, Some(200));
    let named = "events of live mode are ignored, because this process is for test mode; to process them, set \
                 BILLING_SYNC_LIVEMODE=true";
    assert_eq!(server.log_line(named).await["level"], "WARN");
    server.kill().await;
}
