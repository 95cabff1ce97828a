//! What an operator reads when a command cannot run: the cause, the fix, and the exit code.

use std::net::TcpListener;
use std::process::{Child, Output, Stdio};
use std::thread;

use serde_json::json;

use super::{binary, code, run, words};
use crate::support::app::TestApp;
use crate::support::cluster;
use crate::support::stripe::{Epoch, FakeStripe, Fault};

const UUID: &str = "5e7a2c1e-90b4-4d0f-8a36-2f1c7d9b4e10";

/// Every command that needs the schema, with the arguments that it requires.
const COMMANDS: [&[&str]; 20] = [
    &["serve"],
    &["explain", "sub_1"],
    &["explain", UUID],
    &["outbox", "list"],
    &["outbox", "show", "evt_1"],
    &["outbox", "retry", "evt_1"],
    &["outbox", "discard", "evt_1", "--reason", "none"],
    &["token", "create", "--scopes", "workspaces:admin"],
    &["token", "list"],
    &["token", "revoke", "0123456789abcdef"],
    &["writes", "list"],
    &["writes", "show", UUID],
    &["writes", "resolve", UUID, "--as", "refused", "--reason", "none"],
    &["rebuild"],
    &["renew"],
    &["renew", "--dry-run"],
    &["reconcile"],
    &["backfill"],
    &["verify"],
    &["doctor", "--orphans"],
];

/// The environment of a command: this database, free addresses, and a key that no test sends.
fn environment(url: &str) -> Vec<(&str, &str)> {
    vec![
        ("DATABASE_URL", url),
        ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
        ("STRIPE_SECRET_KEY", "sk_test_x"),
        ("STRIPE_API_BASE", "http://127.0.0.1:1"),
        ("BILLING_SYNC_LISTEN", "127.0.0.1:0"),
        ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0"),
    ]
}

#[tokio::test]
async fn a_database_without_our_tables_is_exit_code_2_everywhere() {
    let database = cluster::empty_database().await;
    let expected =
        format!("error: the database {} has no tables of billing-sync: run `billing-sync migrate`", database.name);
    for command in COMMANDS {
        let output = run(command, &environment(&database.url));
        let errors = words(&output.stderr);
        assert_eq!((code(&output), output.stdout.len()), (2, 0), "{command:?}: {errors}");
        assert!(errors.contains(&expected), "{command:?}: {errors}");
    }
}

/// Runs the commands at the same time, because most of their time is spent waiting.
fn at_once(commands: &[&[&str]], environment: &[(&str, &str)]) -> Vec<Output> {
    let start = |command: &&[&str]| {
        let mut command = binary(command, environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<Child> = commands.iter().map(start).collect();
    started.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

/// A server that accepts connections. It closes them at once, or never answers.
fn not_postgres(answers: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut open = Vec::new();
        for connection in listener.incoming() {
            if !answers {
                open.push(connection);
            }
        }
    });
    address
}

#[tokio::test]
async fn a_connection_that_fails_has_its_cause_and_its_fix() {
    let database = cluster::empty_database().await;
    let socket = database.options.get_socket().unwrap().display().to_string();
    let (port, user) = (database.options.get_port(), database.options.get_username());
    let there = format!("?host={socket}&port={port}");
    let (closing, silent) = (not_postgres(true), not_postgres(false));
    for (url, cause, fix) in [
        (
            format!("postgres://{user}@/no_such_name{there}"),
            "database \"no_such_name\" does not exist (3D000)",
            "create the database, or correct its name in DATABASE_URL",
        ),
        (
            format!("postgres://no_such_role@/postgres{there}"),
            "role \"no_such_role\" does not exist (28000)",
            "create the role and allow it to log in, or correct the user in DATABASE_URL",
        ),
        (
            "postgres://u@127.0.0.1:1/d".to_owned(),
            "Connection refused",
            "start the server, or correct host and port in DATABASE_URL",
        ),
        (
            "postgres://u@/d?host=/nowhere".to_owned(),
            "No such file or directory",
            "start the server, or correct the directory of its socket (host) in DATABASE_URL",
        ),
        (
            "postgres://u@no-such-host.invalid/d".to_owned(),
            "lookup address",
            "correct the host in DATABASE_URL, or repair the name resolution of this machine",
        ),
        (
            format!("postgres://u@{closing}/d"),
            "cannot use the database",
            "check that a PostgreSQL server listens at this address and is running, then try again",
        ),
        (
            format!("postgres://u@{silent}/d?connect_timeout=2"),
            "did not answer within 2 s",
            "check the network and the firewalls between this machine and the server",
        ),
    ] {
        let commands = [&["outbox", "list"][..], &["migrate"], &["doctor"]];
        for output in at_once(&commands, &environment(&url)) {
            let text = words(&output.stdout) + &words(&output.stderr);
            assert_eq!(code(&output), 1, "{text}");
            assert!(text.contains(cause) && text.contains(fix), "{url}: {text}");
            assert!(!text.contains(" at line "), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_stripe_has_its_cause_and_its_fix() {
    let (app, stripe) = (TestApp::start().await, FakeStripe::start().await);
    stripe.customer(json!({ "name": "Ada" }));
    app.deliver_all(&stripe.events(), Epoch::Endive).await;
    app.drain().await;
    stripe.tick(60);
    let base = stripe.base();
    let key = stripe.key().to_owned();
    for (fault, base, key, cause, fix) in [
        (
            None,
            base.as_str(),
            "sk_test_wrong",
            "stripe refuses the key (401",
            "set STRIPE_SECRET_KEY to a valid key of the account",
        ),
        (
            None,
            "http://127.0.0.1:1",
            key.as_str(),
            "stripe cannot be reached: ",
            "check that this machine can reach STRIPE_API_BASE, then try again",
        ),
        (
            Some(Fault::ServerError),
            base.as_str(),
            key.as_str(),
            "a server that is not Stripe's API answered 500",
            "correct STRIPE_API_BASE, or the proxy between this machine and Stripe",
        ),
        (
            Some(Fault::TooManyRequests { retry_after: None }),
            base.as_str(),
            key.as_str(),
            "stripe asks to retry later",
            "try again later, or lower BILLING_SYNC_STRIPE_RATE",
        ),
    ] {
        if let Some(fault) = fault {
            stripe.fail_next_under("/", 1000, fault);
        }
        let environment = [
            ("DATABASE_URL", app.database.url.as_str()),
            ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
            ("STRIPE_API_BASE", base),
            ("STRIPE_SECRET_KEY", key),
        ];
        let commands = [&["backfill"][..], &["verify"], &["doctor"], &["reconcile"]];
        for (command, output) in commands.iter().zip(at_once(&commands, &environment)) {
            let text = words(&output.stdout) + &words(&output.stderr);
            assert_eq!(code(&output), 1, "{command:?}: {text}");
            assert!(text.contains(cause) && text.contains(fix), "{command:?}: {text}");
            assert!(!text.contains("sk_test_wrong"), "{text}");
        }
        stripe.recover();
    }
    app.finish().await;
}
