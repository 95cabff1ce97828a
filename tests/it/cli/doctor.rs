//! `doctor`: its checks, and those that make it fail.

use serde_json::Value;

use super::doctor_endpoints::with_an_event;
use super::{code, migrated, run, store, words};
use crate::support::cluster;

#[tokio::test]
async fn doctor_fails_before_migrating_and_passes_after() {
    let database = cluster::empty_database().await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_hunter2,whsec_b")];
    let before = run(&["doctor"], &environment);
    assert_eq!(code(&before), 1);
    assert!(words(&before.stdout).contains("fix: run `billing-sync migrate`"), "{}", words(&before.stdout));
    assert_eq!(code(&run(&["migrate"], &environment)), 0);
    let after = run(&["doctor"], &environment);
    let report = String::from_utf8(after.stdout.clone()).unwrap();
    assert_eq!(code(&after), 0, "{report}");
    // the test server runs without fsync
    assert!(words(&after.stdout).contains("off on the server: fsync;"), "{report}");
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

#[tokio::test]
async fn doctor_reports_overdue_limits_and_fails_if_renewals_halted() {
    let (database, mut conn) = migrated().await;
    let sql =
        "INSERT INTO billing.subscription_limits (subscription_id, limit_key, kind, included, unlimited, period_start,
            renews_at)
        VALUES (gen_random_uuid(), 'words', 'renewing', 1, false, clock_timestamp() - interval '1 day',
            clock_timestamp() - interval '6 min')";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_1")];
    let output = run(&["doctor"], &environment);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text}");
    assert!(
        text.contains(
            "1 are due for renewal, the oldest for 6 min fix: run `serve` with the role renewals and see its log"
        ),
        "{text}"
    );
    let sql = "UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = 'a clock is wrong'";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let output = run(&["doctor"], &environment);
    assert_eq!(code(&output), 1);
    assert!(
        words(&output.stdout).contains("renewals are halted because a clock is wrong"),
        "{}",
        words(&output.stdout)
    );
}

#[test]
fn doctor_embedded_needs_no_url_and_lists_the_skipped_checks() {
    let path = cluster::search_path();
    let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_x"), ("PATH", path.as_str())];
    let fine = run(&["doctor", "--embedded"], &environment);
    let report = words(&fine.stdout);
    assert_eq!(code(&fine), 0, "{report}");
    assert!(report.contains("not checked: `serve --embedded` starts"), "{report}");
    let two = run(&["doctor", "--embedded"], &[environment[0], environment[1], ("DATABASE_URL", "postgres://h/d")]);
    assert_eq!(code(&two), 1);
    assert!(words(&two.stdout).contains("--embedded uses another database"), "{}", words(&two.stdout));
    let none = run(&["doctor", "--embedded"], &[environment[0], ("BILLING_SYNC_PG_BIN", "/nowhere")]);
    assert_eq!(code(&none), 1, "{}", words(&none.stdout));
}

#[tokio::test]
async fn doctor_finds_two_listeners_on_one_address() {
    let (database, _conn) = migrated().await;
    let same = ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:8080");
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_x"), same];
    let output = run(&["doctor"], &environment);
    assert_eq!(code(&output), 1);
    let report = words(&output.stdout);
    assert!(report.contains("FAIL settings BILLING_SYNC_LISTEN, BILLING_SYNC_OPS_LISTEN are"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_checks_that_the_key_belongs_to_the_stored_account() {
    let (app, stripe) = with_an_event().await;
    let report_of = |base: &str, key: &str| {
        let environment = [
            ("DATABASE_URL", app.database.url.as_str()),
            ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
            ("STRIPE_API_BASE", base),
            ("STRIPE_SECRET_KEY", key),
        ];
        let output = run(&["doctor"], &environment);
        (code(&output), words(&output.stdout))
    };
    let report = |key: &str| report_of(&stripe.base(), key);
    let (status, text) = report(stripe.key());
    assert!(status == 0 && text.contains("the key belongs to the account of the stored events"), "{text}");
    let (status, text) = report("sk_test_wrong");
    assert!(status == 1 && text.contains("FAIL stripe stripe refuses the key (401"), "{text}");
    assert!(!text.contains("sk_test_wrong"), "{text}");
    assert!(text.contains("ok clock the clocks of Stripe and of this machine differ by"), "{text}");
    stripe.tick(120);
    let (status, text) = report(stripe.key());
    assert!(status == 0 && text.contains("warn clock the clocks of Stripe and of this machine differ by"), "{text}");
    stripe.tick(600);
    let (status, text) = report(stripe.key());
    assert!(status == 1 && text.contains("this machine is behind, so deliveries fail the signature check"), "{text}");
    stripe.become_another_account();
    let (status, text) = report(stripe.key());
    assert!(status == 1 && text.contains("the key belongs to another account or mode"), "{text}");
    let (status, text) = report("");
    assert!(status == 0 && text.contains("warn stripe no API key"), "{text}");
    let (status, text) = report_of("http://127.0.0.1:1", stripe.key());
    assert!(status == 1 && text.contains("FAIL stripe stripe cannot be reached"), "{text}");
    assert!(text.contains("fix: check that this machine can reach STRIPE_API_BASE, then try again"), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn doctor_reports_the_watermark_and_fails_if_there_is_a_gap() {
    let (database, mut conn) = migrated().await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_1")];
    let output = run(&["doctor"], &environment);
    assert!(
        words(&output.stdout).contains("ok reconcile stored events are not compared with Stripe's list without a key")
    );
    let sql = "INSERT INTO billing.reconcile_state (account, compared_until, finished_at)
        VALUES ('', clock_timestamp() - interval '20 s', clock_timestamp()),
            ('acct_gone', '2020-01-01', '2020-01-01')";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    sqlx::query("UPDATE billing.reconcile_state SET started_at = '2020-01-01' WHERE account <> ''")
        .execute(&mut conn)
        .await
        .unwrap();
    let output = run(&["doctor"], &environment);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text}");
    assert!(text.contains("ok reconcile all events up to 2"), "{text}");
    let sql = "UPDATE billing.reconcile_state SET compared_until = clock_timestamp() - interval '3 h', failures = 2,
        last_error = 'stripe cannot be reached' WHERE account = ''";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let output = run(&["doctor"], &environment);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text}");
    let expected = "warn reconcile events of the last 3 h were not compared with Stripe's list; 2 comparisons \
                    failed, the last one because stripe cannot be reached fix: run `serve` with the role reconcile";
    assert!(text.contains(expected), "{text}");
    let sql =
        "UPDATE billing.reconcile_state SET gap_since = '2026-01-02', gap_until = '2026-02-03' WHERE account = ''";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let output = run(&["doctor"], &environment);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 1, "{text}");
    let expected = "FAIL reconcile there is a gap: events created from 2026-01-02T00:00:00Z to 2026-02-03T00:00:00Z";
    assert!(text.contains(expected) && text.contains("fix: run `backfill`"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_checks_the_key_for_writes() {
    let (app, stripe) = with_an_event().await;
    let base = stripe.base();
    let report = |key: &str| {
        let environment = [
            ("DATABASE_URL", app.database.url.as_str()),
            ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
            ("STRIPE_API_BASE", base.as_str()),
            ("STRIPE_SECRET_KEY", stripe.key()),
            ("STRIPE_WRITE_KEY", key),
        ];
        let output = run(&["doctor"], &environment);
        (code(&output), words(&output.stdout))
    };
    let (status, text) = report(stripe.write_key());
    assert!(status == 0 && text.contains("ok stripe STRIPE_WRITE_KEY belongs to the account"), "{text}");
    assert!(text.contains("ok permissions STRIPE_WRITE_KEY may read all 4 kinds of objects"), "{text}");
    assert!(text.contains("ok changes 0 at Stripe are open"), "{text}");
    let (status, text) = report(stripe.key());
    assert!(
        status == 0 && text.contains("warn stripe STRIPE_WRITE_KEY is the same key as STRIPE_SECRET_KEY"),
        "{text}"
    );
    let (status, text) = report("rk_test_wrong");
    assert!(status == 1 && text.contains("fix: set STRIPE_WRITE_KEY to a valid key"), "{text}");
    assert!(!text.contains("rk_test_wrong"), "{text}");
    let (status, text) = report("rk_live_wrong");
    assert!(status == 1 && text.contains("FAIL settings STRIPE_SECRET_KEY, STRIPE_WRITE_KEY"), "{text}");
    stripe.write_key_belongs_to_another_account();
    let (status, text) = report(stripe.write_key());
    assert!(status == 1 && text.contains("FAIL stripe STRIPE_WRITE_KEY belongs to another account"), "{text}");
    stripe.write_key_belongs_to_our_account();
    stripe.forbid(&["/v1/payment_links"], "rak_payment_link_read");
    let (status, text) = report(stripe.write_key());
    let expected = "FAIL permissions STRIPE_WRITE_KEY may not even read payment links fix: grant it these permissions \
                    (write) in the Stripe dashboard: Payment Links";
    assert!(status == 1 && text.contains(expected), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn doctor_reports_changes_at_stripe_that_are_not_complete() {
    let (database, mut conn) = migrated().await;
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_1")];
    let sql =
        "INSERT INTO billing.api_writes (id, principal, operation, account, target, object_type, path, form, state,
            last_error, begun_at, first_sent_at, finished_at)
        SELECT gen_random_uuid(), 'billing-sync', 'customer.update', '', 'customer/' || state, 'customer',
            '/customers/cus_1', '', state, 'a cause', at, at, CASE WHEN state = 'unknown' THEN at END
        FROM unnest(ARRAY['sent', 'unknown']) AS s (state), (SELECT clock_timestamp() - interval '30 min') AS t (at)";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let output = run(&["doctor"], &environment);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text}");
    for part in [
        "warn changes the outcome of 1 changes at Stripe is unknown; an operator must decide fix: `billing-sync writes \
         list --state unknown`",
        "warn changes 1 changes at Stripe are open, the oldest for 30 min fix: `billing-sync writes list --state open`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn doctor_counts_the_api_and_reports_that_changes_are_not_configured() {
    let (database, _conn) = migrated().await;
    let report = |more: &[(&str, &str)]| {
        let environment =
            [&[("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_1")], more].concat();
        words(&run(&["doctor"], &environment).stdout)
    };
    let wanted = |text: &str| {
        let after = text.split_once("a process with all roles uses up to ").unwrap().1;
        after.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>().unwrap()
    };
    let without = report(&[]);
    assert!(!without.contains("501"), "{without}");
    let api = report(&[("BILLING_SYNC_API_RATE", "7")]);
    assert!(
        api.contains("ok api STRIPE_WRITE_KEY is not set, so requests that change objects at Stripe are answered 501")
    );
    assert_eq!(wanted(&api), wanted(&without) + 8);
    let closed = ("STRIPE_API_BASE", "http://127.0.0.1:1");
    let writes = report(&[("BILLING_SYNC_API_RATE", "7"), ("STRIPE_WRITE_KEY", "rk_test_x"), closed]);
    assert!(!writes.contains("501"), "{writes}");
    assert_eq!(wanted(&writes), wanted(&api) + 4);
}
