//! `doctor --orphans`: its table, its JSON, and the line about orphans in `doctor`'s report.

use billing_sync::database::Connection;
use serde_json::{Value, json};

use super::{code, migrated, run, words};
use crate::orphans::{contact, subscribe};
use crate::support::cluster::TestDatabase;

/// One orphan for each fix, except the one for a queued read.
async fn one_of_each() -> (TestDatabase, Connection) {
    let (database, mut conn) = migrated().await;
    contact(&mut conn, 1, "name = 'Ada Lovelace'").await;
    subscribe(&mut conn, 1, 1, "pricing_plan_id = NULL").await;
    subscribe(&mut conn, 2, 2, "pricing_plan_id = NULL, stripe_price_id = NULL").await;
    let not_found = "INSERT INTO billing.stripe_objects (account, object_type, object_id, not_found_at)
        VALUES ('', 'customer', 'cus_2', now())";
    sqlx::query(not_found).execute(&mut conn).await.unwrap();
    (database, conn)
}

fn doctor(database: &TestDatabase, arguments: &[&str]) -> (i32, String) {
    let environment = [("DATABASE_URL", database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_x")];
    let output = run(&[&["doctor"], arguments].concat(), &environment);
    assert!(output.stderr.is_empty(), "{output:?}");
    (code(&output), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn doctor_counts_orphans_as_a_warning_and_names_the_list() {
    let (database, mut conn) = migrated().await;
    let (status, text) = doctor(&database, &[]);
    assert!(status == 0 && text.contains("  ok    orphans     none: "), "{text}");
    contact(&mut conn, 1, "name = NULL").await;
    subscribe(&mut conn, 1, 1, "pricing_plan_id = NULL").await;
    let (status, text) = doctor(&database, &[]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(status, 0, "{text}");
    let line = "warn orphans 1 contact_without_workspace, 1 subscription_without_price fix: `billing-sync doctor --orphans` lists";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn orphans_are_listed_in_80_columns_with_fixes_and_no_names() {
    let (database, mut conn) = one_of_each().await;
    let (status, text) = doctor(&database, &["--orphans"]);
    assert_eq!(status, 0, "orphans are not a failure");
    insta::assert_snapshot!(text);
    let longest = "stripe_price_id = repeat('p', 255), stripe_subscription_id = repeat('s', 255), account = 'acct_1'";
    subscribe(&mut conn, 3, 1, &format!("pricing_plan_id = NULL, {longest}")).await;
    let (_, text) = doctor(&database, &["--orphans"]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("of acct_1"), "{text}");
}

#[tokio::test]
async fn orphans_are_listed_as_json_with_their_counts_at_the_end() {
    let (database, mut conn) = one_of_each().await;
    let queued =
        "INSERT INTO billing.jobs (kind, account, object_type, object_id) VALUES ('fetch', '', 'price', 'price_1')";
    sqlx::query(queued).execute(&mut conn).await.unwrap();
    let (status, text) = doctor(&database, &["--orphans", "--json"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((status, lines.len()), (0, 7), "{text}");
    assert_eq!(
        lines[3],
        json!({
            "kind": "subscription_without_price", "account": "", "stripe_customer_id": "cus_2",
            "stripe_subscription_id": "sub_2", "missing_type": "price", "missing_id": null, "read_state": null,
            "fix": "with STRIPE_SECRET_KEY set, `billing-sync backfill --customer cus_2` reads the subscription again",
        })
    );
    let reads: Vec<&Value> = lines[..4].iter().map(|line| &line["read_state"]).collect();
    assert_eq!(reads, [&Value::Null, &json!("not_found"), &json!("queued"), &Value::Null]);
    assert_eq!(
        lines[4..],
        [
            json!({ "kind": "contact_without_workspace", "count": 1 }),
            json!({ "kind": "subscription_without_customer", "count": 1 }),
            json!({ "kind": "subscription_without_price", "count": 2 }),
        ]
    );
    assert!(!text.contains("Ada") && !text.contains("example.com"), "{text}");
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_whole_and_has_one_header() {
    let (database, mut conn) = migrated().await;
    contact(&mut conn, 1, "workspace_id = gen_random_uuid()").await;
    subscribe(&mut conn, 1, 1, "pricing_plan_id = NULL").await;
    let many = "INSERT INTO billing.subscriptions (id, account, stripe_subscription_id, stripe_customer_id, billing_contact_id,
            stripe_status, active, payment_paused, is_trial, is_grace_period, active_discounts, active_discount_ends)
        SELECT gen_random_uuid(), account, 'sub_' || n, stripe_customer_id, billing_contact_id, stripe_status, active,
            payment_paused, is_trial, is_grace_period, active_discounts, active_discount_ends
        FROM billing.subscriptions, generate_series(2, 1201) AS n";
    sqlx::query(many).execute(&mut conn).await.unwrap();
    let (_, text) = doctor(&database, &["--orphans", "--limit", "5000"]);
    assert_eq!(text.matches("\nsub_").count(), 1201, "{text}");
    assert_eq!(text.matches("MISSING").count(), 1);
    assert!(text.contains("\n1201 subscription_without_price\n"), "{text}");
    let (_, text) = doctor(&database, &[]);
    assert!(text.contains("1000 or more subscription_without_price"), "{text}");
}

#[tokio::test]
async fn an_empty_list_of_orphans_is_reported() {
    let (database, _conn) = migrated().await;
    let (status, text) = doctor(&database, &["--orphans"]);
    assert_eq!(
        (status, text.as_str()),
        (0, "There are no orphans: all live rows have their workspace, price and customer.\n")
    );
}

#[tokio::test]
async fn a_list_that_cannot_be_made_is_a_failure() {
    let (database, mut conn) = migrated().await;
    sqlx::raw_sql("DELETE FROM billing.schema_migrations WHERE version = 12").execute(&mut conn).await.unwrap();
    for (url, status, cause) in [
        (Some(database.url.as_str()), 2, "error: migrations are missing (12)"),
        (Some("postgres://u:hunter2@127.0.0.1:1/d"), 1, "error: cannot use the database at 127.0.0.1:1"),
        (None, 1, "error: no valid database is configured; set DATABASE_URL"),
    ] {
        let environment: Vec<(&str, &str)> = url.iter().map(|url| ("DATABASE_URL", *url)).collect();
        let output = run(&["doctor", "--orphans"], &environment);
        assert_eq!(code(&output), status, "{output:?}");
        assert!(words(&output.stderr).starts_with(cause), "{}", words(&output.stderr));
    }
    assert_eq!(
        code(&run(&["doctor", "--orphans", "--embedded"], &[])),
        2,
        "the embedded database runs only within `serve`"
    );
}

#[tokio::test]
async fn the_list_is_bounded_and_counts_what_it_omits() {
    let (database, mut conn) = migrated().await;
    for number in 1..=5 {
        contact(&mut conn, number, "name = NULL").await;
        subscribe(&mut conn, number, number, "pricing_plan_id = NULL").await;
    }
    let (_, text) = doctor(&database, &["--orphans", "--limit", "2"]);
    let listed = |id: &str| text.lines().filter(|line| line.starts_with(id)).count();
    assert_eq!((listed("cus_"), listed("sub_")), (2, 2), "{text}");
    assert!(text.contains("5 subscription_without_price, 3 of them not listed: see --limit"), "{text}");
    let (_, text) = doctor(&database, &["--orphans", "--limit", "2", "--json"]);
    assert_eq!(text.lines().count(), 4 + 3, "{text}");
    let (_, text) = doctor(&database, &["--orphans"]);
    assert!(text.contains("5 subscription_without_price\n"), "{text}");
}
