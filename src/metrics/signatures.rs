//! Metrics of the signature check: deliveries that fail it, by sign of the cause, whether all recent ones fail, and
//! deliveries that pass it, by position of the secret.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::families::{counters, gauge};

/// The sign of the cause that a delivery shows when it fails the signature check: the label `sign`. Each delivery
/// counts once, under the first sign that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// No `Stripe-Signature` header.
    NoHeader,
    /// A header with no valid timestamp, or with two.
    BadHeader,
    /// A header without a `v1` signature; Stripe uses `v0` for tests only.
    NoV1,
    /// A body with a `Content-Encoding`: Stripe signed it before it was compressed.
    Encoded,
    /// A body that begins with a byte order mark.
    ByteOrderMark,
    /// An empty body.
    Empty,
    /// A body that does not begin with `{` and end with `}`: it was cut off, or text was added.
    Cut,
    /// JSON without the line breaks that Stripe writes: it was parsed and serialised again.
    Rewritten,
    /// A body in Stripe's layout. The only remaining cause is the secret.
    Untouched,
}

impl Sign {
    /// All signs, in the order in which they are listed.
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

    /// The likely cause and the fix, as text for the operator.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoHeader => {
                "no stripe-signature header: a proxy removes it, or the sender is not Stripe. Let the proxy forward it"
            }
            Self::BadHeader => {
                "a stripe-signature header without one valid timestamp: a proxy rewrites it. Forward it unchanged"
            }
            Self::NoV1 => "a stripe-signature header without v1: the sender is not Stripe, or signs in another scheme",
            Self::Encoded => {
                "a content-encoding header: a proxy compresses the body after Stripe signed it. Turn compression off"
            }
            Self::ByteOrderMark => {
                "a byte order mark before the body: a proxy or function adds it. Forward the bytes unchanged"
            }
            Self::Empty => {
                "an empty body: a proxy or a redirect drops it. Let the endpoint's URL lead here without a redirect"
            }
            Self::Cut => "a body that was cut off or extended by a proxy or function. Forward the bytes unchanged",
            Self::Rewritten => {
                "a body in another layout than Stripe's: a proxy or function parses the JSON and writes it again. \
                 Forward the bytes unchanged. If they are unchanged, STRIPE_WEBHOOK_SECRET belongs to another endpoint \
                 or mode"
            }
            Self::Untouched => {
                "a body as Stripe writes it: STRIPE_WEBHOOK_SECRET belongs to another endpoint, to the other mode \
                 (test or live) or to `stripe listen`, or was rolled. Copy it from this endpoint's page in the Stripe \
                 dashboard"
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
    verified: IntCounterVec,
    failures: IntCounterVec,
    failing: IntGauge,
}

impl SignatureMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Deliveries that passed the signature check, by position in STRIPE_WEBHOOK_SECRET of the first secret \
                    that verified them.";
        let verified =
            IntCounterVec::new(Opts::new("billing_sync_webhook_signatures_verified_total", help), &["secret"])?;
        registry.register(Box::new(verified.clone()))?;
        let help = "Deliveries that failed the signature check, by sign of the cause: no_header, bad_header, no_v1, \
                    encoded (a Content-Encoding header), byte_order_mark, empty, cut, rewritten (JSON in another \
                    layout than Stripe's), untouched (the secret is wrong).";
        let failures = counters(registry, FAILURES, help, "sign", Sign::ALL.map(Sign::as_str))?;
        let help = "1 while all recent deliveries fail the signature check: at least five failed, and none was \
                    verified for 5 minutes or since the start of the process.";
        Ok(Self { verified, failures, failing: gauge(registry, FAILING, help)? })
    }

    /// Sets the series of this many secrets to 0.
    pub fn declare_secrets(&self, secrets: usize) {
        for index in 0..secrets {
            self.verified.with_label_values(&[position(index)]).reset();
        }
    }

    /// Counts one verified delivery; `index` is that of the first secret that verified it.
    pub fn verified(&self, index: usize) {
        self.verified.with_label_values(&[position(index)]).inc();
    }

    /// Counts one failure.
    pub fn failed(&self, sign: Sign) {
        self.failures.with_label_values(&[sign.as_str()]).inc();
    }

    /// Sets whether all recent deliveries fail.
    pub fn failing(&self, failing: bool) {
        self.failing.set(i64::from(failing));
    }
}

/// The label of a secret: its position, never anything of its content.
fn position(index: usize) -> String {
    (index + 1).to_string()
}
