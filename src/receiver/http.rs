//! The public listener: binds it, runs it with its handler and queue, and shuts them down in order.
//!
//! [`crate::listener`] owns sockets and their limits; [`super::handler`] interprets requests. Called by `serve` and the
//! demo.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::body::Bodies;
use super::handler::WebhookHandler;
use super::{batch, notify};
use crate::config::receiver::ReceiverConfig;
use crate::database::Pool;
use crate::listener::{Ending, Handler, InFlight, Limits, Listener, Refusal};
use crate::metrics::process::ProcessMetrics;

/// A bound receiver that is not running yet.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    config: ReceiverConfig,
    pool: Pool,
    metrics: Arc<ProcessMetrics>,
}

impl Receiver {
    /// The receiver's database connections.
    pub fn pool(&self) -> Pool {
        self.pool.clone()
    }

    /// Binds the listener. While the pool cannot connect, the answer is 503.
    ///
    /// # Errors
    /// When the address cannot be bound, or no secret is configured.
    pub async fn bind(config: &ReceiverConfig, pool: Pool, metrics: Arc<ProcessMetrics>) -> io::Result<Self> {
        if config.secrets.is_empty() {
            let message = "missing webhook secret: set STRIPE_WEBHOOK_SECRET to the endpoint's signing secret";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = TcpListener::bind(config.listen).await?;
        metrics.signatures.declare_secrets(config.secrets.len());
        Ok(Self { listener, config: config.clone(), pool, metrics })
    }

    /// The bound address, with the actual port if the configured port is 0.
    ///
    /// # Errors
    /// Any error of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until shutdown, then stops accepting, answers the requests in flight and empties the queue.
    pub async fn run(self, ending: impl Into<Ending>) {
        let Self { listener, config, pool, metrics } = self;
        let stored = Arc::new(Notify::new());
        let (queue, writer) =
            batch::start(pool.clone(), config.queue_capacity.max(1), config.store_timeout, stored.clone());
        let stop = CancellationToken::new();
        let notifier = tokio::spawn(notify::run(pool, stored, config.store_timeout, stop.clone()));
        let connections = metrics.connections.clone();
        let handler = WebhookHandler {
            secrets: config.secrets.clone(),
            watch: Mutex::default(),
            bodies: Bodies::new(config.body_budget, config.body_limit, config.body_timeout),
            queue,
            metrics,
        };
        // the last connection drops the last handle of the queue, so the writer ends
        Listener::new(listener, handler, limits(&config), connections, ending.into()).run().await;
        let _ = writer.await;
        stop.cancel();
        let _ = notifier.await;
    }
}

fn limits(config: &ReceiverConfig) -> Limits {
    let last_request = config.header_timeout.saturating_add(config.body_timeout).saturating_add(config.store_timeout);
    Limits {
        connections: config.max_connections,
        per_address: config.connections_per_address,
        header_timeout: config.header_timeout,
        last_request,
    }
}

impl Handler for WebhookHandler {
    async fn answer(&self, request: Request<Incoming>, in_flight: &InFlight) -> Response<Full<Bytes>> {
        self.handle(request, in_flight).await
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        self.refused(refusal)
    }
}
