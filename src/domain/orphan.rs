//! The kinds of orphans: what lacks something that it needs. `billing.orphans` says which there are, and what they mean.

/// Who lacks what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Neither the contact nor any of its live subscriptions names a workspace.
    ContactWithoutWorkspace,
    /// The customer has no billing contact.
    SubscriptionWithoutCustomer,
    /// It names no price, or one that nobody has told yet.
    SubscriptionWithoutPrice,
}

impl Kind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 3] =
        [Self::ContactWithoutWorkspace, Self::SubscriptionWithoutCustomer, Self::SubscriptionWithoutPrice];

    /// The word in `billing.orphans.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContactWithoutWorkspace => "contact_without_workspace",
            Self::SubscriptionWithoutCustomer => "subscription_without_customer",
            Self::SubscriptionWithoutPrice => "subscription_without_price",
        }
    }
}
