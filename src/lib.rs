//! billing-sync: keeps PostgreSQL tables of billing contacts and subscriptions in step with Stripe.

pub mod clock;
pub mod config;
pub mod domain;
pub mod embedded;
pub mod metrics;
pub mod migrations;
pub mod mirror;
pub mod outbox;
pub mod projection;
pub mod receiver;
pub mod store;
pub mod stripe;
pub mod worker;
