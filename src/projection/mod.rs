//! The projection, from Stripe's objects to rows: pure functions of the newest objects, without history and clock.
//!
//! Owns the meaning of each column. Must not know the location of a value in a payload (the views do), nor SQL, nor the
//! current time: SQL views compute values that depend on it. A bug here is repaired by a new release and `rebuild`,
//! without a call to Stripe. PURE; called by the worker and by `rebuild`.

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

/// Settings that affect the contents of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// `BILLING_SYNC_PAST_DUE_ACTIVE`: a subscription stays active while Stripe retries its payment.
    pub past_due_active: bool,
}

/// A projected row with its notes and needs. Each note is counted, and none prevents the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projected<T> {
    /// The row to store.
    pub row: T,
    /// Invalid, unknown or ambiguous input.
    pub notes: BTreeSet<Reason>,
    /// Objects that the row needs and that must be fetched.
    pub needs: BTreeSet<ObjectKey>,
}

/// All rows of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerRows {
    /// Its billing contact; `None` if the content of the customer was never known.
    pub contact: Option<Projected<BillingContact>>,
    /// Its subscriptions, in the order of their ids.
    pub subscriptions: Vec<Projected<Subscription>>,
}
