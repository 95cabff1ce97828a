//! Facts: history that rules need and that the newest content of an object does not show, in rows that are only added
//! to.
//!
//! [`fold`] extracts the facts that an object states, `effective` the time from which a subscription's state counts
//! (both PURE). [`store`] keeps them, [`timeline`] those of subscriptions, and [`known`] reads them back for the
//! projection.

mod effective;
pub mod fold;
pub mod known;
pub mod report;
pub mod store;
pub mod timeline;
