//! Extreme amounts from the product or from price metadata: each is counted, refused with an `LM` code, or capped at
//! the maximum. No function and no view ever fails because of a number.

use fastrand::Rng;

use super::calls::{call, refused};
use super::harness::{Harness, at};
use super::rows::{self, DUE, Rows};

/// Maximum amount.
const MOST: i64 = 1_000_000_000_000_000_000;

#[tokio::test]
async fn amounts_above_the_maximum_are_refused() {
    let rows = Rows::with(&format!("words {MOST}, images unlimited, members {MOST}")).await;
    let conn = &mut rows.connect().await;
    assert_eq!(call(conn, &format!("grant_bonus(w, 'words', {MOST}, 'a great gift')")).await, Ok(Some(MOST)));
    assert_eq!(refused(conn, "grant_bonus(w, 'words', 1, 'one more')").await, "LM007");
    assert_eq!(refused(conn, "grant_bonus(v, 'words', 9223372036854775807, 'more')").await, "LM007");
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(2 * MOST)));
    assert_eq!(refused(conn, "consume(w, 'words', 9223372036854775807)").await, "LM001");
    assert_eq!(refused(conn, &format!("consume(w, 'words', {})", MOST + 1)).await, "LM007");
    assert_eq!(call(conn, &format!("consume(w, 'words', {})", MOST - 1)).await, Ok(Some(MOST + 1)));
    let Err(refusal) = call(conn, "consume(w, 'words', 2)").await else { panic!("this exceeds the maximum usage") };
    assert_eq!((refusal.code.as_str(), refusal.detail.as_deref()), ("LM007", Some("1")), "{refusal:?}");
    assert_eq!(refused(conn, "consume(w, 'images', 9223372036854775807)").await, "LM007");
    assert_eq!(call(conn, &format!("consume(w, 'images', {MOST})")).await, Ok(None));
    assert_eq!(refused(conn, "consume(w, 'images', 1, 'a key')").await, "LM007");
    assert_eq!(call(conn, &format!("consume(w, 'members', {MOST})")).await, Ok(Some(0)));
    assert_eq!(refused(conn, "consume(w, 'members', 1)").await, "LM001");
    assert_eq!(call(conn, &format!("release(w, 'members', {MOST})")).await, Ok(Some(MOST)));
}

/// Ten grants, each used up before the next one, once stopped all renewals of a database.
#[tokio::test]
async fn ten_large_grants_and_uses_do_not_block_renewals() {
    let rows = Rows::start().await;
    rows.subscribe("sub", "w", "words 100", DUE).await;
    rows.subscribe("other", "v", "words 100", DUE).await;
    let conn = &mut rows.connect().await;
    let mut refusals = Vec::new();
    for round in 0..10 {
        for sql in
            ["grant_bonus(w, 'words', 900000000000000000, 'a great gift')", "consume(w, 'words', 900000000000000000)"]
        {
            if let Err(refusal) = call(conn, sql).await {
                refusals.push(format!("{round} {}", refusal.code));
            }
        }
    }
    assert!(refusals.iter().all(|one| one.ends_with("LM007")), "{refusals:?}");
    assert_eq!(refusals.len(), 17, "the first use, and the grants before and after it: {refusals:?}");
    let seen = "SELECT concat_ws(' ', used, bonus, available) FROM billing.workspace_limits WHERE workspace_id = md5('w')::uuid";
    assert_eq!(rows.lines(seen).await, ["900000000000000000 1800000000000000000 900000000000000200"]);
    assert_eq!(rows::renew(conn).await, 1, "the other subscription, not renewed so far");
    assert_eq!(call(conn, "consume(v, 'words', 1)").await, Ok(Some(199)));
    rows.execute(MONTHS_LATER).await;
    let periods = "SELECT count(DISTINCT subscription_id) || ' ' || max(used) FROM billing.limit_renewals";
    assert_eq!(rows.lines(periods).await, ["2 900000000000000000"]);
}

/// Executes the renewals of the next periods as if they were due.
const MONTHS_LATER: &str = "SELECT FROM billing.renew_limits(ARRAY(SELECT id FROM billing.subscriptions),
    clock_timestamp() + interval '100 days')";

fn extreme_amount(rng: &mut Rng) -> i64 {
    let near = [0, 1, MOST / 2, MOST - 1, MOST, MOST + 1, i64::MAX / 2, i64::MAX - 1, i64::MAX];
    match rng.u8(0..4) {
        0 => rng.i64(1..i64::MAX),
        1 => rng.i64(1..1000),
        _ => near[rng.usize(0..near.len())].saturating_add(rng.i64(-2..3)),
    }
}

/// Any call with any number gives an answer or an `LM` code, and the rows can always be read and renewed.
#[tokio::test]
async fn any_call_with_extreme_amounts_is_answered_or_refused() {
    let mut rng = Rng::with_seed(7);
    let rows = Rows::start().await;
    let conn = &mut rows.connect().await;
    let mut codes = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..12 {
        rows.forget_everything().await;
        let words = extreme_amount(&mut rng).clamp(0, MOST);
        rows.subscribe("sub", "w", &format!("words {words}, members {words}, images unlimited"), DUE).await;
        for _ in 0..40 {
            let key = ["words", "members", "images"][rng.usize(0..3)];
            let amount = extreme_amount(&mut rng);
            let sql = match rng.u8(0..7) {
                0 | 1 => format!("grant_bonus(w, '{key}', {amount}, 'a test')"),
                2 => format!("grant_bonus(w, '{key}', -{amount}, 'a test')"),
                3 => format!("release(w, '{key}', {amount})"),
                4 => format!("remaining(w, '{key}')"),
                _ => format!("consume(w, '{key}', {amount})"),
            };
            let code = match call(conn, &sql.replace("--", "")).await {
                Ok(_) => "answered".to_owned(),
                Err(refusal) => refusal.code,
            };
            assert!(code == "22023" || code == "answered" || code.starts_with("LM"), "{sql}: {code}");
            *codes.entry(code).or_default() += 1;
            if rng.u8(0..5) == 0 {
                // a period passes, and the plan changes
                let included = extreme_amount(&mut rng).clamp(0, MOST);
                rows.execute("UPDATE billing.plan_limits SET unlimited = false").await;
                rows.includes("sub", key, included).await;
                rows::renew(conn).await;
            }
            rows.lines("SELECT to_jsonb(w)::text FROM billing.workspace_limits AS w").await;
            rows.lines("SELECT to_jsonb(w)::text FROM billing.subscription_words AS w").await;
        }
        rows.execute(MONTHS_LATER).await;
    }
    for expected in ["answered", "22023", "LM001", "LM006", "LM007"] {
        assert!(codes.get(expected).is_some_and(|count| *count > 5), "{codes:?}");
    }
}

/// For any amounts of prices and quantities of items, the limit is their sum, capped at the maximum.
#[tokio::test]
async fn extreme_items_include_their_sum_or_the_maximum() {
    let mut rng = Rng::with_seed(8);
    let mut harness = Harness::new().await;
    for _ in 0..25 {
        harness.reset().await;
        let mut items = Vec::new();
        let mut sum = 0_i128;
        for price in ["a", "b", "c"] {
            let (included, per_unit) =
                (extreme_amount(&mut rng).clamp(0, MOST), extreme_amount(&mut rng).clamp(0, MOST) * rng.i64(0..2));
            let quantity = extreme_amount(&mut rng).max(0);
            harness.limit(price, "words", &included.to_string()).await;
            harness
                .execute(&format!(
                    "UPDATE billing.plan_limits SET per_unit = {per_unit} WHERE id = md5('{price} words')::uuid"
                ))
                .await;
            sum += i128::from(included) + i128::from(per_unit) * i128::from(quantity);
            items.push((price, quantity));
        }
        let included = sum.min(MOST.into());
        harness.emit(&[at("2026-01-10T00:00:00Z").items(&items)]).await;
        assert_eq!(harness.balance().await, format!("2026-02-10 00:00: {included}+0-0"), "{items:?}");
        harness.renew_until("2026-03-10T00:00:00Z").await;
        assert_eq!(harness.balance().await, format!("2026-04-10 00:00: {included}+{included}-0"), "{items:?}");
        let seen = "SELECT count(*) FROM billing.subscription_items WHERE includes ->> 'words' IS NOT NULL";
        assert_eq!(harness.text(seen).await, "3");
        harness.text("SELECT string_agg(to_jsonb(w)::text, '') FROM billing.workspace_limits AS w").await;
    }
}
