//! `backfill` and `verify` through the real binary: output, exit codes, and a kill during a run.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{binary, code, json_lines, words};
use crate::backfill::harness::assert_alike;
use crate::support::fetching::Fetching;
use crate::support::stripe::Fault;

impl Fetching {
    fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("DATABASE_URL", self.app.database.url.as_str()),
            ("STRIPE_SECRET_KEY", self.stripe.key()),
            ("STRIPE_API_BASE", &self.stripe.base()),
            ("BILLING_SYNC_STRIPE_RATE", "10000"),
            ("BILLING_SYNC_READ_MARGIN", "1s"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        pairs.to_vec()
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let environment = self.environment();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut command = tokio::process::Command::from(binary(arguments, &environment));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }
}

#[tokio::test]
async fn a_backfill_reports_its_reads_and_a_second_changes_nothing() {
    let sync = Fetching::without_events(16).await;
    let output = sync.run(&["backfill"]).await;
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text} {}", words(&output.stderr));
    assert!(text.contains("objects on 10 pages read") || text.contains("pages read"), "{text}");
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    let output = sync.run(&["backfill", "--json"]).await;
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = &printed["summary"];
    assert_eq!(
        (&report["complete"], &report["rows_changed"], &report["remaining"]),
        (&true.into(), &0.into(), &0.into())
    );
    sync.end().await;
}

#[tokio::test]
async fn a_killed_backfill_resumes_where_it_was() {
    let sync = Fetching::without_events(40).await;
    sync.stripe.page_at_most(4);
    let mut child = sync.command(&["backfill"]).stderr(Stdio::null()).spawn().unwrap();
    // kill it after some pages
    while sync.stripe.served().len() < 30 {
        assert!(child.try_wait().unwrap().is_none(), "the backfill ended before it was killed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    // its heartbeat is still recent
    let output = sync.run(&["backfill"]).await;
    let text = words(&output.stderr);
    assert!(code(&output) == 2 && text.contains("is running") && text.contains("--resume"), "{text}");
    sync.app.execute("UPDATE billing.backfill_runs SET heartbeat_at = heartbeat_at - interval '10 min'").await;
    let text = words(&sync.run(&["doctor"]).await.stdout);
    assert!(text.contains("warn backfill one was interrupted 10 min ago"), "{text}");
    let output = sync.run(&["backfill"]).await;
    let text = words(&output.stderr);
    assert!(code(&output) == 0 && text.contains("resuming the backfill started at"), "{text}");
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    let output = sync.run(&["backfill", "--resume"]).await;
    assert!(code(&output) == 2 && words(&output.stderr).contains("there is no unfinished backfill to resume"));
    sync.end().await;
}

#[tokio::test]
async fn unread_lists_are_reported_and_fail_the_command() {
    let sync = Fetching::without_events(4).await;
    sync.stripe.fail_next_under("/v1/disputes", 100, Fault::NotFound);
    let output = sync.run(&["backfill"]).await;
    let text = words(&output.stderr);
    assert!(code(&output) == 1 && text.contains("the server at STRIPE_API_BASE has no list of disputes"), "{text}");
    sync.stripe.recover();
    sync.stripe.fail_next_under("/v1/account", 100, Fault::TooManyRequests { retry_after: Some(60) });
    let output = sync.run(&["backfill"]).await;
    let text = words(&output.stderr);
    assert!(code(&output) == 1 && text.contains("stripe asks to retry later"), "{text}");
    sync.end().await;
}

#[tokio::test]
async fn missing_settings_are_reported() {
    for command in ["backfill", "verify"] {
        let output = super::run(&[command], &[]);
        let text = words(&output.stderr);
        assert!(code(&output) == 2 && text.contains("DATABASE_URL") && text.contains("STRIPE_SECRET_KEY"), "{text}");
    }
}

#[tokio::test]
async fn a_dry_run_prints_each_field_and_no_personal_data() {
    let sync = Fetching::without_events(3).await;
    let output = sync.run(&["backfill", "--dry-run"]).await;
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text} {}", words(&output.stderr));
    for part in
        ["billing_contacts cus_1 (new)", "email: changed", "stripe_status: null -> active", "3 customers compared"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("example.com") && !text.contains("Customer 1"), "{text}");
    assert_eq!(sync.app.rows().await, Vec::<String>::new());
    sync.end().await;
}

#[tokio::test]
async fn one_customer_is_read_and_a_missing_one_is_reported() {
    let sync = Fetching::without_events(16).await;
    let output = sync.run(&["backfill", "--customer", "cus_2", "--customer", "cus_7"]).await;
    let text = words(&output.stdout);
    assert!(code(&output) == 0 && text.contains("2 customers compared"), "{text} {}", words(&output.stderr));
    let found = "SELECT string_agg(stripe_customer_id, ' ' ORDER BY stripe_customer_id) FROM billing.billing_contacts";
    assert_eq!(sync.app.text(found).await.as_deref(), Some("cus_2 cus_7"));
    let output = sync.run(&["backfill", "--customer", "cus_missing"]).await;
    let text = words(&output.stderr);
    assert!(code(&output) == 1 && text.contains("Stripe has no customer cus_missing"), "{text}");
    sync.end().await;
}

#[tokio::test]
async fn verify_exits_3_if_rows_differ_and_fixes_them_on_request() {
    let sync = Fetching::without_events(8).await;
    sync.backfill_completely().await;
    sync.settle().await;
    sync.stripe.tick(60);
    let output = sync.run(&["verify"]).await;
    let text = words(&output.stdout);
    assert!(
        code(&output) == 0 && text.contains("8 customers compared, 0 rows differ"),
        "{text} {}",
        words(&output.stderr)
    );
    sync.app
        .execute(
            "UPDATE billing.subscriptions SET stripe_status = 'unpaid' WHERE stripe_subscription_id = 'sub_1';
            UPDATE billing.billing_contacts SET email = 'wrong@example.com' WHERE stripe_customer_id = 'cus_2'",
        )
        .await;
    let output = sync.run(&["verify"]).await;
    let text = words(&output.stdout);
    assert_eq!(code(&output), 3, "{text}");
    for part in [
        "ROW COLUMN HERE STRIPE",
        "stripe_status unpaid active",
        "2 rows differ (1 in billing_contacts, 1 in subscriptions)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("example.com"), "{text}");
    let output = sync.run(&["verify", "--json", "--customer", "cus_2"]).await;
    let lines = json_lines(&output);
    let (row, summary) = (&lines[0], &lines[1]["summary"]);
    assert_eq!((code(&output), &row["table"], &row["name"]), (3, &"billing_contacts".into(), &"cus_2".into()));
    let counts = (&summary["customers"], &summary["rows"], &summary["tables"]);
    assert_eq!(counts, (&json!(1), &json!(1), &json!({ "billing_contacts": 1 })));
    let output = sync.run(&["verify", "--fix"]).await;
    let text = words(&output.stdout);
    assert!(code(&output) == 0 && text.contains("2 rows differed and are fixed"), "{text}");
    assert_eq!(code(&sync.run(&["verify", "--sample", "8"]).await), 0);
    sync.end().await;
}
