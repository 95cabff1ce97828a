//! `doctor`: the line `disk`.

use serde_json::Value;

use super::{code, json_lines, run, words};
use crate::retention::{create_months, dated, month_ago};
use crate::support::app::TestApp;

/// The exit code, and the report in one line.
fn report(app: &TestApp, more: &[(&str, &str)]) -> (i32, String) {
    let environment =
        [&[("DATABASE_URL", app.database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_1")], more].concat();
    let output = run(&["doctor"], &environment);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    (code(&output), words(&output.stdout))
}

fn month(months_ago: i32) -> String {
    month_ago(months_ago).to_string()[..7].to_owned()
}

/// The day on which a retention of 90 days removes a month.
fn removal(months_ago: i32) -> String {
    (month_ago(months_ago - 1) + time::Duration::days(90)).to_string()
}

#[tokio::test]
async fn doctor_reports_sizes_growth_and_the_next_removal() {
    let app = TestApp::start().await;
    let (status, text) = report(&app, &[]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("their growth is unknown in the first day"), "{text}");
    assert!(text.contains("ok disk the retention is 90d: no month is stored yet that it would remove"), "{text}");

    app.deliver_and_drain(&[dated("evt_now", 0)]).await;
    app.execute("UPDATE billing.outbox SET finished_at = finished_at - interval '10 days 1 hour'").await;
    let (_, text) = report(&app, &[]);
    assert!(text.contains("a month (extrapolated from 10 d)"), "{text}");

    app.deliver_and_drain(&[dated("evt_1", 1), dated("evt_2", 2)]).await;
    create_months(&app.pool).await;
    let (status, text) = report(&app, &[]);
    assert_eq!(status, 0, "{text}");
    // the oldest month may be incomplete
    assert!(text.contains(&format!("a month ({})", month(1))), "{text}");
    let next = format!(
        "the retention is 90d: it removes {}, the oldest month, on {}; with this growth, events and outbox reach about",
        month(2),
        removal(2)
    );
    assert!(text.contains(&next), "{text}");
    app.execute("UPDATE billing.schema_migrations SET installed_on = installed_on - interval '1 year'").await;
    let (_, text) = report(&app, &[]);
    assert!(text.contains(&format!("a month (the mean of {} to {})", month(2), month(1))), "{text}");

    let environment = [("DATABASE_URL", app.database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_1")];
    let lines = json_lines(&run(&["doctor", "--json"], &environment));
    let lines: Vec<&Value> = lines.iter().filter(|line| line["check"] == "disk").collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line["status"] == "ok"), "{lines:?}");
    assert!(lines[1]["detail"].as_str().unwrap().contains(&removal(2)), "{lines:?}");
    let (status, text) = report(&app, &[("BILLING_SYNC_RETENTION", "36500d")]);
    assert!(
        status == 0 && text.contains("warn disk nothing is ever removed, because BILLING_SYNC_RETENTION"),
        "{text}"
    );
    app.execute("ALTER FUNCTION billing.expired_months(timestamptz) RENAME TO gone").await;
    let (status, text) = report(&app, &[]);
    assert!(status == 1 && text.contains("FAIL disk"), "{text}");
    app.finish().await;
}

#[tokio::test]
async fn doctor_reports_months_that_the_retention_should_have_removed() {
    let app = TestApp::start().await;
    app.deliver_and_drain(&[dated("evt_a9", 9), dated("evt_b8", 8)]).await;
    create_months(&app.pool).await;
    let (status, text) = report(&app, &[]);
    let held = format!(
        "warn disk months older than the retention of 90d are stored ({}, {}): no newer event shows that the time has \
         passed by Stripe's clock, too",
        month(9),
        month(8)
    );
    assert!(status == 0 && text.contains(&held), "{text}");

    app.deliver_and_drain(&[dated("evt_c7", 7), dated("evt_d6", 6), dated("evt_e0", 0)]).await;
    create_months(&app.pool).await;
    app.execute(
        "UPDATE billing.outbox SET outcome = NULL, state = 'dead', last_error = 'a cause' WHERE event_id = 'evt_a9'",
    )
    .await;
    app.execute(
        "UPDATE billing.outbox SET outcome = NULL, state = 'pending', finished_at = NULL WHERE event_id = 'evt_b8'",
    )
    .await;
    let (status, text) = report(&app, &[]);
    assert_eq!(status, 0, "{text}");
    for (months, why) in [
        (month(9), "dead events keep them fix: `outbox list --state dead` shows the events"),
        (month(8), "pending events keep them fix: run `serve` with the role worker"),
        (
            format!("{}, {}", month(7), month(6)),
            "no process removed them fix: run `serve` with the role maintenance and see its log, or run `outbox prune`",
        ),
    ] {
        let expected = format!("warn disk months older than the retention of 90d are stored ({months}): {why}");
        assert!(text.contains(&expected), "{expected}: {text}");
    }
    assert!(!text.contains("the oldest month"), "{text}");
    app.execute("UPDATE billing.renewal_rules SET halted_at = clock_timestamp(), halted_because = 'a clock'").await;
    let (status, text) = report(&app, &[]);
    let held =
        format!("are stored (4 from {} to {}): nothing is removed while the clocks disagree", month(9), month(6));
    assert!(status == 1 && text.contains(&held), "{text}");
    app.execute("UPDATE billing.renewal_rules SET halted_at = NULL, halted_because = NULL").await;
    app.drain().await;
    app.finish().await;
}
