//! Deliveries that fail the signature check, by what they show of the cause, and whether all of them do.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::instance::{counters, gauge};

/// What a delivery that fails the signature check shows of the cause: the label `sign`. Each delivery counts once, under
/// the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// No `Stripe-Signature` header.
    NoHeader,
    /// A header without a readable timestamp, or with two.
    BadHeader,
    /// A header without a `v1` signature; `v0` is for Stripe's own tests.
    NoV1,
    /// A body with a `Content-Encoding`: signed before it was compressed.
    Encoded,
    /// A body that begins with a byte order mark.
    ByteOrderMark,
    /// An empty body.
    Empty,
    /// A body that does not begin with `{` and end with `}`: cut off, or something was added.
    Cut,
    /// JSON without the line breaks that Stripe writes: parsed and written again.
    Rewritten,
    /// A body as Stripe writes it. Only the secret is left as the cause.
    Untouched,
}

impl Sign {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 9] = [
        Self::NoHeader,
        Self::BadHeader,
        Self::NoV1,
        Self::Encoded,
        Self::ByteOrderMark,
        Self::Empty,
        Self::Cut,
        Self::Rewritten,
        Self::Untouched,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoHeader => "no_header",
            Self::BadHeader => "bad_header",
            Self::NoV1 => "no_v1",
            Self::Encoded => "encoded",
            Self::ByteOrderMark => "byte_order_mark",
            Self::Empty => "empty",
            Self::Cut => "cut",
            Self::Rewritten => "rewritten",
            Self::Untouched => "untouched",
        }
    }

    /// The likely cause and the fix, for people.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoHeader => {
                "no stripe-signature header: a proxy removes it, or the sender is not Stripe. Let the proxy pass all headers"
            }
            Self::BadHeader => {
                "a stripe-signature header without one readable timestamp: a proxy rewrites it. Let it pass unchanged"
            }
            Self::NoV1 => "a stripe-signature header without v1: the sender is not Stripe, or signs in another scheme",
            Self::Encoded => {
                "a content-encoding header: a proxy compresses the body, and Stripe signed it before. Switch that off"
            }
            Self::ByteOrderMark => {
                "a byte order mark in front of the body: something in front of this process adds it. Pass the bytes on unchanged"
            }
            Self::Empty => {
                "an empty body: a proxy drops it, or a redirect does. Let the endpoint's URL lead here directly"
            }
            Self::Cut => "a body that is cut off or has something added: pass the bytes on unchanged",
            Self::Rewritten => {
                "a body in another layout than Stripe's: a proxy or function parses the JSON and writes it again. Pass the \
                 bytes on unchanged. Where they are unchanged, STRIPE_WEBHOOK_SECRET is of another endpoint or mode"
            }
            Self::Untouched => {
                "a body as Stripe writes it: STRIPE_WEBHOOK_SECRET is of another endpoint, of the other mode (test or live), \
                 of `stripe listen`, or was rolled. Take it from this endpoint's page in the Stripe dashboard"
            }
        }
    }
}

/// Name of the gauge, which `doctor` reads.
pub const FAILING: &str = "billing_sync_webhook_signatures_failing";
/// Name of the counter, which `doctor` reads.
pub const FAILURES: &str = "billing_sync_webhook_signature_failures_total";

/// The metrics of the signature check.
#[derive(Debug, Clone)]
pub struct SignatureMetrics {
    failures: IntCounterVec,
    failing: IntGauge,
}

impl SignatureMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Deliveries that failed the signature check, by what they show of the cause.";
        let failures = counters(registry, FAILURES, help, "sign", Sign::ALL.map(Sign::as_str))?;
        let help = "1 while every recent delivery has failed the signature check: five or more, and none verified for five \
                    minutes or since the start.";
        Ok(Self { failures, failing: gauge(registry, FAILING, help)? })
    }

    /// Counts one failure.
    pub fn failed(&self, sign: Sign) {
        self.failures.with_label_values(&[sign.as_str()]).inc();
    }

    /// Says whether all recent deliveries fail.
    pub fn failing(&self, failing: bool) {
        self.failing.set(i64::from(failing));
    }
}
