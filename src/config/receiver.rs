//! What the receiver needs to know. Filled in by the configuration's source, read by [`crate::receiver`].

use std::net::SocketAddr;
use std::time::Duration;

use crate::receiver::signature::WebhookSecret;

/// Settings of the webhook listener.
///
/// There is no `Default`: a receiver without secrets must not be able to start, and a made-up one is worse.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// `BILLING_SYNC_LISTEN`, default `127.0.0.1:8080`: the address of the public listener.
    pub listen: SocketAddr,
    /// `STRIPE_WEBHOOK_SECRET`: the endpoint's signing secrets, comma-separated while one replaces another.
    pub secrets: Vec<WebhookSecret>,
    /// `BILLING_SYNC_BODY_LIMIT`, default 1 MiB: a longer body is answered 413.
    pub body_limit: usize,
    /// `BILLING_SYNC_HEADER_TIMEOUT`, default 10s: time for a request's head; an idle connection closes after it too.
    pub header_timeout: Duration,
    /// `BILLING_SYNC_BODY_TIMEOUT`, default 10s: time for a whole body, then 408.
    pub body_timeout: Duration,
    /// `BILLING_SYNC_MAX_CONNECTIONS`, default 512: further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// `BILLING_SYNC_QUEUE_CAPACITY`, default 1024: events that may wait for their INSERT, then 503.
    pub queue_capacity: usize,
    /// `BILLING_SYNC_STORE_TIMEOUT`, default 5s: time for an event to be stored, then 503.
    pub store_timeout: Duration,
}
