//! billing-sync: keeps PostgreSQL tables of billing contacts and subscriptions in step with Stripe.

pub mod clock;
pub mod domain;
pub mod mirror;
pub mod outbox;
pub mod projection;
pub mod stripe;
pub mod worker;
