//! billing-sync: keeps PostgreSQL tables of billing contacts and subscriptions in step with Stripe.

pub mod clock;
pub mod config;
pub mod domain;
pub mod receiver;
pub mod stripe;
