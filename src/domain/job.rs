//! The kinds of jobs.

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Ask Stripe for the object.
    Fetch,
    /// Ask Stripe too, to settle an order that could not be told; with the lowest priority.
    Confirm,
    /// Compute the rows that depend on the object again.
    Reproject,
    /// Renew the limits of a subscription that was set aside because that failed.
    Renewal,
}

impl Kind {
    /// All kinds, in the order in which metrics list them.
    pub const ALL: [Self; 4] = [Self::Fetch, Self::Confirm, Self::Reproject, Self::Renewal];

    /// The word stored in `billing.jobs.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Confirm => "confirm",
            Self::Reproject => "reproject",
            Self::Renewal => "renewal",
        }
    }
}
