//! `reconcile`, and the role `reconcile` of `serve`: output and exit codes.

use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{code, json_lines, migrated, run, words};
use crate::support::app::TestApp;
use crate::support::cluster::TestDatabase;
use crate::support::process::Server;
use crate::support::stripe::{Epoch, Event, FakeStripe, Fault};

const DAY: i64 = 86_400;

/// Creates two customers; only the event of the first is delivered. Returns the missed event.
async fn missed_one(app: &TestApp, stripe: &FakeStripe) -> Event {
    stripe.customer(json!({ "name": "Ada" }));
    app.deliver_all(&stripe.events(), Epoch::Endive).await;
    app.drain().await;
    stripe.tick(60);
    let mark = stripe.mark();
    stripe.customer(json!({ "name": "Bo" }));
    stripe.tick(600);
    stripe.events_since(mark).remove(0)
}

fn environment<'a>(database: &'a TestDatabase, base: &'a str, key: &'a str) -> [(&'static str, &'a str); 3] {
    [("DATABASE_URL", &database.url), ("STRIPE_API_BASE", base), ("STRIPE_SECRET_KEY", key)]
}

fn reconcile(app: &TestApp, stripe: &FakeStripe, arguments: &[&str]) -> Output {
    let base = stripe.base();
    run(&[&["reconcile"], arguments].concat(), &environment(&app.database, &base, stripe.key()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_events_are_reported_by_type_and_stored() {
    let (mut app, stripe) = (TestApp::start().await, FakeStripe::start().await);
    let event = missed_one(&app, &stripe).await;
    let output = reconcile(&app, &stripe, &[]);
    let text = words(&output.stdout);
    assert_eq!(code(&output), 0, "{text}{}", words(&output.stderr));
    let expected = format!(
        "2 events compared, from 2026-01-01T00:00:00Z to 2026-01-01T00:10:49Z: 1 was missing and is stored now 1 \
         customer.created: {} 1 of them should have been delivered more than five minutes ago",
        event.id
    );
    assert!(text.contains(&expected), "{text}");
    assert_eq!(app.fate(&event.id).await, "pending - -");
    let output = reconcile(&app, &stripe, &[]);
    assert!(words(&output.stdout).ends_with(": none was missing"), "{}", words(&output.stdout));
    // from a time after the watermark
    stripe.tick(DAY);
    let output = reconcile(&app, &stripe, &["--since", "1h", "--json"]);
    assert_eq!(code(&output), 0);
    let lines = json_lines(&output);
    let expected = json!({
        "account": "", "from": "2026-01-01T23:10:59Z", "until": "2026-01-02T00:10:49Z", "compared": 0, "inserted": 0,
        "missed": 0, "unreadable": 0, "types": {}, "watermark": "2026-01-01T00:10:49Z", "gap": null,
    });
    assert_eq!(lines[0], expected);
    let summary = &lines[1]["summary"];
    assert_eq!((&summary["accounts"], &summary["compared"], &summary["gaps"]), (&json!(1), &json!(0), &json!(0)));
    let text = words(&reconcile(&app, &stripe, &["--since", "1h"]).stdout);
    assert!(text.contains("events were compared only up to 2026-01-01T00:10:49Z"), "{text}");
    app.leave_pending();
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_reported_and_is_a_failure() {
    let (app, stripe) = (TestApp::start().await, FakeStripe::start().await);
    missed_one(&app, &stripe).await;
    reconcile(&app, &stripe, &[]);
    app.drain().await;
    stripe.tick(40 * DAY);
    for arguments in [&[][..], &["--since", "72h"]] {
        let output = reconcile(&app, &stripe, arguments);
        let text = words(&output.stdout);
        assert_eq!(code(&output), 1, "{text}");
        let gap =
            "there is a gap: events created from 2026-01-01T00:10:49Z to 2026-01-11T00:10:59Z were never compared";
        assert!(text.contains(gap) && text.contains("`billing-sync backfill`"), "{text}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_incomplete_comparison_is_a_failure() {
    let (app, stripe) = (TestApp::start().await, FakeStripe::start().await);
    missed_one(&app, &stripe).await;
    for (fault, expected) in [
        (Fault::TooManyRequests { retry_after: Some(60) }, "stripe asks to retry later"),
        (Fault::ServerError, "a server that is not Stripe's API answered 500"),
    ] {
        stripe.fail_next_under("/v1/events", 100, fault);
        let output = reconcile(&app, &stripe, &[]);
        let text = words(&output.stderr);
        let summary = words(&output.stdout);
        assert_eq!(code(&output), 1, "{text}");
        assert!(summary.starts_with("0 events compared, 0 accounts completely, in "), "{summary}");
        assert!(summary.ends_with("; 1 account could not be compared"), "{summary}");
        assert!(text.contains(&format!("error: could not compare your own account: {expected}")), "{text}");
        stripe.recover();
    }
    stripe.become_another_account();
    let output = reconcile(&app, &stripe, &[]);
    let text = words(&output.stderr);
    assert_eq!(code(&output), 1);
    assert!(
        text.contains("belongs to another account or mode than the stored data (Stripe knows none of 1 stored"),
        "{text}"
    );
    let output = run(&["reconcile"], &environment(&app.database, "http://127.0.0.1:1", stripe.key()));
    assert_eq!(code(&output), 1);
    assert!(words(&output.stderr).contains("stripe cannot be reached"), "{}", words(&output.stderr));
    // doctor warns about the failed comparisons
    let report = words(&run(&["doctor"], &[("DATABASE_URL", app.database.url.as_str())]).stdout);
    assert!(
        report.contains("warn reconcile stored events were never compared with Stripe's list; 4 comparisons"),
        "{report}"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impossible_request_is_a_usage_error() {
    let (database, _conn) = migrated().await;
    let stripe = FakeStripe::start().await;
    let base = stripe.base();
    for since in ["31d", "yesterday", "2026-12-01", "2025-11-01T00:00:00Z", "2027-01-01T00:00:00Z"] {
        let output = run(&["reconcile", "--since", since], &environment(&database, &base, stripe.key()));
        assert_eq!(code(&output), 2, "{since}: {}", words(&output.stderr));
    }
    let output = run(&["reconcile"], &environment(&database, &base, ""));
    let errors = words(&output.stderr);
    assert_eq!(code(&output), 2);
    assert!(errors.contains("STRIPE_SECRET_KEY wrong is not set") && errors.contains("(sk_… or rk_…)"), "{errors}");
    let output = run(&["serve", "--roles", "reconcile"], &[("DATABASE_URL", &database.url)]);
    assert_eq!(code(&output), 2);
    assert!(words(&output.stderr).contains("STRIPE_SECRET_KEY wrong is not set"), "{}", words(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_finds_undelivered_events_despite_stripe_failures() {
    let (app, stripe) = (TestApp::start().await, FakeStripe::start().await);
    missed_one(&app, &stripe).await;
    stripe.fail_next_under("/v1/events", 100, Fault::TooManyRequests { retry_after: Some(1) });
    let base = stripe.base();
    let environment = [
        ("STRIPE_API_BASE", base.as_str()),
        ("STRIPE_SECRET_KEY", stripe.key()),
        ("BILLING_SYNC_RECONCILE_INTERVAL", "1s"),
    ];
    let mut server = Server::start(&app.database, "worker,reconcile", &environment).await;
    assert_eq!(server.serving()["roles"], "worker,reconcile");
    let failed = "could not compare the stored events with Stripe's event list; retrying. No event is lost, and \
                  delivered events are processed as usual";
    assert_eq!(server.log_line(failed).await["level"], "WARN");
    assert!(!server.get_metrics().await.contains("billing_sync_reconcile_runs_total{outcome=\"complete\"} 1"));
    stripe.recover();
    let found =
        "stored undelivered events from Stripe's event list; check the webhook endpoint in the Stripe dashboard";
    assert_eq!(server.log_line(found).await["missed"], 1);
    for _ in 0..300 {
        if app.text("SELECT count(*)::text FROM billing.billing_contacts").await.as_deref() == Some("2") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let names = "SELECT string_agg(name, ' ' ORDER BY name) FROM billing.billing_contacts";
    assert_eq!(app.text(names).await.as_deref(), Some("Ada Bo"));
    let metrics = server.get_metrics().await;
    for series in [
        "billing_sync_reconcile_missed_events_total{family=\"customer\"} 1\n",
        "billing_sync_reconcile_gap_seconds 0\n",
        "billing_sync_reconcile_watermark_age_seconds ",
        "billing_sync_stripe_requests_total{operation=\"events.list\",outcome=\"ok\"} ",
    ] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    assert!(!metrics.contains("billing_sync_reconcile_runs_total{outcome=\"failed\"} 0\n"), "{metrics}");
    // events missed later are found too
    stripe.customer(json!({ "name": "Cy" }));
    stripe.tick(600);
    server.log_line(found).await;
    server.signal(Signal::SIGTERM);
    let (code, log) = server.ended_with_log().await;
    assert_eq!(code, Some(0), "{log}");
    app.drain().await;
    app.finish().await;
}
