//! Connections to Stripe: with and without a proxy and a private CA, and the errors if they fail.

use std::net::SocketAddr;
use std::process::Output;

use billing_sync::base::clock;
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::cli::{code, run, words};
use crate::support::cluster::{self, TestDatabase};
use crate::support::egress::{Authority, ForwardProxy};
use crate::support::process::Server;
use crate::support::stripe::FakeStripe;

/// The fake Stripe behind TLS with a private CA, under two names, of which only `localhost` resolves.
struct Harness {
    database: TestDatabase,
    stripe: FakeStripe,
    authority: Authority,
    front: SocketAddr,
}

impl Harness {
    async fn new() -> Self {
        let (database, stripe, authority) = (cluster::database().await, FakeStripe::start().await, Authority::new());
        stripe.set_clock(clock::now().unix_timestamp());
        stripe.customer(json!({ "name": "Ada" }));
        let front = authority.front(&["stripe.test", "localhost"], stripe.addr()).await;
        Self { database, stripe, authority, front }
    }

    fn run(&self, arguments: &[&str], host: &str, environment: &[(&str, &str)]) -> Output {
        let base = format!("https://{host}:{}", self.front.port());
        let own = [
            ("DATABASE_URL", self.database.url.as_str()),
            ("STRIPE_SECRET_KEY", self.stripe.key()),
            ("STRIPE_API_BASE", &base),
            ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
            ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:1"),
        ];
        run(arguments, &[&own, environment].concat())
    }

    fn doctor(&self, host: &str, environment: &[(&str, &str)]) -> (i32, String) {
        let output = self.run(&["doctor"], host, environment);
        (code(&output), words(&output.stdout))
    }

    fn requested(&self, host: &str) -> String {
        format!("{host}:{}", self.front.port())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_and_backfill_use_the_proxy_and_hide_its_login() {
    let harness = Harness::new().await;
    let proxy = ForwardProxy::http(harness.front, Some("Basic YWRhOmh1bnRlcjI=")).await;
    let url = format!("http://ada:hunter2@{}", proxy.address);
    let environment = [("HTTPS_PROXY", url.as_str()), ("SSL_CERT_FILE", harness.authority.path())];
    let (exit, text) = harness.doctor("stripe.test", &environment);
    assert_eq!(exit, 0, "{text}");
    let way = format!("go through the proxy http://{} (HTTPS_PROXY)", proxy.address);
    assert!(text.contains(&way), "{text}");
    assert!(text.contains(&format!("the 1 certificate of {}", harness.authority.path())), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("YWRh"), "{text}");
    assert_eq!(proxy.seen()[0], format!("{} Basic YWRhOmh1bnRlcjI=", harness.requested("stripe.test")));

    let output = harness.run(&["backfill"], "stripe.test", &environment);
    assert_eq!(code(&output), 0, "{} {}", words(&output.stdout), words(&output.stderr));
    assert!(!words(&output.stderr).contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_uses_the_proxy() {
    let harness = Harness::new().await;
    let proxy = ForwardProxy::http(harness.front, None).await;
    let (base, url) = (format!("https://stripe.test:{}", harness.front.port()), format!("http://{}", proxy.address));
    let environment = [
        ("STRIPE_SECRET_KEY", harness.stripe.key()),
        ("STRIPE_API_BASE", base.as_str()),
        ("https_proxy", &url),
        ("SSL_CERT_FILE", harness.authority.path()),
    ];
    let server = Server::start(&harness.database, "reconcile", &environment).await;
    for _ in 0..200 {
        if !proxy.seen().is_empty() && !harness.stripe.served().is_empty() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(proxy.seen()[0], format!("{} -", harness.requested("stripe.test")));
    assert!(!harness.stripe.served().is_empty(), "the request to the fake Stripe went through the proxy");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_proxy_bypasses_it_and_a_failing_proxy_is_reported() {
    let harness = Harness::new().await;
    let proxy = ForwardProxy::http(harness.front, Some("Basic other")).await;
    let url = format!("http://ada:hunter2@{}", proxy.address);
    let trusted = ("SSL_CERT_FILE", harness.authority.path());
    let past = harness.requested("localhost");
    for bypass in ["localhost", "*", past.as_str()] {
        let (exit, text) = harness.doctor("localhost", &[("HTTPS_PROXY", &url), ("NO_PROXY", bypass), trusted]);
        assert_eq!(exit, 0, "{text}");
        assert!(text.contains("go directly"), "{text}");
    }
    assert_eq!(proxy.seen(), Vec::<String>::new());

    let (exit, text) = harness.doctor("localhost", &[("HTTPS_PROXY", &url), trusted]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("proxy authorization required"), "{text}");
    assert!(text.contains(&format!("(through the proxy http://{} (HTTPS_PROXY))", proxy.address)), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    let (exit, text) = harness.doctor("localhost", &[("ALL_PROXY", "http://ada:hunter2@127.0.0.1:1"), trusted]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("Connection refused"), "{text}");
    assert!(text.contains("(through the proxy http://127.0.0.1:1 (ALL_PROXY))") && !text.contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_ca_is_refused_with_the_roots_and_the_fix() {
    let harness = Harness::new().await;
    let other = Authority::new();
    let (exit, text) = harness.doctor("localhost", &[("SSL_CERT_FILE", other.path())]);
    assert_eq!(exit, 1, "{text}");
    let roots = format!("it was checked against the 1 certificate of {}", other.path());
    assert!(text.contains("invalid peer certificate") && text.contains(&roots), "{text}");
    assert!(text.contains("SSL_CERT_FILE must name a file with that CA's certificate"), "{text}");
    let (exit, text) = harness.doctor("localhost", &[]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("roots of Mozilla that are built in"), "{text}");
    assert!(harness.stripe.served().is_empty(), "the key was not sent");

    // a directory of certificates, as c_rehash creates it
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(harness.authority.path(), folder.path().join("private.pem")).unwrap();
    let (exit, text) = harness.doctor("localhost", &[("SSL_CERT_DIR", folder.path().to_str().unwrap())]);
    assert_eq!(exit, 0, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_may_speak_tls_or_socks() {
    let harness = Harness::new().await;
    let trusted = ("SSL_CERT_FILE", harness.authority.path());
    let tls = ForwardProxy::https(harness.front, &harness.authority).await;
    let url = format!("https://localhost:{}", tls.address.port());
    let (exit, text) = harness.doctor("stripe.test", &[("HTTPS_PROXY", &url), trusted]);
    assert_eq!(exit, 0, "{text}");
    assert_eq!(tls.seen()[0], format!("{} -", harness.requested("stripe.test")));

    let socks = ForwardProxy::socks(harness.front).await;
    let url = format!("socks5h://{}", socks.address);
    let (exit, text) = harness.doctor("stripe.test", &[("ALL_PROXY", &url), trusted]);
    assert_eq!(exit, 0, "{text}");
    assert_eq!(socks.seen()[0], harness.requested("stripe.test"));
}

#[test]
fn an_invalid_proxy_or_certificate_file_is_a_wrong_setting() {
    let needed = [("DATABASE_URL", "postgres://h/d"), ("STRIPE_WEBHOOK_SECRET", "whsec_x")];
    for (wrong, text) in [
        (("HTTPS_PROXY", "ftp://u:hunter2@p"), "HTTPS_PROXY wrong is not the URL of a proxy"),
        (("SSL_CERT_FILE", "/nowhere/ca.pem"), "SSL_CERT_FILE wrong cannot be used"),
    ] {
        let output = run(&["serve"], &[&needed[..], &[wrong]].concat());
        let errors = words(&output.stderr);
        assert_eq!(code(&output), 2, "{errors}");
        assert!(errors.contains(text) && !errors.contains("hunter2"), "{errors}");
    }
}

#[tokio::test]
async fn send_and_health_bypass_the_proxy() {
    let database = cluster::database().await;
    let server = Server::start(&database, "receiver", &[]).await;
    let (dead, ops) = ("http://127.0.0.1:1", server.ops().to_string());
    let environment =
        [("HTTP_PROXY", dead), ("HTTPS_PROXY", dead), ("ALL_PROXY", dead), ("BILLING_SYNC_OPS_LISTEN", &ops)];
    let output = run(&["health"], &environment);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    let event = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        event.path(),
        r#"{"id":"evt_1","object":"event","type":"ping","created":1700000000,"livemode":false}"#,
    )
    .unwrap();
    let to = format!("http://{}/webhooks/stripe", server.webhooks());
    let secret = ("STRIPE_WEBHOOK_SECRET", crate::support::app::SECRET);
    let output = run(&["send", event.path().to_str().unwrap(), "--to", &to], &[&environment[..], &[secret]].concat());
    assert_eq!(code(&output), 0, "{} {}", words(&output.stdout), words(&output.stderr));
    server.kill().await;
}
