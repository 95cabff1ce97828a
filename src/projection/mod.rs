//! From Stripe's objects to our rows: pure functions of the newest objects, no history and no present time.
//!
//! Owns what a field of a row means. Must not know where in a payload a value stands (the views do), nor SQL, nor the
//! clock: what depends on the present is computed on read. A mistake here is repaired by a new release and
//! `rebuild`, without a call to Stripe. PURE; called by the worker and by `rebuild`.

mod checkout_session;
mod coupon;
mod customer;
mod ending;
pub mod graph;
mod item_choice;
mod method;
mod next_plan;
mod pause;
pub mod payment;
mod plan;
mod subscription;
mod trial;
#[cfg(test)]
mod world;

use std::collections::BTreeSet;

pub use self::checkout_session::checkout_session;
pub use self::coupon::coupon;
pub use self::customer::customer;
pub use self::plan::{PlanRows, plan};
use crate::domain::contact::BillingContact;
use crate::domain::event::Reason;
use crate::domain::object::ObjectKey;
use crate::domain::subscription::Subscription;

/// The settings that decide what a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// `BILLING_SYNC_PAST_DUE_ACTIVE`: a subscription stays usable while Stripe tries again to be paid.
    pub past_due_active: bool,
}

/// A row, and what was noticed on the way to it: each note is counted, and none stops the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projected<T> {
    /// The row as it shall stand.
    pub row: T,
    /// What was odd, unknown or ambiguous.
    pub notes: BTreeSet<Reason>,
    /// Objects that the row needs and that only a read can bring.
    pub needs: BTreeSet<ObjectKey>,
}

/// All rows of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerRows {
    /// Its billing contact; `None` while only its absence is known.
    pub contact: Option<Projected<BillingContact>>,
    /// Its subscriptions, in the order of their ids.
    pub subscriptions: Vec<Projected<Subscription>>,
}
