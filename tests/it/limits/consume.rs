//! The answers of `consume` and `remaining`, and their refusals.

use super::calls::{Refusal, call, refused};
use super::rows::{DUE, NEW, Rows};

#[tokio::test]
async fn the_spillover_is_used_first_then_the_plan_then_the_bonus() {
    let rows = Rows::start().await;
    rows.subscribe("sub", "w", "words 100", DUE).await;
    rows.execute("UPDATE billing.subscription_limits SET used = 80").await;
    let conn = &mut rows.connect().await;
    call(conn, "grant_bonus(w, 'words', 50, 'a gift')").await.unwrap();

    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(170)), "20 + 100 + 50: a due renewal counts as done");
    assert_eq!(call(conn, "consume(w, 'words', 30)").await, Ok(Some(140)));
    assert_eq!(rows.balances().await, ["sub words 20 30 0"], "it was renewed first");
    // 10 of the plan are used after the 20 of spillover, so 90 would carry over now
    let carried_over = "SELECT spilled_over::text FROM billing.limit_periods(ARRAY[md5('sub')::uuid],
        clock_timestamp() + interval '1 month') WHERE is_over";
    assert_eq!(rows.lines(carried_over).await, ["90"]);
    assert_eq!(call(conn, "consume(w, 'words', 90)").await, Ok(Some(50)));
    assert_eq!(rows.bonuses().await, ["words 50"], "untouched while there is anything else");
    assert_eq!(call(conn, "consume(w, 'words', 8)").await, Ok(Some(42)));
    assert_eq!(call(conn, "consume(w, 'words', 2)").await, Ok(Some(40)));
    assert_eq!(
        (rows.balances().await, rows.bonuses().await),
        (["sub words 20 130 10"].map(str::to_owned).to_vec(), vec!["words 40".to_owned()])
    );
    assert_eq!(rows.lines(carried_over).await, ["0"]);
}

#[tokio::test]
async fn consume_is_all_or_nothing_and_reports_what_is_left() {
    let rows = Rows::with("words 100").await;
    let conn = &mut rows.connect().await;
    call(conn, "grant_bonus(w, 'words', 5, 'a gift')").await.unwrap();
    call(conn, "consume(w, 'words', 40)").await.unwrap();
    let before = (rows.balances().await, rows.bonuses().await);
    let renews = "SELECT to_char(renews_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM billing.subscription_limits";
    let hint = format!("They renew at {}", rows.lines(renews).await[0]);
    for amount in ["66", "9223372036854775807"] {
        let Err(refusal) = call(conn, &format!("consume(w, 'words', {amount}, 'key {amount}')")).await else {
            panic!("{amount} of 65 were granted");
        };
        assert_eq!((refusal.code.as_str(), refusal.detail.as_deref()), ("LM001", Some("65")), "{refusal:?}");
        assert_eq!(refusal.hint.as_deref(), Some(hint.as_str()));
        assert!(refusal.message.ends_with(&format!("{amount} were asked for, 65 are left")), "{}", refusal.message);
    }
    assert_eq!((rows.balances().await, rows.bonuses().await), before);
    assert_eq!(rows.lines("SELECT idempotency_key FROM billing.consumptions").await, Vec::<String>::new());
    assert_eq!(call(conn, "consume(w, 'words', 65)").await, Ok(Some(0)));
}

#[tokio::test]
async fn each_refusal_has_its_own_code_and_hint() {
    let rows = Rows::with("words 100, members 3").await;
    let conn = &mut rows.connect().await;
    let refusal = |code: &str, message: &str, detail: Option<&str>, hint: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Err(Refusal { code: code.to_owned(), message: message.to_owned(), detail: own(detail), hint: own(hint) })
    };
    let (w, v) = ("f1290186-a5d0-b1ce-ab27-f4e77c0c5d68", "9e3669d1-9b67-5bd5-7058-fd4664205d2a");

    let named = "Subscriptions name their workspace in their metadata in Stripe, as workspace_id.";
    let none = format!("workspace {v} has no subscription");
    let no_subscription = || refusal("LM003", &none, Some("unknown_workspace"), Some(named));
    assert_eq!(call(conn, "consume(v, 'words', 1)").await, no_subscription());
    assert_eq!(call(conn, "remaining(v, 'words')").await, no_subscription());
    assert_eq!(call(conn, "release(v, 'members', 1)").await, no_subscription());

    let none = format!("workspace {w} has no limit 'images'");
    let metadata = "Limits are metadata of the price or product in Stripe: limit_images = 10000, or unlimited.";
    assert_eq!(call(conn, "consume(w, 'images', 1)").await, refusal("LM004", &none, None, Some(metadata)));
    assert_eq!(call(conn, "release(w, 'images', 1)").await, refusal("LM004", &none, None, Some(metadata)));
    assert_eq!(call(conn, "remaining(w, 'images')").await, refusal("LM004", &none, None, Some(metadata)));

    call(conn, "consume(w, 'words', 1, 'a key')").await.unwrap();
    let used = "the idempotency key 'a key' was used for another call";
    let (detail, hint) = (Some("That was for 1 of words."), Some("Use a new key for each thing that is consumed."));
    assert_eq!(call(conn, "consume(w, 'words', 2, 'a key')").await, refusal("LM005", used, detail, hint));

    let back = "words renew and cannot be given back";
    let hint =
        "Grant a bonus instead; a key that is a capacity has a row in billing.limit_kinds before its first balance.";
    assert_eq!(call(conn, "release(w, 'words', 1)").await, refusal("LM006", back, None, Some(hint)));

    rows.becomes("sub", "unpaid").await;
    let inactive = format!("the subscription of workspace {w} is not active: unpaid");
    assert_eq!(call(conn, "consume(w, 'words', 1)").await, refusal("LM002", &inactive, Some("unpaid"), None));
    assert_eq!(call(conn, "remaining(w, 'words')").await, refusal("LM002", &inactive, Some("unpaid"), None));
}

#[tokio::test]
async fn invalid_arguments_are_refused() {
    let rows = Rows::with("words 100, members 3").await;
    let conn = &mut rows.connect().await;
    call(conn, "consume(w, 'members', 2)").await.unwrap();
    let before = rows.balances().await;
    for bad in [
        "consume(w, 'words', 0)",
        "consume(w, 'words', -1)",
        "consume(w, 'words', NULL)",
        "consume(w, 'words', -9223372036854775808)",
        "consume(NULL, 'words', 1)",
        "consume(NULL, 'words', 1, 'key')",
        "consume(w, NULL, 1)",
        "consume(w, NULL, 1, 'key')",
        "consume(w, 'words', 1, '')",
        "consume(w, 'words', 1, repeat('ä', 128))",
        "release(w, 'members', 0)",
        "release(w, 'members', -1)",
        "release(w, 'members', NULL)",
        "release(w, 'members', 3)",
        "release(w, 'members', 9223372036854775807)",
        "release(NULL, 'members', 1)",
        "release(w, NULL, 1)",
        "remaining(NULL, 'words')",
        "remaining(w, NULL)",
        "grant_bonus(NULL, 'words', 1, 'a gift')",
        "grant_bonus(w, NULL, 1, 'a gift')",
        "grant_bonus(w, 'words', NULL, 'a gift')",
        "grant_bonus(w, 'words', 0, 'a gift')",
        "grant_bonus(w, 'words', 1, NULL)",
        "grant_bonus(w, 'words', 1, ' ')",
        "grant_bonus(w, 'words', -1, 'never had')",
        "grant_bonus(w, 'words', -9223372036854775808, 'never had')",
    ] {
        assert_eq!(refused(conn, bad).await, "22023", "{bad}");
    }
    assert_eq!((rows.balances().await, rows.bonuses().await), (before, Vec::new()));
    assert_eq!(call(conn, "consume(w, 'words', 1, repeat('x', 255))").await, Ok(Some(99)));
}

#[tokio::test]
async fn unlimited_is_null_and_uses_no_bonus() {
    let rows = Rows::with("words unlimited").await;
    let conn = &mut rows.connect().await;
    call(conn, "grant_bonus(w, 'words', 50, 'a gift')").await.unwrap();
    assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(None));
    assert_eq!(call(conn, "consume(w, 'words', 1000000)").await, Ok(None));
    assert_eq!(call(conn, "consume(w, 'words', 1000000, 'key')").await, Ok(None));
    assert_eq!(call(conn, "consume(w, 'words', 1000000, 'key')").await, Ok(None));
    // the slow path, which a pending recalculation requires, does the same
    rows.execute(
        "INSERT INTO billing.limit_recalculations (subscription_id, since) VALUES (md5('sub')::uuid, clock_timestamp())",
    )
    .await;
    assert_eq!(call(conn, "consume(w, 'words', 1000000)").await, Ok(None));
    assert_eq!(rows.balances().await, ["sub words 0 3000000 0"]);
    assert_eq!(rows.bonuses().await, ["words 50"]);
    let view =
        "SELECT concat_ws(' ', unlimited, coalesce(available::text, 'null'), used) FROM billing.workspace_limits";
    assert_eq!(rows.lines(view).await, ["t null 3000000"]);
    assert_eq!(
        rows.lines("SELECT coalesce(available_words::text, 'null') FROM billing.subscription_words").await,
        ["null"]
    );
    rows.becomes("sub", "canceled").await;
    assert_eq!(refused(conn, "remaining(w, 'words')").await, "LM002", "null would mean unlimited");
    assert_eq!(rows.lines("SELECT available::text FROM billing.workspace_limits").await, ["0"]);
    assert_eq!(rows.lines("SELECT available_words::text FROM billing.subscription_words").await, ["0"]);
}

#[tokio::test]
async fn nothing_remains_without_an_active_subscription() {
    let rows = Rows::with("words 100, members 3").await;
    let conn = &mut rows.connect().await;
    assert_eq!(refused(conn, "remaining(v, 'words')").await, "LM003");
    let available = "SELECT available::text FROM billing.workspace_limits WHERE limit_key = 'words'";
    for (change, undo, reason) in [
        (
            "UPDATE billing.subscriptions SET active = false, payment_paused = true, inactive_reason = 'payment_paused'",
            "UPDATE billing.subscriptions SET active = true, payment_paused = false, inactive_reason = NULL",
            "payment_paused",
        ),
        (
            "INSERT INTO billing.workspaces (id, member_count) VALUES (md5('w')::uuid, 4)",
            "DELETE FROM billing.workspaces",
            "too_many_members",
        ),
    ] {
        rows.execute(change).await;
        assert_eq!(rows.lines(available).await, ["0"], "{reason}");
        for function in ["remaining(w, 'words')", "consume(w, 'words', 1)"] {
            let Err(refusal) = call(conn, function).await else { panic!("{reason}") };
            assert_eq!((refusal.code.as_str(), refusal.detail.as_deref()), ("LM002", Some(reason)), "{function}");
        }
        rows.execute(undo).await;
        assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(100)), "{reason}");
    }
    assert_eq!(rows.balances().await, ["sub members 0 0 0", "sub words 0 0 0"]);
}

/// `consume` grants exactly the amount that the views and `remaining` show, and refuses one more.
#[tokio::test]
async fn the_views_predict_what_consume_does() {
    let rows = Rows::start().await;
    let conn = &mut rows.connect().await;
    for (began, used, granted) in [(NEW, 0, 0), (NEW, 30, 0), (NEW, 30, 7), (DUE, 0, 0), (DUE, 80, 7), (DUE, 100, 0)] {
        rows.forget_everything().await;
        rows.subscribe("sub", "w", "words 100", began).await;
        rows.execute(&format!("UPDATE billing.subscription_limits SET used = {used}")).await;
        if granted > 0 {
            call(conn, &format!("grant_bonus(w, 'words', {granted}, 'a gift')")).await.unwrap();
        }
        let words =
            "SELECT concat_ws(' ', available_words, pricing_plan_words, spillover_words, bonus_words, used_words,
            limit_renewal_date) FROM billing.subscription_words";
        let limits = "SELECT concat_ws(' ', available, included, spillover, bonus, used, limit_renewal_date)
            FROM billing.workspace_limits";
        let shown = rows.lines(words).await;
        assert_eq!(rows.lines(limits).await, shown);
        let available: i64 = shown[0].split(' ').next().unwrap().parse().unwrap();
        assert_eq!(call(conn, "remaining(w, 'words')").await, Ok(Some(available)));
        let one_more = format!("consume(w, 'words', {})", available + 1);
        assert_eq!(refused(conn, &one_more).await, "LM001", "{shown:?}");
        assert_eq!(call(conn, &format!("consume(w, 'words', {available})")).await, Ok(Some(0)), "{shown:?}");
        // the bonus is the one at the start, so that the sum is correct at any time
        let sum = "SELECT (pricing_plan_words + spillover_words + bonus_words - used_words)::text FROM billing.subscription_words";
        assert_eq!(rows.lines(sum).await, ["0"], "{shown:?}");
    }
}
