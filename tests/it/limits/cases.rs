//! Named cases of the arithmetic: each has a subscription, its changes, and its periods.
//!
//! The format of a closed period is `end outcome: included+spillover-used>carried over`, of the open period
//! `end: included+spillover-used`.

use super::harness::{Harness, at};

#[tokio::test]
async fn a_start_on_the_31st_renews_on_the_last_day_of_short_months() {
    let mut harness = Harness::sold("2026-01-31T09:15:00Z").await;
    harness.renew_until("2026-05-31T09:15:00Z").await;
    let ends = ["2026-02-28T09:15:00Z", "2026-03-31T09:15:00Z", "2026-04-30T09:15:00Z", "2026-05-31T09:15:00Z"];
    assert_eq!(harness.ends().await, ends);
}

#[tokio::test]
async fn a_start_on_a_leap_day_renews_on_28_february() {
    let mut harness = Harness::sold("2028-02-29T12:00:00Z").await;
    harness.renew_until("2032-02-29T12:00:00Z").await;
    let ends = harness.ends().await;
    assert_eq!(ends.len(), 48);
    let of = |month: &str| ends.iter().filter(|end| end.contains(month)).cloned().collect::<Vec<_>>();
    assert_eq!(
        of("-02-"),
        ["2029-02-28T12:00:00Z", "2030-02-28T12:00:00Z", "2031-02-28T12:00:00Z", "2032-02-29T12:00:00Z"]
    );
    assert!(of("-03-").iter().all(|end| end.contains("-29T")), "{ends:?}");
}

#[tokio::test]
async fn a_yearly_plan_renews_every_month() {
    let mut harness = Harness::new().await;
    harness.execute("UPDATE billing.pricing_plans SET billing_interval = 'year', billing_interval_count = 1").await;
    harness.emit(&[at("2026-01-15T10:00:00Z")]).await;
    harness.renew_until("2027-01-15T10:00:00Z").await;
    assert_eq!(harness.ends().await.len(), 12);
    assert_eq!(harness.balance().await, "2027-02-15 10:00: 1000+1000-0");
}

#[tokio::test]
async fn leftovers_carry_over_once() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.set_used(400).await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 1000+600-0");
    harness.set_used(300).await;
    harness.renew_until("2026-03-10T00:00:00Z").await;
    // the spillover is used first, and the rest of it expires
    assert_eq!(harness.ledger().await[1], "2026-03-10 00:00 renewed: 1000+600-300>1000");
    harness.set_used(1700).await;
    harness.renew_until("2026-04-10T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-05-10 00:00: 1000+300-0");
}

#[tokio::test]
async fn each_key_renews_separately() {
    let mut harness = Harness::new().await;
    harness.limit("basic", "images", "7").await;
    harness.emit(&[at("2026-01-10T00:00:00Z")]).await;
    harness.execute("UPDATE billing.subscription_limits SET used = 5 WHERE limit_key = 'images'").await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.balance_of("images").await, "2026-03-10 00:00: 7+2-0");
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 1000+1000-0");
}

#[tokio::test]
async fn a_pause_over_a_renewal_carries_nothing_over() {
    for pause in [at("2026-02-20T00:00:00Z").paused(), at("2026-02-20T00:00:00Z").status("paused")] {
        let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
        harness.renew_until("2026-02-20T00:00:00Z").await;
        harness.emit(&[pause]).await;
        harness.renew_until("2026-04-20T00:00:00Z").await;
        assert_eq!(
            harness.ledger().await[1..],
            ["2026-03-10 00:00 inactive: 1000+1000-0>0", "2026-04-10 00:00 inactive: 1000+0-0>0"]
        );
        // resumed within a period: the whole plan is available for the rest of it
        harness.emit(&[at("2026-04-25T00:00:00Z")]).await;
        harness.renew_until("2026-05-10T00:00:00Z").await;
        assert_eq!(harness.ledger().await[3], "2026-05-10 00:00 renewed: 1000+0-0>1000");
    }
}

#[tokio::test]
async fn a_pause_during_downtime_counts() {
    let (pause, resume) = (at("2026-03-01T00:00:00Z").paused(), at("2026-03-20T00:00:00Z"));
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.renew_until("2026-01-11T00:00:00Z").await;
    harness.emit(&[pause, resume, at("2026-04-15T00:00:00Z").paused(), at("2026-04-16T00:00:00Z")]).await;
    harness.renew_until("2026-05-20T00:00:00Z").await;
    assert_eq!(
        harness.ledger().await,
        [
            "2026-02-10 00:00 renewed: 1000+0-0>1000",
            "2026-03-10 00:00 inactive: 1000+1000-0>0",
            "2026-04-10 00:00 renewed: 1000+0-0>1000",
            // a pause between two renewals has no effect
            "2026-05-10 00:00 renewed: 1000+1000-0>1000",
        ]
    );
}

#[tokio::test]
async fn an_inactive_subscription_carries_nothing_over() {
    for (status, outcome) in [
        ("past_due", "renewed"),
        ("trialing", "renewed"),
        ("unpaid", "inactive"),
        ("incomplete", "inactive"),
        ("paused", "inactive"),
        ("hibernating", "inactive"),
    ] {
        let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
        harness.emit(&[at("2026-02-01T00:00:00Z").status(status)]).await;
        harness.renew_until("2026-02-10T00:00:00Z").await;
        let carried = if outcome == "renewed" { 1000 } else { 0 };
        assert_eq!(harness.ledger().await, [format!("2026-02-10 00:00 {outcome}: 1000+0-0>{carried}")], "{status}");
    }
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.execute("UPDATE billing.renewal_rules SET past_due_active = false").await;
    harness.emit(&[at("2026-02-01T00:00:00Z").status("past_due")]).await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 inactive: 1000+0-0>0"]);
}

#[tokio::test]
async fn an_upgrade_counts_at_once_and_changes_nothing_else() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.price("big", "5000").await;
    harness.set_used(100).await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    harness.set_used(300).await;
    harness.emit(&[at("2026-02-20T00:00:00Z").price("big")]).await;
    harness.renew_until("2026-02-20T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 5000+900-300");
    harness.renew_until("2026-03-10T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-04-10 00:00: 5000+5000-0");
}

#[tokio::test]
async fn a_downgrade_never_leaves_less_than_nothing() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.price("small", "100").await;
    harness.set_used(700).await;
    harness.emit(&[at("2026-01-20T00:00:00Z").price("small")]).await;
    harness.renew_until("2026-01-20T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-02-10 00:00: 100+0-700");
    let available = "SELECT billing.left_of_plan(included, spillover, used, 0) FROM billing.subscription_limits";
    assert_eq!(harness.text(available).await, "0");
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 100+0-0");
}

/// The balances are the same whether the webhook comes before or after the scheduler, and no bonus is lost.
#[tokio::test]
async fn a_downgrade_at_a_renewal_counts_for_the_new_period() {
    let downgrade = at("2026-02-10T00:00:00Z").price("small");
    let mut ends = Vec::new();
    for webhook_first in [true, false] {
        let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
        harness.price("small", "100").await;
        harness
            .execute(
                "INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 40);
                UPDATE billing.subscription_limits SET used = 1010, bonus_used = 10",
            )
            .await;
        if webhook_first {
            harness.emit(std::slice::from_ref(&downgrade)).await;
            harness.renew_until("2026-02-10T00:00:00Z").await;
        } else {
            harness.renew_until("2026-02-10T00:00:00Z").await;
            harness.emit(std::slice::from_ref(&downgrade)).await;
            harness.renew_until("2026-02-10T00:00:01Z").await;
        }
        assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 1000+0-1010>0"]);
        assert_eq!(harness.balance().await, "2026-03-10 00:00: 100+0-0");
        assert_eq!(harness.text("SELECT amount FROM billing.workspace_bonus").await, "40");
        ends.push(harness.all_rows().await);
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test]
async fn the_plan_of_the_new_period_caps_the_carry_over() {
    let mut ends = Vec::new();
    for webhook_first in [true, false] {
        let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
        harness.price("small", "100").await;
        let downgrade = [at("2026-02-10T00:00:00Z").price("small")];
        if webhook_first {
            harness.emit(&downgrade).await;
            harness.renew_until("2026-02-10T00:00:00Z").await;
        } else {
            harness.renew_until("2026-02-10T00:00:00Z").await;
            assert_eq!(harness.balance().await, "2026-03-10 00:00: 1000+1000-0");
            harness.emit(&downgrade).await;
            harness.renew_until("2026-02-10T00:00:01Z").await;
        }
        assert_eq!(harness.balance().await, "2026-03-10 00:00: 100+100-0");
        ends.push(harness.all_rows().await);
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test]
async fn an_upgrade_at_a_renewal_carries_over_from_the_smaller_plan() {
    let mut ends = Vec::new();
    for webhook_first in [true, false] {
        let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
        harness.price("big", "5000").await;
        harness.set_used(300).await;
        if !webhook_first {
            harness.renew_until("2026-02-10T00:00:00Z").await;
        }
        harness.emit(&[at("2026-02-10T00:00:00Z").price("big")]).await;
        harness.renew_until("2026-02-10T00:00:00Z").await;
        assert_eq!(harness.balance().await, "2026-03-10 00:00: 5000+700-0");
        ends.push(harness.all_rows().await);
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test]
async fn a_trial_end_is_no_renewal_by_subscription_start() {
    let mut harness = Harness::new().await;
    let trial = at("2026-01-01T10:00:00Z").status("trialing").anchor("2026-01-15T10:00:00Z");
    harness.emit(&[trial, at("2026-01-15T10:00:00Z").anchor("2026-01-15T10:00:00Z")]).await;
    harness.set_used(300).await;
    harness.renew_until("2026-02-01T10:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-01 10:00 renewed: 1000+0-300>700"]);
}

#[tokio::test]
async fn a_trial_end_is_a_renewal_by_billing_cycle() {
    let mut harness = Harness::new().await;
    harness.renew_by_anchor().await;
    let trial = at("2026-01-01T10:00:00Z").status("trialing").anchor("2026-01-15T10:00:00Z");
    harness.emit(&[trial]).await;
    harness.set_used(300).await;
    harness.execute("INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 40)").await;
    harness.emit(&[at("2026-01-15T10:00:00Z").anchor("2026-01-15T10:00:00Z")]).await;
    harness.renew_until("2026-02-15T10:00:00Z").await;
    assert_eq!(
        harness.ledger().await,
        ["2026-01-15 10:00 trial_end: 1000+0-300>0", "2026-02-15 10:00 renewed: 1000+0-0>1000"]
    );
    assert_eq!(harness.text("SELECT amount FROM billing.workspace_bonus").await, "40");
}

#[tokio::test]
async fn the_requested_day_corrects_an_anchor_on_the_28th() {
    let mut harness = Harness::new().await;
    harness.renew_by_anchor().await;
    let anchor = "2026-02-28T12:00:00Z";
    // the day is kept with its anchor: a payload without it changes nothing
    harness.emit(&[at(anchor).anchor(anchor).day(31), at("2026-03-02T00:00:00Z").anchor(anchor)]).await;
    harness.renew_until("2026-05-31T12:00:00Z").await;
    assert_eq!(harness.ends().await, ["2026-03-31T12:00:00Z", "2026-04-30T12:00:00Z", "2026-05-31T12:00:00Z"]);
}

#[tokio::test]
async fn an_ended_subscription_does_not_renew() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.emit(&[at("2026-02-20T00:00:00Z").ended()]).await;
    harness.renew_until("2026-06-01T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 1000+0-0>1000"]);
    assert_eq!(harness.balance().await, "never: 1000+1000-0");
}

#[tokio::test]
async fn an_end_at_a_renewal_includes_it_in_either_order() {
    let mut ends = Vec::new();
    for webhook_first in [true, false] {
        let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
        let end = [at("2026-02-10T00:00:00Z").ended()];
        if webhook_first {
            harness.emit(&end).await;
            harness.renew_until("2026-02-10T00:00:00Z").await;
        } else {
            harness.renew_until("2026-02-10T00:00:00Z").await;
            harness.emit(&end).await;
            harness.renew_until("2026-02-10T00:00:01Z").await;
        }
        assert_eq!(harness.balance().await, "never: 1000+1000-0");
        ends.push(harness.all_rows().await);
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test]
async fn a_revoked_cancellation_has_no_effect() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.execute("UPDATE billing.subscriptions SET is_grace_period = true, end_date = '2026-03-10'").await;
    harness.renew_until("2026-02-20T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 1000+1000-0", "it has not ended yet");
    harness.execute("UPDATE billing.subscriptions SET is_grace_period = false, end_date = NULL").await;
    harness.renew_until("2026-03-10T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-04-10 00:00: 1000+1000-0");
}

#[tokio::test]
async fn a_new_subscription_starts_fresh_and_keeps_the_bonus() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.execute("INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 40)").await;
    harness.set_used(600).await;
    harness.emit(&[at("2026-02-20T00:00:00Z").ended(), at("2026-03-05T00:00:00Z").of("sub_2")]).await;
    harness.renew_until("2026-03-06T00:00:00Z").await;
    let second = "SELECT concat_ws(' ', included, spillover, used, renews_at AT TIME ZONE 'UTC')
        FROM billing.subscription_limits WHERE subscription_id = md5('sub_2')::uuid";
    assert_eq!(harness.text(second).await, "1000 0 0 2026-04-05 00:00:00");
    let seen = "SELECT concat_ws(' ', subscription_id = md5('sub_2')::uuid, bonus) FROM billing.workspace_limits";
    assert_eq!(harness.text(seen).await, "t 40");
}

#[tokio::test]
async fn unlimited_carries_nothing_over() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.price("endless", "unlimited").await;
    harness.emit(&[at("2026-01-20T00:00:00Z").price("endless")]).await;
    harness.renew_until("2026-01-20T00:00:00Z").await;
    harness.set_used(123_456).await;
    harness.renew_until("2026-02-20T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: unlimited+0-0");
    harness.emit(&[at("2026-02-25T00:00:00Z")]).await;
    harness.renew_until("2026-03-10T00:00:00Z").await;
    assert_eq!(
        harness.ledger().await,
        ["2026-02-10 00:00 renewed: unlimited+0-123456>0", "2026-03-10 00:00 renewed: 1000+0-0>1000"]
    );
}

#[tokio::test]
async fn a_capacity_is_never_reset() {
    let mut harness = Harness::new().await;
    harness.limit("basic", "members", "5").await;
    harness.emit(&[at("2026-01-10T00:00:00Z")]).await;
    harness.execute("UPDATE billing.subscription_limits SET used = 3 WHERE limit_key = 'members'").await;
    harness.renew_until("2026-06-01T00:00:00Z").await;
    assert_eq!(harness.balance_of("members").await, "never: 5+0-3");
    assert_eq!(harness.text("SELECT count(*) FROM billing.limit_renewals WHERE limit_key = 'members'").await, "0");
}

#[tokio::test]
async fn an_unknown_plan_leaves_the_limit_unchanged() {
    // an unknown price
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.emit(&[at("2026-01-20T00:00:00Z").price("unseen")]).await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 1000+1000-0");
    // an invalid value
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.execute("UPDATE billing.plan_limits SET included = NULL").await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 1000+1000-0");
}

#[tokio::test]
async fn a_known_plan_without_the_limit_includes_nothing() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.limit("other", "images", "7").await;
    harness.emit(&[at("2026-01-20T00:00:00Z").price("other")]).await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 0+0-0");
    assert_eq!(harness.balance_of("images").await, "2026-03-10 00:00: 7+7-0");
}

#[tokio::test]
async fn nothing_is_renewed_while_the_clocks_disagree() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.execute("UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = 'a clock'").await;
    harness.renew_until("2026-06-01T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-02-10 00:00: 1000+0-0");
    harness.execute("UPDATE billing.renewal_rules SET halted_at = NULL, halted_because = NULL").await;
    harness.renew_until("2026-06-01T00:00:00Z").await;
    assert_eq!(harness.ledger().await.len(), 4);
}

/// A renewal is final, and a period never moves back.
#[tokio::test]
async fn an_earlier_time_changes_nothing() {
    let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
    harness.renew_until("2026-04-20T00:00:00Z").await;
    let before = harness.all_rows().await;
    for time in ["2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-20T00:00:00Z"] {
        harness.renew_until(time).await;
        assert_eq!(harness.all_rows().await, before, "{time}");
    }
}

/// The caller's time zone has no effect, even where a day is longer or shorter, or the day or month differs.
#[tokio::test]
async fn the_session_time_zone_changes_nothing() {
    let periods =
        "SELECT string_agg(format('%s %s %s %s %s', limit_key, outcome, spillover, extract(epoch FROM period_start),
            extract(epoch FROM period_end)), ', ' ORDER BY period_start)
        FROM billing.limit_periods(ARRAY[md5('sub_1')::uuid], '2026-11-20T00:00:00Z')";
    let seen = "SELECT string_agg(format('%s %s %s', subscription_id, extract(epoch FROM period_started_at),
            extract(epoch FROM limit_renewal_date)), ', ') FROM billing.workspace_limits";
    let mut harness = Harness::new().await;
    for start in ["2026-01-30T23:30:00Z", "2026-03-29T00:30:00Z", "2025-10-26T00:30:00Z", "2025-11-02T05:30:00Z"] {
        let mut all = Vec::new();
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Apia", "America/New_York", "Asia/Kolkata", "Europe/Berlin"] {
            harness.reset().await;
            harness.execute(&format!("SET TimeZone = '{zone}'")).await;
            harness.renew_by_anchor().await;
            harness.emit(&[at(start).anchor(start), at("2026-05-01T00:00:00Z").anchor("2026-06-28T23:30:00Z")]).await;
            let expected = harness.text(periods).await;
            harness.renew_until("2026-11-20T00:00:00Z").await;
            // far in the future, so that no renewal falls between the stale and the current state
            harness.emit(&[at("2090-03-26T00:30:00Z").of("sub_2")]).await;
            let stale = harness.text(seen).await;
            harness.renew_until("2026-11-20T00:00:00Z").await;
            assert_eq!(harness.text(seen).await, stale, "{zone}");
            harness.execute("SET TimeZone = 'UTC'").await;
            all.push((expected, stale, harness.all_rows().await));
        }
        assert!(all[0].2.len() > 6 && all[0].1.contains(' '), "{all:?}");
        assert!(all.iter().all(|one| *one == all[0]), "{start}: {all:#?}");
    }
}
