//! The parts of a process that have metrics of their own. Set by `crate::service`, which knows what runs.

use super::connections::ListenerName;

/// The parts of a process that have metrics of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each part runs or does not, whatever the others do")]
pub struct Parts {
    /// The webhook listener.
    pub receiver: bool,
    /// The workers.
    pub worker: bool,
    /// The scheduler of renewals.
    pub renewals: bool,
    /// The comparison of stored events with Stripe's.
    pub reconcile: bool,
    /// The comparison of a sample of rows with Stripe's.
    pub sampler: bool,
    /// The workspace API.
    pub api: bool,
    /// The changes at Stripe.
    pub writes: bool,
}

impl Parts {
    /// All parts.
    pub const ALL: Self =
        Self { receiver: true, worker: true, renewals: true, reconcile: true, sampler: true, api: true, writes: true };

    /// The listeners of these parts. Every process has the ops listener.
    pub(super) fn listeners(self) -> Vec<ListenerName> {
        let runs = |listener: &ListenerName| match listener {
            ListenerName::Webhooks => self.receiver,
            ListenerName::Api => self.api,
            ListenerName::Ops => true,
        };
        ListenerName::ALL.into_iter().filter(runs).collect()
    }
}
