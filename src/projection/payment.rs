//! Whether a SEPA payment of a subscription has failed and still counts.
//!
//! A fold over facts, so that no order of arrival matters: one slot that is set and cleared would be wrong, because a
//! failure may be told after the success that followed it. PURE; called by the subscription projection.

pub use crate::domain::payment::Payment;
