//! A shop with some of everything, and backfills of it.

use std::sync::Arc;
use std::time::Duration;

use billing_sync::backfill::{Backfill, Begin, ProgressEvent, Report, Stop};
use billing_sync::base::clock::RemoteClock;
use billing_sync::base::retry::RetryPolicy;
use billing_sync::client::{HttpStripe, metrics};
use billing_sync::config::egress::Egress;
use billing_sync::config::stripe::StripeConfig;
use billing_sync::verify::compare::Selection;
use billing_sync::verify::finding::Finding;
use billing_sync::verify::customer::WriteMode;
use billing_sync::verify::sampler::Sampler;
use prometheus::Registry;
use serde_json::json;

use crate::support::fetching::Fetching;
use crate::support::stripe::FakeStripe;

/// Short, so that a test of what goes wrong is short too.
pub(crate) const IMPATIENT: RetryPolicy =
    RetryPolicy { max_attempts: 4, initial: Duration::from_millis(5), max: Duration::from_millis(20) };

pub(crate) const WORKSPACE: &str = "550e8400-e29b-41d4-a716-446655440000";

/// So many customers, and among them every kind that a row depends on. An hour lies between two.
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
    /// A database of nothing, and a shop at Stripe of which nobody told.
    pub(crate) async fn without_events(customers: usize) -> Self {
        let sync = Self::alone().await;
        shop(&sync.stripe, customers);
        sync
    }

    /// Without any connected account.
    pub(crate) async fn alone() -> Self {
        let mut sync = Self::start().await;
        sync.app.context.sync.accounts.clear();
        sync
    }

    /// A backfill as the command makes it, but for its patience.
    pub(crate) async fn backfiller(&self) -> Result<Arc<Backfill>, Stop> {
        self.backfiller_with(20_000, 4).await
    }

    fn client(&self, rate: u32, concurrency: usize) -> Arc<HttpStripe> {
        let config = StripeConfig {
            egress: Egress::default(),
            secret_key: Some(self.stripe.key().into()),
            api_base: self.stripe.base().parse().unwrap(),
            rate,
            timeout: Duration::from_secs(5),
            concurrency,
            read_margin: self.app.context.read_margin,
        };
        Arc::new(HttpStripe::new(&config, metrics(&Registry::new()).unwrap(), RemoteClock::default()).unwrap())
    }

    /// The part of `serve` that compares so many customers, with a margin of a second.
    pub(crate) fn sampler(&self, customers: u32) -> Sampler {
        let context = self.app.context.clone().with_fetches(Duration::from_secs(1));
        Sampler { context, api: self.client(20_000, 4), customers }
    }

    pub(crate) async fn backfiller_with(&self, rate: u32, concurrency: usize) -> Result<Arc<Backfill>, Stop> {
        let accounts = self.app.context.sync.accounts.clone();
        let backfill =
            Backfill::new(self.app.context.clone(), self.client(rate, concurrency), accounts, concurrency, IMPATIENT)
                .await?;
        Ok(Arc::new(backfill))
    }

    /// A whole backfill.
    pub(crate) async fn backfill(&self) -> Report {
        let backfill = self.backfiller().await.unwrap();
        let run = backfill.begin(Begin::New(None)).await.unwrap();
        backfill.run(&run, &mut |_| {}).await.unwrap()
    }

    /// The same, and nothing may be left to do.
    pub(crate) async fn backfill_completely(&self) -> Report {
        let report = self.backfill().await;
        assert!(report.is_complete(), "{report:#?}");
        report
    }

    /// A backfill that is cut off, as by a kill, after so many pages. Says whether it came so far.
    pub(crate) async fn backfill_cut_off(&self, begin: Begin, pages: usize) -> bool {
        let backfill = self.backfiller().await.unwrap();
        let run = backfill.begin(begin).await.unwrap();
        let (mut seen, (cut, mut is_cut)) = (0, tokio::sync::watch::channel(false));
        let mut notice = |notice: ProgressEvent| {
            seen += usize::from(matches!(notice, ProgressEvent::Page { .. }));
            if seen == pages {
                cut.send_replace(true);
            }
        };
        tokio::select! {
            biased;
            _ = is_cut.wait_for(|is_cut| *is_cut) => true,
            report = backfill.run(&run, &mut notice) => {
                assert!(report.unwrap().is_complete());
                false
            }
        }
    }

    /// The rows that differ from what Stripe says, as `table name`, in their order.
    pub(crate) async fn drift(&self, selection: Selection, keep: WriteMode) -> Vec<String> {
        let mut found = Vec::new();
        let backfill = self.backfiller().await.unwrap();
        let mut sight = |sight| match sight {
            Finding::Seen { changes, .. } => {
                found.extend(changes.into_iter().map(|change| format!("{} {}", change.table, change.name)));
            }
            other => panic!("{other:?}"),
        };
        backfill.compare(&selection, keep, None, &mut sight).await.unwrap();
        found.sort();
        found
    }

    /// Ends the test, whatever jobs are left.
    pub(crate) async fn finish_with_jobs(self) {
        self.app.finish().await;
    }

    /// Lets a worker do what was asked for beside the pages, and ends the test.
    pub(crate) async fn end(self) {
        let rows = self.all_rows().await;
        self.settle().await;
        assert_alike(&self.all_rows().await, &rows);
        self.finish().await;
    }

    /// The rows, and what the views make of facts.
    pub(crate) async fn all_rows(&self) -> Vec<String> {
        let mut rows = self.app.rows().await;
        let views = "SELECT 'workspace ' || to_jsonb(t)::text FROM billing.workspace_billing t ORDER BY 1";
        rows.extend(sqlx::query_scalar::<_, String>(views).fetch_all(&self.app.pool).await.unwrap());
        rows
    }

    /// The rows that all events in their true order make, read out of a database of their own.
    pub(crate) async fn rows_of_events(&self) -> Vec<String> {
        let mut told = Self::alone().await;
        told.turn_to(self.stripe.clone());
        told.deliver_all(crate::support::stripe::Epoch::Endive).await;
        told.settle().await;
        let rows = told.all_rows().await;
        told.finish().await;
        rows
    }
}

/// Asserts that two tellings are alike, and shows only what differs.
#[track_caller]
pub(crate) fn assert_alike(found: &[String], truth: &[String]) {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|row| !those.contains(row)).cloned().collect()
    };
    assert!(found == truth, "found {:#?}\ntruth {:#?}", only(found, truth), only(truth, found));
}
