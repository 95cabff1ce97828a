//! `doctor`: what it finds, and what makes it fail.

use serde_json::Value;

use super::{code, migrated, run, store, words};
use crate::support::cluster;

#[tokio::test]
async fn doctor_fails_before_migrating_and_passes_after() {
    let database = cluster::empty_database().await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_hunter2,whsec_b")];
    let before = run(&["doctor"], &environment);
    assert_eq!(code(&before), 1);
    assert!(words(&before.stdout).contains("mend: run `billing-sync migrate`"), "{}", words(&before.stdout));
    assert_eq!(code(&run(&["migrate"], &environment)), 0);
    let after = run(&["doctor"], &environment);
    let report = String::from_utf8(after.stdout.clone()).unwrap();
    assert_eq!(code(&after), 0, "{report}");
    assert!(report.contains("set (2 entries)") && !report.contains("hunter2"), "{report}");
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
}

#[tokio::test]
async fn doctor_reports_wrong_settings_instead_of_refusing() {
    let (database, _conn) = migrated().await;
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("BILLING_SYNC_WORKERS", "0"),
        ("BILLING_SYNC_LOG", "loud"),
        ("BILLING_SYNC_LOG_FORMAT", "xml"),
    ];
    let output = run(&["doctor", "--json"], &environment);
    assert_eq!(code(&output), 1);
    let lines: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let failed = |line: &&Value| line["check"] == "settings" && line["status"] == "failed";
    assert_eq!(lines.iter().filter(failed).count(), 4, "{lines:?}");
}

#[tokio::test]
async fn doctor_warns_of_dead_events() {
    let (database, mut conn) = migrated().await;
    store(&mut conn, "evt_1", "dead").await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_x")];
    let output = run(&["doctor"], &environment);
    assert_eq!(code(&output), 0);
    assert!(words(&output.stdout).contains("0 pending, 1 dead, 0 done warn outbox"), "{}", words(&output.stdout));
}
