//! Pasted signing secrets, and the messages when no delivery can be verified.

use std::io::Write;

use billing_sync::base::clock;
use billing_sync::config::secret::WebhookSecret;
use billing_sync::receiver::{PATH, signature};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cli::{code, run, words};
use crate::support::app::SECRET;
use crate::support::client::{Client, post};
use crate::support::cluster::{self, TestDatabase};
use crate::support::process::Server;

fn event(id: &str) -> Value {
    json!({ "id": id, "object": "event", "type": "customer.updated", "created": 1_700_000_000, "livemode": false,
        "data": { "object": { "id": "cus_1", "object": "customer" } } })
}

/// Delivers a body in Stripe's layout, signed with this secret; `extra` is sent before the body.
async fn deliver(server: &Server, secret: &str, id: &str, extra: &str) -> u16 {
    let body = format!("{extra}{}", serde_json::to_string_pretty(&event(id)).unwrap());
    let secret = WebhookSecret::new(secret).unwrap();
    let signed = body.trim_start_matches('\u{feff}');
    let header = signature::sign(&secret, clock::now().unix_timestamp(), signed.as_bytes());
    let mut client = Client::connect(server.webhooks()).await;
    client.send(&post(PATH, &header, body.as_bytes())).await;
    client.reply().await.unwrap().status
}

async fn receiver(environment: &[(&str, &str)]) -> (TestDatabase, Server) {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", environment).await;
    (database, server)
}

#[tokio::test]
async fn a_secret_with_pasted_extras_verifies_deliveries() {
    for pasted in [
        format!("{SECRET}\""),
        format!("{SECRET}\\n"),
        format!("\u{200b}{SECRET}\u{200b}"),
        format!("export STRIPE_WEBHOOK_SECRET='{SECRET}'"),
        format!("whsec_old;{SECRET}"),
        format!("whsec_old {SECRET}"),
    ] {
        let (_database, server) = receiver(&[("STRIPE_WEBHOOK_SECRET", &pasted)]).await;
        assert_eq!(deliver(&server, SECRET, "evt_1", "").await, 200, "{pasted:?}");
        server.kill().await;
    }
}

#[tokio::test]
async fn a_file_has_one_secret_a_line() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "\u{feff}# of the endpoint in Europe\r\nwhsec_old\r\n{SECRET}\r\n\r\n").unwrap();
    let path = file.path().to_str().unwrap();
    let environment = [("STRIPE_WEBHOOK_SECRET", ""), ("STRIPE_WEBHOOK_SECRET_FILE", path)];
    let (_database, server) = receiver(&environment).await;
    assert_eq!(deliver(&server, SECRET, "evt_1", "").await, 200);
    assert_eq!(deliver(&server, "whsec_old", "evt_2", "").await, 200);
    server.kill().await;
    let text = words(&run(&["doctor"], &[environment[1], ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:1")]).stdout);
    assert!(text.contains("STRIPE_WEBHOOK_SECRET set (2 entries)"), "{text}");
}

#[tokio::test]
async fn a_rotation_of_the_secret_can_be_watched_to_its_end() {
    let secrets = format!("whsec_new,{SECRET}");
    let (database, server) = receiver(&[("STRIPE_WEBHOOK_SECRET", &secrets)]).await;
    let verified = async || {
        let text = server.get_metrics().await;
        assert!(!text.contains("whsec"), "a label shows the secret: {text}");
        let of = |secret: &str| {
            let series = format!("billing_sync_webhook_signatures_verified_total{{secret=\"{secret}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)).map(str::to_owned)
        };
        [of("1"), of("2"), of("3")].map(|value| value.unwrap_or_else(|| "absent".to_owned())).join(" ")
    };
    assert_eq!(verified().await, "0 0 absent", "a rate needs the first value");
    assert_eq!(deliver(&server, SECRET, "evt_1", "").await, 200);
    assert_eq!(deliver(&server, SECRET, "evt_1", "").await, 200, "a duplicate is verified too");
    assert_eq!(verified().await, "0 2 absent");
    assert_eq!(deliver(&server, "whsec_new", "evt_2", "").await, 200);
    assert_eq!(deliver(&server, "whsec_other", "evt_3", "").await, 400);
    assert_eq!(verified().await, "1 2 absent");
    server.kill().await;
    // the last step of the runbook: the old secret is removed
    let server = Server::start(&database, "receiver", &[("STRIPE_WEBHOOK_SECRET", "whsec_new")]).await;
    assert_eq!(deliver(&server, SECRET, "evt_4", "").await, 400);
    assert_eq!(deliver(&server, "whsec_new", "evt_5", "").await, 200);
    server.kill().await;
}

#[test]
fn an_invalid_secret_is_refused_with_the_position_of_the_fault() {
    for (secrets, text) in [
        ("whsec_hunter\u{200b}2", "the secret has an invalid character: character 13 is U+200B"),
        ("whsec_a\nwhsec_hun\u{ad}ter2", "secret 2 of 2 has an invalid character: character 10 is U+00AD"),
        ("whsec_hun\nter2", "character 10 is U+000A, a line break"),
        ("we_hunter2", "is the id of the endpoint (we_…), not its secret"),
        ("sk_live_hunter2", "is an API key (sk_…), which belongs in STRIPE_SECRET_KEY"),
        ("whsec_hunter2whsec_hunter2", "contains two secrets: the next one begins at character 14"),
    ] {
        let output = run(&["serve"], &[("DATABASE_URL", "postgres://h/d"), ("STRIPE_WEBHOOK_SECRET", secrets)]);
        let errors = words(&output.stderr);
        assert_eq!(code(&output), 2, "{errors}");
        assert!(errors.contains(text), "{secrets:?}: {errors}");
        for part in ["hunter", "ter2"] {
            assert!(!errors.contains(part) && !words(&output.stdout).contains(part), "{errors}");
        }
    }
}

#[tokio::test]
async fn failing_signatures_are_logged_once_with_cause_and_recovery() {
    let (database, mut server) = receiver(&[]).await;
    let ops = server.ops().to_string();
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
        ("BILLING_SYNC_OPS_LISTEN", &ops),
    ];
    let doctor = || {
        let output = run(&["doctor"], &environment);
        (code(&output), words(&output.stdout))
    };
    for number in 0..4 {
        assert_eq!(deliver(&server, "whsec_of_another_endpoint", &format!("evt_{number}"), "").await, 400);
    }
    let (exit, text) = doctor();
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("4 failed the signature check since `serve` started, but not all recent ones"), "{text}");

    for number in 4..7 {
        assert_eq!(deliver(&server, SECRET, &format!("evt_{number}"), "\u{feff}").await, 400);
    }
    let warning = server.log_line("every delivery fails the signature check").await;
    assert_eq!(
        (&warning["failures"], &warning["signs"]),
        (&json!(5), &json!("1 byte_order_mark, 4 untouched")),
        "{warning}"
    );
    assert!(warning["likely"].as_str().unwrap().contains("to another endpoint, to the other mode"), "{warning}");
    let (exit, text) = doctor();
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("FAIL deliveries every recent delivery failed the signature check"), "{text}");
    assert!(text.contains("3 byte_order_mark, 4 untouched"), "{text}");
    assert!(text.contains("STRIPE_WEBHOOK_SECRET belongs to another endpoint"), "{text}");

    assert_eq!(deliver(&server, SECRET, "evt_7", "").await, 200);
    assert_eq!(server.log_line("a delivery is verified again").await["failures"], 7);
    let (exit, text) = doctor();
    assert_eq!(exit, 0, "{text}");
    assert!((server.metric("billing_sync_webhook_signatures_failing").await).abs() < f64::EPSILON);
    server.signal(Signal::SIGTERM);
    let (_, log) = server.ended_with_log().await;
    assert_eq!(log.matches("every delivery fails the signature check").count(), 1, "{log}");
    assert!(!log.contains("whsec_"), "{log}");
}
