//! The kinds of jobs.

/// Kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Fetch the object from Stripe.
    Fetch,
    /// Fetch the object to resolve an ambiguous order of events; has the lowest priority.
    Confirm,
    /// Project the rows that depend on the object again.
    Reproject,
    /// Renew the limits of a subscription that was set aside after a failure.
    Renewal,
}

impl Kind {
    /// All kinds, in the order in which metrics list them.
    pub const ALL: [Self; 4] = [Self::Fetch, Self::Confirm, Self::Reproject, Self::Renewal];

    /// The value stored in `billing.jobs.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Confirm => "confirm",
            Self::Reproject => "reproject",
            Self::Renewal => "renewal",
        }
    }
}
