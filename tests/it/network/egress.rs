//! The way out: through a proxy or not, with the certificates of a private CA or not, and what is said where it fails.

use std::net::SocketAddr;
use std::process::Output;

use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::cli::{code, run, words};
use crate::support::cluster::{self, TestDatabase};
use crate::support::egress::{Authority, ForwardProxy};
use crate::support::process::Server;
use crate::support::stripe::FakeStripe;

/// The fake Stripe behind TLS of a private CA, under names of which only the second one exists.
struct Harness {
    database: TestDatabase,
    stripe: FakeStripe,
    authority: Authority,
    front: SocketAddr,
}

impl Harness {
    async fn new() -> Self {
        let (database, stripe, authority) = (cluster::database().await, FakeStripe::start().await, Authority::new());
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

    fn asked(&self, host: &str) -> String {
        format!("{host}:{}", self.front.port())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_and_backfill_go_through_the_proxy_with_its_login_which_nobody_sees() {
    let ground = Harness::new().await;
    let proxy = ForwardProxy::http(ground.front, Some("Basic YWRhOmh1bnRlcjI=")).await;
    let url = format!("http://ada:hunter2@{}", proxy.address);
    let environment = [("HTTPS_PROXY", url.as_str()), ("SSL_CERT_FILE", ground.authority.path())];
    let (exit, said) = ground.doctor("stripe.test", &environment);
    assert_eq!(exit, 0, "{said}");
    let way = format!("is reached through the proxy http://{} (HTTPS_PROXY)", proxy.address);
    assert!(said.contains(&way), "{said}");
    assert!(said.contains(&format!("the 1 certificate of {}", ground.authority.path())), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("YWRh"), "{said}");
    assert_eq!(proxy.seen()[0], format!("{} Basic YWRhOmh1bnRlcjI=", ground.asked("stripe.test")));

    let output = ground.run(&["backfill"], "stripe.test", &environment);
    assert_eq!(code(&output), 0, "{} {}", words(&output.stdout), words(&output.stderr));
    assert!(!words(&output.stderr).contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_goes_through_the_proxy() {
    let ground = Harness::new().await;
    let proxy = ForwardProxy::http(ground.front, None).await;
    let (base, url) = (format!("https://stripe.test:{}", ground.front.port()), format!("http://{}", proxy.address));
    let environment = [
        ("STRIPE_SECRET_KEY", ground.stripe.key()),
        ("STRIPE_API_BASE", base.as_str()),
        ("https_proxy", &url),
        ("SSL_CERT_FILE", ground.authority.path()),
    ];
    let server = Server::start(&ground.database, "reconcile", &environment).await;
    for _ in 0..200 {
        if !proxy.seen().is_empty() && !ground.stripe.served().is_empty() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(proxy.seen()[0], format!("{} -", ground.asked("stripe.test")));
    assert!(!ground.stripe.served().is_empty(), "the fake Stripe was asked through the proxy");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_proxy_goes_past_it_and_an_unreachable_or_refusing_proxy_is_named() {
    let ground = Harness::new().await;
    let proxy = ForwardProxy::http(ground.front, Some("Basic other")).await;
    let url = format!("http://ada:hunter2@{}", proxy.address);
    let trusted = ("SSL_CERT_FILE", ground.authority.path());
    let past = ground.asked("localhost");
    for bypass in ["localhost", "*", past.as_str()] {
        let (exit, said) = ground.doctor("localhost", &[("HTTPS_PROXY", &url), ("NO_PROXY", bypass), trusted]);
        assert_eq!(exit, 0, "{said}");
        assert!(said.contains("is reached directly"), "{said}");
    }
    assert_eq!(proxy.seen(), Vec::<String>::new());

    let (exit, said) = ground.doctor("localhost", &[("HTTPS_PROXY", &url), trusted]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("proxy authorization required"), "{said}");
    assert!(said.contains(&format!("(through the proxy http://{} (HTTPS_PROXY))", proxy.address)), "{said}");
    assert!(!said.contains("hunter2"), "{said}");

    let (exit, said) = ground.doctor("localhost", &[("ALL_PROXY", "http://ada:hunter2@127.0.0.1:1"), trusted]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("Connection refused"), "{said}");
    assert!(said.contains("(through the proxy http://127.0.0.1:1 (ALL_PROXY))") && !said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_ca_is_refused_with_the_roots_and_the_fix() {
    let ground = Harness::new().await;
    let other = Authority::new();
    let (exit, said) = ground.doctor("localhost", &[("SSL_CERT_FILE", other.path())]);
    assert_eq!(exit, 1, "{said}");
    let roots = format!("it was checked against the 1 certificate of {}", other.path());
    assert!(said.contains("invalid peer certificate") && said.contains(&roots), "{said}");
    assert!(said.contains("SSL_CERT_FILE must name a file with that CA's certificate"), "{said}");
    let (exit, said) = ground.doctor("localhost", &[]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("roots of Mozilla that are built in"), "{said}");
    assert!(ground.stripe.served().is_empty(), "the key was sent to nobody");

    // a directory of certificates, as c_rehash makes them
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(ground.authority.path(), folder.path().join("private.pem")).unwrap();
    let (exit, said) = ground.doctor("localhost", &[("SSL_CERT_DIR", folder.path().to_str().unwrap())]);
    assert_eq!(exit, 0, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_may_speak_tls_or_socks() {
    let ground = Harness::new().await;
    let trusted = ("SSL_CERT_FILE", ground.authority.path());
    let tls = ForwardProxy::https(ground.front, &ground.authority).await;
    let url = format!("https://localhost:{}", tls.address.port());
    let (exit, said) = ground.doctor("stripe.test", &[("HTTPS_PROXY", &url), trusted]);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(tls.seen()[0], format!("{} -", ground.asked("stripe.test")));

    let socks = ForwardProxy::socks(ground.front).await;
    let url = format!("socks5h://{}", socks.address);
    let (exit, said) = ground.doctor("stripe.test", &[("ALL_PROXY", &url), trusted]);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(socks.seen()[0], ground.asked("stripe.test"));
}

#[test]
fn what_is_not_a_proxy_or_holds_no_certificate_is_a_wrong_setting() {
    let needed = [("DATABASE_URL", "postgres://h/d"), ("STRIPE_WEBHOOK_SECRET", "whsec_x")];
    for (wrong, said) in [
        (("HTTPS_PROXY", "ftp://u:hunter2@p"), "HTTPS_PROXY wrong is not the URL of a proxy"),
        (("SSL_CERT_FILE", "/nowhere/ca.pem"), "SSL_CERT_FILE wrong cannot be used"),
    ] {
        let output = run(&["serve"], &[&needed[..], &[wrong]].concat());
        let errors = words(&output.stderr);
        assert_eq!(code(&output), 2, "{errors}");
        assert!(errors.contains(said) && !errors.contains("hunter2"), "{errors}");
    }
}

#[tokio::test]
async fn send_and_health_go_past_the_proxy() {
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
