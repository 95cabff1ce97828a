//! The amount that a subscription includes: the sum over all its items and quantities, as in force at each time.

use super::harness::{Harness, at};

/// A base plan of 100,000 words, an add-on of 5,000, seats of one member and 200 words each, and an unlimited item.
async fn shop() -> Harness {
    let mut harness = Harness::new().await;
    harness.price("base", "100000").await;
    harness.price("addon", "5000").await;
    harness.limit("addon", "images", "50").await;
    harness.per_unit("seat", "members", 1).await;
    harness.per_unit("seat", "words", 200).await;
    harness.price("endless", "unlimited").await;
    harness
}

#[tokio::test]
async fn all_items_count_and_a_removed_one_takes_only_its_share() {
    let mut harness = shop().await;
    harness.emit(&[at("2026-01-10T00:00:00Z").items(&[("addon", 1), ("base", 1)])]).await;
    assert_eq!(harness.balance().await, "2026-02-10 00:00: 105000+0-0");
    assert_eq!(harness.balance_of("images").await, "2026-02-10 00:00: 50+0-0");
    harness.emit(&[at("2026-01-20T00:00:00Z").items(&[("base", 1)])]).await;
    harness.renew_until("2026-01-20T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-02-10 00:00: 100000+0-0");
    assert_eq!(harness.balance_of("images").await, "2026-02-10 00:00: 0+0-0");
    // added again, with quantity 2
    harness.emit(&[at("2026-01-25T00:00:00Z").items(&[("addon", 2), ("base", 1)])]).await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 105000+0-0>105000"], "not per unit");
}

#[tokio::test]
async fn quantity_counts_per_unit_and_at_once() {
    let mut harness = shop().await;
    harness.emit(&[at("2026-01-10T00:00:00Z").items(&[("base", 1), ("seat", 25)])]).await;
    assert_eq!(harness.balance_of("members").await, "never: 25+0-0");
    assert_eq!(harness.balance().await, "2026-02-10 00:00: 105000+0-0");
    harness.set_used(1000).await;
    harness.emit(&[at("2026-01-20T00:00:00Z").items(&[("base", 1), ("seat", 30)])]).await;
    harness.renew_until("2026-01-20T00:00:00Z").await;
    assert_eq!(harness.balance_of("members").await, "never: 30+0-0");
    assert_eq!(harness.balance().await, "2026-02-10 00:00: 106000+0-1000");
    // fewer seats exactly at the renewal count for the new period
    harness.emit(&[at("2026-02-10T00:00:00Z").items(&[("base", 1), ("seat", 0)])]).await;
    harness.renew_until("2026-02-10T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 106000+0-1000>100000"]);
    assert_eq!(harness.balance_of("members").await, "never: 0+0-0");
}

#[tokio::test]
async fn unlimited_wins_in_any_position() {
    let mut harness = shop().await;
    harness.emit(&[at("2026-01-10T00:00:00Z").items(&[("endless", 1), ("seat", 3)])]).await;
    assert_eq!(harness.balance().await, "2026-02-10 00:00: unlimited+0-0");
    harness.emit(&[at("2026-01-20T00:00:00Z").items(&[("endless", 1), ("unseen", 1)])]).await;
    harness.renew_until("2026-01-20T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-02-10 00:00: unlimited+0-0");
}

#[tokio::test]
async fn an_unknown_item_leaves_the_sum_unchanged() {
    let mut harness = shop().await;
    harness.emit(&[at("2026-01-10T00:00:00Z").items(&[("addon", 1), ("base", 1)])]).await;
    harness.emit(&[at("2026-01-20T00:00:00Z").items(&[("addon", 1), ("unseen", 1)])]).await;
    harness.renew_until("2026-02-15T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 105000+0-0>105000"]);
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 105000+105000-0");
    harness.price("unseen", "7").await;
    harness.renew_until("2026-02-16T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 5007+105000-0");
    // an unknown product may contain the limit too, but another item already contains it
    harness
        .execute("UPDATE billing.pricing_plans SET stripe_product_id = 'prod_1' WHERE stripe_price_id = 'unseen'")
        .await;
    harness.execute("DELETE FROM billing.plan_limits WHERE included = 7").await;
    harness.emit(&[at("2026-02-17T00:00:00Z").items(&[("base", 1), ("unseen", 1)])]).await;
    harness.renew_until("2026-02-17T00:00:00Z").await;
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 100000+105000-0");
}

#[tokio::test]
async fn a_closed_period_keeps_the_amounts_of_its_items() {
    let mut harness = shop().await;
    let items = at("2026-01-10T00:00:00Z").items(&[("addon", 1), ("base", 1), ("seat", 2)]);
    harness.emit(std::slice::from_ref(&items)).await;
    harness.renew_until("2026-02-15T00:00:00Z").await;
    let parts = "SELECT string_agg(format('%s*%s=%s', price, quantity, amount), ' ' ORDER BY number)
        FROM billing.limit_renewals, unnest(price_ids, quantities, amounts) WITH ORDINALITY AS i (price, quantity, amount, number)
        WHERE limit_key = 'words'";
    assert_eq!(harness.text(parts).await, "addon*1=5000 base*1=100000 seat*2=400");
    harness.price("base", "1").await;
    // a late event that changes nothing
    harness.emit(&[items.clone().at("2026-01-11T00:00:00Z")]).await;
    harness.renew_until("2026-02-16T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 105400+0-0>105400"]);
    assert_eq!(harness.text(parts).await, "addon*1=5000 base*1=100000 seat*2=400");
    assert_eq!(harness.balance().await, "2026-03-10 00:00: 5401+105400-0");
    // a late event with other seats
    harness.emit(&[at("2026-01-12T00:00:00Z").items(&[("addon", 1), ("seat", 3)])]).await;
    harness.renew_until("2026-02-16T00:00:00Z").await;
    assert_eq!(harness.ledger().await, ["2026-02-10 00:00 renewed: 5600+0-0>5600"]);
    assert_eq!(harness.text(parts).await, "addon*1=5000 seat*3=600");
}

/// The worked example of docs/limits.md.
#[tokio::test]
async fn the_worked_example_of_the_docs_holds() {
    let mut harness = shop().await;
    harness.price("plan", "1000").await;
    harness.per_unit("part", "words", 100).await;
    harness.execute("INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 50)").await;
    harness.emit(&[at("2026-01-01T00:00:00Z").items(&[("part", 3), ("plan", 1)])]).await;
    harness.set_used(400).await;
    harness.renew_until("2026-02-01T00:00:00Z").await;
    harness.set_used(300).await;
    harness.emit(&[at("2026-02-20T00:00:00Z").items(&[("part", 2), ("plan", 1)])]).await;
    harness.renew_until("2026-03-01T00:00:00Z").await;
    harness
        .execute("UPDATE billing.subscription_limits SET used = 2420, bonus_used = 20 WHERE limit_key = 'words'")
        .await;
    harness.renew_until("2026-04-01T00:00:00Z").await;
    let ledger = [
        "2026-02-01 00:00 renewed: 1300+0-400>900",
        "2026-03-01 00:00 renewed: 1200+900-300>1200",
        "2026-04-01 00:00 renewed: 1200+1200-2420>0",
    ];
    assert_eq!(harness.ledger().await, ledger);
    let expired = "SELECT string_agg(expired::text, ' ' ORDER BY period_start) FROM billing.limit_renewals WHERE limit_key = 'words'";
    assert_eq!(harness.text(expired).await, "0 600 0");
}

/// Stripe creates the event of a renewal seconds after it, and may create other events in between.
#[tokio::test]
async fn a_late_change_at_a_renewal_carries_over_like_one_in_time() {
    let boundary = "2026-02-10T00:00:00Z";
    let downgrade = at(boundary).price("small").stated("2026-02-10T00:00:42Z");
    let between = at("2026-02-10T00:00:20Z");
    let mut ends = Vec::new();
    for order in [vec![&downgrade], vec![&between, &downgrade], vec![&downgrade, &between]] {
        for renewed_first in [false, true] {
            let mut harness = Harness::sold("2026-01-10T00:00:00Z").await;
            harness.price("small", "100").await;
            if renewed_first {
                harness.renew_until("2026-02-10T00:00:10Z").await;
                assert_eq!(harness.balance().await, "2026-03-10 00:00: 1000+1000-0");
            }
            for known in &order {
                harness.emit(std::slice::from_ref(known)).await;
                harness.renew_until("2026-02-10T00:01:00Z").await;
            }
            assert_eq!(harness.balance().await, "2026-03-10 00:00: 100+100-0");
            ends.push(harness.all_rows().await);
        }
    }
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:#?}");
}

#[tokio::test]
async fn an_unreadable_limit_is_explained_in_the_statement() {
    let mut harness = shop().await;
    harness.emit(&[at("2026-01-10T00:00:00Z").items(&[("base", 1)])]).await;
    harness.limit("base", "words", "NULL").await;
    harness.renew_until("2026-01-20T00:00:00Z").await;
    let reason = "SELECT reason FROM billing.limit_statement WHERE limit_key = 'words' AND line = 'included' AND period_start = '2026-01-10T00:00:00Z'";
    assert_eq!(
        harness.text(reason).await,
        "an item or its price is not known or cannot be read, or the limit cannot be computed, so the amount before it stays"
    );
}
