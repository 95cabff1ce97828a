//! The types of the project: events, object keys and the rows that the product reads.
//!
//! PURE data, without Stripe's JSON, SQL or the network; every other module may use it.

pub mod checkout_session;
pub mod contact;
pub mod coupon;
pub mod decimal;
pub mod event;
pub mod instant;
pub mod job;
pub mod object;
pub mod orphan;
pub mod payment;
pub mod plan;
pub mod renewal;
pub mod subscription;
