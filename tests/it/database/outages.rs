//! An outage has a beginning and an end in the log, once for the whole process.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::harness::{OwnServer, Proxy, deliver, execute, until_ready_is};
use crate::support::process::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_outage_is_logged_once_with_its_duration() {
    let mut own = OwnServer::start(&[]).await;
    let url = own.cluster.url();
    let proxy = Proxy::start(&url);
    let server = Server::start_on(&proxy.url(&url), "receiver,worker,renewals", &[]).await;
    until_ready_is(&server, 200).await;
    for _ in 0..2 {
        proxy.lead_to(&url.replace("5432", "1").replace("host=", "host=/nowhere"));
        execute(
            &mut own.conn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'billing-sync%'",
        )
        .await;
        until_ready_is(&server, 503).await;
        // the check has to fail twice
        tokio::time::sleep(Duration::from_secs(4)).await;
        proxy.lead_to(&url);
        until_ready_is(&server, 200).await;
        assert_eq!(deliver(&server, 1, 10).await, 200);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    server.signal(Signal::SIGTERM);
    let (_, log) = server.ended_with_log().await;
    let entries: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let message = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
    let began = entries.iter().filter(|entry| message(entry).starts_with("the database cannot be used"));
    assert_eq!(began.count(), 2, "{log}");
    let ended: Vec<&Value> =
        entries.iter().filter(|entry| message(entry).starts_with("the database answers again after ")).collect();
    assert_eq!(ended.len(), 2, "{log}");
    for entry in ended {
        let seconds = entry["outage_seconds"].as_u64().unwrap();
        assert!((4..30).contains(&seconds), "{entry}");
        assert_eq!(message(entry), format!("the database answers again after {seconds} s"));
    }
}
