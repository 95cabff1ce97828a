//! Amounts at the edges: what the product or a price's metadata brings is counted, refused with a code of ours, or counts as
//! the largest amount. No function and no view ever fails over a number.

use fastrand::Rng;

use super::calls::{call, refused};
use super::harness::{Harness, at};
use super::rows::{self, DUE, Rows};

/// No amount is above it.
const MOST: i64 = 1_000_000_000_000_000_000;

#[tokio::test]
async fn amounts_up_to_the_largest_are_counted_as_others_and_larger_ones_are_refused() {
    let rows = Rows::with(&format!("words {MOST}, images unlimited, members {MOST}")).await;
    let conn = &mut rows.connect().await;
    assert_eq!(call(conn, &format!("grant_bonus(w, 'words', {MOST}, 'a great gift')")).await, Ok(Some(MOST)));
    assert_eq!(refused(conn, "grant_bonus(w, 'words', 1, 'one more')").await, "LM007");
    assert_eq!(refused(conn, "grant_bonus(v, 'words', 9223372036854775807, 'more')").await, "LM007");
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(2 * MOST)));
    assert_eq!(refused(conn, "consume(w, 'words', 9223372036854775807)").await, "LM001");
    assert_eq!(refused(conn, &format!("consume(w, 'words', {})", MOST + 1)).await, "LM007");
    assert_eq!(call(conn, &format!("consume(w, 'words', {})", MOST - 1)).await, Ok(Some(MOST + 1)));
    let Err(refusal) = call(conn, "consume(w, 'words', 2)").await else { panic!("that is more than can be used") };
    assert_eq!((refusal.code.as_str(), refusal.detail.as_deref()), ("LM007", Some("1")), "{refusal:?}");
    assert_eq!(refused(conn, "consume(w, 'images', 9223372036854775807)").await, "LM007");
    assert_eq!(call(conn, &format!("consume(w, 'images', {MOST})")).await, Ok(None));
    assert_eq!(refused(conn, "consume(w, 'images', 1, 'a key')").await, "LM007");
    assert_eq!(call(conn, &format!("consume(w, 'members', {MOST})")).await, Ok(Some(0)));
    assert_eq!(refused(conn, "consume(w, 'members', 1)").await, "LM001");
    assert_eq!(call(conn, &format!("release(w, 'members', {MOST})")).await, Ok(Some(MOST)));
}

/// What brought all renewals of a database to a halt: ten grants, each used up before the next one.
#[tokio::test]
async fn ten_large_grants_and_uses_hold_up_nobody() {
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
    assert_eq!(rows::renew(conn).await, 1, "the other one, whose turn had not come");
    assert_eq!(call(conn, "consume(v, 'words', 1)").await, Ok(Some(199)));
    rows.execute(MONTHS_LATER).await;
    let months = "SELECT count(DISTINCT subscription_id) || ' ' || max(used) FROM billing.limit_renewals";
    assert_eq!(rows.lines(months).await, ["2 900000000000000000"]);
}

/// The renewals of the next months, as if their time had come.
const MONTHS_LATER: &str = "SELECT FROM billing.renew_limits(ARRAY(SELECT id FROM billing.subscriptions),
    clock_timestamp() + interval '100 days')";

fn edge(rng: &mut Rng) -> i64 {
    let near = [0, 1, MOST / 2, MOST - 1, MOST, MOST + 1, i64::MAX / 2, i64::MAX - 1, i64::MAX];
    match rng.u8(0..4) {
        0 => rng.i64(1..i64::MAX),
        1 => rng.i64(1..1000),
        _ => near[rng.usize(0..near.len())].saturating_add(rng.i64(-2..3)),
    }
}

/// Whatever is called with whatever numbers: an answer or a code of ours, and all can be read and renewed at any time.
#[tokio::test]
async fn any_calls_at_the_edges_are_answered_or_refused_and_all_goes_on() {
    let mut rng = Rng::with_seed(7);
    let rows = Rows::start().await;
    let conn = &mut rows.connect().await;
    let mut codes = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..12 {
        rows.forget_everything().await;
        let words = edge(&mut rng).clamp(0, MOST);
        rows.subscribe("sub", "w", &format!("words {words}, members {words}, images unlimited"), DUE).await;
        for _ in 0..40 {
            let key = ["words", "members", "images"][rng.usize(0..3)];
            let amount = edge(&mut rng);
            let sql = match rng.u8(0..7) {
                0 | 1 => format!("grant_bonus(w, '{key}', {amount}, 'an edge')"),
                2 => format!("grant_bonus(w, '{key}', -{amount}, 'an edge')"),
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
                // a month passes, and the plan is another one
                let included = edge(&mut rng).clamp(0, MOST);
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

/// Amounts of prices and quantities of items, whatever they are: the sum is the sum, or the largest amount.
#[tokio::test]
async fn any_items_at_the_edges_include_their_sum_or_the_largest_amount() {
    let mut rng = Rng::with_seed(8);
    let mut ground = Harness::new().await;
    for _ in 0..25 {
        ground.forget().await;
        let mut items = Vec::new();
        let mut sum = 0_i128;
        for price in ["a", "b", "c"] {
            let (included, per_unit) = (edge(&mut rng).clamp(0, MOST), edge(&mut rng).clamp(0, MOST) * rng.i64(0..2));
            let quantity = edge(&mut rng).max(0);
            ground.limit(price, "words", &included.to_string()).await;
            ground
                .execute(&format!(
                    "UPDATE billing.plan_limits SET per_unit = {per_unit} WHERE id = md5('{price} words')::uuid"
                ))
                .await;
            sum += i128::from(included) + i128::from(per_unit) * i128::from(quantity);
            items.push((price, quantity));
        }
        let included = sum.min(MOST.into());
        ground.emit(&[at("2026-01-10T00:00:00Z").items(&items)]).await;
        assert_eq!(ground.balance().await, format!("2026-02-10 00:00: {included}+0-0"), "{items:?}");
        ground.until("2026-03-10T00:00:00Z").await;
        assert_eq!(ground.balance().await, format!("2026-04-10 00:00: {included}+{included}-0"), "{items:?}");
        let seen = "SELECT count(*) FROM billing.subscription_items WHERE includes ->> 'words' IS NOT NULL";
        assert_eq!(ground.text(seen).await, "3");
        ground.text("SELECT string_agg(to_jsonb(w)::text, '') FROM billing.workspace_limits AS w").await;
    }
}
