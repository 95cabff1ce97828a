//! The whole service on port 0 with its own database, and a worker that the test controls.
//!
//! Nothing is processed until the test calls [`TestApp::drain`]. Events that are pending at the end are an error,
//! unless the test called [`TestApp::leave_pending`].

use std::net::SocketAddr;
use std::time::Duration;

use billing_sync::base::clock;
use billing_sync::config::ops::OpsConfig;
use billing_sync::config::receiver::ReceiverConfig;
use billing_sync::config::secret::WebhookSecret;
use billing_sync::config::sync::{Confirm, RenewalAnchor, SyncConfig};
use billing_sync::config::worker::WorkerConfig;
use billing_sync::database::{Pool, Session, pool};
use billing_sync::domain::event::Envelope;
use billing_sync::limits::store;
use billing_sync::metrics::process::ProcessMetrics;
use billing_sync::outbox::enqueue::{self, EventSource, Incoming};
use billing_sync::receiver::PATH;
use billing_sync::receiver::signature;
use billing_sync::service::{Service, ServiceConfig};
use billing_sync::stripe::envelope;
use billing_sync::worker::{Context, Worker};
use prometheus::{Registry, TextEncoder};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Reply, post};
use super::cluster::{self, TestDatabase};
use super::stripe::{Epoch, Event};

pub(crate) const SECRET: &str = "whsec_of_the_test";

/// Reads all rows that the sync has written, without the times of writing, as comparable lines.
pub(crate) const ROWS: &str = "
    SELECT 'contact ' || (to_jsonb(t) - 'created_at' - 'updated_at')::text FROM billing.billing_contacts t
    UNION ALL
    SELECT 'subscription ' || (to_jsonb(t) - 'created_at' - 'updated_at')::text FROM billing.subscriptions t
    UNION ALL
    SELECT 'plan ' || (to_jsonb(t) - 'created_at' - 'updated_at')::text FROM billing.pricing_plans t
    UNION ALL
    SELECT 'limit ' || (to_jsonb(t) - 'created_at' - 'updated_at')::text FROM billing.plan_limits t
    UNION ALL
    SELECT 'coupon ' || (to_jsonb(t) - 'created_at' - 'updated_at')::text FROM billing.coupons t
    UNION ALL
    SELECT 'checkout ' || (to_jsonb(t) - 'created_at' - 'updated_at')::text FROM billing.checkout_sessions t
    ORDER BY 1";

pub(crate) struct TestApp {
    /// Dropped with the app.
    pub(crate) database: TestDatabase,
    pub(crate) pool: Pool,
    pub(crate) webhooks: SocketAddr,
    /// The address of the workspace API, if the service has it.
    pub(crate) api: Option<SocketAddr>,
    /// Context of the drained worker.
    pub(crate) context: Context,
    registry: Registry,
    shutdown: CancellationToken,
    running: Option<JoinHandle<()>>,
    may_leave_pending: bool,
}

pub(crate) fn worker_config() -> WorkerConfig {
    WorkerConfig {
        batch_size: 100,
        workers: 1,
        poll_interval: Duration::from_millis(200),
        max_attempts: 3,
        retry_initial: Duration::from_millis(1),
        retry_max: Duration::from_millis(2),
        attempt_lease: Duration::from_millis(300),
    }
}

pub(crate) fn sync_config() -> SyncConfig {
    SyncConfig {
        livemode: false,
        accounts: ["acct_known".to_owned()].into(),
        own_account: None,
        past_due_active: true,
        renewal_anchor: RenewalAnchor::SubscriptionStart,
        confirm: Confirm::Ambiguous,
    }
}

pub(crate) fn receiver_config() -> ReceiverConfig {
    ReceiverConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        secrets: vec![WebhookSecret::new(SECRET).unwrap()],
        body_limit: 1024 * 1024,
        body_budget: 64 * 1024 * 1024,
        header_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        max_connections: 512,
        connections_per_address: None,
        queue_capacity: 1024,
        store_timeout: Duration::from_secs(5),
    }
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(ServiceConfig {
            receiver: Some(receiver_config()),
            api: None,
            writes: None,
            worker: None,
            renewals: None,
            reconcile: None,
            stripe: None,
            maintenance: None,
            ops: OpsConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)) },
        })
        .await
    }

    pub(crate) async fn start_with(config: ServiceConfig) -> Self {
        let database = cluster::database().await;
        let service = Service::bind(&config, &(&database.options).into()).await.unwrap();
        let webhooks = service.webhook_addr().unwrap();
        let api = service.api_addr();
        let shutdown = CancellationToken::new();
        let running = Some(tokio::spawn(service.run(shutdown.clone())));
        let pool = pool(&database.options, Session::BACKGROUND, 12, Duration::from_secs(30));
        let registry = Registry::new();
        let metrics = ProcessMetrics::new(&registry).unwrap();
        let context = Context::new(pool.clone(), sync_config(), worker_config(), metrics);
        Self { database, pool, webhooks, api, context, registry, shutdown, running, may_leave_pending: false }
    }

    /// Allows this test to leave events pending.
    pub(crate) fn leave_pending(&mut self) {
        self.may_leave_pending = true;
    }

    /// Delivers signed bytes.
    pub(crate) async fn deliver_bytes(&self, body: &[u8]) -> Reply {
        let now = clock::now().unix_timestamp();
        let header = signature::sign(&WebhookSecret::new(SECRET).unwrap(), now, body);
        let mut client = Client::connect(self.webhooks).await;
        client.send(&post(PATH, &header, body)).await;
        client.reply().await.unwrap()
    }

    /// Delivers a signed event and expects it to be stored.
    pub(crate) async fn deliver(&self, event: &Value) {
        let reply = self.deliver_bytes(event.to_string().as_bytes()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// Delivers events of the fake Stripe, in this order and in this API version.
    pub(crate) async fn deliver_all(&self, events: &[Event], epoch: Epoch) {
        for event in events {
            self.deliver(&event.json(epoch)).await;
        }
    }

    pub(crate) fn worker(&self) -> Worker {
        Worker::new(self.context.clone())
    }

    /// Runs the worker until nothing is due.
    pub(crate) async fn drain(&self) {
        let mut worker = self.worker();
        let never = CancellationToken::new();
        let drained = tokio::time::timeout(Duration::from_secs(30), worker.drain(&never));
        drained.await.expect("the worker does not finish").unwrap();
    }

    pub(crate) async fn deliver_and_drain(&self, events: &[Value]) {
        for event in events {
            self.deliver(event).await;
        }
        self.drain().await;
    }

    /// Queries one text value.
    pub(crate) async fn text(&self, query: &'static str) -> Option<String> {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }

    /// State, outcome and reason of an event, `done applied -` for example.
    pub(crate) async fn fate(&self, event_id: &str) -> String {
        let query = "SELECT concat_ws(' ', state, coalesce(outcome, '-'), coalesce(reason, '-'))
            FROM billing.outbox WHERE event_id = $1";
        sqlx::query_scalar(query).bind(event_id).fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    /// The value of a series that the drained workers count.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {series}")).parse().unwrap()
    }

    /// All rows that the sync has written, without the times of writing, as comparable lines.
    pub(crate) async fn rows(&self) -> Vec<String> {
        sqlx::query_scalar(ROWS).fetch_all(&self.pool).await.unwrap()
    }

    /// The timeline of all subscriptions from events, with the position of each row in its second.
    pub(crate) async fn timeline(&self) -> Vec<String> {
        let query = "SELECT to_jsonb(t)::text FROM billing.subscription_timeline t
            WHERE source <> 'read' ORDER BY account, subscription_id, stated_at, source";
        sqlx::query_scalar(query).fetch_all(&self.pool).await.unwrap()
    }

    /// Renews limits until none is due and no recalculation is pending.
    pub(crate) async fn renew(&self) {
        loop {
            let mut tx = self.pool.begin().await.unwrap();
            let ids = store::claim(&mut tx, None, 100).await.unwrap();
            if ids.is_empty() {
                return;
            }
            store::renew_limits(&mut tx, &ids, None).await.unwrap();
            tx.commit().await.unwrap();
        }
    }

    /// Puts events into the outbox as the receiver does, without its handler.
    pub(crate) async fn enqueue<'a>(&self, events: impl Iterator<Item = &'a Value>) {
        enqueue(&self.pool, events).await;
    }

    /// Empties the database.
    pub(crate) async fn forget_everything(&self) {
        self.execute(
            "TRUNCATE billing.events, billing.outbox, billing.stripe_objects, billing.billing_contacts,
                billing.subscriptions, billing.pricing_plans, billing.plan_limits, billing.coupons,
                billing.checkout_sessions, billing.charge_facts, billing.payment_facts, billing.invoice_facts,
                billing.dispute_facts, billing.trial_facts, billing.phase_facts, billing.subscription_timeline, billing.jobs, billing.reads,
                billing.subscription_limits, billing.limit_renewals, billing.limit_recalculations, billing.reconcile_state, billing.own_accounts,
                billing.api_writes, billing.api_requests, billing.checkout_links, billing.row_changes, billing.redacted_customers",
        )
        .await;
    }

    /// Stops the service as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
    }

    /// Ends the test and checks that nothing is pending.
    pub(crate) async fn finish(mut self) {
        self.stop().await;
        let pending: i64 = sqlx::query_scalar("SELECT count(*) FROM billing.outbox WHERE state = 'pending'")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        assert!(self.may_leave_pending || pending == 0, "{pending} events are left pending");
        self.pool.close().await;
    }
}

/// Puts events into the outbox as the receiver does, without its handler.
pub(crate) async fn enqueue<'a>(pool: &Pool, events: impl Iterator<Item = &'a Value>) {
    let mut conn = pool.acquire().await.unwrap();
    for event in events {
        let payload = event.to_string().into_bytes();
        let envelope: Envelope = envelope::read(&payload).unwrap();
        enqueue::store(&mut conn, &[Incoming { envelope, payload: payload.into() }], EventSource::Webhook)
            .await
            .unwrap();
    }
}
