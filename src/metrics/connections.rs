//! Metrics of the connections to the listeners of this process.

use prometheus::{IntCounterVec, Opts, Registry};

/// The protocol of a connection's first bytes: the label `protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1, or other bytes, which are parsed as HTTP/1 and answered 400.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS handshake; rejected.
    Tls,
    /// A PROXY protocol header; rejected.
    ProxyProtocol,
    /// No bytes: a balancer's probe, or a client that was too slow.
    Empty,
}

impl Protocol {
    /// All protocols, in the order in which they are listed.
    pub const ALL: [Self; 5] = [Self::Http1, Self::Http2, Self::Tls, Self::ProxyProtocol, Self::Empty];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Empty => "empty",
        }
    }
}

/// Why the listener closed or rejected a connection: the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// All slots were taken, and this connection was longest without a verified delivery.
    GaveWay,
    /// The address already had the maximum number of connections; the new one was rejected.
    AddressLimit,
    /// The connection reached the maximum age.
    Age,
    /// The peer did not read its answers.
    Unread,
}

impl EndReason {
    /// All reasons, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::GaveWay, Self::AddressLimit, Self::Age, Self::Unread];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GaveWay => "gave_way",
            Self::AddressLimit => "address_limit",
            Self::Age => "age",
            Self::Unread => "unread",
        }
    }
}

/// A listener: the label `listener`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerName {
    /// The public listener.
    Webhooks,
    /// The listener of the workspace API.
    Api,
    /// The ops listener.
    Ops,
}

impl ListenerName {
    /// All listeners.
    pub const ALL: [Self; 3] = [Self::Webhooks, Self::Api, Self::Ops];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhooks => "webhooks",
            Self::Api => "api",
            Self::Ops => "ops",
        }
    }
}

/// The connections of one listener.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics {
    connections: IntCounterVec,
    ended: IntCounterVec,
    listener: ListenerName,
}

impl ConnectionMetrics {
    /// Declares the metrics, every series of these listeners at 0, and returns them for the public listener.
    pub(super) fn new(registry: &Registry, listeners: &[ListenerName]) -> Result<Self, prometheus::Error> {
        let connections = by_listener(
            registry,
            listeners,
            "billing_sync_connections_total",
            "Connections to a listener, by the protocol of their first bytes: http1, http2, tls and proxy_protocol \
             (both rejected), empty (a probe, or no bytes in time).",
            "protocol",
            &Protocol::ALL.map(Protocol::as_str),
        )?;
        let ended = by_listener(
            registry,
            listeners,
            "billing_sync_connections_ended_total",
            "Connections that a listener closed or rejected, by reason: gave_way (all slots were taken, and this one \
             was longest without a verified delivery), address_limit (rejected by \
             BILLING_SYNC_CONNECTIONS_PER_ADDRESS), age (5 minutes), unread (the peer did not read its answers).",
            "reason",
            &EndReason::ALL.map(EndReason::as_str),
        )?;
        Ok(Self { connections, ended, listener: ListenerName::Webhooks })
    }

    /// The same metrics for another listener.
    #[must_use]
    pub fn of(&self, listener: ListenerName) -> Self {
        Self { listener, ..self.clone() }
    }

    /// The listener's name, for logs.
    pub fn listener(&self) -> &'static str {
        self.listener.as_str()
    }

    /// Counts one connection.
    pub fn connection(&self, protocol: Protocol) {
        self.connections.with_label_values(&[self.listener.as_str(), protocol.as_str()]).inc();
    }

    /// Counts one connection that was closed or rejected.
    pub fn ended(&self, reason: EndReason) {
        self.ended.with_label_values(&[self.listener.as_str(), reason.as_str()]).inc();
    }
}

/// A counter with the labels `listener` and `label`.
fn by_listener(
    registry: &Registry,
    listeners: &[ListenerName],
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), &["listener", label])?;
    for listener in listeners {
        for value in values {
            counters.with_label_values(&[listener.as_str(), value]).reset();
        }
    }
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}
