//! The kinds of orphans: rows with a missing reference. The view `billing.orphans` lists them and explains each kind.

/// Kind of an orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Neither the contact nor any of its live subscriptions has a workspace.
    ContactWithoutWorkspace,
    /// The customer has no billing contact.
    SubscriptionWithoutCustomer,
    /// The subscription has no price, or a price that is not known yet.
    SubscriptionWithoutPrice,
}

impl Kind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 3] =
        [Self::ContactWithoutWorkspace, Self::SubscriptionWithoutCustomer, Self::SubscriptionWithoutPrice];

    /// The value in `billing.orphans.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContactWithoutWorkspace => "contact_without_workspace",
            Self::SubscriptionWithoutCustomer => "subscription_without_customer",
            Self::SubscriptionWithoutPrice => "subscription_without_price",
        }
    }
}
