//! Many concurrent callers on one workspace, across a renewal, beside schedulers and grants: their answers add up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use billing_sync::database::Connection;
use tokio::task::JoinSet;

use super::calls::{Refusal, call};
use super::rows::{self, Rows};

/// Amounts that one caller received of each limit, and its number of refusals.
#[derive(Default)]
struct CallerTotals {
    received: BTreeMap<&'static str, i64>,
    refused: u32,
    /// The answers to calls with idempotency keys.
    answers: HashMap<String, Option<i64>>,
}

impl CallerTotals {
    /// Consumes from a limit, with or without an idempotency key that another caller also uses.
    async fn consume(&mut self, conn: &mut Connection, limit: &'static str, amount: i64, key: Option<String>) {
        let named = key.as_ref().map_or_else(String::new, |key| format!(", '{key}'"));
        match call(conn, &format!("consume(w, '{limit}', {amount}{named})")).await {
            Ok(left) => {
                assert!(left.unwrap() >= 0, "{left:?} are left");
                *self.received.entry(limit).or_default() += if key.is_some() { 0 } else { amount };
                self.answers.extend(key.map(|key| (key, left)));
            }
            Err(Refusal { code, detail: Some(left), .. }) if code == "LM001" => {
                assert!(left.parse::<i64>().unwrap() < amount, "{amount} were asked for, {left} are left");
                self.refused += 1;
            }
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
}

/// A scheduler of another process, until the test is over.
async fn keep_renewing(mut conn: Connection, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        rows::renew(&mut conn).await;
    }
}

/// Grants and revokes bonus until the test is over; returns the sum.
async fn grant(mut conn: Connection, over: Arc<AtomicBool>) -> i64 {
    let mut granted = 0;
    while !over.load(Ordering::Relaxed) {
        for amount in [7, 5, -3, 11, -9] {
            match call(&mut conn, &format!("grant_bonus(w, 'words', {amount}, 'a test')")).await {
                Ok(_) => granted += amount,
                Err(refusal) => assert!(refusal.code == "22023" && amount < 0, "{refusal:?}"),
            }
        }
    }
    granted
}

/// Adds up what all callers received: two calls with one key count once and must have the same answer.
fn add_up(all: Vec<CallerTotals>) -> (BTreeMap<&'static str, i64>, u32) {
    let (mut received, mut refused) = (BTreeMap::new(), 0);
    let mut answers: HashMap<String, Option<i64>> = HashMap::new();
    for totals in all {
        refused += totals.refused;
        for (limit, amount) in totals.received {
            *received.entry(limit).or_default() += amount;
        }
        for (key, answer) in totals.answers {
            if let Some(before) = answers.insert(key.clone(), answer) {
                assert_eq!(before, answer, "{key} got another answer");
            } else {
                *received.entry("words").or_default() += KEYED;
            }
        }
    }
    (received, refused)
}

/// Amount of each call with an idempotency key.
const KEYED: i64 = 2;

/// Usage of each limit in the rows of all periods and subscriptions, and the part that was bonus.
const USED: &str = "SELECT limit_key || ' ' || sum(used) || ' ' || sum(bonus_used) FROM (
    SELECT limit_key, used, bonus_used FROM billing.limit_renewals
    UNION ALL SELECT limit_key, used, bonus_used FROM billing.subscription_limits) AS period
    GROUP BY limit_key ORDER BY limit_key";

/// Periods in which more was used than there was.
const OVERDRAWN: &str = "SELECT to_jsonb(period)::text FROM (
    SELECT limit_key, included, spillover, used, bonus_used FROM billing.limit_renewals
    UNION ALL SELECT limit_key, included, spillover, used, bonus_used FROM billing.subscription_limits) AS period
    WHERE used > included + spillover + bonus_used OR bonus_used > greatest(0, used - spillover - included)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_callers_across_a_renewal_lose_and_gain_nothing() {
    let rows = Rows::start().await;
    let over = Arc::new(AtomicBool::new(false));
    let (mut conns, mut background, mut grants) = (Vec::new(), JoinSet::new(), JoinSet::new());
    for _ in 0..32 {
        conns.push(rows.connect().await);
    }
    let schedulers = [rows.connect().await, rows.connect().await];
    let shop = rows.connect().await;
    // the words are used up before the renewal, the images are not
    rows.subscribe(
        "sub",
        "w",
        "words 200, images 1000000",
        "billing.renewal_at(clock_timestamp() + interval '2 s', -48)",
    )
    .await;
    // all renewals except the coming one
    rows::renew(&mut rows.connect().await).await;
    assert_eq!(rows.lines("SELECT count(*)::text FROM billing.limit_renewals").await, ["94"]);
    for conn in schedulers {
        background.spawn(keep_renewing(conn, over.clone()));
    }
    grants.spawn(grant(shop, over.clone()));

    let mut callers = JoinSet::new();
    for (caller, mut conn) in conns.into_iter().enumerate() {
        callers.spawn(async move {
            let mut totals = CallerTotals::default();
            let mut after = 0;
            for round in 0_i64.. {
                totals.consume(&mut conn, "images", 1 + round % 3, None).await;
                totals.consume(&mut conn, "words", 1 + round % 4, None).await;
                // callers come in pairs, as a request and its retry do
                totals.consume(&mut conn, "words", KEYED, Some(format!("{} {round}", caller / 2))).await;
                let renewed = "SELECT bool_and(renews_at > clock_timestamp() + interval '1 day') FROM billing.subscription_limits";
                after += i32::from(sqlx::query_scalar::<_, bool>(renewed).fetch_one(&mut conn).await.unwrap());
                if after == 5 {
                    break;
                }
            }
            totals
        });
    }
    let (received, refused) = add_up(callers.join_all().await);
    over.store(true, Ordering::Relaxed);
    background.join_all().await;
    let granted: i64 = grants.join_all().await.into_iter().sum();

    let used = rows.lines(USED).await;
    let bonus_used: i64 = used[1].rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(used, [format!("images {} 0", received["images"]), format!("words {} {bonus_used}", received["words"])]);
    let left: i64 = rows.bonuses().await.concat().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(left + bonus_used, granted, "granted bonus is left or was used");
    assert_eq!(rows.lines(OVERDRAWN).await, Vec::<String>::new());
    // there was contention
    assert!(refused > 0 && bonus_used > 0, "{refused} refused, {bonus_used} of the bonus");
    let both = "SELECT min(used)::text || ' ' || count(*) FROM (
        SELECT used FROM billing.subscription_limits UNION ALL
        SELECT used FROM billing.limit_renewals WHERE period_end > clock_timestamp() - interval '1 hour') AS period WHERE used > 0";
    let both = rows.lines(both).await.concat();
    assert!(both.ends_with(" 4"), "both limits were used before and after the renewal: {both}");
}

/// Two subscriptions with one bonus: which of them is current changes all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_bonus_is_not_spent_twice_while_subscriptions_switch() {
    let rows = Rows::with("words 100").await;
    rows.subscribe("newer", "w", "words 20", "clock_timestamp()").await;
    call(&mut rows.connect().await, "grant_bonus(w, 'words', 60, 'a test')").await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut background = JoinSet::new();
    background.spawn(keep_renewing(rows.connect().await, over.clone()));
    let mut callers = JoinSet::new();
    let left_to_do = Arc::new(AtomicI64::new(16));
    for _ in 0..16 {
        let (mut conn, left_to_do) = (rows.connect().await, left_to_do.clone());
        callers.spawn(async move {
            let mut totals = CallerTotals::default();
            for round in 0..12 {
                totals.consume(&mut conn, "words", 1 + round % 3, None).await;
            }
            left_to_do.fetch_sub(1, Ordering::Relaxed);
            totals
        });
    }
    let mut turns = 0;
    while left_to_do.load(Ordering::Relaxed) > 0 {
        for status in ["canceled", "active"] {
            rows.becomes("newer", status).await;
        }
        turns += 1;
    }
    let (received, refused) = add_up(callers.join_all().await);
    over.store(true, Ordering::Relaxed);
    background.join_all().await;

    let used = rows.lines(USED).await.concat();
    let bonus_used: i64 = used.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(used, format!("words {} {bonus_used}", received["words"]));
    assert_eq!(rows.bonuses().await, [format!("words {}", 60 - bonus_used)]);
    assert_eq!(rows.lines(OVERDRAWN).await, Vec::<String>::new());
    assert!(turns > 1 && refused > 0 && bonus_used > 0, "{turns} turns, {refused} refused, {bonus_used} of the bonus");
}
