//! Named cases of the arithmetic: each a subscription, what becomes known of it, and its months.
//!
//! A closed month reads `end outcome: included+spillover-used>spilled over`, the open one `end: included+spillover-used`.

use super::harness::{Harness, at};

#[tokio::test]
async fn what_began_on_the_31st_renews_on_the_last_day_of_short_months_and_comes_back() {
    let mut ground = Harness::sold("2026-01-31T09:15:00Z").await;
    ground.until("2026-05-31T09:15:00Z").await;
    let ends = ["2026-02-28T09:15:00Z", "2026-03-31T09:15:00Z", "2026-04-30T09:15:00Z", "2026-05-31T09:15:00Z"];
    assert_eq!(ground.ends().await, ends);
}

#[tokio::test]
async fn what_began_on_a_leap_day_renews_on_the_28th_of_common_februaries() {
    let mut ground = Harness::sold("2028-02-29T12:00:00Z").await;
    ground.until("2032-02-29T12:00:00Z").await;
    let ends = ground.ends().await;
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
    let mut ground = Harness::new().await;
    ground.execute("UPDATE billing.pricing_plans SET billing_interval = 'year', billing_interval_count = 1").await;
    ground.emit(&[at("2026-01-15T10:00:00Z")]).await;
    ground.until("2027-01-15T10:00:00Z").await;
    assert_eq!(ground.ends().await.len(), 12);
    assert_eq!(ground.balance().await, "2027-02-15 10:00: 1000+1000-0");
}

#[tokio::test]
async fn what_is_left_goes_over_once() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.used(400).await;
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 1000+600-0");
    ground.used(300).await;
    ground.until("2026-03-10T00:00:00Z").await;
    // the spillover is used first, and what is left of it is gone
    assert_eq!(ground.ledger().await[1], "2026-03-10 00:00 renewed: 1000+600-300>1000");
    ground.used(1700).await;
    ground.until("2026-04-10T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-05-10 00:00: 1000+300-0");
}

#[tokio::test]
async fn any_key_renews_by_itself_and_not_only_words() {
    let mut ground = Harness::new().await;
    ground.limit("basic", "images", "7").await;
    ground.emit(&[at("2026-01-10T00:00:00Z")]).await;
    ground.execute("UPDATE billing.subscription_limits SET used = 5 WHERE limit_key = 'images'").await;
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.balance_of("images").await, "2026-03-10 00:00: 7+2-0");
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 1000+1000-0");
}

#[tokio::test]
async fn a_pause_over_a_renewal_grants_nothing_and_the_months_go_on() {
    for pause in [at("2026-02-20T00:00:00Z").paused(), at("2026-02-20T00:00:00Z").status("paused")] {
        let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
        ground.until("2026-02-20T00:00:00Z").await;
        ground.emit(&[pause]).await;
        ground.until("2026-04-20T00:00:00Z").await;
        assert_eq!(
            ground.ledger().await[1..],
            ["2026-03-10 00:00 inactive: 1000+1000-0>0", "2026-04-10 00:00 inactive: 1000+0-0>0"]
        );
        // resumed in the middle of a month: all of the plan, for the rest of it
        ground.emit(&[at("2026-04-25T00:00:00Z")]).await;
        ground.until("2026-05-10T00:00:00Z").await;
        assert_eq!(ground.ledger().await[3], "2026-05-10 00:00 renewed: 1000+0-0>1000");
    }
}

#[tokio::test]
async fn a_pause_that_began_and_ended_while_we_were_down_counts_as_it_was() {
    let (pause, resume) = (at("2026-03-01T00:00:00Z").paused(), at("2026-03-20T00:00:00Z"));
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.until("2026-01-11T00:00:00Z").await;
    ground.emit(&[pause, resume, at("2026-04-15T00:00:00Z").paused(), at("2026-04-16T00:00:00Z")]).await;
    ground.until("2026-05-20T00:00:00Z").await;
    assert_eq!(
        ground.ledger().await,
        [
            "2026-02-10 00:00 renewed: 1000+0-0>1000",
            "2026-03-10 00:00 inactive: 1000+1000-0>0",
            "2026-04-10 00:00 renewed: 1000+0-0>1000",
            // over no renewal: as if it had never been
            "2026-05-10 00:00 renewed: 1000+1000-0>1000",
        ]
    );
}

#[tokio::test]
async fn whatever_is_not_active_just_before_the_renewal_has_no_spillover() {
    for (status, outcome) in [
        ("past_due", "renewed"),
        ("trialing", "renewed"),
        ("unpaid", "inactive"),
        ("incomplete", "inactive"),
        ("paused", "inactive"),
        ("hibernating", "inactive"),
    ] {
        let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
        ground.emit(&[at("2026-02-01T00:00:00Z").status(status)]).await;
        ground.until("2026-02-10T00:00:00Z").await;
        let spilled = if outcome == "renewed" { 1000 } else { 0 };
        assert_eq!(ground.ledger().await, [format!("2026-02-10 00:00 {outcome}: 1000+0-0>{spilled}")], "{status}");
    }
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.execute("UPDATE billing.renewal_rules SET past_due_active = false").await;
    ground.emit(&[at("2026-02-01T00:00:00Z").status("past_due")]).await;
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 inactive: 1000+0-0>0"]);
}

#[tokio::test]
async fn an_upgrade_counts_at_once_and_changes_nothing_else() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.price("big", "5000").await;
    ground.used(100).await;
    ground.until("2026-02-10T00:00:00Z").await;
    ground.used(300).await;
    ground.emit(&[at("2026-02-20T00:00:00Z").price("big")]).await;
    ground.until("2026-02-20T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 5000+900-300");
    ground.until("2026-03-10T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-04-10 00:00: 5000+5000-0");
}

#[tokio::test]
async fn a_downgrade_may_leave_less_than_nothing_which_is_nothing() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.price("small", "100").await;
    ground.used(700).await;
    ground.emit(&[at("2026-01-20T00:00:00Z").price("small")]).await;
    ground.until("2026-01-20T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-02-10 00:00: 100+0-700");
    let available = "SELECT billing.left_of_plan(included, spillover, used, 0) FROM billing.subscription_limits";
    assert_eq!(ground.text(available).await, "0");
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 100+0-0");
}

/// The webhook comes before the scheduler, or after it: the same balances, and no bonus lost.
#[tokio::test]
async fn a_downgrade_exactly_at_a_renewal_counts_for_the_month_that_begins() {
    let downgrade = at("2026-02-10T00:00:00Z").price("small");
    let mut ends = Vec::new();
    for webhook_first in [true, false] {
        let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
        ground.price("small", "100").await;
        ground
            .execute(
                "INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 40);
                UPDATE billing.subscription_limits SET used = 1010, bonus_used = 10",
            )
            .await;
        if webhook_first {
            ground.emit(std::slice::from_ref(&downgrade)).await;
            ground.until("2026-02-10T00:00:00Z").await;
        } else {
            ground.until("2026-02-10T00:00:00Z").await;
            ground.emit(std::slice::from_ref(&downgrade)).await;
            ground.until("2026-02-10T00:00:01Z").await;
        }
        assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 1000+0-1010>0"]);
        assert_eq!(ground.balance().await, "2026-03-10 00:00: 100+0-0");
        assert_eq!(ground.text("SELECT amount FROM billing.workspace_bonus").await, "40");
        ends.push(ground.everything().await);
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test]
async fn what_goes_over_is_capped_by_the_plan_of_the_month_that_begins() {
    let mut ends = Vec::new();
    for webhook_first in [true, false] {
        let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
        ground.price("small", "100").await;
        let downgrade = [at("2026-02-10T00:00:00Z").price("small")];
        if webhook_first {
            ground.emit(&downgrade).await;
            ground.until("2026-02-10T00:00:00Z").await;
        } else {
            ground.until("2026-02-10T00:00:00Z").await;
            assert_eq!(ground.balance().await, "2026-03-10 00:00: 1000+1000-0");
            ground.emit(&downgrade).await;
            ground.until("2026-02-10T00:00:01Z").await;
        }
        assert_eq!(ground.balance().await, "2026-03-10 00:00: 100+100-0");
        ends.push(ground.everything().await);
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test]
async fn an_upgrade_exactly_at_a_renewal_hands_on_what_was_left_of_the_smaller_plan() {
    let mut ends = Vec::new();
    for webhook_first in [true, false] {
        let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
        ground.price("big", "5000").await;
        ground.used(300).await;
        if !webhook_first {
            ground.until("2026-02-10T00:00:00Z").await;
        }
        ground.emit(&[at("2026-02-10T00:00:00Z").price("big")]).await;
        ground.until("2026-02-10T00:00:00Z").await;
        assert_eq!(ground.balance().await, "2026-03-10 00:00: 5000+700-0");
        ends.push(ground.everything().await);
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test]
async fn a_trial_that_becomes_paid_is_nothing_special_by_the_start_of_the_subscription() {
    let mut ground = Harness::new().await;
    let trial = at("2026-01-01T10:00:00Z").status("trialing").anchor("2026-01-15T10:00:00Z");
    ground.emit(&[trial, at("2026-01-15T10:00:00Z").anchor("2026-01-15T10:00:00Z")]).await;
    ground.used(300).await;
    ground.until("2026-02-01T10:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-01 10:00 renewed: 1000+0-300>700"]);
}

#[tokio::test]
async fn a_trial_that_becomes_paid_is_a_renewal_without_spillover_by_the_billing_cycle() {
    let mut ground = Harness::new().await;
    ground.anchors_count().await;
    let trial = at("2026-01-01T10:00:00Z").status("trialing").anchor("2026-01-15T10:00:00Z");
    ground.emit(&[trial]).await;
    ground.used(300).await;
    ground.execute("INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 40)").await;
    ground.emit(&[at("2026-01-15T10:00:00Z").anchor("2026-01-15T10:00:00Z")]).await;
    ground.until("2026-02-15T10:00:00Z").await;
    assert_eq!(
        ground.ledger().await,
        ["2026-01-15 10:00 trial_end: 1000+0-300>0", "2026-02-15 10:00 renewed: 1000+0-0>1000"]
    );
    assert_eq!(ground.text("SELECT amount FROM billing.workspace_bonus").await, "40");
}

#[tokio::test]
async fn an_anchor_that_sticks_to_the_28th_is_mended_by_the_day_that_was_asked_for() {
    let mut ground = Harness::new().await;
    ground.anchors_count().await;
    let anchor = "2026-02-28T12:00:00Z";
    // the day is kept with its anchor: a payload that lacks it changes nothing
    ground.emit(&[at(anchor).anchor(anchor).day(31), at("2026-03-02T00:00:00Z").anchor(anchor)]).await;
    ground.until("2026-05-31T12:00:00Z").await;
    assert_eq!(ground.ends().await, ["2026-03-31T12:00:00Z", "2026-04-30T12:00:00Z", "2026-05-31T12:00:00Z"]);
}

#[tokio::test]
async fn what_has_ended_renews_no_more() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.emit(&[at("2026-02-20T00:00:00Z").ended()]).await;
    ground.until("2026-06-01T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 1000+0-0>1000"]);
    assert_eq!(ground.balance().await, "never: 1000+1000-0");
}

#[tokio::test]
async fn what_ends_exactly_at_a_renewal_has_had_it_whichever_became_known_first() {
    let mut ends = Vec::new();
    for webhook_first in [true, false] {
        let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
        let end = [at("2026-02-10T00:00:00Z").ended()];
        if webhook_first {
            ground.emit(&end).await;
            ground.until("2026-02-10T00:00:00Z").await;
        } else {
            ground.until("2026-02-10T00:00:00Z").await;
            ground.emit(&end).await;
            ground.until("2026-02-10T00:00:01Z").await;
        }
        assert_eq!(ground.balance().await, "never: 1000+1000-0");
        ends.push(ground.everything().await);
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test]
async fn a_cancellation_that_is_taken_back_has_no_effect() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.execute("UPDATE billing.subscriptions SET is_grace_period = true, end_date = '2026-03-10'").await;
    ground.until("2026-02-20T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 1000+1000-0", "it has not ended yet");
    ground.execute("UPDATE billing.subscriptions SET is_grace_period = false, end_date = NULL").await;
    ground.until("2026-03-10T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-04-10 00:00: 1000+1000-0");
}

#[tokio::test]
async fn who_subscribes_again_begins_anew_and_keeps_the_bonus() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.execute("INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 40)").await;
    ground.used(600).await;
    ground.emit(&[at("2026-02-20T00:00:00Z").ended(), at("2026-03-05T00:00:00Z").of("sub_2")]).await;
    ground.until("2026-03-06T00:00:00Z").await;
    let second = "SELECT concat_ws(' ', included, spillover, used, renews_at AT TIME ZONE 'UTC')
        FROM billing.subscription_limits WHERE subscription_id = md5('sub_2')::uuid";
    assert_eq!(ground.text(second).await, "1000 0 0 2026-04-05 00:00:00");
    let seen = "SELECT concat_ws(' ', subscription_id = md5('sub_2')::uuid, bonus) FROM billing.workspace_limits";
    assert_eq!(ground.text(seen).await, "t 40");
}

#[tokio::test]
async fn what_is_unlimited_spills_nothing_over() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.price("endless", "unlimited").await;
    ground.emit(&[at("2026-01-20T00:00:00Z").price("endless")]).await;
    ground.until("2026-01-20T00:00:00Z").await;
    ground.used(123_456).await;
    ground.until("2026-02-20T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: unlimited+0-0");
    ground.emit(&[at("2026-02-25T00:00:00Z")]).await;
    ground.until("2026-03-10T00:00:00Z").await;
    assert_eq!(
        ground.ledger().await,
        ["2026-02-10 00:00 renewed: unlimited+0-123456>0", "2026-03-10 00:00 renewed: 1000+0-0>1000"]
    );
}

#[tokio::test]
async fn a_capacity_is_never_reset() {
    let mut ground = Harness::new().await;
    ground.limit("basic", "members", "5").await;
    ground.emit(&[at("2026-01-10T00:00:00Z")]).await;
    ground.execute("UPDATE billing.subscription_limits SET used = 3 WHERE limit_key = 'members'").await;
    ground.until("2026-06-01T00:00:00Z").await;
    assert_eq!(ground.balance_of("members").await, "never: 5+0-3");
    assert_eq!(ground.text("SELECT count(*) FROM billing.limit_renewals WHERE limit_key = 'members'").await, "0");
}

#[tokio::test]
async fn what_is_not_known_of_the_plan_leaves_the_limit_as_it_was() {
    // a price that nobody has seen
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.emit(&[at("2026-01-20T00:00:00Z").price("unseen")]).await;
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 1000+1000-0");
    // a value that cannot be read
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.execute("UPDATE billing.plan_limits SET included = NULL").await;
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 1000+1000-0");
}

#[tokio::test]
async fn a_plan_that_is_known_and_has_no_such_limit_includes_nothing() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.limit("other", "images", "7").await;
    ground.emit(&[at("2026-01-20T00:00:00Z").price("other")]).await;
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 0+0-0");
    assert_eq!(ground.balance_of("images").await, "2026-03-10 00:00: 7+7-0");
}

#[tokio::test]
async fn nothing_is_renewed_while_the_clocks_are_in_doubt() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.execute("UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = 'a clock'").await;
    ground.until("2026-06-01T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-02-10 00:00: 1000+0-0");
    ground.execute("UPDATE billing.renewal_rules SET halted_at = NULL, halted_because = NULL").await;
    ground.until("2026-06-01T00:00:00Z").await;
    assert_eq!(ground.ledger().await.len(), 4);
}

/// What is renewed once stays so, and a period never moves back.
#[tokio::test]
async fn a_time_before_what_is_renewed_already_changes_nothing() {
    let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
    ground.until("2026-04-20T00:00:00Z").await;
    let before = ground.everything().await;
    for time in ["2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-20T00:00:00Z"] {
        ground.until(time).await;
        assert_eq!(ground.everything().await, before, "{time}");
    }
}

/// The time zone of whoever calls has no say: days that are longer or shorter there, or another day or month.
#[tokio::test]
async fn the_session_time_zone_changes_nothing() {
    let course =
        "SELECT string_agg(format('%s %s %s %s %s', limit_key, outcome, spillover, extract(epoch FROM period_start),
            extract(epoch FROM period_end)), ', ' ORDER BY period_start)
        FROM billing.limit_periods(ARRAY[md5('sub_1')::uuid], '2026-11-20T00:00:00Z')";
    let seen = "SELECT string_agg(format('%s %s %s', subscription_id, extract(epoch FROM period_started_at),
            extract(epoch FROM limit_renewal_date)), ', ') FROM billing.workspace_limits";
    let mut ground = Harness::new().await;
    for start in ["2026-01-30T23:30:00Z", "2026-03-29T00:30:00Z", "2025-10-26T00:30:00Z", "2025-11-02T05:30:00Z"] {
        let mut all = Vec::new();
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Apia", "America/New_York", "Asia/Kolkata", "Europe/Berlin"] {
            ground.forget().await;
            ground.execute(&format!("SET TimeZone = '{zone}'")).await;
            ground.anchors_count().await;
            ground.emit(&[at(start).anchor(start), at("2026-05-01T00:00:00Z").anchor("2026-06-28T23:30:00Z")]).await;
            let expected = ground.text(course).await;
            ground.until("2026-11-20T00:00:00Z").await;
            // far from now, so that no renewal comes between: what is behind, and what is not
            ground.emit(&[at("2090-03-26T00:30:00Z").of("sub_2")]).await;
            let behind = ground.text(seen).await;
            ground.until("2026-11-20T00:00:00Z").await;
            assert_eq!(ground.text(seen).await, behind, "{zone}");
            ground.execute("SET TimeZone = 'UTC'").await;
            all.push((expected, behind, ground.everything().await));
        }
        assert!(all[0].2.len() > 6 && all[0].1.contains(' '), "{all:?}");
        assert!(all.iter().all(|one| *one == all[0]), "{start}: {all:#?}");
    }
}
