//! Restricted keys: a missing permission stops only the reads that need it.

use std::process::Output;
use std::time::Duration;

use billing_sync::base::clock;
use serde_json::{Value, json};

use crate::cli::{binary, code, words};
use crate::support::fetching::{Fetching, Sale};
use crate::support::process::Server;
use crate::support::stripe::{Epoch, FakeStripe};

/// Paths of the fake, the permission that Stripe names, and the names in messages and in the dashboard.
const MISSING: [(&[&str], &str, &str, &str); 4] = [
    (&["/v1/products"], "rak_product_read", "products", "Products"),
    (&["/v1/events"], "rak_event_read", "events", "Events"),
    (&["/v1/payment_methods"], "rak_payment_method_read", "payment methods", "PaymentMethods"),
    (&["/v1/account"], "rak_accounts_kyc_basic_read", "its account", ""),
];

/// All paths except the account.
const ALL: [&str; 16] = [
    "/v1/charges",
    "/v1/checkout/sessions",
    "/v1/coupons",
    "/v1/customers",
    "/v1/disputes",
    "/v1/events",
    "/v1/invoice_payments",
    "/v1/invoices",
    "/v1/payment_intents",
    "/v1/payment_methods",
    "/v1/plans",
    "/v1/prices",
    "/v1/products",
    "/v1/promotion_codes",
    "/v1/subscription_items",
    "/v1/subscriptions",
];

/// A sale with a default card.
fn sell(sync: &Fetching) -> Sale {
    let sale = sync.sell();
    let card = sync.stripe.card("visa", "4242");
    sync.stripe.attach(&card, &sale.customer);
    sync.stripe.set_default_payment_method(&sale.customer, &card);
    sync.pass_the_margin();
    sale
}

/// The columns that depend on the permissions.
const ROWS: &str = "SELECT concat_ws(' ', c.name, s.stripe_status, p.price_in_euro, p.product_name, s.payment_type)
    FROM billing.subscriptions AS s
    LEFT JOIN billing.billing_contacts AS c ON c.id = s.billing_contact_id
    LEFT JOIN billing.pricing_plans AS p ON p.id = s.pricing_plan_id";

async fn with_one_event() -> (Fetching, Sale) {
    let mut sync = Fetching::start().await;
    sync.app.context.sync.accounts.clear();
    let sale = sell(&sync);
    sync.emit(0, Epoch::Endive, &["customer.subscription.created"]).await;
    sync.app.drain().await;
    (sync, sale)
}

async fn run(sync: &Fetching, arguments: &[&str]) -> Output {
    let (base, key) = (sync.stripe.base(), sync.stripe.key());
    let environment = [
        ("DATABASE_URL", sync.app.database.url.as_str()),
        ("STRIPE_WEBHOOK_SECRET", "whsec_x"),
        ("STRIPE_SECRET_KEY", key),
        ("STRIPE_API_BASE", &base),
        ("BILLING_SYNC_STRIPE_RATE", "10000"),
        ("BILLING_SYNC_READ_MARGIN", "1s"),
    ];
    tokio::process::Command::from(binary(arguments, &environment)).output().await.unwrap()
}

fn printed(output: &Output) -> String {
    words(&output.stdout) + " " + &words(&output.stderr)
}

#[tokio::test]
async fn without_one_permission_everything_else_is_read() {
    for (paths, permission, _, _) in MISSING {
        let (sync, _) = with_one_event().await;
        sync.stripe.forbid(paths, permission);
        for _ in 0..4 {
            sync.fetch().await;
            sync.app.drain().await;
            sync.wake_jobs().await;
        }
        let expected = match paths[0] {
            "/v1/products" => "Ada active 10.00 card",
            "/v1/payment_methods" => "Ada active 10.00 Writing",
            _ => "Ada active 10.00 Writing card",
        };
        assert_eq!(sync.app.text(ROWS).await.as_deref(), Some(expected), "{paths:?}: {:#?}", sync.left().await);
        assert!((sync.app.metric("billing_sync_stripe_api_usable") - 1.0).abs() < f64::EPSILON);
        let refused = "SELECT count(*)::text FROM billing.jobs WHERE last_error IS NOT NULL
            AND last_error NOT LIKE 'this key may not read %'";
        assert_eq!(sync.app.text(refused).await.as_deref(), Some("0"), "{:#?}", sync.left().await);
        sync.stripe.permit_all();
        sync.settle().await;
        assert_eq!(sync.app.text(ROWS).await.as_deref(), Some("Ada active 10.00 Writing card"), "{paths:?}");
        sync.finish().await;
    }
}

#[tokio::test]
async fn a_job_without_permission_backs_off_individually() {
    let (sync, sale) = with_one_event().await;
    sync.stripe.forbid(&["/v1/products"], "rak_product_read");
    for _ in 0..3 {
        sync.fetch().await;
        sync.app.drain().await;
        sync.wake_jobs().await;
    }
    let product = format!("/v1/products/{}", sale.product);
    assert!((1..=3).contains(&sync.served(&product)), "{}", sync.served(&product));
    let attempts = "SELECT attempts::text FROM billing.jobs WHERE object_type = 'product'";
    let attempts: i32 = sync.app.text(attempts).await.unwrap().parse().unwrap();
    assert!(attempts >= 2, "{attempts}: the delay between retries increases");
    sync.stripe.permit_all();
    sync.settle().await;
    sync.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_lists_missing_permissions_by_their_dashboard_names() {
    let (sync, _) = with_one_event().await;
    sync.stripe.set_clock(clock::now().unix_timestamp());
    let output = run(&sync, &["doctor"]).await;
    assert!(code(&output) == 0 && printed(&output).contains("the key may read all 13 kinds"), "{}", printed(&output));
    for (paths, permission, objects, dashboard) in MISSING {
        sync.stripe.forbid(paths, permission);
        let output = run(&sync, &["doctor"]).await;
        let report = printed(&output);
        if dashboard.is_empty() {
            assert!(code(&output) == 0 && report.contains("ok permissions"), "{report}");
        } else {
            assert_eq!(code(&output), 1, "{report}");
            assert!(report.contains(&format!("the key may not read {objects}")), "{report}");
            assert!(report.contains(&format!("(read) in the Stripe dashboard: {dashboard}")), "{report}");
        }
        sync.stripe.permit_all();
    }
    sync.stripe.forbid(&ALL, "rak_x_read");
    let report = printed(&run(&sync, &["doctor"]).await);
    let all = "Events, Customers, Charges and Refunds, Disputes, PaymentIntents, PaymentMethods, Products, Checkout Sessions, \
               Coupons, Invoices, Prices, Promotion Codes, Subscriptions";
    assert!(report.contains(all), "{report}");
    sync.stripe.permit_all();
    sync.settle().await;
    sync.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_reports_a_missing_permission_and_reads_the_rest() {
    let mut sync = Fetching::start().await;
    sync.app.context.sync.accounts.clear();
    sell(&sync);
    sync.stripe.forbid(&["/v1/products"], "rak_product_read");
    let output = run(&sync, &["backfill", "--json"]).await;
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = &printed["summary"];
    assert_eq!((code(&output), &report["outcome"]), (1, &json!("incomplete")), "{report:#}");
    let forbidden = "this key may not read products (403, invalid_request_error): give it the permission Products (read; \
                     rak_product_read) in the Stripe dashboard";
    assert_eq!(report["forbidden"], json!([{ "what": "products", "error": forbidden }]), "{report:#}");
    assert_eq!((&report["failed_lists"], &report["unsupported_lists"]), (&json!([]), &json!([])));
    assert_eq!(sync.app.text(ROWS).await.as_deref(), Some("Ada active 10.00 card"), "{report:#}");
    assert!(words(&output.stderr).contains("not read: products: this key may not read products"));
    sync.stripe.permit_all();
    sync.wake_jobs().await;
    assert_eq!(code(&run(&sync, &["backfill"]).await), 0);
    assert_eq!(sync.app.text(ROWS).await.as_deref(), Some("Ada active 10.00 Writing card"));
    sync.settle().await;
    sync.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_reports_a_missing_permission_and_compares_the_rest() {
    let (sync, _) = with_one_event().await;
    sync.settle().await;
    sync.stripe.tick(60);
    for (paths, permission, objects, _) in MISSING {
        sync.stripe.forbid(paths, permission);
        let output = run(&sync, &["verify"]).await;
        let (harmless, report) = (["/v1/events", "/v1/account"].contains(&paths[0]), printed(&output));
        assert!(report.contains("1 customer compared, 0 rows differ"), "{paths:?} {report}");
        assert_eq!(code(&output), i32::from(!harmless), "{paths:?} {report}");
        assert!(harmless || report.contains(&format!("may not read {objects}")), "{paths:?} {report}");
        sync.app.execute("UPDATE billing.billing_contacts SET name = 'Eve'").await;
        let report = printed(&run(&sync, &["verify", "--fix"]).await);
        assert!(report.contains("1 row differed"), "{paths:?} {report}");
        assert_eq!(sync.app.text("SELECT name FROM billing.billing_contacts").await.as_deref(), Some("Ada"));
        sync.stripe.permit_all();
    }
    sync.settle().await;
    sync.finish().await;
}

/// The real process, with the key of the fake.
async fn serving(sync: &Fetching, roles: &str) -> Server {
    let (base, key) = (sync.stripe.base(), sync.stripe.key());
    let environment = [
        ("STRIPE_SECRET_KEY", key),
        ("STRIPE_API_BASE", base.as_str()),
        ("BILLING_SYNC_RETRY_MAX", "300ms"),
        ("BILLING_SYNC_RECONCILE_INTERVAL", "1s"),
        ("BILLING_SYNC_READ_MARGIN", "1s"),
    ];
    Server::start(&sync.app.database, roles, &environment).await
}

async fn until(sync: &Fetching, query: &'static str, expected: &str) {
    for _ in 0..300 {
        if sync.app.text(query).await.as_deref() == Some(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?} instead of {expected}, left {:#?}", sync.app.text(query).await, sync.left().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_logs_a_missing_permission_once_and_continues() {
    let (sync, _) = with_one_event().await;
    sync.stripe.forbid(&["/v1/products", "/v1/account"], "rak_product_read");
    let mut server = serving(&sync, "worker").await;
    // the account is read first; the missing permission for it is harmless
    let first = server.log_line("permission missing").await;
    assert!(first.to_string().contains("this key may not read"), "{first}");
    until(&sync, ROWS, "Ada active 10.00 card").await;
    let metrics = server.get_metrics().await;
    assert!(metrics.contains("billing_sync_stripe_forbidden{operation=\"product.retrieve\"} 1"), "{metrics}");
    assert!(metrics.contains("billing_sync_stripe_api_usable 1"), "{metrics}");
    sync.stripe.permit_all();
    server.log_line("the key has the permission now").await;
    until(&sync, ROWS, "Ada active 10.00 Writing card").await;
    server.kill().await;
    sync.settle().await;
    sync.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_without_the_events_permission_still_reads_objects() {
    let (sync, _) = with_one_event().await;
    sync.stripe.forbid(&["/v1/events"], "rak_event_read");
    let mut server = serving(&sync, "worker,reconcile").await;
    server.log_line("permission missing").await;
    until(&sync, ROWS, "Ada active 10.00 Writing card").await;
    let failed = "SELECT last_error FROM billing.reconcile_state WHERE account = ''";
    until(
        &sync,
        failed,
        "this key may not read events (403, invalid_request_error): give it the permission Events (read; rak_event_read) in \
         the Stripe dashboard",
    )
    .await;
    server.kill().await;
    sync.settle().await;
    sync.finish().await;
}

#[tokio::test]
async fn a_key_refused_by_the_account_is_unusable() {
    let (mut sync, sale) = with_one_event().await;
    let refused: FakeStripe = sync.stripe.clone();
    refused.refuse_account();
    sync.restart();
    sync.fetch().await;
    assert!(sync.app.metric("billing_sync_stripe_api_usable").abs() < f64::EPSILON);
    assert_eq!(sync.served(&format!("/v1/customers/{}", sale.customer)), 0, "no request is sent");
    refused.permit_all();
    sync.restart();
    sync.settle().await;
    sync.finish().await;
}
