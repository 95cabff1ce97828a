//! The sync with the fake Stripe: real database, real HTTP, and a worker and a fetcher that the test controls.
//!
//! Jobs wait in real time, so [`Fetching::settle`] makes them due. The fake has its own clock, which a test advances if
//! a read must be later than an event.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use billing_sync::base::clock::RemoteClock;
use billing_sync::client::{HttpStripe, metrics};
use billing_sync::config::egress::Egress;
use billing_sync::config::stripe::StripeConfig;
use billing_sync::config::sync::Confirm;
use billing_sync::domain::object::ObjectKey;
use billing_sync::jobs::requests::{self, JobRequests};
use billing_sync::worker::Worker;
use billing_sync::worker::fetch::Fetcher;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::app::{TestApp, enqueue};
use super::stripe::{Epoch, FakeStripe};

/// Staleness margin: a read's version is earlier than its request by this time.
pub(crate) const MARGIN: Duration = Duration::from_secs(10);

/// More rounds than the longest chain of job requests.
const MOST_ROUNDS: usize = 30;

pub(crate) struct Fetching {
    pub(crate) app: TestApp,
    pub(crate) stripe: FakeStripe,
    fetcher: Fetcher,
}

/// The Stripe ids of one sale.
pub(crate) struct Sale {
    pub(crate) customer: String,
    pub(crate) product: String,
    pub(crate) price: String,
    pub(crate) subscription: String,
}

impl Fetching {
    pub(crate) async fn start() -> Self {
        Self::start_with(Confirm::Ambiguous).await
    }

    pub(crate) async fn start_with(confirm: Confirm) -> Self {
        let mut app = TestApp::start().await;
        let stripe = FakeStripe::start().await;
        app.context.sync.confirm = confirm;
        app.context = app.context.clone().with_fetches(MARGIN);
        // failed jobs and events wait until the test makes them due; otherwise a drain would never end
        (app.context.config.retry_initial, app.context.config.retry_max) = (MARGIN, MARGIN);
        let fetcher = fetcher(&app, &stripe, 4);
        Self { app, stripe, fetcher }
    }

    /// One sale with all its events delivered and settled.
    pub(crate) async fn sold() -> (Self, Sale) {
        let sync = Self::start().await;
        let sale = sync.sell();
        sync.deliver_all(Epoch::Endive).await;
        sync.settle().await;
        (sync, sale)
    }

    /// Replaces the process by a new one, with the current key and empty memory.
    pub(crate) fn restart(&mut self) {
        self.fetcher = fetcher(&self.app, &self.stripe, 4);
    }

    /// Runs one job at a time from now on. An object that is requested while it is being fetched is fetched again.
    pub(crate) fn fetch_one_by_one(&mut self) {
        self.fetcher = fetcher(&self.app, &self.stripe, 1);
    }

    /// A customer with a subscription to a new product, for ten euros a month.
    pub(crate) fn sell(&self) -> Sale {
        let stripe = &self.stripe;
        let customer = stripe.customer(json!({ "name": "Ada", "email": "ada@example.com" }));
        let product = stripe.product(json!({ "name": "Writing" }));
        let price = stripe.price(&product, 1000, json!({}));
        let subscription = stripe.subscribe(&customer, &price);
        Sale { customer, product, price, subscription }
    }

    /// Sells, and delivers the subscription only, so that its customer must be fetched.
    pub(crate) async fn queue_customer_fetch(&self) -> Sale {
        let sale = self.sell();
        self.pass_the_margin();
        self.emit(0, Epoch::Endive, &["customer.subscription.created"]).await;
        self.app.drain().await;
        sale
    }

    /// Delivers all events of the fake so far.
    pub(crate) async fn deliver_all(&self, epoch: Epoch) {
        self.app.deliver_all(&self.stripe.events(), epoch).await;
    }

    /// Delivers the fake's events of these types since `mark`.
    pub(crate) async fn emit(&self, mark: usize, epoch: Epoch, types: &[&str]) {
        let mut events = self.stripe.events_since(mark);
        events.retain(|event| types.contains(&event.event_type.as_str()));
        assert!(!events.is_empty(), "the fake has no event of {types:?}");
        self.app.deliver_all(&events, epoch).await;
    }

    /// Advances the fake's clock, so that reads are later than everything that has happened.
    pub(crate) fn pass_the_margin(&self) {
        self.stripe.tick(i64::try_from(MARGIN.as_secs()).unwrap() + 2);
    }

    /// Fetches until no job is due.
    pub(crate) async fn fetch(&self) {
        let never = CancellationToken::new();
        let drained = tokio::time::timeout(Duration::from_mins(1), self.fetcher.drain(&never));
        drained.await.expect("the fetcher does not finish").unwrap();
    }

    /// Makes all jobs and waiting events due.
    pub(crate) async fn wake_jobs(&self) {
        self.app
            .execute(
                "UPDATE billing.jobs SET run_at = clock_timestamp() WHERE run_at > clock_timestamp();
                 UPDATE billing.outbox SET run_at = clock_timestamp()
                 WHERE state = 'pending' AND run_at > clock_timestamp()",
            )
            .await;
    }

    /// Switches to another fake Stripe; stored data stays.
    pub(crate) fn turn_to(&mut self, stripe: FakeStripe) {
        self.fetcher = fetcher(&self.app, &stripe, 4);
        self.stripe = stripe;
    }

    /// Queues reads of these objects, given as type and id.
    pub(crate) async fn demand(&self, objects: impl IntoIterator<Item = (String, String)>) {
        let mut demands = JobRequests::default();
        for (object_type, id) in objects {
            demands.fetch(ObjectKey::new("", &object_type, &id), None);
        }
        requests::add(&mut self.app.pool.acquire().await.unwrap(), &demands, MARGIN).await.unwrap();
    }

    /// Runs this many workers and the fetcher concurrently until nothing is due for any of them.
    pub(crate) async fn work(&self, workers: usize) {
        let never = CancellationToken::new();
        let drains: Vec<_> = (0..workers)
            .map(|_| {
                let (mut worker, never) = (self.app.worker(), never.clone());
                tokio::spawn(async move { worker.drain(&never).await })
            })
            .collect();
        self.fetch().await;
        for drain in drains {
            drain.await.unwrap().unwrap();
        }
    }

    /// Runs worker and fetcher until no event and no job is left, including waiting ones.
    pub(crate) async fn settle(&self) {
        self.try_settle(1).await.unwrap();
    }

    /// The same, but worker and fetcher alternate: a worker that projects a customer while one of its objects is being
    /// read would request that object again.
    pub(crate) async fn settle_in_turn(&self) {
        for _ in 0..MOST_ROUNDS {
            self.app.drain().await;
            self.fetch().await;
            if self.left().await.is_empty() {
                return;
            }
            self.wake_jobs().await;
        }
        panic!("this does not end: {:#?}", self.left().await);
    }

    /// The same with this many workers; the error lists what is left.
    pub(crate) async fn try_settle(&self, workers: usize) -> Result<(), String> {
        for _ in 0..MOST_ROUNDS {
            self.work(workers).await;
            if self.left().await.is_empty() {
                return Ok(());
            }
            self.wake_jobs().await;
        }
        Err(format!("this does not end: {:#?}", self.left().await))
    }

    /// The events and jobs that are not done.
    pub(crate) async fn left(&self) -> Vec<String> {
        let query = "
            SELECT concat_ws(' ', kind, object_type, object_id, last_error) FROM billing.jobs
            UNION ALL SELECT concat_ws(' ', event_id, type, last_error) FROM billing.outbox WHERE state <> 'done'
            ORDER BY 1";
        sqlx::query_scalar(query).fetch_all(&self.app.pool).await.unwrap()
    }

    /// Number of requests for a path.
    pub(crate) fn served(&self, path: &str) -> usize {
        self.stripe.served().iter().filter(|request| request.path == path).count()
    }

    /// During the next read of `path`, calls a function that changes something, and processes the events that it
    /// returns. Needs a multi-threaded runtime, because the fake waits for it.
    pub(crate) fn during(&self, path: &str, happen: impl FnOnce(&FakeStripe) -> Vec<Value> + Send + 'static) {
        let (path, happen) = (path.to_owned(), Arc::new(Mutex::new(Some(happen))));
        let (stripe, context) = (self.stripe.clone(), self.app.context.clone());
        self.stripe.on_request(move |request| {
            let happen = if request.path == path { happen.lock().unwrap().take() } else { None };
            let Some(happen) = happen else { return };
            let events = happen(&stripe);
            let process = async {
                enqueue(&context.pool, events.iter()).await;
                Worker::new(context.clone()).drain(&CancellationToken::new()).await.unwrap();
            };
            tokio::task::block_in_place(|| Handle::current().block_on(process));
        });
    }

    pub(crate) async fn finish(self) {
        assert_eq!(self.left().await, Vec::<String>::new());
        self.app.finish().await;
    }
}

fn fetcher(app: &TestApp, stripe: &FakeStripe, concurrency: usize) -> Fetcher {
    Fetcher::new(app.context.clone(), Arc::new(client(app, stripe)), concurrency)
}

/// The settings of a client of the fake.
pub(crate) fn stripe_config(stripe: &FakeStripe) -> StripeConfig {
    StripeConfig {
        egress: Egress::default(),
        secret_key: Some(stripe.key().into()),
        write_key: Some(stripe.write_key().into()),
        api_base: stripe.base().parse().unwrap(),
        rate: 10_000,
        timeout: Duration::from_secs(2),
        concurrency: 8,
        read_margin: MARGIN,
    }
}

/// A client with the current key.
pub(crate) fn client(app: &TestApp, stripe: &FakeStripe) -> HttpStripe {
    let config = StripeConfig { read_margin: app.context.read_margin, ..stripe_config(stripe) };
    HttpStripe::new(&config, metrics(&Registry::new(), &[]).unwrap(), RemoteClock::default()).unwrap()
}
