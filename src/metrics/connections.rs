//! Connections to the listeners of this process, by what their first bytes are.

use prometheus::{IntCounterVec, Opts, Registry};

/// What a client sends: the label `protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1, or bytes that are read as such and answered 400.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS handshake; refused.
    Tls,
    /// A PROXY protocol header; refused.
    ProxyProtocol,
    /// Nothing: a balancer's probe, or a client that was too slow.
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

/// Which listener: the label `listener`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerName {
    /// The public listener.
    Webhooks,
    /// The ops listener.
    Ops,
}

impl ListenerName {
    /// Both listeners.
    pub const ALL: [Self; 2] = [Self::Webhooks, Self::Ops];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhooks => "webhooks",
            Self::Ops => "ops",
        }
    }
}

/// The connections of one listener.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics {
    connections: IntCounterVec,
    listener: ListenerName,
}

impl ConnectionMetrics {
    /// Declares the metric, every series at 0, and returns it for the public listener.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Connections to a listener, by the protocol of their first bytes.";
        let options = Opts::new("billing_sync_connections_total", help);
        let connections = IntCounterVec::new(options, &["listener", "protocol"])?;
        for listener in ListenerName::ALL {
            for protocol in Protocol::ALL {
                connections.with_label_values(&[listener.as_str(), protocol.as_str()]).reset();
            }
        }
        registry.register(Box::new(connections.clone()))?;
        Ok(Self { connections, listener: ListenerName::Webhooks })
    }

    /// The same metric for another listener.
    #[must_use]
    pub fn of(&self, listener: ListenerName) -> Self {
        Self { connections: self.connections.clone(), listener }
    }

    /// The listener's name, for logs.
    pub fn listener(&self) -> &'static str {
        self.listener.as_str()
    }

    /// Counts one connection.
    pub fn connection(&self, protocol: Protocol) {
        self.connections.with_label_values(&[self.listener.as_str(), protocol.as_str()]).inc();
    }
}
