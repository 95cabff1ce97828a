//! `explain`, which shows the causes of a row, through the real binary.

use serde_json::{Value, json};

use super::{code, run, words};
use crate::support::app::TestApp;
use crate::support::events::{customer, event, subscription, update, with};

/// An app with a subscription that was created and paused, and the output of `explain` for `id`.
async fn explained(id: &str, arguments: &[&str]) -> (TestApp, String) {
    let app = TestApp::start().await;
    let active = subscription("sub_1", "cus_1");
    let paused = with(&active, json!({ "pause_collection": { "behavior": "void", "resumes_at": null } }));
    app.deliver_and_drain(&[
        event("evt_c", "customer.created", 0, &customer("cus_1", "Ada"), None),
        event("evt_s", "customer.subscription.created", 1, &active, None),
    ])
    .await;
    app.deliver_and_drain(&[update("evt_p", "customer.subscription.updated", 9, &active, &paused)]).await;
    app.deliver_and_drain(&[event("evt_late", "customer.subscription.updated", 5, &active, None)]).await;
    let output = run(&[&["explain", id], arguments].concat(), &[("DATABASE_URL", &app.database.url)]);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    (app, String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn explain_shows_why_a_subscription_is_inactive() {
    let (app, text) = explained("sub_1", &[]).await;
    let at_once = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "customer.subscription.created of sub_1: applied",
        "evt_p, created 2026-01-01 00:00:09 subscriptions changed by evt_p active: true -> false inactive_reason: null -> payment_paused",
        "customer.subscription.updated of sub_1: superseded",
        "subscriptions now active: false",
        "inactive_reason: payment_paused",
    ] {
        assert!(at_once.contains(part), "{part}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let verdict = "sub_1: inactive since 2026-01-01 00:00:09: payment collection is paused, evt_p\n";
    assert!(text.starts_with(verdict), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn an_event_is_explained_by_what_it_changed_and_not_by_the_rows_of_today() {
    let (app, text) = explained("evt_s", &[]).await;
    let at_once = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(at_once.starts_with("evt_s: applied at ") && at_once.contains("; it changed 3 rows "), "{text}");
    assert!(at_once.contains("active: null -> true"), "{text}");
    assert!(!text.contains("evt_p") && !text.contains(" now\n") && !text.contains("payment_paused: true"), "{text}");
    let late = run(&["explain", "evt_late"], &[("DATABASE_URL", &app.database.url)]);
    let late = words(&late.stdout);
    assert!(late.starts_with("evt_late: superseded at "), "{late}");
    assert!(late.contains(": a newer state of the object was known; it changed no row"), "{late}");
    app.finish().await;
}

#[tokio::test]
async fn a_dead_event_is_explained_by_its_error() {
    let app = TestApp::start().await;
    app.deliver(&event("evt_1", "customer.created", 0, &customer("cus_1", "Ada"), None)).await;
    app.execute(
        "UPDATE billing.outbox SET state = 'dead', isolated = true, attempts = 12, finished_at = '2026-01-02 03:04:05Z',
            last_error = 'database error 23514 (check violation): table billing_contacts, constraint no_ada'",
    )
    .await;
    let output = run(&["explain", "evt_1"], &[("DATABASE_URL", &app.database.url)]);
    let expected = "evt_1: dead since 2026-01-02 03:04:05 after 12 failed attempts: database error 23514 (check \
                    violation): table billing_contacts, constraint no_ada history, in UTC";
    assert!(words(&output.stdout).starts_with(expected), "{}", words(&output.stdout));
    app.finish().await;
}

#[tokio::test]
async fn the_limits_of_a_subscription_are_shown_month_by_month() {
    let app = sold().await;
    app.renew().await;
    let output = run(&["explain", "sub_1", "--limit", "words"], &[("DATABASE_URL", &app.database.url)]);
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Vec<&str>> =
        text.lines().skip_while(|line| *line != "limit words").map(|line| line.split_whitespace().collect()).collect();
    // the first month used all of the plan and 20 of the bonus
    assert_eq!(rows[1], ["from", "included", "carried", "in", "bonus", "used", "left", "lost"], "{text}");
    assert_eq!(rows[2], ["2026-01-01", "00:00", "1300", "0", "20", "1320", "0", "0"], "{text}");
    assert_eq!(rows[3], ["2026-02-01", "00:00", "1300", "0", "0", "0", "1300", "0"], "{text}");
    assert_eq!(rows.last().unwrap().last(), Some(&"(open)"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn a_workspace_is_explained_by_its_current_subscription() {
    let app = sold().await;
    let output = run(&["explain", WORKSPACE], &[("DATABASE_URL", &app.database.url)]);
    let text = words(&output.stdout);
    let expected = format!("{WORKSPACE}: active since 2026-01-01 00:00:01 (evt_s)");
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.contains("; by sub_1 (price_plan) history: billing-sync explain sub_1 words of sub_1,"), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn a_customer_is_explained_without_personal_data() {
    let (app, text) = explained("cus_1", &[]).await;
    assert!(text.contains("billing_contacts now") && text.contains("subscriptions now"), "{text}");
    assert!(text.contains("evt_c") && text.contains("evt_p"), "{text}");
    assert!(!text.contains("Ada") && !text.contains("billing@example.com") && !text.contains("Berlin"), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn a_change_without_an_event_has_its_time() {
    let (app, _) = explained("sub_1", &[]).await;
    app.execute("UPDATE billing.subscriptions SET currency = 'xxx'").await;
    assert_eq!(code(&run(&["rebuild"], &[("DATABASE_URL", &app.database.url)])), 0);
    let output = run(&["explain", "sub_1"], &[("DATABASE_URL", &app.database.url)]);
    let text = String::from_utf8(output.stdout).unwrap();
    let at = "SELECT to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM billing.row_changes
        WHERE causes = '{rebuild}'";
    let expected = format!("{}  subscriptions changed by rebuild", app.text(at).await.unwrap());
    assert!(text.lines().any(|line| line == expected), "{expected}: {text}");
    app.finish().await;
}

#[tokio::test]
async fn an_event_is_explained_with_its_changes() {
    let (app, text) = explained("evt_p", &["--json"]).await;
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["verdict", "event", "change"], "{text}");
    assert!(steps[0]["text"].as_str().unwrap().starts_with("applied at "), "{text}");
    assert_eq!(steps[1]["outcome"], "applied");
    assert_eq!(steps[2]["changes"]["payment_paused"], json!([false, true]));
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_id_is_a_failure_with_likely_causes() {
    let app = TestApp::start().await;
    let output = run(&["explain", "sub_unknown"], &[("DATABASE_URL", &app.database.url)]);
    assert_eq!(code(&output), 1);
    assert!(
        words(&output.stderr).contains("no event, read or row of sub_unknown is stored"),
        "{}",
        words(&output.stderr)
    );
    app.finish().await;
}

const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

/// A plan, seats and a bonus, and a period that used all of the plan and a part of the bonus.
async fn sold() -> TestApp {
    let app = TestApp::start().await;
    let item = |price: &str, quantity: i64, metadata: Value| {
        json!({ "id": format!("si_{price}"), "object": "subscription_item", "quantity": quantity,
            "price": { "id": price, "object": "price", "livemode": false, "metadata": metadata } })
    };
    let items = json!({ "object": "list", "has_more": false, "data": [
        item("price_plan", 1, json!({ "limit_words": "1000" })), item("price_seat", 3, json!({ "limit_words_per_unit": "100" }))] });
    let sub =
        with(&subscription("sub_1", "cus_1"), json!({ "items": items, "metadata": { "workspace_id": WORKSPACE } }));
    app.deliver_and_drain(&[event("evt_s", "customer.subscription.created", 1, &sub, None)]).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "SELECT billing.grant_bonus('{WORKSPACE}', 'words', 500, 'sorry for Monday');
        UPDATE billing.subscription_limits SET used = 1320, bonus_used = 20;
        UPDATE billing.workspace_bonus SET amount = 480"
    )))
    .execute(&app.pool)
    .await
    .unwrap();
    app
}

#[tokio::test]
async fn the_balance_of_a_workspace_is_explained_line_by_line() {
    let app = sold().await;
    for renewed in [false, true] {
        if renewed {
            app.renew().await;
        }
        let env = [("DATABASE_URL", app.database.url.as_str())];
        let output = run(&["explain", WORKSPACE, "--limit", "words"], &env);
        assert_eq!(code(&output), 0, "{}", words(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let at_once = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "words of sub_1, 2026-01-01 00:00:00 to 2026-02-01 00:00:00 included 1 000 price_plan x 1 included 300 price_seat x 3 \
             used -1 320 from bonus 20 words of sub_1, 2026-02-01 00:00:00",
            "included 1 000 price_plan x 1 included 300 price_seat x 3 carried over -1 300 renewed",
            "carried in 1 300 included",
            "lost -1 300 renewed",
            "left -2 600",
            "bonus of words granted 500 sorry for Monday,",
            "words: 480 of the bonus is left",
        ] {
            assert!(at_once.contains(part), "{part}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let output = run(&["explain", WORKSPACE, "--json"], &env);
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let sum = |field: &str| lines.iter().filter_map(|line| line[field].as_i64()).sum::<i64>();
        assert_eq!((sum("amount"), sum("bonus")), (0, 480));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_limit_that_cannot_be_read_is_not_a_missing_limit() {
    let app = TestApp::start().await;
    let price = json!({ "id": "price_1", "object": "price", "metadata": { "limit_words": "lots" } });
    let items = json!({ "object": "list", "has_more": false, "data": [
        { "id": "si_1", "object": "subscription_item", "created": 1, "quantity": 1, "price": price }] });
    let sub =
        with(&subscription("sub_1", "cus_1"), json!({ "items": items, "metadata": { "workspace_id": WORKSPACE } }));
    app.deliver_and_drain(&[event("evt_s", "customer.subscription.created", 1, &sub, None)]).await;
    let env = [("DATABASE_URL", app.database.url.as_str())];
    for arguments in [&["explain", WORKSPACE][..], &["explain", WORKSPACE, "--limit", "words"]] {
        let output = run(arguments, &env);
        let text = words(&output.stdout);
        assert_eq!(code(&output), 0, "{text}");
        let expected = "values that cannot be read: price price_1: limit_words = \"lots\"; set them in Stripe to a whole \
                        number or to unlimited";
        assert!(text.contains(expected), "{text}");
    }
    let output = run(&["explain", WORKSPACE, "--limit", "images"], &env);
    assert!(words(&output.stderr).contains("has no limit \"images\""), "{}", words(&output.stderr));
    app.finish().await;
}

#[tokio::test]
async fn a_workspace_without_a_subscription_and_a_deleted_one_say_so() {
    let app = sold().await;
    let env = [("DATABASE_URL", app.database.url.as_str())];
    let without = "550e8400-e29b-41d4-a716-446655440002";
    let with_metadata = with(&customer("cus_2", "Bo"), json!({ "metadata": { "workspace_id": without } }));
    app.deliver_and_drain(&[event("evt_c", "customer.created", 2, &with_metadata, None)]).await;
    let text = words(&run(&["explain", without], &env).stdout);
    assert!(text.starts_with(&format!("{without}: inactive: it has no subscription It has no limits")), "{text}");
    app.execute(
        "INSERT INTO billing.workspaces (id, deleted_at) VALUES ('550e8400-e29b-41d4-a716-446655440000', now())",
    )
    .await;
    let text = words(&run(&["explain", WORKSPACE], &env).stdout);
    assert!(text.starts_with(&format!("{WORKSPACE}: inactive: the workspace was deleted; by sub_1")), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_workspace_or_limit_is_an_error() {
    let app = sold().await;
    let env = [("DATABASE_URL", app.database.url.as_str())];
    let other = "550e8400-e29b-41d4-a716-446655440001";
    let cases: [(&[&str], i32, &str); 4] = [
        (&[other], 1, "is unknown: no subscription or customer names it"),
        (&[WORKSPACE, "--limit", "imgaes"], 1, "has no limit \"imgaes\""),
        (&["workspace", WORKSPACE], 2, "unexpected argument"),
        (&[], 2, "required"),
    ];
    for (arguments, expected, part) in cases {
        let output = run(&[&["explain"], arguments].concat(), &env);
        assert_eq!(code(&output), expected, "{arguments:?}");
        assert!(words(&output.stderr).contains(part), "{arguments:?}: {}", words(&output.stderr));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_change_at_stripe_is_a_step_and_a_cause() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[event("evt_c", "customer.created", 0, &customer("cus_1", "Ada"), None)]).await;
    let line = "00000000-0000-0000-0000-000000000007";
    app.execute(
        "INSERT INTO billing.api_writes (id, principal, operation, account, target, object_type, object_id, path, form,
            state, stripe_request_id, stripe_status, first_sent_at, finished_at)
        VALUES ('00000000-0000-0000-0000-000000000007', 'token:0123456789abcdef', 'customer.update', '', 'customer/cus_1',
            'customer', 'cus_1', '/customers/cus_1', 'name=Ada', 'done', 'req_9', 200, clock_timestamp(),
            clock_timestamp())",
    )
    .await;
    app.execute(
        "INSERT INTO billing.row_changes (table_name, row_id, causes, changes)
        SELECT table_name, row_id, '{write:00000000-0000-0000-0000-000000000007}', '{\"currency\": [\"eur\", \"usd\"]}'
        FROM billing.row_changes WHERE causes = '{evt_c}' AND table_name = 'billing_contacts'",
    )
    .await;
    let explain = |arguments: &[&str]| {
        let output = run(&[&["explain", "cus_1"], arguments].concat(), &[("DATABASE_URL", &app.database.url)]);
        assert_eq!(code(&output), 0, "{}", words(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = explain(&[]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let text = words(text.as_bytes());
    assert!(text.contains("write customer.update of cus_1 by token:0123456789abcdef: done"), "{text}");
    let expected = "req_9 billing_contacts changed by write customer.update by token:0123456789abcdef (Stripe req_9) \
                    currency: eur -> usd";
    assert!(text.contains(expected), "{text}");
    let json = explain(&["--json"]);
    let write =
        json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|step| step["step"] == "write");
    assert_eq!(write.unwrap()["id"], line);
    // a line is deleted after 30 days
    app.execute("DELETE FROM billing.api_writes").await;
    let text = words(explain(&[]).as_bytes());
    assert!(text.contains(&format!("billing_contacts changed by write:{line}")), "{text}");
    app.finish().await;
}

/// The lines of a picture, after a check that it is valid: elements are closed, and text is escaped.
fn picture(output: &[u8]) -> String {
    let picture = std::str::from_utf8(output).unwrap();
    let mut depth = 0;
    for event in svg::read(picture).unwrap() {
        match event {
            svg::parser::Event::Tag(_, svg::node::element::tag::Type::Start, _) => depth += 1,
            svg::parser::Event::Tag(_, svg::node::element::tag::Type::End, _) => depth -= 1,
            svg::parser::Event::Error(error) => panic!("{error}: {picture}"),
            _ => {}
        }
    }
    assert_eq!(depth, 0, "{picture}");
    picture.to_owned()
}

#[tokio::test]
async fn a_subscription_is_drawn_with_the_event_of_each_phase() {
    let (app, output) = explained("sub_1", &["--svg", "--until", "2026-01-01T00:00:20Z"]).await;
    let drawn = picture(output.as_bytes());
    for part in ["sub_1: paused: payment collection is paused since 2026-01-01 00:00:09", "evt_s", "evt_p"] {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }
    assert!(
        drawn.contains("customer.subscription.updated evt_late"),
        "an event that changed nothing is on it: {drawn}"
    );
    // her customer has one subscription, and no object has a name in it
    let same =
        run(&["explain", "cus_1", "--svg", "--until", "2026-01-01T00:00:20Z"], &[("DATABASE_URL", &app.database.url)]);
    assert_eq!(String::from_utf8(same.stdout).unwrap(), output);
    assert!(!drawn.contains("Ada"), "{drawn}");
    for (arguments, error) in [
        (&["sub_1", "--svg", "--limit", "words"][..], "sub_1 has no period of the limit words; it has none"),
        (&["cus_none", "--svg"], "cus_none has no subscription, so there is nothing to draw"),
        (
            &["sub_1", "--svg", "--until", "2020-01-01T00:00:00Z"],
            "nothing is known about the time before 2020-01-01 00:00:00",
        ),
    ] {
        let output = run(&[&["explain"], arguments].concat(), &[("DATABASE_URL", &app.database.url)]);
        assert_eq!((code(&output), words(&output.stderr).trim_end()), (1, format!("error: {error}").as_str()));
    }
    app.finish().await;
}
