//! The whole way round: an app whose workers and fetcher share their jobs, and the fake Stripe that answers them.

use std::sync::Arc;
use std::time::Duration;

use billing_sync::client::{self, HttpStripe};
use billing_sync::config::stripe::StripeConfig;
use billing_sync::domain::object::ObjectKey;
use billing_sync::jobs::demand::{self, Demands};
use billing_sync::worker::fetch::Fetcher;
use prometheus::Registry;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::app::TestApp;
use super::stripe::FakeStripe;

/// How far the version of a read stays behind it.
pub(crate) const MARGIN: Duration = Duration::from_secs(10);

/// More rounds than any chain of demands is long.
const MOST_ROUNDS: usize = 30;

pub(crate) struct Fetching {
    pub(crate) app: TestApp,
    pub(crate) stripe: FakeStripe,
    fetcher: Fetcher,
}

fn fetcher(app: &TestApp, stripe: &FakeStripe) -> Fetcher {
    let config = StripeConfig {
        secret_key: Some(SecretString::from(stripe.key())),
        api_base: stripe.base().parse().unwrap(),
        rate: 10_000,
        timeout: Duration::from_secs(5),
        concurrency: 4,
        read_margin: MARGIN,
    };
    let metrics = client::metrics(&Registry::new()).unwrap();
    Fetcher::new(app.context.clone(), Arc::new(HttpStripe::new(&config, metrics).unwrap()), 4)
}

impl Fetching {
    pub(crate) async fn start() -> Self {
        let mut app = TestApp::start().await;
        app.context = app.context.clone().with_fetches(MARGIN);
        // what failed waits until a test says so, or a drain would go on with it for ever
        (app.context.config.retry_initial, app.context.config.retry_max) = (MARGIN, MARGIN);
        let stripe = FakeStripe::start().await;
        let fetcher = fetcher(&app, &stripe);
        Self { app, stripe, fetcher }
    }

    /// Another Stripe from now on; what is stored stays.
    pub(crate) fn turn_to(&mut self, stripe: FakeStripe) {
        self.fetcher = fetcher(&self.app, &stripe);
        self.stripe = stripe;
    }

    /// Asks for reads of these objects, given as type and id.
    pub(crate) async fn demand(&self, objects: impl IntoIterator<Item = (String, String)>) {
        let mut demands = Demands::default();
        for (object_type, id) in objects {
            demands.fetch(ObjectKey::new("", &object_type, &id), None);
        }
        demand::add(&mut self.app.pool.acquire().await.unwrap(), &demands, MARGIN).await.unwrap();
    }

    /// So many workers and the fetcher, all at once, until nothing is due for any of them.
    pub(crate) async fn work(&self, workers: usize) {
        let never = CancellationToken::new();
        let drains: Vec<_> = (0..workers)
            .map(|_| {
                let (mut worker, never) = (self.app.worker(), never.clone());
                tokio::spawn(async move { worker.drain(&never).await })
            })
            .collect();
        let fetched = tokio::time::timeout(Duration::from_mins(1), self.fetcher.drain(&never));
        fetched.await.expect("the fetcher goes round in circles").unwrap();
        for drain in drains {
            drain.await.unwrap().unwrap();
        }
    }

    /// Works until no event and no job is left, whatever it waits for.
    pub(crate) async fn settle(&self) {
        self.try_settle(1).await.unwrap();
    }

    /// The same with so many workers; says what is left where something stays.
    pub(crate) async fn try_settle(&self, workers: usize) -> Result<(), String> {
        for _ in 0..MOST_ROUNDS {
            self.work(workers).await;
            if self.left().await.is_none() {
                return Ok(());
            }
            // what waits in real time, after a failure or for a read that is late enough, is due at once
            self.app
                .execute(
                    "UPDATE billing.jobs SET run_at = clock_timestamp() WHERE run_at > clock_timestamp();
                     UPDATE billing.outbox SET run_at = clock_timestamp()
                     WHERE state = 'pending' AND run_at > clock_timestamp()",
                )
                .await;
        }
        Err(format!("left after {MOST_ROUNDS} rounds: {}", self.left().await.unwrap_or_default()))
    }

    async fn left(&self) -> Option<String> {
        self.app
            .text(
                "SELECT string_agg(line, '; ' ORDER BY line) FROM (
                    SELECT concat_ws(' ', kind, object_type, object_id, later_than, attempts, last_error) AS line
                    FROM billing.jobs
                    UNION ALL
                    SELECT concat_ws(' ', event_id, type, state, attempts, last_error) FROM billing.outbox
                    WHERE state <> 'done') AS t",
            )
            .await
    }
}
