//! Lists without an order: for every order of items, pending items, phases and their items, the row is the same, and it
//! follows the rules.

use proptest::prelude::*;
use proptest::sample::select;
use time::Duration;
use time::OffsetDateTime;

use crate::domain::subscription::Subscription;
use crate::projection::world::World;

const START: i64 = 1_767_225_600;
const MONTH: i64 = 30 * 86_400;

/// A price, with the fields that decide which item is the plan.
#[derive(Debug, Clone)]
struct Price {
    marker: Option<bool>,
    marker_of_product: Option<bool>,
    is_metered: bool,
    has_limit: bool,
    product_has_limit: bool,
}

fn id(number: usize) -> String {
    format!("price_{number}")
}

fn metadata(marker: Option<bool>, has_limit: bool) -> String {
    let marker = marker.map(|marker| format!(r#""is_plan":"{marker}""#));
    let limit = has_limit.then(|| r#""limit_words":"5""#.to_owned());
    format!("{{{}}}", marker.into_iter().chain(limit).collect::<Vec<_>>().join(","))
}

impl Price {
    fn json(&self, number: usize) -> String {
        let usage = if self.is_metered { "metered" } else { "licensed" };
        format!(
            r#"{{"id":"{}","object":"price","product":"prod_{number}","recurring":{{"usage_type":"{usage}"}},"metadata":{}}}"#,
            id(number),
            metadata(self.marker, self.has_limit)
        )
    }

    fn product(&self, number: usize) -> String {
        let metadata = metadata(self.marker_of_product, self.product_has_limit);
        format!(r#"{{"id":"prod_{number}","object":"product","name":"P","metadata":{metadata}}}"#)
    }

    /// A second implementation of the rule: the marker, licensed before metered, a limit of the price, a limit of the
    /// product.
    fn order(&self) -> (i32, bool, i32) {
        let marker = match self.marker.or(self.marker_of_product) {
            Some(true) => 0,
            None => 1,
            Some(false) => 2,
        };
        let limit = if self.has_limit { 0 } else { 2 - i32::from(self.product_has_limit) };
        (marker, self.is_metered, limit)
    }
}

/// A subscription and its planned changes; prices and items are identified by their number.
#[derive(Debug, Clone)]
struct Case {
    prices: Vec<Price>,
    /// Creation time of each item; item n has price n.
    items: Vec<i64>,
    /// The pending update: item and price.
    pending: Vec<(usize, usize)>,
    /// The prices of each phase; the first phase is current.
    phases: Vec<Vec<usize>>,
}

fn case() -> impl Strategy<Value = Case> {
    let marker = || select(vec![None, None, None, Some(true), Some(false)]);
    let price = (marker(), marker(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(marker, marker_of_product, is_metered, has_limit, product_has_limit)| Price {
            marker,
            marker_of_product,
            is_metered,
            has_limit,
            product_has_limit,
        },
    );
    let items = prop::collection::vec(select(vec![START, START, START + 1]), 1..5);
    let pending = prop::collection::vec((0..6_usize, 0..8_usize), 0..3);
    let phases = prop::collection::vec(prop::collection::vec(0..8_usize, 0..4), 1..4);
    (prop::collection::vec(price, 8), items, pending, phases).prop_map(|(prices, items, mut pending, phases)| {
        // an update contains an item once
        pending.sort_unstable();
        pending.dedup_by_key(|(item, _)| *item);
        Case { prices, items, pending, phases }
    })
}

/// Shuffles the elements by the seed.
fn shuffled(mut elements: Vec<String>, seed: u64) -> String {
    for index in (1..elements.len()).rev() {
        let other = seed.wrapping_mul(index as u64 + 7).rotate_left(13) % (index as u64 + 1);
        elements.swap(index, usize::try_from(other).unwrap());
    }
    format!("[{}]", elements.join(","))
}

impl Case {
    fn row(&self, seed: u64) -> Subscription {
        let items = self.items.iter().enumerate().map(|(number, created)| {
            format!(r#"{{"id":"si_{number}","created":{created},"price":{}}}"#, self.prices[number].json(number))
        });
        let pending = self
            .pending
            .iter()
            .map(|(item, price)| format!(r#"{{"id":"si_{item}","price":{}}}"#, self.prices[*price].json(*price)));
        let phases = self.phases.iter().enumerate().map(|(number, prices)| {
            let items = prices.iter().map(|price| format!(r#"{{"price":"{}"}}"#, id(*price))).collect();
            let start = Self::start(number);
            format!(
                r#"{{"start_date":{start},"end_date":{},"items":{}}}"#,
                start + MONTH,
                shuffled(items, seed.rotate_left(7))
            )
        });
        let schedule = format!(
            r#"{{"id":"sub_sched_1","object":"subscription_schedule","status":"active",
                "current_phase":{{"start_date":{START},"end_date":{}}},"phases":{}}}"#,
            START + MONTH,
            shuffled(phases.collect(), seed.rotate_left(21))
        );
        let subscription = format!(
            r#"{{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active","schedule":"sub_sched_1",
                "items":{{"data":{}}},"pending_update":{{"subscription_items":{}}}}}"#,
            shuffled(items.collect(), seed),
            shuffled(pending.collect(), seed.rotate_left(33))
        );
        let mut world = World::default().put(r#"{"id":"cus_1","object":"customer"}"#).put(&schedule).put(&subscription);
        for (number, price) in self.prices.iter().enumerate() {
            world = world.put(&price.json(number)).put(&price.product(number));
        }
        world.subscription().row
    }

    fn start(phase: usize) -> i64 {
        START + MONTH * i64::try_from(phase).unwrap()
    }

    /// The item that is the plan.
    fn plan(&self) -> usize {
        (0..self.items.len()).min_by_key(|item| (self.prices[*item].order(), self.items[*item], *item)).unwrap()
    }

    /// The next price of the plan, and its start.
    fn next(&self) -> Option<(usize, Option<i64>)> {
        let plan = self.plan();
        let waits = self.pending.iter().find(|(item, price)| *item == plan && *price != plan);
        if let Some((_, price)) = waits {
            return Some((*price, None));
        }
        let phase = self.phases.get(1)?;
        let is_other_item = |price: usize| price < self.items.len() && price != plan;
        let left = phase.iter().copied().filter(|price| !is_other_item(*price));
        let first = left.min_by_key(|price| (*price != plan, self.prices[*price].order(), id(*price)))?;
        (first != plan).then_some((first, Some(Self::start(1))))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_items_pending_items_and_phases_gives_the_row_of_the_rules(case in case(), seeds in any::<[u64; 3]>()) {
        let row = case.row(seeds[0]);
        prop_assert_eq!(row.stripe_subscription_item_id.clone(), Some(format!("si_{}", case.plan())));
        prop_assert_eq!(row.stripe_price_id.clone(), Some(id(case.plan())));
        let next = case.next();
        prop_assert_eq!(row.new_stripe_price_id.clone(), next.map(|(price, _)| id(price)));
        let at = next.and_then(|(_, at)| at).and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        prop_assert_eq!(row.new_pricing_plan_at, at);
        for seed in &seeds[1..] {
            prop_assert_eq!(&case.row(*seed), &row);
        }
    }
}

/// A pro plan and its seats, created in the same second, and the schedule's next phase.
fn with_next_phase(phase: &str, pending: &str) -> Subscription {
    let subscription = format!(
        r#"{{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active","schedule":"sub_sched_1",
            "items":{{"data":[
                {{"id":"si_a","created":{START},"quantity":3,"price":{{"id":"seats","object":"price"}}}},
                {{"id":"si_b","created":{START},"price":{{"id":"pro","object":"price","metadata":{{"limit_words":"9"}}}}}}]}},
            "pending_update":{pending}}}"#
    );
    let schedule = format!(
        r#"{{"id":"sub_sched_1","object":"subscription_schedule","status":"active","current_phase":{{"end_date":{}}},
            "phases":[{{"start_date":{},"items":{phase}}}]}}"#,
        START + MONTH,
        START + MONTH
    );
    let starter = r#"{"id":"starter","object":"price","metadata":{"limit_words":"5"}}"#;
    World::default().put(starter).put(&schedule).put(&subscription).subscription().row
}

#[test]
fn a_pending_change_of_seats_does_not_hide_a_scheduled_downgrade() {
    let downgrade = r#"[{"price":"seats"},{"price":"starter"}]"#;
    let next = |phase: &str, pending: &str| {
        let row = with_next_phase(phase, pending);
        (row.new_stripe_price_id, row.new_pricing_plan_at.map(|at| at.unix_timestamp() - START))
    };
    let starter = (Some("starter".to_owned()), Some(Duration::days(30).whole_seconds()));
    assert_eq!(next(downgrade, "null"), starter);
    let seats = r#"{"subscription_items":[{"id":"si_a","price":{"id":"seats"},"quantity":9}]}"#;
    assert_eq!(next(downgrade, seats), starter);
    let both = r#"{"subscription_items":[{"id":"si_a","price":"seats","quantity":9},{"id":"si_b","price":"pro"}]}"#;
    assert_eq!(next(downgrade, both), starter, "the plan's own price is not pending");
    let upgrade = r#"{"subscription_items":[{"id":"si_a","price":"seats"},{"id":"si_b","price":{"id":"max"}}]}"#;
    assert_eq!(next(downgrade, upgrade), (Some("max".to_owned()), None), "the update waits for its payment");
    let added = r#"{"subscription_items":[{"price":"extra"}]}"#;
    assert_eq!(next(r#"[{"price":"extra"},{"price":"pro"}]"#, added), (None, None), "an added item is not the plan");
    assert_eq!(next(r#"[{"price":"seats"}]"#, "null"), (None, None), "the plan ends without a replacement");
}
