//! Facts: what the newest content of an object cannot tell, in rows that only add.
//!
//! [`fold`] says which facts an object states, `effective` since when a subscription is what it is (both PURE). [`rows`]
//! keeps them, [`timeline`] those of subscriptions, and [`known`] reads them back for the projection.

mod effective;
pub mod fold;
pub mod known;
pub mod rows;
pub mod timeline;
