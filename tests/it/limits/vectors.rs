//! `fixtures/renewals.json`: worked examples of the arithmetic, verified with a calendar library of another language.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::harness::{Harness, at};
use crate::support::app::TestApp;

const GROUPS: [&str; 6] = ["next_renewal", "sequence", "rollover", "catchup", "policy", "anchor_change"];

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/renewals.json")).unwrap()
}

fn group(name: &str) -> Vec<Value> {
    let cases = vectors()[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| text(one).to_owned()).collect()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

#[test]
fn every_group_of_the_file_is_read() {
    let found: BTreeSet<String> = vectors().as_object().unwrap().keys().cloned().collect();
    assert_eq!(found, GROUPS.map(str::to_owned).into());
}

/// An SQL time in the format of the file.
async fn instant(app: &TestApp, sql: String) -> String {
    let formatted = format!("SELECT to_char(({sql}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    sqlx::query_scalar(AssertSqlSafe(formatted)).fetch_one(&app.pool).await.unwrap()
}

#[tokio::test]
async fn the_next_renewal() {
    let app = TestApp::start().await;
    for case in group("next_renewal") {
        let (anchor, now, day) = (text(&case["anchor"]), text(&case["now"]), &case["day"]);
        assert_eq!(
            instant(&app, format!("billing.next_renewal('{anchor}', '{now}', {day})")).await,
            text(&case["expect"]),
            "{case}"
        );
        let count = format!("SELECT billing.renewals_until('{anchor}', '{now}', {day})");
        let count: i32 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&app.pool).await.unwrap();
        assert_eq!(i64::from(count), number(&case["k"]), "{case}");
    }
    app.finish().await;
}

#[tokio::test]
async fn the_sequence_of_renewals() {
    let app = TestApp::start().await;
    for case in group("sequence") {
        let (anchor, day) = (text(&case["anchor"]), &case["day"]);
        for (months, expected) in texts(&case["expect"]).into_iter().enumerate() {
            let found = instant(&app, format!("billing.renewal_at('{anchor}', {months}, {day})")).await;
            assert_eq!(found, expected, "{}, month {months}", case["name"]);
        }
    }
    app.finish().await;
}

/// The available amount including the bonus, as the product sees it, regardless of the time.
const AVAILABLE: &str =
    "SELECT billing.left_of_plan(b.included, b.spillover, b.used, b.bonus_used) + coalesce(w.amount, 0)
    FROM billing.subscription_limits AS b LEFT JOIN billing.workspace_bonus AS w USING (limit_key)";
const BONUS: &str = "SELECT coalesce(max(amount), 0) FROM billing.workspace_bonus";

#[tokio::test]
async fn a_rollover() {
    let mut harness = Harness::new().await;
    for case in group("rollover") {
        harness.reset().await;
        let field = |name: &str| number(&case[name]);
        let (plan, spillover, used) = (field("P"), field("S"), field("U"));
        harness.price("basic", &plan.to_string()).await;
        harness.emit(&[at("2026-01-31T09:15:00Z")]).await;
        // usage beyond the plan was taken from the bonus, at most all of it
        let of_bonus = field("B").min((used - spillover - plan).max(0));
        harness
            .execute(&format!(
                "UPDATE billing.subscription_limits SET spillover = {spillover}, used = {used}, bonus_used = {of_bonus};
                INSERT INTO billing.workspace_bonus SELECT md5('workspace')::uuid, 'words', {} WHERE {} > 0",
                field("B") - of_bonus,
                field("B")
            ))
            .await;
        assert_eq!(harness.text(AVAILABLE).await, field("avail").to_string(), "{case}");
        harness.renew_until("2026-02-28T09:15:00Z").await;
        assert_eq!(harness.balance().await, format!("2026-03-31 09:15: {plan}+{}-0", field("S2")), "{case}");
        assert_eq!(harness.text(BONUS).await, field("B2").to_string(), "{case}");
        assert_eq!(harness.text(AVAILABLE).await, field("avail2").to_string(), "{case}");
        let beyond = "SELECT sum(used - least(used, spillover + included) - bonus_used) FROM billing.limit_renewals";
        assert_eq!(harness.text(beyond).await, field("over").to_string(), "{case}");
    }
}

#[tokio::test]
async fn catching_up() {
    let catchup = &vectors()["catchup"];
    let field = |name: &str| number(&catchup[name]);
    let mut harness = Harness::new().await;
    for case in catchup["cases"].as_array().unwrap() {
        harness.reset().await;
        harness.price("basic", &field("plan").to_string()).await;
        harness.emit(&[at(text(&catchup["anchor"]))]).await;
        assert_eq!(time_of(&mut harness, "renews_at").await, text(&catchup["stored_renewal"]));
        harness
            .execute(&format!(
                "UPDATE billing.subscription_limits SET spillover = {}, used = {};
                INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', {})",
                field("spillover"),
                field("used"),
                field("bonus")
            ))
            .await;
        harness.renew_until(text(&case["now"])).await;
        let counted = harness.text("SELECT count(*) FROM billing.limit_renewals").await;
        assert_eq!(counted, case["n"].to_string(), "{case}");
        let balance = harness.text("SELECT concat_ws(' ', spillover, used) FROM billing.subscription_limits").await;
        assert_eq!(balance, format!("{} {}", case["S"], case["U"]), "{case}");
        assert_eq!(harness.text(BONUS).await, case["B"].to_string(), "{case}");
        assert_eq!(time_of(&mut harness, "renews_at").await, text(&case["next"]), "{case}");
    }
}

async fn time_of(harness: &mut Harness, column: &str) -> String {
    harness
        .text(&format!(
            "SELECT to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM billing.subscription_limits"
        ))
        .await
}

/// The periods of a subscription with one anchor, known from the start, by both rules.
#[tokio::test]
async fn which_anchor() {
    let mut harness = Harness::new().await;
    for case in group("policy") {
        let (start, anchor) = (text(&case["start"]), text(&case["anchor"]));
        for (rule, expected) in [("A", texts(&case["A"])), ("C", texts(&case["C"]))] {
            harness.reset().await;
            if rule == "C" {
                harness.renew_by_anchor().await;
            }
            harness.emit(&[at(start).anchor(anchor)]).await;
            harness.renew_until(expected.last().unwrap()).await;
            assert_eq!(harness.ends().await, expected, "{}, {rule}", case["name"]);
        }
    }
}

/// A new anchor is itself a renewal, and the periods continue from there.
#[tokio::test]
async fn a_change_of_the_anchor() {
    let mut harness = Harness::new().await;
    for case in group("anchor_change") {
        let old = text(&case["old_anchor"]);
        harness.reset().await;
        harness.renew_by_anchor().await;
        harness.emit(&[at(old).anchor(old)]).await;
        let when = text(if case["new_anchor"].is_null() { &case["at"] } else { &case["new_anchor"] });
        let before = OffsetDateTime::parse(when, &Rfc3339).unwrap() - time::Duration::SECOND;
        harness.renew_until(&before.format(&Rfc3339).unwrap()).await;
        if let Some(next) = case["old_next"].as_str() {
            assert_eq!(time_of(&mut harness, "renews_at").await, next, "{case}");
        }
        if case["new_anchor"].is_null() {
            harness.emit(&[at(when).anchor(old)]).await;
        } else {
            harness.emit(&[at(when).anchor(when)]).await;
        }
        harness.renew_until(when).await;
        let ends = harness.ends().await;
        assert_eq!(ends.last().is_some_and(|last| last == when), !case["boundary"].is_null(), "{case}: {ends:?}");
        assert_eq!(time_of(&mut harness, "renews_at").await, text(&case["next"]), "{case}");
    }
}
