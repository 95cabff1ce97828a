//! A shop with every kind of object, and backfills of it.

use std::sync::Arc;
use std::time::Duration;

use billing_sync::backfill::{Backfill, ProgressEvent, Report, RunSelection, Stop};
use billing_sync::base::clock::RemoteClock;
use billing_sync::base::retry::RetryPolicy;
use billing_sync::client::{HttpStripe, metrics};
use billing_sync::config::egress::Egress;
use billing_sync::config::stripe::StripeConfig;
use billing_sync::verify::compare::Selection;
use billing_sync::verify::customer::WriteMode;
use billing_sync::verify::finding::Finding;
use billing_sync::verify::sampler::Sampler;
use prometheus::Registry;
use serde_json::json;

use crate::support::fetching::Fetching;
use crate::support::stripe::FakeStripe;

/// Short delays, so that tests of failures are fast.
pub(crate) const FAST_RETRY: RetryPolicy =
    RetryPolicy { max_attempts: 4, initial: Duration::from_millis(5), max: Duration::from_millis(20) };

pub(crate) const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

/// Creates this many customers, one an hour, with every kind of object that a row depends on.
pub(crate) fn shop(stripe: &FakeStripe, customers: usize) {
    let product = stripe.product(json!({ "name": "Writing" }));
    let other = stripe.product(json!({ "name": "Pictures", "active": false }));
    let monthly = stripe.price(&product, 1000, json!({ "metadata": { "limit_words": "5000" } }));
    let yearly = stripe.price(&other, 9900, json!({ "recurring": { "interval": "year" } }));
    stripe.coupon("HALF", 50.0);
    for number in 0..customers {
        stripe.tick(3600);
        one_customer(stripe, number, &monthly, &yearly);
    }
    stripe.tick(86_400);
}

fn one_customer(stripe: &FakeStripe, number: usize, monthly: &str, yearly: &str) {
    let workspace = json!({ "workspace_id": WORKSPACE });
    let fields = json!({ "name": format!("Customer {number}"), "email": format!("c{number}@example.com") });
    let customer = stripe.customer(fields);
    let price = if number.is_multiple_of(3) { yearly } else { monthly };
    match number % 8 {
        0 => {
            let card = stripe.card("visa", &format!("{:04}", number % 10_000));
            stripe.attach(&card, &customer);
            stripe.set_default_payment_method(&customer, &card);
            stripe.subscribe_with(&customer, price, json!({ "metadata": workspace }));
        }
        1 => {
            let bank = stripe.sepa_debit("3000");
            stripe.attach(&bank, &customer);
            let subscription = stripe.subscribe(&customer, price);
            stripe.charge_failed(&stripe.bill(&subscription, 1000), &bank, "insufficient_funds");
        }
        2 => stripe.cancel_now(&stripe.subscribe(&customer, price)),
        3 => {
            stripe.discount(&stripe.subscribe(&customer, price), "HALF");
            stripe.discount(&customer, "HALF");
        }
        4 => _ = stripe.trial(&customer, price, 14),
        5 => {
            let subscription = stripe.subscribe(&customer, price);
            let card = stripe.card("mastercard", "4444");
            stripe.attach(&card, &customer);
            stripe.charge_succeeded(&stripe.bill(&subscription, 1000), &card);
            stripe.pause_collection(&subscription);
        }
        6 => {
            let subscription = stripe.subscribe(&customer, price);
            let now = stripe.now();
            stripe.schedule(&subscription, &[(price, now, now + 9000), (yearly, now + 9000, now + 99_000)], "cancel");
            let session = stripe.checkout(price, json!({ "customer": customer, "client_reference_id": WORKSPACE }));
            stripe.complete_checkout(&session, &subscription, "paid");
        }
        _ => _ = stripe.legacy_card(&customer, "American Express", "0005"),
    }
}

impl Fetching {
    /// An empty database, and a shop at Stripe whose events were not delivered.
    pub(crate) async fn without_events(customers: usize) -> Self {
        let sync = Self::without_accounts().await;
        shop(&sync.stripe, customers);
        sync
    }

    /// Without connected accounts.
    pub(crate) async fn without_accounts() -> Self {
        let mut sync = Self::start().await;
        sync.app.context.sync.accounts.clear();
        sync
    }

    /// A backfill like that of the command, with shorter retry delays.
    pub(crate) async fn backfiller(&self) -> Result<Arc<Backfill>, Stop> {
        self.backfiller_with(20_000, 4).await
    }

    fn client(&self, rate: u32, concurrency: usize) -> Arc<HttpStripe> {
        let config = StripeConfig {
            egress: Egress::default(),
            write_key: None,
            secret_key: Some(self.stripe.key().into()),
            api_base: self.stripe.base().parse().unwrap(),
            rate,
            timeout: Duration::from_secs(5),
            concurrency,
            read_margin: self.app.context.read_margin,
        };
        Arc::new(HttpStripe::new(&config, metrics(&Registry::new(), &[]).unwrap(), RemoteClock::default()).unwrap())
    }

    /// The sampler of `serve` for this many customers, with a staleness margin of one second.
    pub(crate) fn sampler(&self, customers: u32) -> Sampler {
        let context = self.app.context.clone().with_fetches(Duration::from_secs(1));
        Sampler { context, api: self.client(20_000, 4), customers }
    }

    pub(crate) async fn backfiller_with(&self, rate: u32, concurrency: usize) -> Result<Arc<Backfill>, Stop> {
        let accounts = self.app.context.sync.accounts.clone();
        let backfill =
            Backfill::new(self.app.context.clone(), self.client(rate, concurrency), accounts, concurrency, FAST_RETRY)
                .await?;
        Ok(Arc::new(backfill))
    }

    /// Runs a new backfill to its end.
    pub(crate) async fn backfill(&self) -> Report {
        let backfill = self.backfiller().await.unwrap();
        let run = backfill.begin(RunSelection::New(None)).await.unwrap();
        backfill.run(&run, &mut |_| {}).await.unwrap()
    }

    /// Runs a new backfill and asserts that it is complete.
    pub(crate) async fn backfill_completely(&self) -> Report {
        let report = self.backfill().await;
        assert!(report.is_complete(), "{report:#?}");
        report
    }

    /// Runs a backfill and stops it, as a kill does, after this many pages. Returns whether it had that many.
    pub(crate) async fn backfill_interrupted(&self, begin: RunSelection, pages: usize) -> bool {
        let backfill = self.backfiller().await.unwrap();
        let run = backfill.begin(begin).await.unwrap();
        let (mut seen, (interrupt, mut is_interrupted)) = (0, tokio::sync::watch::channel(false));
        let mut notice = |notice: ProgressEvent| {
            seen += usize::from(matches!(notice, ProgressEvent::Page { .. }));
            if seen == pages {
                interrupt.send_replace(true);
            }
        };
        tokio::select! {
            biased;
            _ = is_interrupted.wait_for(|is_interrupted| *is_interrupted) => true,
            report = backfill.run(&run, &mut notice) => {
                assert!(report.unwrap().is_complete());
                false
            }
        }
    }

    /// The rows that differ from Stripe, as `table name`, sorted.
    pub(crate) async fn drift(&self, selection: Selection, write: WriteMode) -> Vec<String> {
        let mut found = Vec::new();
        let backfill = self.backfiller().await.unwrap();
        let mut finding = |finding| match finding {
            Finding::Seen { changes, .. } => {
                found.extend(changes.into_iter().map(|change| format!("{} {}", change.table, change.name)));
            }
            Finding::Progress(_) => {}
            other => panic!("{other:?}"),
        };
        backfill.compare(&selection, write, None, &mut finding).await.unwrap();
        found.sort();
        found
    }

    /// Ends the test with jobs pending.
    pub(crate) async fn finish_with_jobs(self) {
        self.app.finish().await;
    }

    /// Runs the remaining jobs, asserts that they change no row, and ends the test.
    pub(crate) async fn end(self) {
        let rows = self.all_rows().await;
        self.settle().await;
        assert_alike(&self.all_rows().await, &rows);
        self.finish().await;
    }

    /// The rows, and the view that depends on facts.
    pub(crate) async fn all_rows(&self) -> Vec<String> {
        let mut rows = self.app.rows().await;
        let views = "SELECT 'workspace ' || to_jsonb(t)::text FROM billing.workspace_billing t ORDER BY 1";
        rows.extend(sqlx::query_scalar::<_, String>(views).fetch_all(&self.app.pool).await.unwrap());
        rows
    }

    /// The rows that result from all events in their true order, in a separate database.
    pub(crate) async fn rows_of_events(&self) -> Vec<String> {
        let mut complete = Self::without_accounts().await;
        complete.turn_to(self.stripe.clone());
        complete.deliver_all(crate::support::stripe::Epoch::Endive).await;
        complete.settle().await;
        let rows = complete.all_rows().await;
        complete.finish().await;
        rows
    }
}

/// Asserts that two lists of rows are equal, and shows only the differences.
#[track_caller]
pub(crate) fn assert_alike(found: &[String], truth: &[String]) {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|row| !those.contains(row)).cloned().collect()
    };
    assert!(found == truth, "found {:#?}\ntruth {:#?}", only(found, truth), only(truth, found));
}
