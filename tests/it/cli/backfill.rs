//! `backfill` and `verify` through the real binary: what they print, how they exit, and a kill in the middle.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{binary, code, words};
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
async fn a_backfill_says_what_it_read_and_a_second_one_changes_nothing() {
    let sync = Fetching::without_events(16).await;
    let output = sync.run(&["backfill"]).await;
    let said = words(&output.stdout);
    assert_eq!(code(&output), 0, "{said} {}", words(&output.stderr));
    assert!(said.contains("objects on 10 pages read") || said.contains("pages read"), "{said}");
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    let output = sync.run(&["backfill", "--json"]).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["complete"], &report["rows_changed"], &report["remaining"]),
        (&true.into(), &0.into(), &0.into())
    );
    sync.end().await;
}

#[tokio::test]
async fn a_backfill_that_is_killed_goes_on_where_it_was() {
    let sync = Fetching::without_events(40).await;
    sync.stripe.page_at_most(4);
    let mut child = sync.command(&["backfill"]).stderr(Stdio::null()).spawn().unwrap();
    // at some page in the middle
    while sync.stripe.served().len() < 30 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    // it is not known to be gone
    let output = sync.run(&["backfill"]).await;
    let said = words(&output.stderr);
    assert!(code(&output) == 2 && said.contains("is running") && said.contains("--resume"), "{said}");
    sync.app.execute("UPDATE billing.backfill_runs SET heartbeat_at = heartbeat_at - interval '10 min'").await;
    let said = words(&sync.run(&["doctor"]).await.stdout);
    assert!(said.contains("warn backfill one was interrupted 11 min ago"), "{said}");
    let output = sync.run(&["backfill"]).await;
    let said = words(&output.stderr);
    assert!(code(&output) == 0 && said.contains("resuming the backfill started at"), "{said}");
    assert_alike(&sync.all_rows().await, &sync.rows_of_events().await);
    let output = sync.run(&["backfill", "--resume"]).await;
    assert!(code(&output) == 2 && words(&output.stderr).contains("there is no unfinished backfill to resume"));
    sync.end().await;
}

#[tokio::test]
async fn what_could_not_be_read_is_named_and_is_no_success() {
    let sync = Fetching::without_events(4).await;
    sync.stripe.fail_next_under("/v1/disputes", 100, Fault::NotFound);
    let output = sync.run(&["backfill"]).await;
    let said = words(&output.stderr);
    assert!(code(&output) == 1 && said.contains("the server at STRIPE_API_BASE has no list of disputes"), "{said}");
    sync.stripe.recover();
    sync.stripe.fail_next_under("/v1/account", 100, Fault::TooManyRequests { retry_after: Some(60) });
    let output = sync.run(&["backfill"]).await;
    let said = words(&output.stderr);
    assert!(code(&output) == 1 && said.contains("stripe asks to retry later"), "{said}");
    sync.end().await;
}

#[tokio::test]
async fn settings_that_are_lacking_are_named() {
    for command in ["backfill", "verify"] {
        let output = super::run(&[command], &[]);
        let said = words(&output.stderr);
        assert!(code(&output) == 2 && said.contains("DATABASE_URL") && said.contains("STRIPE_SECRET_KEY"), "{said}");
    }
}

#[tokio::test]
async fn a_trial_run_prints_each_field_and_no_personal_data() {
    let sync = Fetching::without_events(3).await;
    let output = sync.run(&["backfill", "--dry-run"]).await;
    let said = words(&output.stdout);
    assert_eq!(code(&output), 0, "{said} {}", words(&output.stderr));
    for part in
        ["billing_contacts cus_1 (new)", "email: changed", "stripe_status: null -> active", "3 customers compared"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("example.com") && !said.contains("Customer 1"), "{said}");
    assert_eq!(sync.app.rows().await, Vec::<String>::new());
    sync.end().await;
}

#[tokio::test]
async fn one_customer_is_read_whole_and_one_that_is_not_there_is_named() {
    let sync = Fetching::without_events(16).await;
    let output = sync.run(&["backfill", "--customer", "cus_2", "--customer", "cus_7"]).await;
    let said = words(&output.stdout);
    assert!(code(&output) == 0 && said.contains("2 customers compared"), "{said} {}", words(&output.stderr));
    let found = "SELECT string_agg(stripe_customer_id, ' ' ORDER BY stripe_customer_id) FROM billing.billing_contacts";
    assert_eq!(sync.app.text(found).await.as_deref(), Some("cus_2 cus_7"));
    let output = sync.run(&["backfill", "--customer", "cus_nobody"]).await;
    let said = words(&output.stderr);
    assert!(code(&output) == 1 && said.contains("Stripe has no customer cus_nobody"), "{said}");
    sync.end().await;
}

#[tokio::test]
async fn verify_exits_3_where_rows_differ_and_fix_them_on_request() {
    let sync = Fetching::without_events(8).await;
    sync.backfill_completely().await;
    sync.settle().await;
    sync.stripe.tick(60);
    let output = sync.run(&["verify"]).await;
    let said = words(&output.stdout);
    assert!(
        code(&output) == 0 && said.contains("8 customers compared, 0 rows differ"),
        "{said} {}",
        words(&output.stderr)
    );
    sync.app
        .execute(
            "UPDATE billing.subscriptions SET stripe_status = 'unpaid' WHERE stripe_subscription_id = 'sub_1';
            UPDATE billing.billing_contacts SET email = 'wrong@example.com' WHERE stripe_customer_id = 'cus_2'",
        )
        .await;
    let output = sync.run(&["verify"]).await;
    let said = words(&output.stdout);
    assert_eq!(code(&output), 3, "{said}");
    for part in [
        "ROW COLUMN HERE STRIPE",
        "stripe_status unpaid active",
        "2 rows differ (1 in billing_contacts, 1 in subscriptions)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("example.com"), "{said}");
    let output = sync.run(&["verify", "--json", "--customer", "cus_2"]).await;
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &row["table"], &row["name"]), (3, &"billing_contacts".into(), &"cus_2".into()));
    let output = sync.run(&["verify", "--fix"]).await;
    let said = words(&output.stdout);
    assert!(code(&output) == 0 && said.contains("2 rows differed and are fixed"), "{said}");
    assert_eq!(code(&sync.run(&["verify", "--sample", "8"]).await), 0);
    sync.end().await;
}
