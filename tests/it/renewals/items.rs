//! What a subscription includes: the sum over all its items, their quantities counted, as it was in force at each time.

use super::harness::{Harness, at};

/// A base plan of 100,000 words, an add-on of 5,000, seats of one member and 200 words each, and an unlimited item.
async fn shop() -> Harness {
    let mut ground = Harness::new().await;
    ground.price("base", "100000").await;
    ground.price("addon", "5000").await;
    ground.limit("addon", "images", "50").await;
    ground.per_unit("seat", "members", 1).await;
    ground.per_unit("seat", "words", 200).await;
    ground.price("endless", "unlimited").await;
    ground
}

#[tokio::test]
async fn all_items_count_and_one_that_is_removed_takes_only_its_own_away() {
    let mut ground = shop().await;
    ground.emit(&[at("2026-01-10T00:00:00Z").items(&[("addon", 1), ("base", 1)])]).await;
    assert_eq!(ground.balance().await, "2026-02-10 00:00: 105000+0-0");
    assert_eq!(ground.balance_of("images").await, "2026-02-10 00:00: 50+0-0");
    ground.emit(&[at("2026-01-20T00:00:00Z").items(&[("base", 1)])]).await;
    ground.until("2026-01-20T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-02-10 00:00: 100000+0-0");
    assert_eq!(ground.balance_of("images").await, "2026-02-10 00:00: 0+0-0");
    // back again, and two of them
    ground.emit(&[at("2026-01-25T00:00:00Z").items(&[("addon", 2), ("base", 1)])]).await;
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 105000+0-0>105000"], "not per unit");
}

#[tokio::test]
async fn the_quantity_counts_for_what_is_included_per_unit_and_at_once() {
    let mut ground = shop().await;
    ground.emit(&[at("2026-01-10T00:00:00Z").items(&[("base", 1), ("seat", 25)])]).await;
    assert_eq!(ground.balance_of("members").await, "never: 25+0-0");
    assert_eq!(ground.balance().await, "2026-02-10 00:00: 105000+0-0");
    ground.used(1000).await;
    ground.emit(&[at("2026-01-20T00:00:00Z").items(&[("base", 1), ("seat", 30)])]).await;
    ground.until("2026-01-20T00:00:00Z").await;
    assert_eq!(ground.balance_of("members").await, "never: 30+0-0");
    assert_eq!(ground.balance().await, "2026-02-10 00:00: 106000+0-1000");
    // fewer seats exactly at the renewal: of the month that begins
    ground.emit(&[at("2026-02-10T00:00:00Z").items(&[("base", 1), ("seat", 0)])]).await;
    ground.until("2026-02-10T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 106000+0-1000>100000"]);
    assert_eq!(ground.balance_of("members").await, "never: 0+0-0");
}

#[tokio::test]
async fn unlimited_wins_wherever_it_stands() {
    let mut ground = shop().await;
    ground.emit(&[at("2026-01-10T00:00:00Z").items(&[("endless", 1), ("seat", 3)])]).await;
    assert_eq!(ground.balance().await, "2026-02-10 00:00: unlimited+0-0");
    ground.emit(&[at("2026-01-20T00:00:00Z").items(&[("endless", 1), ("unseen", 1)])]).await;
    ground.until("2026-01-20T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-02-10 00:00: unlimited+0-0");
}

#[tokio::test]
async fn an_item_that_is_not_known_yet_leaves_the_sum_as_it_was() {
    let mut ground = shop().await;
    ground.emit(&[at("2026-01-10T00:00:00Z").items(&[("addon", 1), ("base", 1)])]).await;
    ground.emit(&[at("2026-01-20T00:00:00Z").items(&[("addon", 1), ("unseen", 1)])]).await;
    ground.until("2026-02-15T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 105000+0-0>105000"]);
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 105000+105000-0");
    ground.price("unseen", "7").await;
    ground.until("2026-02-16T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 5007+105000-0");
    // a product that is not known may name the limit as well, but another item does so already
    ground
        .execute("UPDATE billing.pricing_plans SET stripe_product_id = 'prod_1' WHERE stripe_price_id = 'unseen'")
        .await;
    ground.execute("DELETE FROM billing.plan_limits WHERE included = 7").await;
    ground.emit(&[at("2026-02-17T00:00:00Z").items(&[("base", 1), ("unseen", 1)])]).await;
    ground.until("2026-02-17T00:00:00Z").await;
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 100000+105000-0");
}

#[tokio::test]
async fn a_closed_month_keeps_what_its_items_included_then_and_says_which_included_how_much() {
    let mut ground = shop().await;
    let items = at("2026-01-10T00:00:00Z").items(&[("addon", 1), ("base", 1), ("seat", 2)]);
    ground.emit(std::slice::from_ref(&items)).await;
    ground.until("2026-02-15T00:00:00Z").await;
    let parts = "SELECT string_agg(format('%s*%s=%s', price, quantity, amount), ' ' ORDER BY place)
        FROM billing.limit_renewals, unnest(price_ids, quantities, amounts) WITH ORDINALITY AS i (price, quantity, amount, place)
        WHERE limit_key = 'words'";
    assert_eq!(ground.text(parts).await, "addon*1=5000 base*1=100000 seat*2=400");
    ground.price("base", "1").await;
    // an event that changes nothing comes late
    ground.emit(&[items.clone().at("2026-01-11T00:00:00Z")]).await;
    ground.until("2026-02-16T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 105400+0-0>105400"]);
    assert_eq!(ground.text(parts).await, "addon*1=5000 base*1=100000 seat*2=400");
    assert_eq!(ground.balance().await, "2026-03-10 00:00: 5401+105400-0");
    // one that tells of other seats
    ground.emit(&[at("2026-01-12T00:00:00Z").items(&[("addon", 1), ("seat", 3)])]).await;
    ground.until("2026-02-16T00:00:00Z").await;
    assert_eq!(ground.ledger().await, ["2026-02-10 00:00 renewed: 5600+0-0>5600"]);
    assert_eq!(ground.text(parts).await, "addon*1=5000 seat*3=600");
}

/// The worked example of docs/limits.md.
#[tokio::test]
async fn the_months_of_the_page_come_out_as_they_stand_there() {
    let mut ground = shop().await;
    ground.price("plan", "1000").await;
    ground.per_unit("part", "words", 100).await;
    ground.execute("INSERT INTO billing.workspace_bonus VALUES (md5('workspace')::uuid, 'words', 50)").await;
    ground.emit(&[at("2026-01-01T00:00:00Z").items(&[("part", 3), ("plan", 1)])]).await;
    ground.used(400).await;
    ground.until("2026-02-01T00:00:00Z").await;
    ground.used(300).await;
    ground.emit(&[at("2026-02-20T00:00:00Z").items(&[("part", 2), ("plan", 1)])]).await;
    ground.until("2026-03-01T00:00:00Z").await;
    ground
        .execute("UPDATE billing.subscription_limits SET used = 2420, bonus_used = 20 WHERE limit_key = 'words'")
        .await;
    ground.until("2026-04-01T00:00:00Z").await;
    let ledger = [
        "2026-02-01 00:00 renewed: 1300+0-400>900",
        "2026-03-01 00:00 renewed: 1200+900-300>1200",
        "2026-04-01 00:00 renewed: 1200+1200-2420>0",
    ];
    assert_eq!(ground.ledger().await, ledger);
    let expired = "SELECT string_agg(expired::text, ' ' ORDER BY period_start) FROM billing.limit_renewals WHERE limit_key = 'words'";
    assert_eq!(ground.text(expired).await, "0 600 0");
}

/// Stripe's event about a renewal is made seconds after it, and others may be made in between.
#[tokio::test]
async fn a_change_at_a_renewal_that_is_reported_late_hands_on_no_more_than_one_reported_in_time() {
    let boundary = "2026-02-10T00:00:00Z";
    let downgrade = at(boundary).price("small").stated("2026-02-10T00:00:42Z");
    let between = at("2026-02-10T00:00:20Z");
    let mut ends = Vec::new();
    for order in [vec![&downgrade], vec![&between, &downgrade], vec![&downgrade, &between]] {
        for renewed_first in [false, true] {
            let mut ground = Harness::sold("2026-01-10T00:00:00Z").await;
            ground.price("small", "100").await;
            if renewed_first {
                ground.until("2026-02-10T00:00:10Z").await;
                assert_eq!(ground.balance().await, "2026-03-10 00:00: 1000+1000-0");
            }
            for known in &order {
                ground.emit(std::slice::from_ref(known)).await;
                ground.until("2026-02-10T00:01:00Z").await;
            }
            assert_eq!(ground.balance().await, "2026-03-10 00:00: 100+100-0");
            ends.push(ground.everything().await);
        }
    }
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:#?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_explained_as_that() {
    let mut ground = shop().await;
    ground.emit(&[at("2026-01-10T00:00:00Z").items(&[("base", 1)])]).await;
    ground.limit("base", "words", "NULL").await;
    ground.until("2026-01-20T00:00:00Z").await;
    let reason = "SELECT reason FROM billing.limit_statement WHERE limit_key = 'words' AND line = 'included' AND period_start = '2026-01-10T00:00:00Z'";
    assert_eq!(
        ground.text(reason).await,
        "an item or its price is not known or cannot be read, or the limit cannot be computed, so the amount before it stays"
    );
}
